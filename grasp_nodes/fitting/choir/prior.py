"""What is known of a hand before anything is seen of it: postures that hold things, and the shapes of hands."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from grasp_nodes.fitting.hand_skeleton import make_hand_skeleton
from grasp_nodes.fitting.posture_prior import grasping_postures, unforced_postures
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_POSE

BEYOND_ANATOMY = 0.03
"""rad: deviation of what no joint of a hand can do, such as a twisted middle joint; fits of real hands have some."""


class HandPrior(NamedTuple):
    """A normal distribution of pose and betas together.

    mean: (55,). precision: (55, 55), the inverse of the covariance.
    """

    mean: np.ndarray
    precision: np.ndarray


def hand_prior(model: HandModel, grasping: bool = True) -> HandPrior:
    """Of a full hand model.

    Args:
        grasping: postures of hands that hold something, as measured on the open grasps; otherwise those of any hand.
    """
    skeleton = make_hand_skeleton(model)
    postures = grasping_postures(skeleton) if grasping else unforced_postures(skeleton)
    matrix = skeleton.dofs.matrix
    angles_of_pose = np.linalg.pinv(matrix)  # (45, D)
    beyond = np.eye(NUM_POSE) - angles_of_pose @ matrix
    precision = np.zeros((NUM_POSE + NUM_BETAS, NUM_POSE + NUM_BETAS))
    precision[:NUM_POSE, :NUM_POSE] = (
        angles_of_pose @ postures.precision @ angles_of_pose.T + beyond @ beyond.T / BEYOND_ANATOMY**2
    )
    # Betas have deviations of one by their definition.
    precision[NUM_POSE:, NUM_POSE:] = np.eye(NUM_BETAS)
    return HandPrior(np.concatenate([postures.mean @ matrix, np.zeros(NUM_BETAS)]), precision)
