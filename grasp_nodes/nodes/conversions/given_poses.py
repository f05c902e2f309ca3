"""Poses of hands and objects that other programs found -> what a fit can start from."""

from __future__ import annotations

import numpy as np
import torch
from grasp_msgs.msg import HandPose, HandPoseArray, ObjectPose

from grasp_nodes.errors import InputError
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_POSE, HandParams
from grasp_nodes.nodes.conversions.fields import checked_share, finite, read_array
from grasp_nodes.nodes.conversions.hands import read_side
from grasp_nodes.nodes.conversions.objects import from_object_pose


def read_given_hands(message: HandPoseArray) -> list[HandParams]:
    """MANO's parameters of all hands with a score above 0; keypoints, joint frames, shape and scale are not read.

    Raises:
        InputError: an unknown side, numbers that are not finite, or a score outside [0, 1].
    """
    return [_params(hand) for hand in message.hands if checked_share("HandPose.score", hand.score) > 0]


def read_given_object(message: ObjectPose) -> np.ndarray | None:
    """Object to camera (4, 4), m; None where the score is 0: not seen.

    Raises:
        InputError: a quaternion that is none, numbers that are not finite, or a score outside [0, 1].
    """
    if checked_share("ObjectPose.score", message.score) == 0:
        return None
    state = from_object_pose(message)
    if state.T_camera_object[2, 3] <= 0:
        raise InputError(
            f"ObjectPose.pose: expected an object before the camera, got z = {state.T_camera_object[2, 3]}"
        )
    return state.T_camera_object


def _params(message: HandPose) -> HandParams:
    def tensor(field: str, size: int) -> torch.Tensor:
        values = finite(f"HandPose.{field}", read_array(message, field, np.float32, (1, size)))
        return torch.from_numpy(values.copy())

    return HandParams(
        global_orient=tensor("global_orient", 3),
        hand_pose=tensor("hand_pose", NUM_POSE),
        betas=torch.zeros(1, NUM_BETAS),
        transl=tensor("translation", 3),
        scale=torch.ones(1),
        side=read_side(message.side),
    )
