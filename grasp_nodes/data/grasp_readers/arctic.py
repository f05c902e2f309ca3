"""ARCTIC: two hands and an articulated object, 30 frames a second (Fan et al., CVPR 2023).

The hands are MANO's with betas, in metres, with angles that count from MANO's mean pose. The objects' poses are (angle
of the top part, rotation vector, translation in mm). An object at another angle is another object: angles are rounded,
and the mesh of each is written beside the user's other caches, or where he says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import trimesh

from grasp_nodes.data.grasp_readers.arctic_objects import ArticulatedMesh, arctic_root, read_articulated
from grasp_nodes.data.grasp_readers.contact_filter import CONTACT_THRESHOLD, touching
from grasp_nodes.data.grasp_readers.mano_hands import (
    Recording,
    label_grasps,
    require_mano,
    rest_wrist,
    rotation_matrices,
)
from grasp_nodes.data.grasp_readers.pickles import field_of, numbers_of, read_object_npy
from grasp_nodes.data.grasp_readers.registry import require
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_POSE, Side
from grasp_nodes.npz import replacing
from grasp_nodes.paths import cache_dir

FRAMERATE = 30.0
"""Hz, of the recordings."""
ANGLE_STEP = float(np.radians(0.5))
"""rad, to which angles are rounded: 0.9 mm at 20 cm from the hinge, at most."""
_MILLIMETRE = 0.001


def read_arctic(
    folder: str | Path,
    hand: HandModel | None = None,
    *,
    side: Side = "right",
    framerate: float | None = 2.0,
    contact_distance: float | None = CONTACT_THRESHOLD,
    subjects: Collection[str] = (),
    objects: Collection[str] = (),
    protocol: str = "p1",
    split: str = "",
    mesh_folder: str | Path | None = None,
) -> LabelledGrasps:
    """The frames of ARCTIC in which a hand touches the object.

    Args:
        folder: that holds ``meta`` and ``raw_seqs``, or a folder above it, as ARCTIC's own script unpacks them.
        hand: MANO of that side; None = the user's. side: which hand.
        framerate: Hz, to which the 30 are thinned; None = all frames.
        contact_distance: m, nearest vertex of the hand to the object; None = frames without contact, too.
        subjects: such as ``s01``; empty = all. objects: such as ``box``; empty = all.
        protocol, split: only the sequences of ``train``, ``val`` or ``test`` of ``splits_json/protocol_p1.json``; empty
            split = all.
        mesh_folder: for the objects' meshes at their angles; None = in the cache.

    Raises:
        MissingFileError: ARCTIC or MANO is not there; the message says where it comes from.
        InputError: a file is not what it should be, or nothing is chosen.
    """
    hand = require_mano(hand, side, "ARCTIC")
    root = arctic_root(folder)
    if framerate is not None and not 0 < framerate <= FRAMERATE:
        raise InputError(f"framerate: expected more than 0 and at most the recorded {FRAMERATE:g} Hz, got {framerate}")
    step = 1.0 if framerate is None else FRAMERATE / framerate
    templates: dict[str, ArticulatedMesh] = {}
    grasped: dict[str, GraspedObject] = {}
    recordings = []
    for path in _sequences(root, subjects, objects, protocol, split):
        thing = _object_of(path)
        if thing not in templates:
            templates[thing] = read_articulated(root, thing)
        recording = _recording(hand, path, step)
        for name in np.unique(recording.object_name).tolist():
            grasped.setdefault(name, GraspedObject(name, category=thing, split=split))
        recordings.append(recording)
    attributes = {
        "framerate": "as recorded" if framerate is None else f"{framerate:g} Hz",
        "articulation": f"rounded to {np.degrees(ANGLE_STEP):g} degrees",
        "protocol": f"{protocol} {split}" if split else "all sequences",
    }
    grasps = label_grasps("arctic", hand, recordings, grasped, attributes)

    def mesh_of(one: GraspedObject) -> tuple[np.ndarray, np.ndarray]:
        template = templates[one.category]
        return template.at(_angle_of(one.name)), template.faces

    if contact_distance is not None:
        grasps = touching(grasps, hand, [mesh_of(one) for one in grasps.objects], contact_distance)
    used, index = np.unique(grasps.object_index, return_inverse=True)
    grasps = replace(grasps, objects=[grasps.objects[k] for k in used], object_index=index.astype(np.int64))
    return _with_meshes(grasps, templates, mesh_folder)


def _object_of(path: Path) -> str:
    return path.name.split("_")[0]


def _sequences(
    root: Path, subjects: Collection[str], objects: Collection[str], protocol: str, split: str
) -> Iterator[Path]:
    """The files of the hands."""
    files = sorted(require("arctic", root / "raw_seqs", "folder").glob("s*/*.mano.npy"))
    if not files:
        require("arctic", root / "raw_seqs" / "s01" / "box_grab_01.mano.npy")
    chosen = None if not split else _split(root / "splits_json" / f"protocol_{protocol}.json", split)
    for path in files:
        sequence = f"{path.parent.name}/{path.name.removesuffix('.mano.npy')}"
        if (
            (not subjects or path.parent.name in subjects)
            and (not objects or _object_of(path) in objects)
            and (chosen is None or sequence in chosen)
        ):
            yield path


def _split(path: Path, split: str) -> frozenset[str]:
    """The sequences of a split, such as ``s01/box_grab_01``."""
    try:
        data = json.loads(require("arctic", path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(data, dict) or not isinstance(data.get(split), list):
        there = ", ".join(map(str, data)) if isinstance(data, dict) else type(data).__name__
        raise InputError(f"{path}: no split {split!r}; found {there}")
    return frozenset(map(str, data[split]))


def _recording(hand: HandModel, path: Path, step: float) -> Recording:
    """One sequence, thinned."""
    data = read_object_npy(path, "file of ARCTIC's hands")
    other = path.with_name(path.name.replace(".mano.npy", ".object.npy"))
    poses = numbers_of(
        {"poses": read_object_npy(require("arctic", other), "file of ARCTIC's objects")}, (None, 7), other, "poses"
    )
    count = len(poses)
    frames = np.unique(np.floor(np.arange(0, count, step)).astype(np.int64))
    shape = np.asarray(field_of(data, hand.side, path, "shape"))
    if shape.dtype.kind != "f" or shape.size not in (NUM_BETAS, count * NUM_BETAS):
        raise InputError(f"{path}: {hand.side}.shape: expected {NUM_BETAS} betas, got {shape.shape} {shape.dtype}")
    betas = np.broadcast_to(shape.reshape(-1, NUM_BETAS), (count, NUM_BETAS))[frames].astype(np.float64)
    pose = numbers_of(data, (count, NUM_POSE), path, hand.side, "pose")[frames] + hand.arrays.hands_mean
    angle = np.round(poses[frames, 0] / ANGLE_STEP) * ANGLE_STEP + 0.0  # without a negative zero in the name
    names = [f"{_object_of(path)}@{degrees:.1f}deg" for degrees in np.degrees(angle).tolist()]
    return Recording(
        orientation=rotation_matrices(numbers_of(data, (count, 3), path, hand.side, "rot")[frames]),
        wrist=numbers_of(data, (count, 3), path, hand.side, "trans")[frames] + rest_wrist(hand, betas),
        hand_pose=pose,
        betas=betas,
        object_rotation=rotation_matrices(poses[frames, 1:4]),
        object_translation=np.where(np.isfinite(angle)[:, None], poses[frames, 4:] * _MILLIMETRE, np.nan),
        object_name=np.array(names),
        subject=path.parent.name,
        sequence=path.name.removesuffix(".mano.npy"),
        frame=frames,
        metrics={"articulation": poses[frames, 0]},
    )


def _angle_of(name: str) -> float:
    """rad, of an object's name."""
    return float(np.radians(float(name.partition("@")[2].removesuffix("deg"))))


def _with_meshes(
    grasps: LabelledGrasps, templates: dict[str, ArticulatedMesh], mesh_folder: str | Path | None
) -> LabelledGrasps:
    """The same grasps with the objects' meshes written."""
    objects = []
    for one in grasps.objects:
        template = templates[one.category]
        if mesh_folder is None:
            content = hashlib.sha256(template.vertices.tobytes() + template.faces.tobytes() + template.top.tobytes())
            folder = cache_dir("arctic", content.hexdigest()[:16])
        else:
            folder = Path(mesh_folder)
            folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{one.name}.ply"
        if mesh_folder is not None or not path.is_file():
            mesh = trimesh.Trimesh(template.at(_angle_of(one.name)), template.faces, process=False)
            with replacing(path) as stream:
                mesh.export(stream, file_type="ply")
        objects.append(replace(one, mesh=str(path)))
    return replace(grasps, objects=objects)
