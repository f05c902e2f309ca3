"""A hand out of an SMPL-X body: the joints from pelvis to wrist turned, and the fingers' angles (Pavlakos et al. 2019).

Only the arrays of the joints are taken out of the user's model files, nothing of its surface; SMPL-X took hands and
finger joints over from MANO with their axes, so that the wrist's orientation in the world is MANO's `global_orient`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from grasp_nodes.data.grasp_readers.mano_hands import rotation_matrices
from grasp_nodes.data.grasp_readers.pickles import numbers_of, read_object_npz
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.parameters import NUM_POSE, Side

NUM_JOINTS = 55
_NUM_BODY_POSE = 63
_WRIST: dict[Side, int] = {"left": 20, "right": 21}
_LETTER: dict[Side, str] = {"left": "l", "right": "r"}


@dataclass(frozen=True, eq=False)
class SmplxJoints:
    """What of SMPL-X the joints need.

    regressor: (55, V). parents: (55,), -1 for the root. mean: (45,) rad and components: (45, 45) by side.
    """

    source: str
    regressor: np.ndarray
    parents: np.ndarray
    mean: Mapping[Side, np.ndarray]
    components: Mapping[Side, np.ndarray]


def find_smplx_model(folder: str | Path | None, gender: str) -> SmplxJoints:
    """The joints of SMPL-X of one gender.

    Args:
        folder: of SMPLX_MALE.npz and so on, or of a folder ``smplx`` with them. gender: ``male``, ``female``, ...

    Raises:
        MissingFileError: it is not there; the message says where SMPL-X comes from.
        InputError: it is not SMPL-X.
    """
    name = f"SMPLX_{gender.upper()}.npz"
    places = [] if folder is None else [Path(folder) / name, Path(folder) / "smplx" / name]
    for path in places:
        if path.is_file():
            return _read(path)
    where = "no folder of SMPL-X models was given" if folder is None else f"{places[0]}: there is no such file"
    raise MissingFileError(
        f"{where}. SMPL-X is free for non-commercial research after registration at https://smpl-x.is.tue.mpg.de: "
        f"download the models, unpack {name} and give its folder as smplx_folder"
    )


@lru_cache(maxsize=4)
def _read(path: Path) -> SmplxJoints:
    names = {
        "J_regressor",
        "kintree_table",
        *(f"hands_{part}{side}" for part in ("mean", "components") for side in "lr"),
    }
    data = read_object_npz(path, "SMPL-X model", only=names)
    parents = numbers_of(data, (2, NUM_JOINTS), path, "kintree_table")[0].astype(np.int64)
    parents[0] = -1  # the file writes "none" as the largest uint32
    if not (np.arange(NUM_JOINTS) > parents).all() or (parents[1:] < 0).any():
        raise InputError(f"{path}: kintree_table: expected each joint's parent before it")
    return SmplxJoints(
        source=str(path),
        regressor=numbers_of(data, (NUM_JOINTS, None), path, "J_regressor"),
        parents=parents,
        mean={side: numbers_of(data, (NUM_POSE,), path, f"hands_mean{letter}") for side, letter in _LETTER.items()},
        components={
            side: numbers_of(data, (NUM_POSE, NUM_POSE), path, f"hands_components{letter}")
            for side, letter in _LETTER.items()
        },
    )


def hand_of_body(
    model: SmplxJoints, template: np.ndarray, body: Mapping[str, np.ndarray], side: Side
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One hand of T bodies.

    Args:
        model: the joints. template: (V, 3), m, the subject's own body at rest.
        body: ``global_orient`` (T, 3) and ``body_pose`` (T, 63), rad; ``left_hand_pose`` or ``right_hand_pose`` (T, n),
            n <= 45 principal components on top of the mean pose; ``transl`` (T, 3), m.
        side: which hand.

    Returns:
        orientation (T, 3, 3) and position (T, 3), m, of the wrist in the world, and hand_pose (T, 45), rad.
        Facial expressions are not taken into account: they do not move a wrist.
    """
    if template.shape != (model.regressor.shape[1], 3):
        raise InputError(
            f"{model.source}: has {model.regressor.shape[1]} vertices, the subject's body {template.shape[0]}"
        )
    coefficients = body[f"{side}_hand_pose"]
    if body["body_pose"].shape[1] != _NUM_BODY_POSE or coefficients.shape[1] > NUM_POSE:
        raise InputError(
            f"body: expected body_pose (T, {_NUM_BODY_POSE}) and {side}_hand_pose (T, n <= {NUM_POSE}), got "
            f"{body['body_pose'].shape} and {coefficients.shape}"
        )
    rest = model.regressor @ template
    local = rotation_matrices(
        np.concatenate([body["global_orient"], body["body_pose"]], 1).reshape(len(coefficients), -1, 3)
    )
    chain = [_WRIST[side]]
    while model.parents[chain[-1]] >= 0:
        chain.append(int(model.parents[chain[-1]]))
    chain.reverse()
    orientation, position = local[:, 0], rest[0] + body["transl"]
    for parent, joint in itertools.pairwise(chain):
        position = position + orientation @ (rest[joint] - rest[parent])
        orientation = orientation @ local[:, joint]
    pose = model.mean[side] + coefficients @ model.components[side][: coefficients.shape[1]]
    return orientation, position, pose
