"""What a cloud of points has to be, before an object is looked for in it: finite, in metres, thinned, near itself."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from grasp_nodes.errors import InputError

FEWEST_POINTS, MOST_POINTS = 100, 2_000_000
VOXEL = 0.002
"""m: of points in one voxel one is kept, their mean."""
_OVERVIEW, _COARSE_VOXEL = 100_000, 0.004
_TESTED_ON = 10_000
_LARGEST_SCENE = 20.0
"""m: what spreads farther is not a table top seen by a depth camera: millimetres."""
_NEIGHBOURS, _OUTLIER_DEVIATIONS = 8, 3.0


def checked_points(points: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Points that were measured.

    Args:
        points: (N, 3); NaN, infinity and (0, 0, 0) say that nothing was measured. scale: factor to metres.

    Returns:
        (M, 3) float64, m.

    Raises:
        InputError: another shape, fewer than 100 points, more than 2,000,000, or all in one place; or they seem to be
            millimetres.
    """
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"cloud: expected points of shape (N, 3), got {points.shape}")
    if len(points) > MOST_POINTS:
        raise InputError(f"cloud: expected at most {MOST_POINTS} points, got {len(points)}: thin it first")
    known = (
        np.asarray(
            points[np.isfinite(points.sum(axis=1)) & ((points[:, 0] != 0) | (points[:, 1] != 0) | (points[:, 2] != 0))],
            np.float64,
        )
        * scale
    )
    if len(known) < FEWEST_POINTS:
        raise InputError(
            f"cloud: expected at least {FEWEST_POINTS} points that were measured, got {len(known)} of {len(points)}"
        )
    some = known[:: max(len(known) // _TESTED_ON, 1)]
    spread = float(np.ptp(np.percentile(some, [2, 98], axis=0), axis=0).max())
    if spread > _LARGEST_SCENE:
        raise InputError(
            f"cloud: its points spread over {spread:.4g} m, so they seem to be millimetres ({spread / 1000:.3g} m): "
            "publish metres, or give the scale 0.001"
        )
    if spread < 1e-6:
        raise InputError("cloud: all of its points are in one place")
    return known


def within_box(points: np.ndarray, center: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """(N,) whether points (N, 3) are in a box along the axes: center and whole extent (3,), m."""
    return (np.abs(points - center) <= 0.5 * np.asarray(extent)).all(axis=1)


def thinned(points: np.ndarray, voxel: float = VOXEL) -> np.ndarray:
    """One point for each voxel, the mean of those in it; (N, 3) to (M, 3), m."""
    cell = np.floor((points - points.min(axis=0)) / voxel).astype(np.int64)
    size = cell.max(axis=0) + 1
    key = (cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2]
    _, inverse, count = np.unique(key, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    return np.stack([np.bincount(inverse, weights=points[:, k]) for k in range(3)], axis=1) / count[:, None]


def overview(points: np.ndarray, seed: int) -> np.ndarray:
    """Enough of a cloud (N, 3) to tell its tables and things apart: at most 100,000 points by lot, thinned to 4 mm."""
    if len(points) > _OVERVIEW:
        points = points[np.random.default_rng(seed).integers(len(points), size=_OVERVIEW)]
    return thinned(points, _COARSE_VOXEL)


def without_outliers(points: np.ndarray) -> np.ndarray:
    """Without points (N, 3) that are far from their neighbours, compared with what is usual in this cloud."""
    if len(points) <= _NEIGHBOURS:
        return points
    distance = cKDTree(points).query(points, _NEIGHBOURS + 1)[0][:, 1:].mean(axis=1)
    return points[distance <= distance.mean() + _OUTLIER_DEVIATIONS * distance.std()]


def spacing_of(points: np.ndarray) -> float:
    """m, between neighbours of a thinned cloud (N, 3): what nine points in ten have a neighbour within."""
    return float(np.percentile(cKDTree(points).query(points, 2)[0][:, 1], 90))
