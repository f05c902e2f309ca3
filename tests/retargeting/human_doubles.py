"""Human hands that were made to fit a robot hand."""

import numpy as np
from scipy.spatial.transform import Rotation

from grasp_nodes.contact.interaction import HandState
from grasp_nodes.hand.keypoints import FINGERS
from grasp_nodes.hand.parameters import HandParams


def human_like(hand, driven, T_world_base):
    """A human hand whose fingertips and last finger joints are where the robot's are."""
    kinematics = hand.kinematics
    poses = kinematics.body_poses(driven, T_world_base)
    palm = poses[hand.palm_body] @ hand.T_body_palm
    keypoints = np.zeros((21, 3))
    keypoints[0] = palm[:3, 3] - 0.09 * palm[:3, 0]
    for finger, tip in zip(hand.fingers, hand.fingertips(driven, T_world_base), strict=True):
        first = 1 + 4 * FINGERS.index(finger.name)
        knuckle = poses[finger.bodies[0], :3, 3]
        joint = poses[finger.tip_body, :3, 3]
        keypoints[first : first + 4] = knuckle, 0.5 * (knuckle + joint), joint, tip
    return state_of(keypoints, hand.side)


def state_of(keypoints, side="right"):
    return HandState(HandParams.zeros(1, side), keypoints, np.zeros((16, 7)), "made up", "", score=1.0)


def some_pose(rng):
    """(4, 4) a random pose half a metre away."""
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    T[:3, 3] = [0.05, -0.02, 0.5]
    return T
