"""Where points are and how they spread: one pass over them."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_LANES = 64
"""Points that are looked at together."""


def farthest(points: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Numbers, each once and in order, of those points (N, D) that lie farthest in one of some directions (K, D).

    Args:
        points: in a plane or in space, at least one.
    """
    columns = np.zeros((3, len(points)), np.float32)
    columns[: points.shape[1]] = (points - points[0]).T
    along = np.zeros((len(directions), 3), np.float32)
    along[:, : directions.shape[1]] = directions
    return np.unique(_farthest(columns[0], columns[1], columns[2], along))


@njit(cache=True, fastmath=True)
def _farthest(x: np.ndarray, y: np.ndarray, z: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(K,) of points (N,) each, along directions (K, 3): all float32."""
    found = np.zeros(len(directions), np.int64)
    most, when = np.empty(_LANES, np.float32), np.empty(_LANES, np.int32)
    rounds = len(x) // _LANES
    for direction in range(len(directions)):
        a, b, c = directions[direction, 0], directions[direction, 1], directions[direction, 2]
        most[:], when[:] = -np.inf, 0
        for turn in range(rounds):
            for lane in range(_LANES):  # a known number of them, so that they are worked out together
                i = turn * _LANES + lane
                height = a * x[i] + b * y[i] + c * z[i]
                above = height > most[lane]
                most[lane] = height if above else most[lane]
                when[lane] = turn if above else when[lane]
        winner = most.argmax()
        best, found[direction] = most[winner], when[winner] * _LANES + winner
        for i in range(rounds * _LANES, len(x)):
            height = a * x[i] + b * y[i] + c * z[i]
            if height > best:
                best, found[direction] = height, i
    return found


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
