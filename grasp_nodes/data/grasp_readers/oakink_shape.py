"""OakInk-Shape: grasps recorded on 100 objects and carried over to 1,700 more of the same categories.

Yang et al., "OakInk: A Large-scale Knowledge Repository for Understanding Hand-Object Interaction", CVPR 2022::

    oakink_shape_v2/<category>/<object>/<grasp>/hand_param.pkl            the recorded grasp: pose, shape, tsl
                                                source.txt                where it was recorded
                                                <object>/hand_param.pkl   the same grasp on another object
    metaV2/object_id.json, virtual_object_id.json                         object to name of its folder
    OakInkObjectsV2/<name>/align/*.obj, OakInkVirtualObjectsV2/...        meshes; align_ds: with fewer faces

``pose`` is 48 numbers of axis-angle about the flat hand (its documentation speaks of 16 quaternions w, x, y, z, which
are read as well), ``tsl`` is where the wrist joint is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grasp_nodes.data.grasp_readers.mano_hands import (
    Recording,
    axis_angle,
    label_grasps,
    require_mano,
    rotation_matrices,
)
from grasp_nodes.data.grasp_readers.oakink_objects import INTENTS, Intent, centred_object
from grasp_nodes.data.grasp_readers.pickles import numbers_of, read_pickle
from grasp_nodes.data.grasp_readers.registry import require
from grasp_nodes.data.grasp_readers.splits import SPLITS, Split, oakink_shape_split
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import quaternion_to_matrix
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_JOINTS

SOURCE = "oakink_shape"
_PARAMETERS = "hand_param.pkl"
_SEQUENCE = re.compile(r"(\w{6}_(\d{4})_(\d{4})(?:_(\d{4}))?)/([\d-]+)")


@dataclass(frozen=True)
class _Place:
    """What the path and source.txt of a grasp say."""

    path: Path
    category: str
    object_id: str
    subject: str
    sequence: str


def read_oakink_shape(
    folder: str | Path,
    hand: HandModel | None = None,
    splits: Collection[Split] = SPLITS,
    categories: Collection[str] | None = None,
    intents: Collection[Intent] | None = None,
    recorded_only: bool = False,
    downsampled: bool = True,
) -> LabelledGrasps:
    """OakInk-Shape's grasps (right hands) in the frame of the centred object.

    ``sequence`` is ``<object>_<intent>_<subject>[_<receiver>]/<time>`` of the recording, ``subject`` who grasps.
    Objects are named by their ids and have the published split.

    Args:
        folder: OAKINK_DIR, or its ``shape``.
        hand: right MANO; None = the user's.
        splits, categories, intents: which grasps; None = all.
        recorded_only: without those that were carried over to other objects.
        downsampled: take the meshes of ``align_ds``, else of ``align``.

    Raises:
        MissingFileError: a folder or file is not there, or no MANO. InputError: a file is broken, or nothing is left.
    """
    hand = require_mano(hand, "right", "OakInk-Shape")
    root = Path(folder) / "shape" if (Path(folder) / "shape").is_dir() else Path(folder)
    grasps = require(SOURCE, root / "oakink_shape_v2", "folder")
    depths = ["*/*/*", *([] if recorded_only else ["*/*/*/*"])]
    files = sorted(path for depth in depths for path in grasps.glob(f"{depth}/{_PARAMETERS}"))
    if not files:
        require(SOURCE, grasps / "bottle" / "A16012" / "0cc013118e" / _PARAMETERS)
    sources: dict[Path, str] = {}
    places = []
    for path in files:
        parts = path.relative_to(grasps).parts
        category, object_id = parts[0], parts[-2] if len(parts) == 5 else parts[1]
        if (categories is not None and category not in categories) or oakink_shape_split(object_id) not in splits:
            continue
        recorded = grasps.joinpath(*parts[:3], "source.txt")
        if recorded not in sources:
            sources[recorded] = require(SOURCE, recorded).read_text()
        place = _place(path, category, object_id, recorded, sources[recorded])
        if intents is None or INTENTS.get(place.sequence.split("_")[1]) in intents:
            places.append(place)
    if not places:
        return label_grasps(SOURCE, hand, [], {}, {})
    objects = _find_objects(root, {place.object_id: place.category for place in places}, downsampled)
    return label_grasps(SOURCE, hand, [_recording(places)], objects, {})


def _place(path: Path, category: str, object_id: str, source_file: Path, source: str) -> _Place:
    found = _SEQUENCE.search(source)
    if found is None:
        raise InputError(f"{source_file}: expected <object>_<intent>_<subject>/<time>, got {source.strip()[:80]!r}")
    sequence, _, giver, receiver, time = found.groups()
    subject = receiver if receiver and "_alt" in source else giver
    return _Place(path, category, object_id, subject, f"{sequence}/{time}")


def _recording(places: list[_Place]) -> Recording:
    rows = [_read_parameters(place.path) for place in places]
    rotations, betas, wrist = (np.stack(column) for column in zip(*rows, strict=True))
    count = len(places)
    return Recording(
        orientation=rotations[:, 0],
        wrist=wrist,
        hand_pose=axis_angle(rotations[:, 1:]).reshape(count, -1),
        betas=betas,
        object_rotation=np.tile(np.eye(3), (count, 1, 1)),
        object_translation=np.zeros((count, 3)),
        object_name=np.array([place.object_id for place in places]),
        subject=np.array([place.subject for place in places]),
        sequence=np.array([place.sequence for place in places]),
        frame=np.zeros(count, np.int64),
    )


def _read_parameters(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotations (16, 3, 3), betas (10,) and the wrist (3,), m."""
    data = read_pickle(path)
    pose = np.asarray(data["pose"]).ravel() if isinstance(data, dict) and "pose" in data else np.zeros(0)
    if pose.shape == (4 * NUM_JOINTS,):
        rotations = quaternion_matrices(numbers_of({"pose": pose}, (4 * NUM_JOINTS,), path, "pose"))
    else:
        rotations = rotation_matrices(numbers_of(data, (3 * NUM_JOINTS,), path, "pose").reshape(NUM_JOINTS, 3))
    return rotations, numbers_of(data, (NUM_BETAS,), path, "shape"), numbers_of(data, (3,), path, "tsl")


def quaternion_matrices(quaternions: np.ndarray) -> np.ndarray:
    """(16, 3, 3) of 16 quaternions w, x, y, z one after the other."""
    return quaternion_to_matrix(torch.from_numpy(quaternions.reshape(-1, 4)[:, [1, 2, 3, 0]].copy())).numpy()


def _find_objects(root: Path, categories: dict[str, str], downsampled: bool) -> dict[str, GraspedObject]:
    """The objects of these ids."""
    folders = {}
    for meta, meshes in (
        ("virtual_object_id.json", "OakInkVirtualObjectsV2"),
        ("object_id.json", "OakInkObjectsV2"),
    ):
        for object_id, entry in _read_json(require(SOURCE, root / "metaV2" / meta)).items():
            if object_id in categories:
                folders[object_id] = root / meshes / str(entry["name"]) / ("align_ds" if downsampled else "align")
    return {
        object_id: centred_object(object_id, _mesh_in(folders.get(object_id)), category, oakink_shape_split(object_id))
        for object_id, category in categories.items()
    }


def _mesh_in(folder: Path | None) -> Path | None:
    """The mesh of a folder; of several the one that is called aligned."""
    if folder is None or not folder.is_dir():
        return None
    meshes = sorted([*folder.glob("*.obj"), *folder.glob("*.ply")])
    return next((path for path in meshes if "align" in path.name), meshes[0] if meshes else None)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
        if not isinstance(data, dict) or not all(
            isinstance(entry, dict) and "name" in entry for entry in data.values()
        ):
            raise TypeError("expected the name of each object id")
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not OakInk's list of objects ({error})") from error
    return data
