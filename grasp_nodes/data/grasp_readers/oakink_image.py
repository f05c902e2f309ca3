"""OakInk-Image: images from four cameras of people who use, hold, lift and hand over 100 objects.

Yang et al., "OakInk", CVPR 2022. An annotation is named ``<sequence>__<time>__<person>__<frame>__<camera>.pkl``::

    image/anno/general_info/   hand_anno: hand_pose (16 quaternions w, x, y, z, of the world), hand_shape; cam_extr
               hand_j/         21 joints in the camera's frame, m; the first is the wrist
               obj_transf/     object frame to camera frame
               seq_all.json    [sequence/time, person, frame, camera] of all; split/, split_train_val/ of parts
    image/obj/A01001.obj       object, of which the centre of its bounding box is the origin

The four cameras see one hand, so one of them is read. The files hold tensors of torch; see `tensor_pickles`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from grasp_nodes.data.grasp_readers.mano_hands import (
    Recording,
    axis_angle,
    label_grasps,
    require_mano,
    rest_wrist,
)
from grasp_nodes.data.grasp_readers.oakink_objects import INTENTS, Intent, centred_object
from grasp_nodes.data.grasp_readers.oakink_shape import quaternion_matrices
from grasp_nodes.data.grasp_readers.pickles import numbers_of, read_pickle, row_of
from grasp_nodes.data.grasp_readers.registry import require
from grasp_nodes.data.grasp_readers.splits import Split
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.hand.keypoints import KEYPOINT_ORDER
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_JOINTS, NUM_KEYPOINTS, HandParams

logger = logging.getLogger(__name__)

SOURCE = "oakink_image"
JOINT_ERROR = "annotated_joint_error"
SplitBy = Literal["view", "subject", "object", "hand-object"]
_SPLIT_FOLDERS: dict[SplitBy, str] = {
    "view": "split0",
    "subject": "split1",
    "object": "split2",
    "hand-object": "split0_ho",
}
_LARGEST_JOINT_ERROR = 0.005
_BATCH = 512


def read_oakink_image(
    folder: str | Path,
    hand: HandModel | None = None,
    split: Split | None = None,
    split_by: SplitBy = "object",
    intents: Collection[Intent] | None = None,
    objects: Collection[str] | None = None,
    every: int = 1,
) -> LabelledGrasps:
    """OakInk-Image's hands (right ones) in the frame of the centred object, also those before and after the grasp.

    `contact_filter.touching` leaves out hands that do not touch. ``sequence`` is
    ``<object>_<intent>_<subject>[_<receiver>]/<time>``, ``subject`` who it is. The metric ``annotated_joint_error`` (m)
    is the mean distance of 16 joints from the annotated ones; a large one means another hand model.

    Args:
        folder: OAKINK_DIR.
        hand: right MANO; None = the user's.
        split: which part; None = all. split_by: the published division. By view, train and test share grasps.
        intents, objects: which sequences; None = all.
        every: only frames whose number is a multiple of it.

    Raises:
        MissingFileError: a folder or file is not there, or no MANO. InputError: a file is broken, or nothing is left.
    """
    hand = require_mano(hand, "right", "OakInk-Image")
    root = require(SOURCE, Path(folder) / "image", "folder")
    annotations = require(SOURCE, root / "anno", "folder")
    rows = _choose(_listed(annotations, split, split_by), intents, objects, every)
    if not rows:
        return label_grasps(SOURCE, hand, [], {}, {})
    recording = _recording(annotations, rows, hand)
    error = recording.metrics[JOINT_ERROR]
    if np.isfinite(error).any() and np.nanmedian(error) > _LARGEST_JOINT_ERROR:
        logger.warning(
            "%s: the hand model's joints are %.0f mm from the annotated ones (median): it is not the one that was "
            "annotated with",
            root,
            1000 * np.nanmedian(error),
        )
    own_split = split if split is not None and split_by == "object" else ""
    names = sorted({str(name) for name in recording.object_name})
    attributes = {} if split is None else {"split": f"{split} by {split_by}"}
    known = {name: centred_object(name, _mesh_of(root / "obj", name), split=own_split) for name in names}
    return label_grasps(SOURCE, hand, [recording], known, attributes)


def _listed(annotations: Path, split: Split | None, split_by: SplitBy) -> list[tuple[str, int, int, int]]:
    """[sequence/time, person, frame, camera] of a part."""
    if split_by not in _SPLIT_FOLDERS:
        raise InputError(f"split_by: expected one of {', '.join(_SPLIT_FOLDERS)}, got {split_by!r}")
    if split is None:
        path = annotations / "seq_all.json"
    elif split == "test":
        path = annotations / "split" / _SPLIT_FOLDERS[split_by] / "seq_test.json"
    else:
        path = annotations / "split_train_val" / _SPLIT_FOLDERS[split_by] / f"example_split_{split}.json"
    try:
        return [
            (str(sequence), int(person), int(frame), int(camera))
            for sequence, person, frame, camera in json.loads(require(SOURCE, path).read_text())
        ]
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: expected a list of [sequence/time, person, frame, camera] ({error})") from error


def _choose(
    listed: list[tuple[str, int, int, int]],
    intents: Collection[Intent] | None,
    objects: Collection[str] | None,
    every: int,
) -> list[tuple[str, int, int, int]]:
    """One camera of each hand in each frame."""
    if every < 1:
        raise InputError(f"every: expected at least 1, got {every}")
    chosen: dict[tuple[str, int, int], int] = {}
    for sequence, person, frame, camera in sorted(listed):
        fields = sequence.split("/")[0].split("_")
        if len(fields) < 3:
            raise InputError(f"{SOURCE}: sequence {sequence!r} is not <object>_<intent>_<subject>/<time>")
        wanted = (intents is None or INTENTS.get(fields[1]) in intents) and (objects is None or fields[0] in objects)
        if wanted and frame % every == 0:
            chosen.setdefault((sequence, person, frame), camera)
    return [(*instant, camera) for instant, camera in chosen.items()]


def _recording(annotations: Path, rows: list[tuple[str, int, int, int]], hand: HandModel) -> Recording:
    read = [_read_annotation(annotations, "__".join(map(str, row)).replace("/", "__") + ".pkl") for row in rows]
    rotations, betas, joints, object_to_camera = (np.stack(column) for column in zip(*read, strict=True))
    pose = axis_angle(rotations[:, 1:]).reshape(len(rows), -1)
    fields = [sequence.split("/")[0].split("_") for sequence, _, _, _ in rows]
    return Recording(
        orientation=rotations[:, 0],
        wrist=joints[:, 0],
        hand_pose=pose,
        betas=betas,
        object_rotation=object_to_camera[:, :3, :3],
        object_translation=object_to_camera[:, :3, 3],
        object_name=np.array([field[0] for field in fields]),
        # The giver is person 0, the receiver 1; where one person is recorded, the number says nothing.
        subject=np.array([field[2:][min(row[1], len(field) - 3)] for field, row in zip(fields, rows, strict=True)]),
        sequence=np.array([row[0] for row in rows]),
        frame=np.array([row[2] for row in rows]),
        metrics={JOINT_ERROR: _joint_error(hand, rotations[:, 0], pose, betas, joints)},
    )


def _read_annotation(annotations: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """In the camera's frame: rotations (16, 3, 3), betas (10,), joints (21, 3) and object_to_camera (4, 4); m."""
    path = require(SOURCE, annotations / "general_info" / name)
    info = read_pickle(path)
    rotations = quaternion_matrices(row_of(info, 4 * NUM_JOINTS, path, "hand_anno", "hand_pose"))
    rotations[0] = row_of(info, 16, path, "cam_extr").reshape(4, 4)[:3, :3] @ rotations[0]
    betas = row_of(info, NUM_BETAS, path, "hand_anno", "hand_shape")
    joints = _array(annotations / "hand_j" / name, (NUM_KEYPOINTS, 3))
    return rotations, betas, joints, _array(annotations / "obj_transf" / name, (4, 4))


def _array(path: Path, shape: tuple[int, int]) -> np.ndarray:
    return numbers_of({"content": read_pickle(require(SOURCE, path))}, shape, path, "content")


def _joint_error(
    hand: HandModel, orientation: np.ndarray, pose: np.ndarray, betas: np.ndarray, annotated: np.ndarray
) -> np.ndarray:
    """(T,) m, mean over the 16 joints when the wrist is where it was annotated."""
    transl = annotated[:, 0] - rest_wrist(hand, betas)

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(dtype=hand.dtype, device=hand.device)

    hands = HandParams(
        tensor(axis_angle(orientation)),
        tensor(pose),
        tensor(betas),
        tensor(transl),
        tensor(np.ones(len(pose))),
        hand.side,
    )
    posed = [hand.joints(hands[k : k + _BATCH])[0].cpu().numpy() for k in range(0, len(pose), _BATCH)]
    rows = [(place, joint) for place, joint in enumerate(KEYPOINT_ORDER) if joint < NUM_JOINTS]
    places, joints = zip(*rows, strict=True)
    return np.linalg.norm(np.concatenate(posed)[:, joints] - annotated[:, places], axis=2).mean(1)


def _mesh_of(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.obj", folder / f"{name}.ply") if path.is_file()), None)
