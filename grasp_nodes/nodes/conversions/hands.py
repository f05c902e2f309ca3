"""HandPose, HandPoseArray and HandModelInfo messages <-> `HandState` and the hand model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from geometry_msgs.msg import Point, Pose, Quaternion
from grasp_msgs.msg import HandPose, HandPoseArray
from std_msgs.msg import Header

from grasp_nodes.contact.interaction import HandState
from grasp_nodes.errors import InputError
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_POSE, HandParams, Side
from grasp_nodes.nodes.conversions.fields import checked_share, finite, read_array, set_array

SIDES = {"unknown": HandPose.SIDE_UNKNOWN, "right": HandPose.SIDE_RIGHT, "left": HandPose.SIDE_LEFT}
SIDE_NAMES = {int(value): name for name, value in SIDES.items()}


def read_side(value: int) -> Side:
    """'right' or 'left'.

    Raises:
        InputError: another value.
    """
    name = SIDE_NAMES.get(int(value))
    if name == "right":
        return "right"
    if name == "left":
        return "left"
    raise InputError(f"side: expected {HandPose.SIDE_RIGHT} (right) or {HandPose.SIDE_LEFT} (left), got {value}")


def to_point(values: np.ndarray) -> Point:
    """Point of (3,) numbers."""
    return Point(x=float(values[0]), y=float(values[1]), z=float(values[2]))


def to_pose(values: np.ndarray) -> Pose:
    """Pose of (7,) numbers: position and quaternion xyzw."""
    x, y, z, w = (float(value) for value in values[3:])
    return Pose(position=to_point(values), orientation=Quaternion(x=x, y=y, z=z, w=w))


def from_pose(pose: Pose) -> list[float]:
    """Position and quaternion xyzw of a pose: 7 numbers."""
    position, turn = pose.position, pose.orientation
    return [position.x, position.y, position.z, turn.x, turn.y, turn.z, turn.w]


def to_hand_pose(state: HandState, header: Header) -> HandPose:
    """Message of one hand; parameters travel as float32."""
    if len(state.params) != 1:
        raise InputError(f"HandState.params: expected a batch of one hand, got {len(state.params)}")
    params = state.params.to(dtype=torch.float32, device="cpu")
    message = HandPose(
        header=header,
        side=SIDES[params.side],
        model_id=state.model_id,
        model_fingerprint=state.model_fingerprint,
        track_id=int(state.track_id),
        scale=float(params.scale[0]),
        keypoints=[to_point(point) for point in state.keypoints],
        joint_frames=[to_pose(pose) for pose in state.joint_poses],
        score=float(state.score),
        is_metric=bool(state.is_metric),
    )
    set_array(message, "global_orient", params.global_orient[0].numpy())
    set_array(message, "hand_pose", params.hand_pose[0].numpy())
    set_array(message, "betas", params.betas[0].numpy())
    set_array(message, "translation", params.transl[0].numpy())
    return message


def from_hand_pose(message: HandPose) -> HandState:
    """One hand of a message.

    Raises:
        InputError: an unknown side, numbers that are not finite, or a score outside [0, 1].
    """

    def tensor(field: str, size: int) -> torch.Tensor:
        values = finite(f"HandPose.{field}", read_array(message, field, np.float32, (1, size)))
        return torch.from_numpy(values.copy())

    scale = finite("HandPose.scale", np.array([message.scale], np.float32))
    return HandState(
        params=HandParams(
            global_orient=tensor("global_orient", 3),
            hand_pose=tensor("hand_pose", NUM_POSE),
            betas=tensor("betas", NUM_BETAS),
            transl=tensor("translation", 3),
            scale=torch.from_numpy(scale),
            side=read_side(message.side),
        ),
        keypoints=finite("HandPose.keypoints", np.array([[p.x, p.y, p.z] for p in message.keypoints], np.float64)),
        joint_poses=finite(
            "HandPose.joint_frames", np.array([from_pose(pose) for pose in message.joint_frames], np.float64)
        ),
        model_id=message.model_id,
        model_fingerprint=message.model_fingerprint,
        track_id=int(message.track_id),
        score=checked_share("HandPose.score", message.score),
        is_metric=bool(message.is_metric),
    )


def to_hand_pose_array(states: Sequence[HandState], header: Header) -> HandPoseArray:
    """Message of all hands of one image."""
    return HandPoseArray(header=header, hands=[to_hand_pose(state, header) for state in states])


def from_hand_pose_array(message: HandPoseArray) -> list[HandState]:
    """All hands of a message."""
    return [from_hand_pose(hand) for hand in message.hands]
