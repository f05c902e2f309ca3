"""Where points are and how they spread: one pass over them."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_AT_ONCE = 32
"""Directions: the heights of ten thousand points along them stay in a processor's cache."""


def farthest(points: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Numbers, each once and in order, of those points (N, D) that lie farthest in one of some directions (K, D)."""
    columns = np.ascontiguousarray((points - points[0]).T, np.float32)
    heights = np.empty((_AT_ONCE, len(points)), np.float32)
    found = []
    for first in range(0, len(directions), _AT_ONCE):
        some = directions[first : first + _AT_ONCE].astype(np.float32)
        found.append(np.matmul(some, columns, out=heights[: len(some)]).argmax(axis=1))
    return np.unique(np.concatenate(found))


@njit(cache=True)
def bounds(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest coordinates, (3,) each, of points (N, 3) without NaN; infinite for no points."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for i in range(len(points)):
        for k in range(3):
            low[k] = min(low[k], points[i, k])
            high[k] = max(high[k], points[i, k])
    return low, high


@njit(cache=True)
def covariance(points: np.ndarray) -> np.ndarray:
    """(3, 3), as of `numpy.cov`, of points (N, 3), at least two."""
    return near_plane(points, np.zeros(3), 0.0, np.inf)[1]


@njit(cache=True)
def near_plane(
    points: np.ndarray, normal: np.ndarray, offset: float, thickness: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (3,) and covariance (3, 3) of those points (N, 3) that are within the thickness of a plane; or NaN."""
    total, products, count = np.zeros(3), np.zeros((3, 3)), 0
    # From one of the points, so that nothing is lost where a cloud is far away and small.
    first = points[0]
    for i in range(len(points)):
        height = points[i, 0] * normal[0] + points[i, 1] * normal[1] + points[i, 2] * normal[2] - offset
        if abs(height) < thickness:
            count += 1
            for k in range(3):
                own = points[i, k] - first[k]
                total[k] += own
                for other in range(k + 1):
                    products[k, other] += own * (points[i, other] - first[other])
    if count < 2:
        return np.full(3, np.nan), np.full((3, 3), np.nan)
    for k in range(3):
        for other in range(k + 1):
            products[k, other] = (products[k, other] - total[k] * total[other] / count) / (count - 1)
            products[other, k] = products[k, other]
    return first + total / count, products


@njit(cache=True)
def votes(points: np.ndarray, normals: np.ndarray, offsets: np.ndarray, thickness: float) -> np.ndarray:
    """(H,) of points (N, 3) that are within the thickness of each of H planes."""
    found = np.zeros(len(normals), np.int64)
    x, y, z = points[:, 0].copy(), points[:, 1].copy(), points[:, 2].copy()
    for plane in range(len(normals)):
        a, b, c, offset = normals[plane, 0], normals[plane, 1], normals[plane, 2], offsets[plane]
        count = 0
        for i in range(len(x)):
            count += abs(a * x[i] + b * y[i] + c * z[i] - offset) < thickness
        found[plane] = count
    return found


@njit(cache=True)
def measured(points: np.ndarray, scale: float) -> np.ndarray:
    """Those of points (N, 3) that are finite and not (0, 0, 0), times the scale; (M, 3) float64."""
    known, used = np.empty((len(points), 3)), 0
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        if math.isfinite(x) and math.isfinite(y) and math.isfinite(z) and (x != 0 or y != 0 or z != 0):
            known[used, 0], known[used, 1], known[used, 2] = x * scale, y * scale, z * scale
            used += 1
    return known[:used]


@njit(cache=True)
def inside(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(N,) whether points (N, 3) are between two corners (3,), both included."""
    found = np.empty(len(points), np.bool_)
    for i in range(len(points)):
        found[i] = True
        for k in range(3):
            found[i] &= low[k] <= points[i, k] <= high[k]
    return found
