"""How far an estimated hand, object and contact are from the truth, for one frame.

Distances are in metres; reports turn them into millimetres. An estimate with NaN scores NaN, for the caller to count.
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
    if estimate.ndim != 2 or estimate.shape[1] != 3 or not len(estimate):
        raise InputError(f"keypoints: expected the points of one frame, (K, 3), got {estimate.shape}")
    return float(np.linalg.norm(np.asarray(estimate, np.float64) - truth, axis=-1).mean())


def root_aligned_keypoint_error(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of corresponding keypoints after the first keypoint (wrist) was moved onto the truth's, m."""
    return keypoint_error(estimate - estimate[:1], truth - truth[:1])


def mean_vertex_error(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Mean per-vertex position error (MPVPE; CPF, section 6.2) of hand or object, no alignment.

    Args:
        estimate: (V, 3), m. truth: (V, 3), m, same frame and order.

    Returns:
        m.
    """
    return keypoint_error(estimate, truth)


def procrustes_aligned(estimate: np.ndarray, truth: np.ndarray, rotate: bool = True) -> np.ndarray:
    """The estimate moved onto the truth by the similarity that leaves the least squared error (Umeyama, 1991).

    Args:
        estimate: (K, 3), m. truth: (K, 3), m.
        rotate: False = scale and translation only, as in the end-point error of HOMan and HO-3D.

    Returns:
        (K, 3) m, in the truth's frame; NaN where one of the two has NaN. An estimate without extent ends on the
        truth's centre.
    """
    if not np.isfinite(keypoint_error(estimate, truth)):  # which also checks the shapes
        return np.full(truth.shape, np.nan)
    source, target = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    source, centre = source - source.mean(axis=0), target.mean(axis=0)
    target = target - centre
    covariance = target.T @ source
    rotation, trace = np.eye(3), np.trace(covariance)
    if rotate:
        left, stretch, right = np.linalg.svd(covariance)
        # A reflection would turn a right hand into a left one.
        signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
        rotation, trace = (left * signs) @ right, float((stretch * signs).sum())
    spread = float((source**2).sum())
    scale = trace / spread if spread > 0 else 0.0
    return scale * source @ rotation.T + centre


def procrustes_aligned_error(estimate: np.ndarray, truth: np.ndarray, rotate: bool = True) -> float:
    """Mean distance after alignment, m: HOMan's and HO-3D's Procrustes-aligned vertex error.

    With ``rotate=False`` HOMan's mean end-point error after scale and translation alignment.
    """
    return keypoint_error(procrustes_aligned(estimate, truth, rotate), truth)


def f_score(estimate: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    """F-score of two point sets (Knapitsch et al. 2017); F@5 mm and F@15 mm of HOMan and HO-3D.

    Harmonic mean of the shares of estimated points near a true one and of true points near an estimated one.

    Args:
        estimate: (N, 3), m. truth: (M, 3), m; correspondence is not used. threshold: m.

    Returns:
        0..1, NaN where a point has NaN.

    Raises:
        InputError: a set that is empty, or not of points.
    """
    for name, points in (("estimate", estimate), ("truth", truth)):
        if points.ndim != 2 or points.shape[1] != 3 or not len(points):
            raise InputError(f"F-score: expected points (N, 3) as the {name}, got {points.shape}")
    if not (np.isfinite(estimate).all() and np.isfinite(truth).all()):
        return float("nan")
    precision = float((cKDTree(truth).query(estimate)[0] <= threshold).mean())
    recall = float((cKDTree(estimate).query(truth)[0] <= threshold).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def add_s(T_estimate: np.ndarray, T_truth: np.ndarray, points: np.ndarray) -> float:
    """Mean distance from each point under the true pose to the nearest point under the estimated pose.

    The symmetric form of the average distance (Hinterstoisser et al. 2012, eq. 9): blind to the object's symmetries.

    Args:
        T_estimate, T_truth: (4, 4), object frame to camera frame.
        points: (N, 3), m, object frame.

    Returns:
        m, NaN where a pose has NaN.
    """
    if not (np.isfinite(T_estimate).all() and np.isfinite(T_truth).all()):
        return float("nan")
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
