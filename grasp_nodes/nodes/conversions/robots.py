"""Robot hands as messages: JointState, the pose of the base, TF, markers, and grasps as poses with joint values."""

from __future__ import annotations

from typing import Any

import numpy as np
from geometry_msgs.msg import PoseArray, PoseStamped, TransformStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from visualization_msgs.msg import Marker

from grasp_nodes.errors import InputError
from grasp_nodes.nodes.conversions.fields import finite, read_array, set_array
from grasp_nodes.nodes.conversions.hands import from_pose, to_pose
from grasp_nodes.nodes.conversions.objects import matrix_to_pose, pose_to_matrix
from grasp_nodes.nodes.conversions.scene import to_transform, to_triangles
from grasp_nodes.retargeting.robot_hand import RobotHand
from grasp_nodes.retargeting.robot_states import RobotGraspSet, RobotHandState

ROBOT = (0.35, 0.38, 0.42)
"""RGB in [0, 1]."""


def to_joint_state(state: RobotHandState, hand: RobotHand, header: Header) -> JointState:
    """Positions of all joints in the order of the description; no velocities, no efforts."""
    message = JointState(header=header, name=list(hand.kinematics.joint_names))
    set_array(message, "position", state.positions)
    return message


def from_joint_state(message: JointState, hand: RobotHand) -> np.ndarray:
    """(n,) driven joints of a message, whatever the order of its names.

    Raises:
        InputError: a joint is missing, or names and positions differ in number.
    """
    values = finite("JointState.position", read_array(message, "position", np.float64))
    names = list(message.name)
    if len(names) != len(values):
        raise InputError(f"JointState: {len(names)} names but {len(values)} positions")
    missing = [name for name in hand.kinematics.driven_names if name not in names]
    if missing:
        raise InputError(
            f"JointState: lacks {missing[0]!r} of the robot hand {hand.name}: it is of another robot; give the same "
            "robot to both nodes"
        )
    return np.array([values[names.index(name)] for name in hand.kinematics.driven_names])


def to_base_pose(state: RobotHandState, header: Header) -> PoseStamped:
    """Pose of the root link."""
    return PoseStamped(header=header, pose=to_pose(matrix_to_pose(state.T_frame_base)))


def from_base_pose(message: PoseStamped) -> np.ndarray:
    """(4, 4) m: T_frame_base."""
    return pose_to_matrix(finite("PoseStamped.pose", np.array(from_pose(message.pose), np.float64)))


def to_link_transforms(state: RobotHandState, hand: RobotHand, header: Header, prefix: str) -> list[TransformStamped]:
    """TF of the root link in the header's frame, and of every other link in its parent's.

    Args:
        prefix: before the names of links, such as ``robot_right/``.
    """
    poses = hand.kinematics.link_poses(hand.kinematics.reduce(state.positions))
    description = hand.description
    found = [
        TransformStamped(
            header=header,
            child_frame_id=prefix + description.root,
            transform=to_transform(matrix_to_pose(state.T_frame_base)),
        )
    ]
    for joint in description.joints:
        own = Header(stamp=header.stamp, frame_id=prefix + joint.parent)
        local = np.linalg.inv(poses[joint.parent]) @ poses[joint.child]
        found.append(
            TransformStamped(
                header=own, child_frame_id=prefix + joint.child, transform=to_transform(matrix_to_pose(local))
            )
        )
    return found


def to_robot_marker(state: RobotHandState, hand: RobotHand, header: Header) -> Marker:
    """The hand's looks as one list of triangles."""
    vertices = hand.look(hand.kinematics.reduce(state.positions), state.T_frame_base)
    return to_triangles(header, "robot", 0, vertices, hand.look_faces, ROBOT)


def to_grasp_messages(grasps: RobotGraspSet, header: Header) -> tuple[PoseArray, JointTrajectory]:
    """Poses of the root link and values of all joints, one each for every grasp, in the object's frame."""
    points: list[Any] = []
    for grasp in grasps.grasps:
        point = JointTrajectoryPoint()
        set_array(point, "positions", grasp.positions)
        points.append(point)
    poses = [to_pose(matrix_to_pose(grasp.T_object_base)) for grasp in grasps.grasps]
    joints = JointTrajectory(header=header, joint_names=list(grasps.joint_names), points=points)
    return PoseArray(header=header, poses=poses), joints
