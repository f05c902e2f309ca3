"""The data that GrabNet was trained on: right-hand grasps picked out of GRAB (Taheri et al., ECCV 2020).

One archive per split holds rotation matrices of the hand (MANO with the subject's own rest mesh, angles from the flat
hand) and of the object, whose matrix acts on row vectors, ``vertices @ R + trans_obj``, as in GRAB. Each grasp also has
a disturbed copy of the hand (``..._f``), which is not read.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from grasp_nodes.data.grasp_readers.mano_hands import (
    Recording,
    axis_angle,
    fit_betas,
    label_grasps,
    require_mano,
    template_wrist,
)
from grasp_nodes.data.grasp_readers.mesh_units import mesh_scale
from grasp_nodes.data.grasp_readers.pickles import field_of, numbers_of, read_object_npy, read_object_npz
from grasp_nodes.data.grasp_readers.registry import require
from grasp_nodes.data.grasp_readers.splits import SPLITS
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_JOINTS, NUM_POSE

_ROTATIONS = {"global_orient_rhand_rotmat": 1, "fpose_rhand_rotmat": NUM_JOINTS - 1, "root_orient_obj_rotmat": 1}
"""Rotation matrices by name, and how many there are in a row."""
_MEMBERS = (*_ROTATIONS, "trans_rhand", "trans_obj")


def read_grabnet(
    folder: str | Path,
    hand: HandModel | None = None,
    *,
    splits: Collection[str] = SPLITS,
    subjects: Collection[str] = (),
    objects: Collection[str] = (),
) -> LabelledGrasps:
    """The grasps of GrabNet's data.

    Args:
        folder: that holds ``data`` and ``tools``, as GrabNet's own script unpacks them.
        hand: right MANO; None = the user's.
        splits: of ``train``, ``val``, ``test``.
        subjects: such as ``s1``; empty = all. objects: such as ``mug``; empty = all.

    Raises:
        MissingFileError: a file or MANO is not there; the message says where it comes from.
        InputError: a file is not what it should be, or nothing is chosen.
    """
    odd = set(splits) - set(SPLITS)
    if odd:
        raise InputError(f"splits: expected {', '.join(SPLITS)}, got {', '.join(sorted(odd))}")
    hand = require_mano(hand, "right", "GrabNet")
    root = require("grabnet", Path(folder), "folder")
    root = root.parent if root.name == "data" and not (root / "data").is_dir() else root
    info = require("grabnet", root / "data" / "sbj_info.npy")
    people = read_object_npy(info, "table of GrabNet's subjects")
    shapes: dict[str, tuple[np.ndarray, np.ndarray, float]] = {}
    grasped: dict[str, GraspedObject] = {}
    recordings = []
    for split in splits:
        path = require("grabnet", root / "data" / split / f"grabnet_{split}.npz")
        arrays = _arrays(path)
        count = len(arrays["trans_obj"])
        subject, sequence, frame = _frame_names(root / "data" / split / "frame_names.npz", count)
        name = np.array([one.split("_")[0] for one in sequence.tolist()])
        for who, what in sorted(set(zip(subject.tolist(), sequence.tolist(), strict=True))):
            thing = what.split("_")[0]
            if (subjects and who not in subjects) or (objects and thing not in objects):
                continue
            if who not in shapes:
                shapes[who] = _shape(hand, people, who, info)
            if thing not in grasped:
                mesh = require("grabnet", root / "tools" / "object_meshes" / "contact_meshes" / f"{thing}.ply")
                grasped[thing] = GraspedObject(thing, str(mesh), mesh_scale(mesh), category=thing, split=split)
            wrist, betas, _ = shapes[who]
            rows = np.flatnonzero((subject == who) & (sequence == what))
            recordings.append(
                Recording(
                    orientation=arrays["global_orient_rhand_rotmat"][rows, 0],
                    wrist=arrays["trans_rhand"][rows] + wrist,
                    hand_pose=axis_angle(arrays["fpose_rhand_rotmat"][rows]).reshape(-1, NUM_POSE),
                    betas=betas,
                    object_rotation=arrays["root_orient_obj_rotmat"][rows, 0].swapaxes(1, 2),
                    object_translation=arrays["trans_obj"][rows],
                    object_name=name[rows],
                    subject=who,
                    sequence=what,
                    frame=frame[rows],
                )
            )
    worst = 1000 * max((residual for _, _, residual in shapes.values()), default=0.0)
    note = f"fitted; the subjects' own meshes differ from it by up to {worst:.2f} mm (rms)"
    return label_grasps("grabnet", hand, recordings, grasped, {"splits": " ".join(splits), "betas": note})


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The archive's members as arrays of one length: (N, n, 3, 3) rotations and (N, 3) translations."""
    data: dict[str, Any] = read_object_npz(path, "GrabNet archive", only=_MEMBERS)
    arrays = {name: numbers_of(data, (None, 3), path, name) for name in ("trans_rhand", "trans_obj")}
    for name, joints in _ROTATIONS.items():
        flat = np.asarray(field_of(data, name, path))
        if flat.ndim < 2 or flat.size != len(flat) * joints * 9 or flat.dtype.kind != "f":
            raise InputError(f"{path}: {name}: expected (N, {joints}, 3, 3) rotations, got {flat.shape} {flat.dtype}")
        arrays[name] = flat.reshape(-1, joints, 3, 3).astype(np.float64)
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise InputError(f"{path}: expected as many rows in every array, got {lengths}")
    return arrays


def _frame_names(path: Path, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Subject, sequence and frame number of each row, from ``.../s1/airplane_fly_1/12.npz``."""
    data = read_object_npz(require("grabnet", path), "list of GrabNet's frames")
    names = np.asarray(field_of(data, "frame_names", path))
    parts = [str(name).replace("\\", "/").split("/") for name in names.ravel().tolist()]
    if len(parts) != count or any(len(one) < 3 for one in parts):
        raise InputError(f"{path}: expected {count} names such as data/train/data/s1/airplane_fly_1/12.npz")
    digits = ["".join(filter(str.isdigit, one[-1].partition(".")[0])) for one in parts]
    frame = np.array([int(one) if one else -1 for one in digits], np.int64)
    return np.array([one[-3] for one in parts]), np.array([one[-2] for one in parts]), frame


def _shape(hand: HandModel, people: Any, subject: str, path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """A subject's wrist at rest (3,) m, betas (10,), and what the betas leave over, m."""
    template = numbers_of(people, (None, 3), path, subject, "rh_vtemp")
    betas, residual = fit_betas(hand, template, f"{path}: {subject}.rh_vtemp")
    return template_wrist(hand, template), betas, residual
