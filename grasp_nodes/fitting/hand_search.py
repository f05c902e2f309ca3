"""Where the search for a hand's pose begins: postures turned and placed so that they lie on the landmarks' rays."""

from __future__ import annotations

import cv2
import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints
from grasp_nodes.fitting.hand_observation import HandObservation
from grasp_nodes.fitting.hand_skeleton import HandSkeleton
from grasp_nodes.fitting.posture_prior import RELAXED

POSTURES = (
    RELAXED,
    ((40.0, 45.0, 28.0), (10.0, 20.0, 25.0, -30.0, 0.0)),
    ((4.0, 6.0, 4.0), (5.0, 5.0, 5.0, -5.0, 0.0)),
)
"""Relaxed, grasping and flat: three finger bends, and the thumb's bends, spread and twist; deg."""


class UnexplainedHandError(InputError):
    """Landmarks that no hand in front of the camera can have."""


def hand_starts(skeleton: HandSkeleton, observation: HandObservation, size: float) -> list[HandConfiguration]:
    """Configurations from which the landmarks can be reached: by perspective, and as the network's shape turns.

    Args:
        skeleton: the hand. observation: its landmarks, and their depth where it was measured. size: scale of the hand.
    """
    starts = []
    for posture in POSTURES:
        at_rest = HandConfiguration(np.eye(3), np.zeros(3), skeleton.angles(*posture), size)
        points = pose_keypoints(skeleton, at_rest, landmarks=True)
        found = _by_perspective(points, observation.rays)
        if found is not None:
            starts.append(_at_depth(skeleton, observation, points, *found, at_rest))
        if observation.relative is not None:
            rotation = _aligned(points, observation.relative)
            wrist = _place_on_rays(points @ rotation.T, observation.rays)
            if wrist[2] > 0:
                starts.append(_at_depth(skeleton, observation, points, rotation, wrist, at_rest))
    return starts


def _at_depth(
    skeleton: HandSkeleton,
    observation: HandObservation,
    points: np.ndarray,
    rotation: np.ndarray,
    wrist: np.ndarray,
    at_rest: HandConfiguration,
) -> HandConfiguration:
    """Move a start along the ray to the measured depth, where there is any."""
    measured = observation.depth > 0
    if measured.sum() >= 4:
        depth = (points @ rotation.T + wrist)[measured, 2]
        wrist = wrist * float(np.median((observation.depth + skeleton.skin_depth)[measured] / depth))
    return at_rest._replace(rotation=rotation, wrist=wrist)


def _by_perspective(points: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Rotation (3, 3) and translation (3,), m, that bring points (N, 3) on to rays (N, 2); None if none is in front."""
    try:
        found, turn, place = cv2.solvePnP(points, rays[:, None], np.eye(3), np.zeros(0), flags=cv2.SOLVEPNP_SQPNP)
    except cv2.error:  # landmarks that lie on each other
        return None
    if not found or not np.isfinite(place).all() or place[2, 0] <= 0:
        return None
    return cv2.Rodrigues(turn)[0].astype(np.float64), place[:, 0].astype(np.float64)


def _aligned(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) that turns points (N, 3) on to the target's directions (Kabsch 1976)."""
    left, _, right = np.linalg.svd((points - points.mean(axis=0)).T @ (target - target.mean(axis=0)))
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(right.T @ left.T))])
    return right.T @ sign @ left.T


def _place_on_rays(points: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Translation (3,) that brings points (N, 3) nearest to rays (N, 2), x / z and y / z, by linear least squares."""
    zeros, ones = np.zeros(len(points)), np.ones(len(points))
    rows = np.concatenate([np.stack([ones, zeros, -rays[:, 0]], 1), np.stack([zeros, ones, -rays[:, 1]], 1)])
    right = np.concatenate([rays[:, k] * points[:, 2] - points[:, k] for k in range(2)])
    return np.linalg.lstsq(rows, right, rcond=None)[0]
