"""Annotated hands and objects as states: MANO parameters moved between frames, and posed with the user's MANO."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from grasp_nodes.contact.hand_states import hand_states
from grasp_nodes.contact.interaction import HandState, ObjectState
from grasp_nodes.data.grasp_readers.mano_hands import axis_angle, require_mano, rest_wrist, rotation_matrices
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.keypoints import KEYPOINT_ORDER
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side

logger = logging.getLogger(__name__)

_LARGEST_JOINT_ERROR = 0.005
_JOINT_KEYPOINTS = [row for row, joint in enumerate(KEYPOINT_ORDER) if joint < 16]
"""The keypoints that are joints; the others are fingertips, whose place every data set chooses for itself."""


@dataclass(frozen=True)
class ManoAnnotation:
    """One MANO hand, m and rad: global_orient (3,), hand_pose (45,) full rotations, betas (10,), transl (3,)."""

    global_orient: np.ndarray
    hand_pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray


def turned(annotation: ManoAnnotation, rotation: np.ndarray, hand: HandModel) -> ManoAnnotation:
    """The hand in a frame that is turned about the same origin.

    MANO turns a hand about its wrist joint, which stays where the shape has it until `transl` is added: only the
    place of the wrist, not `transl`, turns with the frame.

    Args:
        annotation: in the old frame. rotation: (3, 3), old frame to new frame. hand: whose wrist it is.
    """
    wrist = rest_wrist(hand, annotation.betas[None])[0]
    orientation = rotation @ rotation_matrices(annotation.global_orient)
    return replace(
        annotation,
        global_orient=axis_angle(orientation),
        transl=rotation @ (wrist + annotation.transl) - wrist,
    )


class HandAnnotations:
    """Poses the annotated hands of one recording with the hand model that they were annotated with."""

    def __init__(self, title: str, side: Side, hands: Mapping[Side, HandModel] | None) -> None:
        """Find the hand model.

        Args:
            title: of the data set, for messages. side: of the recorded hand.
            hands: models by side; None = the user's MANO. Where there is none, `model` is None.
        """
        self._title = title
        self._compared = False
        self.model: HandModel | None
        try:
            self.model = require_mano(None if hands is None else hands.get(side), side, title)
        except MissingFileError as error:
            logger.warning("the truth has no hands: %s", error)
            self.model = None

    def state(self, annotation: ManoAnnotation, keypoints: np.ndarray | None = None) -> HandState | None:
        """The hand's state, None without a hand model or where a number is not finite.

        Args:
            annotation: in the camera's frame. keypoints: (21, 3), m, annotated; another hand model than the
                annotators' shows in their joints, and is warned of once.
        """
        numbers = (annotation.global_orient, annotation.hand_pose, annotation.betas, annotation.transl)
        if self.model is None or not all(np.isfinite(one).all() for one in numbers):
            return None
        orient, bends, betas, transl = (torch.tensor(one[None], dtype=self.model.dtype) for one in numbers)
        params = HandParams(orient, bends, betas, transl, torch.ones_like(betas[:, 0]), self.model.side)
        state = replace(hand_states(params, self.model)[0], track_id=1, score=1.0)
        if keypoints is not None and not self._compared:
            self._compared = True
            error = np.linalg.norm(state.keypoints - keypoints, axis=1)[_JOINT_KEYPOINTS].mean()
            if error > _LARGEST_JOINT_ERROR:
                logger.warning(
                    "%s: the joints of the hand model %s are %.0f mm from the annotated ones (mean): it is not the one "
                    "that was annotated with",
                    *(self._title, self.model.model_id, 1000 * error),
                )
        return state


def object_states(object_id: str, T_camera_object: np.ndarray, mesh: str) -> tuple[ObjectState, ...]:
    """An annotated object; none where a number is not finite.

    Args:
        object_id: its name. T_camera_object: (4, 4), object frame to camera frame, m. mesh: its file, '' = unknown.
    """
    if not np.isfinite(T_camera_object).all():
        return ()
    return (ObjectState(object_id, T_camera_object, score=1.0, mesh_resource=mesh, is_metric=True),)


def pinhole(fx: float, fy: float, cx: float, cy: float, size: tuple[int, int]) -> CameraModel:
    """A calibrated camera without distortion; px, size is (height, width)."""
    return CameraModel(np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), size[1], size[0])


def frame_range(sequence: str, part: str, example: str) -> tuple[int, int]:
    """First and last frame of a part of a sequence, ``10-45``.

    Args:
        sequence: that was asked for. part: of it, behind the colon. example: of such a name, for the message.

    Raises:
        InputError: it is none.
    """
    found = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", part)
    if found is None:
        raise InputError(f"sequence {sequence}: expected a range of frames such as {example}")
    return int(found[1]), int(found[2])


def numbered_files(
    folder: Path, prefix: str = "", suffixes: tuple[str, ...] = (".png", ".jpg", ".jpeg")
) -> dict[int, Path]:
    """The files ``<prefix><number><suffix>`` of a folder by number, increasing."""
    found = {}
    for path in folder.iterdir():
        number = path.stem[len(prefix) :]
        if path.suffix.lower() in suffixes and path.stem.startswith(prefix) and number.isascii() and number.isdigit():
            found[int(number)] = path
    return dict(sorted(found.items()))
