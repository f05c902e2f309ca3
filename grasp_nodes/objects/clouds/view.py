"""What one look at an object leaves free: space before its surface, and beside its outline."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from scipy import ndimage

_LARGEST_MAP = 600
"""Bins along a side."""
_MARGIN = 0.004
"""m, or twice the spacing: nearer to the surface nothing is called free."""


class View:
    """A map of depths about the direction from the viewpoint to the object.

    Args:
        points: (N, 3), m, of the object. viewpoint: (3,), m. spacing: m, between neighbouring points.
        others: (M, 3), m, all else that was seen; what is behind it is not known to be free.
    """

    def __init__(self, points: np.ndarray, viewpoint: np.ndarray, spacing: float, others: np.ndarray) -> None:
        self.viewpoint = np.asarray(viewpoint, np.float64)
        middle = points.mean(axis=0) - self.viewpoint
        distance = float(np.linalg.norm(middle))
        forward = middle / distance
        right = np.cross(forward, np.eye(3)[np.abs(forward).argmin()])
        right /= np.linalg.norm(right)
        self._axes = np.stack([right, np.cross(forward, right), forward])
        plane, depth = self._seen(points)
        self._bin = 1.6 * spacing / distance
        self._low = plane.min(axis=0) - 4 * self._bin
        size = np.ceil((plane.max(axis=0) + 4 * self._bin - self._low) / self._bin).astype(int)
        if size.max() > _LARGEST_MAP:
            self._bin *= float(size.max() / _LARGEST_MAP)
            size = np.ceil((plane.max(axis=0) + 4 * self._bin - self._low) / self._bin).astype(int)
        self._margin = max(_MARGIN, 2 * spacing)
        self._surface = _without_holes(self._nearest(plane, depth, size))
        self._outline = ndimage.binary_dilation(np.isfinite(self._surface))
        plane, depth = self._seen(others) if len(others) else (np.zeros((0, 2)), np.zeros(0))
        self._before = self._nearest(plane, depth, size)

    def free(self, points: np.ndarray) -> np.ndarray:
        """(N,) whether the look went through these points (N, 3), m."""
        return _free(
            *(np.ascontiguousarray(points, np.float64), self.viewpoint, self._axes, self._low, self._bin),
            *(self._surface, self._outline, self._before, self._margin),
        )

    def hidden_share(self, points: np.ndarray, behind: float) -> float:
        """Share of points (N, 3) that lie at least `behind` (m) behind the surface: none, if seen from here alone."""
        plane, depth = self._seen(points)
        row, column = np.clip(
            np.floor((plane - self._low) / self._bin).astype(np.int64), 0, np.array(self._surface.shape) - 1
        ).T
        return float((depth > self._surface[row, column] + behind).mean())

    def _seen(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, 2) where in the picture, and (N,) how deep, m."""
        local = (points - self.viewpoint) @ self._axes.T
        depth = local[:, 2]
        return local[:, :2] / np.maximum(depth, 1e-6)[:, None], depth

    def _nearest(self, plane: np.ndarray, depth: np.ndarray, size: np.ndarray) -> np.ndarray:
        return _nearest(plane, depth, self._low, self._bin, int(size[0]), int(size[1]))


@njit(cache=True)
def _nearest(
    plane: np.ndarray, depth: np.ndarray, low: np.ndarray, width: float, rows: int, columns: int
) -> np.ndarray:
    """(rows, columns), m: the least depth of the points in each bin, infinite where there are none."""
    nearest = np.full((rows, columns), np.inf)
    for i in range(len(plane)):
        row, column = math.floor((plane[i, 0] - low[0]) / width), math.floor((plane[i, 1] - low[1]) / width)
        if 0 <= row < rows and 0 <= column < columns and depth[i] > 0:
            nearest[row, column] = min(nearest[row, column], depth[i])
    return nearest


@njit(cache=True)
def _free(
    points: np.ndarray,
    viewpoint: np.ndarray,
    axes: np.ndarray,
    low: np.ndarray,
    width: float,
    surface: np.ndarray,
    outline: np.ndarray,
    before: np.ndarray,
    margin: float,
) -> np.ndarray:
    """As `View.free`."""
    found, local = np.empty(len(points), np.bool_), np.empty(3)
    rows, columns = surface.shape
    for i in range(len(points)):
        for k in range(3):
            local[k] = 0.0
            for axis in range(3):
                local[k] += axes[k, axis] * (points[i, axis] - viewpoint[axis])
        depth = local[2]
        scale = max(depth, 1e-6) * width
        row = math.floor(local[0] / scale - low[0] / width)
        column = math.floor(local[1] / scale - low[1] / width)
        if depth <= 0 or row < 0 or row >= rows or column < 0 or column >= columns:
            found[i] = True
            continue
        front = np.isfinite(surface[row, column]) and depth < surface[row, column] - margin
        # Beside the outline, unless something nearer hides it.
        found[i] = front or (not outline[row, column] and depth <= before[row, column] + margin)
    return found


def _without_holes(depth: np.ndarray) -> np.ndarray:
    """A map whose gaps between points have the depth of their nearest neighbour."""
    known = np.isfinite(depth)
    filled = ndimage.binary_closing(known, np.ones((3, 3)))
    _, index = ndimage.distance_transform_edt(~known, return_indices=True)
    return np.where(known | filled, depth[tuple(index)], np.inf)
