"""How near clouds of points are to each other, and how well a set of generated shapes covers a set of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from grasp_nodes.errors import InputError

F_SHARE = 0.01
"""Of a reference's bounding-box diagonal: the threshold of F@1 %."""


class CloudError(NamedTuple):
    """chamfer: m, the mean distance to the nearest point, of both directions added. f_score: 0..1."""

    chamfer: float
    f_score: float


class ShapeDiversity(NamedTuple):
    """coverage: share of the references that are the nearest one of some sample (higher: more diverse).

    minimum_matching: m, mean over the references of the Chamfer distance to the nearest sample (lower: more faithful).
    """

    coverage: float
    minimum_matching: float


def cloud_error(points: np.ndarray, reference: np.ndarray, share: float = F_SHARE) -> CloudError:
    """Chamfer distance and F-score (Tatarchenko et al., CVPR 2019) of points (N, 3) to a reference (M, 3), m.

    Args:
        share: of the reference's bounding-box diagonal, within which points count as met.

    Raises:
        InputError: no points, or some that are not finite.
    """
    there, back = _both_ways(_checked(points, "points"), _checked(reference, "reference"))
    threshold = share * float(np.linalg.norm(np.ptp(reference, axis=0)))
    precision, recall = float((there <= threshold).mean()), float((back <= threshold).mean())
    f_score = 2.0 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return CloudError(float(there.mean() + back.mean()), f_score)


def shape_diversity(samples: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> ShapeDiversity:
    """Coverage and minimum matching distance (Achlioptas et al., ICML 2018) by Chamfer distance.

    Args:
        samples, references: clouds (N, 3), m, in frames that make them comparable, of about as many points each.

    Raises:
        InputError: no samples or references, or points that are not finite.
    """
    if not samples or not references:
        raise InputError(f"shape diversity: expected clouds, got {len(samples)} samples, {len(references)} references")
    distance = np.array([[cloud_error(one, other).chamfer for other in references] for one in samples])
    return ShapeDiversity(len(np.unique(distance.argmin(axis=1))) / len(references), float(distance.min(axis=0).mean()))


def _both_ways(points: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return cKDTree(reference).query(points)[0], cKDTree(points).query(reference)[0]


def _checked(points: np.ndarray, name: str) -> np.ndarray:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
        raise InputError(f"{name} of a shape: expected finite points (N, 3), got shape {points.shape}")
    return points
