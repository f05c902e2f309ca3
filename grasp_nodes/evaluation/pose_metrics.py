"""How far an estimated hand, object and contact are from the truth, for one frame.

Distances are in metres; reports turn them into millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.errors import InputError

CONTACT_DISTANCE = 0.010
"""m; an object point nearer to the hand than this counts as in contact."""


def keypoint_error(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of corresponding keypoints (MPJPE), no alignment.

    Args:
        estimate: (K, 3), m. truth: (K, 3), m, same frame.

    Returns:
        m.
    """
    if estimate.shape != truth.shape:
        raise InputError(f"keypoints: expected the truth's shape {truth.shape}, got {estimate.shape}")
    return float(np.linalg.norm(np.asarray(estimate, np.float64) - truth, axis=-1).mean())


def root_aligned_keypoint_error(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of corresponding keypoints after the first keypoint (wrist) was moved onto the truth's, m."""
    return keypoint_error(estimate - estimate[:1], truth - truth[:1])


def add_s(T_estimate: np.ndarray, T_truth: np.ndarray, points: np.ndarray) -> float:
    """Mean distance from each point under the true pose to the nearest point under the estimated pose.

    The symmetric form of the average distance (Hinterstoisser et al. 2012, eq. 9): blind to the object's symmetries.

    Args:
        T_estimate, T_truth: (4, 4), object frame to camera frame.
        points: (N, 3), m, object frame.

    Returns:
        m.
    """
    relative = np.linalg.inv(T_estimate) @ T_truth
    moved = points @ relative[:3, :3].T + relative[:3, 3]
    return float(cKDTree(points).query(moved)[0].mean())


@dataclass
class ContactCounts:
    """Object points by agreement of estimate and truth about contact, pooled over frames."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0

    def update(self, estimate: ContactMap | None, truth: ContactMap, distance: float = CONTACT_DISTANCE) -> None:
        """Count one frame; both maps are on the same object points. No estimate: every true contact is missed.

        Raises:
            InputError: the maps are on different points.
        """
        in_truth = truth.signed_distance < distance
        if estimate is None:
            self.false_negative += int(in_truth.sum())
            return
        if not np.array_equal(estimate.points, truth.points):
            raise InputError(
                f"contact map of {estimate.object_id!r}: the estimate's {len(estimate.points)} points are not the "
                f"truth's {len(truth.points)}: load the object with the same seed and number of points"
            )
        in_estimate = estimate.signed_distance < distance
        self.true_positive += int((in_estimate & in_truth).sum())
        self.false_positive += int((in_estimate & ~in_truth).sum())
        self.false_negative += int((~in_estimate & in_truth).sum())

    @property
    def precision(self) -> float | None:
        """Share of the estimated contacts that are true; None when nothing was estimated."""
        total = self.true_positive + self.false_positive
        return self.true_positive / total if total else None

    @property
    def recall(self) -> float | None:
        """Share of the true contacts that were found; None when there was none."""
        total = self.true_positive + self.false_negative
        return self.true_positive / total if total else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None when neither truth nor estimate has any contact."""
        total = 2 * self.true_positive + self.false_positive + self.false_negative
        return 2 * self.true_positive / total if total else None
