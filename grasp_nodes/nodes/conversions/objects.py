"""ObjectPose messages <-> `ObjectState`."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseWithCovariance
from grasp_msgs.msg import ObjectPose
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from grasp_nodes.contact.interaction import ObjectState
from grasp_nodes.errors import InputError
from grasp_nodes.nodes.conversions.fields import checked_share, finite, read_array, set_array
from grasp_nodes.nodes.conversions.hands import from_pose, to_pose

ROTATION_TOLERANCE = 1e-4


def matrix_to_pose(transform: np.ndarray) -> np.ndarray:
    """Position and quaternion xyzw (7,) float64 of a rigid (4, 4) transform.

    Raises:
        InputError: its upper left part is not a rotation.
    """
    rotation = np.asarray(transform, np.float64)[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=ROTATION_TOLERANCE) or np.linalg.det(rotation) < 0:
        raise InputError(f"transform: expected a rotation and a translation, got {transform.tolist()}")
    return np.concatenate([transform[:3, 3], Rotation.from_matrix(rotation).as_quat()])


def pose_to_matrix(pose: np.ndarray) -> np.ndarray:
    """Rigid (4, 4) float64 transform of a position and a quaternion xyzw.

    Raises:
        InputError: the quaternion does not have length 1.
    """
    length = float(np.linalg.norm(pose[3:]))
    if not abs(length - 1) < ROTATION_TOLERANCE:
        raise InputError(f"quaternion: expected length 1, got {length:g} for {pose[3:].tolist()}")
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_quat(pose[3:]).as_matrix()
    transform[:3, 3] = pose[:3]
    return transform


def to_object_pose(state: ObjectState, header: Header) -> ObjectPose:
    """Message of one object; an unknown covariance is -1 at its first entry."""
    pose = PoseWithCovariance(pose=to_pose(matrix_to_pose(state.T_camera_object)))
    unknown = np.zeros((6, 6))
    unknown[0, 0] = -1.0
    set_array(pose, "covariance", unknown if state.covariance is None else state.covariance)
    return ObjectPose(
        header=header,
        object_id=state.object_id,
        mesh_resource=state.mesh_resource,
        pose=pose,
        scale=float(state.scale),
        score=float(state.score),
        is_metric=bool(state.is_metric),
    )


def from_object_pose(message: ObjectPose) -> ObjectState:
    """One object of a message.

    Raises:
        InputError: a quaternion that is none, numbers that are not finite, or a score outside [0, 1].
    """
    covariance = read_array(message.pose, "covariance", np.float64, (6, 6)).copy()
    finite("ObjectPose.pose.covariance", covariance)
    pose = finite("ObjectPose.pose", np.array(from_pose(message.pose.pose), np.float64))
    finite("ObjectPose.scale", np.array(message.scale))
    return ObjectState(
        object_id=message.object_id,
        T_camera_object=pose_to_matrix(pose),
        covariance=None if covariance[0, 0] < 0 else covariance,
        scale=float(message.scale),
        score=checked_share("ObjectPose.score", message.score),
        mesh_resource=message.mesh_resource,
        is_metric=bool(message.is_metric),
    )
