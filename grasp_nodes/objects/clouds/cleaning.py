"""What a cloud of points has to be, before an object is looked for in it: finite, in metres, thinned, near itself."""

from __future__ import annotations

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.objects.clouds.cells import Neighbours, thinned
from grasp_nodes.objects.clouds.moments import inside, measured

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
    known = measured(points, scale)
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
    half = 0.5 * np.asarray(extent, np.float64)
    return inside(points, np.asarray(center, np.float64) - half, np.asarray(center, np.float64) + half)


def overview(points: np.ndarray, seed: int) -> np.ndarray:
    """Enough of a cloud (N, 3) to tell its tables and things apart: at most 100,000 points by lot, thinned to 4 mm."""
    if len(points) > _OVERVIEW:
        points = points[np.random.default_rng(seed).integers(len(points), size=_OVERVIEW)]
    return thinned(points, _COARSE_VOXEL)


def without_outliers(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Of a thinned cloud those points that are not far from their neighbours, compared with what is usual in it.

    Args:
        points: (N, 3), m, two or more.

    Returns:
        (M, 3), m, and the spacing, m: what nine points in ten have a neighbour within.
    """
    count = min(_NEIGHBOURS, len(points) - 1)
    distance = Neighbours(points, 2 * VOXEL).nearest(count)
    usual = distance.mean(axis=1)
    near = usual <= usual.mean() + _OUTLIER_DEVIATIONS * usual.std()
    if count < _NEIGHBOURS:
        near[:] = True
    return points[near], float(np.percentile(distance[near, 0], 90))
