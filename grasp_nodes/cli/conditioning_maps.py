"""``grasp-nodes render FILE --maps depth,normals,edges,mask``: pictures that an image generator can be conditioned on.

JHOD feeds renderings of generated grasps to one; which pixels are whose, how far they are and where edges are is what
such generators take.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from grasp_nodes.cli.grasp_sheet import choose_grasps, holds_grasps
from grasp_nodes.cli.pictures import HAND_PREFIX, VIEWS, looked_at, meshes_of
from grasp_nodes.data.trajectory_files import holds_trajectory
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.rendering import RayScene, RenderMesh, box_pixels, pixel_rays, shading_normals
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.viewer.colors import OBJECT, SKIN

MAPS = ("depth", "normals", "edges", "mask")
HAND_LABEL, OBJECT_LABEL = 255, 128
"""Grey of hand and object in the mask; the ground is black."""
_CREASE = np.cos(np.deg2rad(30.0))
_STEP = 0.006
"""m of depth between neighbouring pixels of one mesh that makes an edge."""


def parse_maps(text: str) -> list[str]:
    """Names with commas.

    Raises:
        InputError: one of them is unknown, or there is none.
    """
    names = [one.strip() for one in text.split(",") if one.strip()]
    unknown = [one for one in names if one not in MAPS]
    if unknown or not names:
        raise InputError(f"--maps {text}: expected some of {', '.join(MAPS)}")
    return list(dict.fromkeys(names))


def draw_maps(
    what: str, output: Path, names: Sequence[str], size: int, side: str, scale: float, count: int, seed: int
) -> list[Path]:
    """Write maps of grasps of a set, of an object, or of posed hands: ``OUTPUT-MAP.png``, with a number where several.

    Args:
        what, size, side, scale, count, seed: as for `pictures.draw`; no clips and no trajectories. output: a PNG, whose
            name is that of the maps. names: of the maps.

    Raises:
        InputError: `what` cannot be drawn, or a file cannot be written. MissingFileError: there is no such file.
    """
    if output.suffix.lower() != ".png" or not output.parent.is_dir():
        raise InputError(f"output {output}: expected a name that ends in .png, in a folder that exists")
    path = Path(what)
    if path.is_dir() or holds_trajectory(path):
        raise InputError(f"--maps: expected a set of grasps, a mesh or hands, got {what}")
    scenes = _grasp_scenes(path, count, seed) if holds_grasps(path) else _scenes(what, side, scale)
    written = []
    for number, (meshes, labels) in enumerate(scenes):
        seen, camera = looked_at(meshes, VIEWS[0], size)
        target = output if len(scenes) == 1 else output.with_name(f"{output.stem}-{number:03d}.png")
        written += write_maps(target, conditioning_maps(seen, labels, camera, names))
    return written


def _scenes(what: str, side: str, scale: float) -> list[tuple[list[RenderMesh], list[int]]]:
    is_hand = what.startswith(HAND_PREFIX) or Path(what).suffix.lower() in (".npz", ".json")
    label = HAND_LABEL if is_hand else OBJECT_LABEL
    return [([mesh], [label]) for mesh in meshes_of(what, side, scale)]


def _grasp_scenes(path: Path, count: int, seed: int) -> list[tuple[list[RenderMesh], list[int]]]:
    chosen = choose_grasps(path, count, seed)
    with torch.no_grad():
        hands = chosen.model(chosen.hands).vertices.numpy()
    faces = closed_faces(chosen.model.faces.numpy())
    return [
        (
            [RenderMesh(hand, faces, SKIN / 255), RenderMesh(*item, OBJECT / 255, smooth=False)],
            [HAND_LABEL, OBJECT_LABEL],
        )
        for hand, item in zip(hands, chosen.meshes, strict=True)
    ]


def conditioning_maps(
    meshes: Sequence[RenderMesh], labels: Sequence[int], camera: CameraModel, names: Sequence[str], threads: int = 0
) -> dict[str, np.ndarray]:
    """Maps of meshes as a camera sees them.

    ``depth``: (H, W) uint16, nearest = 65535 falling with the distance to farthest = 1, nothing = 0, as image
    generators have it: near is bright. ``normals``: (H, W, 3) uint8 RGB, ``127.5 (n + 1)`` with x right, y up and z
    towards the camera; nothing = (128, 128, 255). ``edges``: (H, W) uint8, 255 where the mesh
    changes, depth jumps or the surface creases by more than 30 degrees. ``mask``: (H, W) uint8, the labels.

    Args:
        meshes: in the camera's frame. labels: grey of each. camera: that sees them. names: of the maps.
        threads: of the ray caster, 0 = all cores.
    """
    shape = (camera.height, camera.width)
    directions = pixel_rays(camera, box_pixels((0, 0, camera.width, camera.height)))
    scene = RayScene(meshes, threads)
    hits = scene.cast(directions)
    seen = (hits.mesh >= 0).reshape(shape)
    depth = hits.depth.reshape(shape)  # along z: the rays' z is 1
    normals = np.zeros((*shape, 3))
    normals[seen] = shading_normals(hits.take(np.flatnonzero(seen)), meshes, directions[seen.ravel()])
    ids = hits.mesh.reshape(shape)
    made = {
        "depth": lambda: _bright_near(depth, seen),
        "normals": lambda: _as_colors(normals, seen),
        "edges": lambda: _edges(ids, depth, normals),
        "mask": lambda: np.where(seen, np.asarray([*labels, 0])[ids], 0).astype(np.uint8),
    }
    return {name: made[name]() for name in names}


def write_maps(output: Path, maps: dict[str, np.ndarray]) -> list[Path]:
    """Write ``NAME-MAP.png`` beside a picture of that name.

    Raises:
        InputError: a file cannot be written.
    """
    written = []
    for name, values in maps.items():
        path = output.with_name(f"{output.stem}-{name}.png")
        if not cv2.imwrite(str(path), values[..., ::-1] if values.ndim == 3 else values):
            raise InputError(f"output {path}: could not be written")
        written.append(path)
    return written


def _bright_near(depth: np.ndarray, seen: np.ndarray) -> np.ndarray:
    picture = np.zeros(depth.shape, np.uint16)
    if seen.any():
        near, far = depth[seen].min(), depth[seen].max()
        picture[seen] = np.round(1 + 65534 * (far - depth[seen]) / max(far - near, 1e-9))
    return picture


def _as_colors(normals: np.ndarray, seen: np.ndarray) -> np.ndarray:
    # The camera's y points down and its z away.
    turned = normals * [1.0, -1.0, -1.0]
    colors = np.round(127.5 * (turned + 1.0)).clip(0, 255).astype(np.uint8)
    return np.where(seen[..., None], colors, np.array([128, 128, 255], np.uint8))


def _edges(ids: np.ndarray, depth: np.ndarray, normals: np.ndarray) -> np.ndarray:
    edge = np.zeros(ids.shape, bool)
    for axis in (0, 1):
        here, there = [slice(None)] * 2, [slice(None)] * 2
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        a, b = tuple(here), tuple(there)
        both = (ids[a] == ids[b]) & (ids[a] >= 0)
        with np.errstate(invalid="ignore"):
            jump = both & (np.abs(depth[a] - depth[b]) > _STEP)
        crease = both & ((normals[a] * normals[b]).sum(axis=2) < _CREASE)
        edge[a] |= (ids[a] != ids[b]) | jump | crease
    return np.where(edge, 255, 0).astype(np.uint8)
