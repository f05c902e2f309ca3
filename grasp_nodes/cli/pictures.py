"""``grasp-nodes render``: a mesh or posed hands from two sides, or frames of a clip with their truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import torch

from grasp_nodes.cli.grasp_sheet import draw_grasps, holds_grasps
from grasp_nodes.cli.trajectory_sheet import draw_trajectory
from grasp_nodes.data.clip_readers import ClipSource
from grasp_nodes.data.finger_bends import FingerBends, mirror_pose
from grasp_nodes.data.trajectory_files import holds_trajectory
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.rendering import RenderMesh, contact_sheet, render_meshes
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.npz import read_npz
from grasp_nodes.objects.loading import load_object
from grasp_nodes.viewer.colors import OBJECT, SKIN
from grasp_nodes.viewer.overlay import draw_overlay
from grasp_nodes.viewer.posed_hands import HandPoser

HAND_PREFIX = "hand:"
HAND_POSES = ("flat", "fist", "grasp")
FINGER_BENDS: Mapping[str, tuple[float, float, float]] = {"fist": (85.0, 100.0, 68.0), "grasp": (35.0, 40.0, 25.0)}
THUMB_BENDS: Mapping[str, tuple[float, float, float, float, float]] = {
    "fist": (20.0, 40.0, 55.0, -50.0, 0.0),
    "grasp": (15.0, 15.0, 20.0, -45.0, 10.0),
}
"""deg: bends of the three joints, and for the thumb its spread and twist."""
FIELDS = ("global_orient", "hand_pose", "betas", "transl", "scale")
VIEWS = (np.deg2rad([-55.0, 0.0, 25.0]), np.deg2rad([125.0, 0.0, -25.0]))
"""rad: turns about the camera's x, y, z, applied z first: a look at the back of a resting hand, and at its palm."""
FIELD_OF_VIEW = np.deg2rad(30.0)
MAX_HANDS = 16
CLIP_FRAMES = 8
COLUMNS = 4


def draw(what: str, output: Path, size: int, side: str, scale: float, count: int = 100, seed: int = 0) -> None:
    """Write a PNG.

    Args:
        what: a mesh file, a primitive (``sphere:0.04``), hand parameters (.npz, .json), a set of grasps or a trajectory
            (.npz), a clip's folder, or hand:flat, fist, grasp.
        output: the PNG. size: px, edge of one view, height of a clip's or a trajectory's frame. side: of hand:...
            scale: from a mesh file's unit to metres. count, seed: of a set of grasps: how many, chosen at random.

    Raises:
        InputError: `what` cannot be drawn, or `output` is not a PNG that can be written.
        MissingFileError: there is no such file.
    """
    if output.suffix.lower() != ".png":
        raise InputError(f"output {output}: expected a name that ends in .png")
    if not output.parent.is_dir():
        raise InputError(f"output {output}: there is no folder {output.parent}")
    if side not in get_args(Side):
        raise InputError(f"side: expected one of {', '.join(get_args(Side))}, got {side!r}")
    if holds_trajectory(Path(what)):
        draw_trajectory(Path(what), output, size)
        return
    if holds_grasps(Path(what)):
        draw_grasps(Path(what), output, count, seed, size)
        return
    if Path(what).is_dir():
        picture = clip_sheet(Path(what), size)
    else:
        meshes = meshes_of(what, side, scale)
        views = [_view(mesh, angles, size) for mesh in meshes for angles in VIEWS]
        picture = contact_sheet(views, columns=2 if len(meshes) == 1 else COLUMNS)
    if not cv2.imwrite(str(output), picture[..., ::-1]):
        raise InputError(f"output {output}: could not be written")


def clip_sheet(folder: Path, height: int) -> np.ndarray:
    """Frames of a clip, spread evenly, with the exact hand and object drawn into them where they are known.

    Args:
        folder: of the clip. height: px, of one frame.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        MissingFileError, InputError: it is no clip, or one of its files is damaged.
    """
    clip = ClipSource(folder)
    objects = [load_object(clip.object_spec, clip.object_id)] if clip.object_spec else []
    poser = HandPoser()
    pictures = []
    for index in _spread(len(clip), CLIP_FRAMES):
        frame = clip.frame(int(index))
        state = clip.truth(frame.stamp)
        drawn = frame.color
        if state is not None:
            single = [replace(hand, params=hand.params.to(torch.float32)) for hand in state.hands]
            hands = [poser.pose(hand, state) for hand in single]
            drawn = draw_overlay(frame.color, frame.camera, state, hands, objects)
        pictures.append(drawn)
    return contact_sheet(pictures, COLUMNS, height / clip.camera.height)


def _spread(count: int, most: int) -> np.ndarray:
    """At most so many indices from 0 to count - 1, evenly spread, first and last included."""
    return np.unique(np.linspace(0, count - 1, most).round().astype(int))


def meshes_of(what: str, side: str, scale: float) -> list[RenderMesh]:
    """The meshes of an object, of posed hands, or of a named pose, as `draw` takes them."""
    if what.startswith(HAND_PREFIX):
        return _hand_meshes(named_hand(what.removeprefix(HAND_PREFIX), "left" if side == "left" else "right"))
    if Path(what).suffix.lower() in (".npz", ".json"):
        return _hand_meshes(read_hand_params(Path(what)))
    item = load_object(what, scale=scale)
    return [RenderMesh(item.vertices, item.faces, OBJECT / 255, smooth=False)]


def named_hand(pose: str, side: Side) -> HandParams:
    """One hand in a named pose.

    Raises:
        InputError: there is no such pose.
    """
    if pose not in HAND_POSES:
        raise InputError(f"hand pose {pose!r}: expected one of {', '.join(HAND_POSES)}")
    params = HandParams.zeros(1, side)
    if pose == "flat":
        return params
    right = load_hand_model("right")
    with torch.no_grad():
        rest = right(HandParams.zeros(1)).keypoints[0].numpy()
    bends = FingerBends.of_right_hand(rest)
    values = bends.pose(bends.uniform(FINGER_BENDS[pose], THUMB_BENDS[pose]))
    turned = values if side == "right" else mirror_pose(values)
    return replace(params, hand_pose=torch.tensor(turned, dtype=params.hand_pose.dtype)[None])


def read_hand_params(path: Path) -> HandParams:
    """Hand parameters from an .npz or .json file with the fields of `HandParams`; absent ones are those of a flat hand.

    Raises:
        MissingFileError: there is no such file.
        InputError: it cannot be read, holds none of the fields, or one of another shape.
    """
    if not path.is_file():
        raise MissingFileError(f"hand parameters {path}: there is no such file")
    values = _read_json(path) if path.suffix.lower() == ".json" else read_npz(path, "hand parameters .npz")
    given = {name: _numbers(values[name], f"hand parameters {path}: {name}") for name in FIELDS if name in values}
    if not given:
        raise InputError(f"hand parameters {path}: expected some of {', '.join(FIELDS)}, got {sorted(values)}")
    side = str(values.get("side", "right"))
    if side not in get_args(Side):
        raise InputError(f"hand parameters {path}: side: expected right or left, got {side!r}")
    # One hand may come without the batch dimension.
    tensors = {
        name: torch.from_numpy(value if value.ndim == (1 if name == "scale" else 2) else value[None])
        for name, value in given.items()
    }
    flat = HandParams.zeros(max(len(value) for value in tensors.values()))
    arrays = {name: tensors.get(name, getattr(flat, name)) for name in FIELDS}
    return HandParams(**arrays, side="left" if side == "left" else "right")


def _numbers(value: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected numbers ({error})") from error


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"hand parameters {path}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise InputError(f"hand parameters {path}: expected a JSON object, got {type(values).__name__}")
    return values


def _hand_meshes(params: HandParams) -> list[RenderMesh]:
    model = load_hand_model(params.side)
    shown = params[torch.from_numpy(_spread(len(params), MAX_HANDS))]
    with torch.no_grad():
        vertices = model(shown).vertices.numpy()
    return [RenderMesh(hand, model.faces.numpy(), SKIN / 255) for hand in vertices]


def _view(mesh: RenderMesh, angles: np.ndarray, size: int) -> np.ndarray:
    """The mesh filling one square picture, (size, size, 3) uint8."""
    return render_meshes(*looked_at([mesh], angles, size)).color


def looked_at(meshes: Sequence[RenderMesh], angles: np.ndarray, size: int) -> tuple[list[RenderMesh], CameraModel]:
    """Meshes before a camera that they fill, and the camera of a square picture.

    Args:
        angles: (3,), rad, turns about the camera's x, y, z, applied z first. size: px, edge of the picture.
    """
    vertices = np.concatenate([mesh.vertices for mesh in meshes])
    center = (vertices.max(axis=0) + vertices.min(axis=0)) / 2
    rotation = np.eye(3)
    for axis, angle in zip(np.eye(3)[::-1], angles[::-1], strict=True):
        rotation = cv2.Rodrigues(axis * angle)[0] @ rotation
    radius = np.linalg.norm(vertices - center, axis=1).max()
    shift = np.array([0.0, 0.0, 1.05 * radius / np.sin(FIELD_OF_VIEW / 2)])
    focal = size / 2 / np.tan(FIELD_OF_VIEW / 2)
    middle = (size - 1) / 2
    camera = CameraModel(np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]]), size, size)
    return [replace(mesh, vertices=(mesh.vertices - center) @ rotation.T + shift) for mesh in meshes], camera
