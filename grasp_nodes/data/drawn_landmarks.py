"""Landmarks of free hands as a good network marks them on a good photograph: where they are, but for a small error.

On rendered gestures the landmark network errs more than on photographs. What is drawn here tells the reader that
landmarks which fit together as those of a hand may be believed, whatever its fingers do.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from grasp_nodes.data.finger_postures import free_posture
from grasp_nodes.data.landmark_views import FOREARM_AT_CAMERA, LandmarkView, SeenLandmarks
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints
from grasp_nodes.fitting.hand_skeleton import HandSkeleton

USUAL_ERROR, ERROR_SPREAD = 0.05, 0.5
"""Of a landmark in the image, as a share of the hand's extent; median over hands, and spread of its logarithm."""
SHAPE_ERROR = 0.1
"""The same of the shape that is guessed beside."""
FLATTENED = (0.55, 1.05)
"""Factor on the shape's depth, which networks guess too small."""
SIZE_SPREAD = 0.06
"""Of the logarithm of a hand's size."""
DISTANCES = (0.4, 1.0)
"""m."""
SURE = (0.85, 1.0)


def drawn_view(skeleton: HandSkeleton, seed: int, number: int) -> LandmarkView:
    """One hand; the same number gives the same hand.

    Args:
        skeleton: of a right hand. seed: of all hands. number: of this one.
    """
    rng = np.random.default_rng([seed, number, 9])
    rotation = Rotation.random(random_state=rng.integers(2**31)).as_matrix()
    while rotation[2, 0] < FOREARM_AT_CAMERA:
        rotation = Rotation.random(random_state=rng.integers(2**31)).as_matrix()
    far = rng.uniform(*DISTANCES)
    place = np.array([rng.uniform(-0.25, 0.25) * far, rng.uniform(-0.2, 0.2) * far, far])
    scale = float(np.exp(rng.normal(0, SIZE_SPREAD)))
    hand = HandConfiguration(rotation, place, free_posture(skeleton, rng), scale)
    points = pose_keypoints(skeleton, hand, landmarks=True)
    rays = points[:, :2] / points[:, 2:]
    error = USUAL_ERROR * float(np.exp(rng.normal(0, ERROR_SPREAD)))
    extent = np.sqrt(((rays - rays.mean(axis=0)) ** 2).sum(axis=1).mean())
    rays = rays + rng.normal(0, error * extent / np.sqrt(2), rays.shape)
    shape = (points - points.mean(axis=0)) / scale
    shape[:, 2] *= rng.uniform(*FLATTENED)
    shape += rng.normal(0, SHAPE_ERROR * float(np.sqrt((shape**2).sum(axis=1).mean())) / np.sqrt(3), shape.shape)
    seen = SeenLandmarks(rays, shape, float(rng.uniform(*SURE)))
    return LandmarkView((seen,), rotation, hand.angles, pose_keypoints(skeleton, hand))
