"""What one look at an object leaves free: space before its surface, and beside its outline."""

from __future__ import annotations

import numpy as np
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
        plane, depth = self._seen(points)
        cell = np.floor((plane - self._low) / self._bin).astype(np.int64)
        size = np.array(self._surface.shape)
        within = ((cell >= 0) & (cell < size)).all(axis=1) & (depth > 0)
        row, column = np.clip(cell, 0, size - 1).T
        hidden = within & (depth > self._before[row, column] + self._margin)
        beside = ~within | ~self._outline[row, column]
        before = within & np.isfinite(self._surface[row, column]) & (depth < self._surface[row, column] - self._margin)
        return (beside & ~hidden) | before

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
        nearest = np.full(size, np.inf)
        cell = np.floor((plane - self._low) / self._bin).astype(np.int64)
        within = ((cell >= 0) & (cell < size)).all(axis=1) & (depth > 0)
        np.minimum.at(nearest, tuple(cell[within].T), depth[within])
        return nearest


def _without_holes(depth: np.ndarray) -> np.ndarray:
    """A map whose gaps between points have the depth of their nearest neighbour."""
    known = np.isfinite(depth)
    filled = ndimage.binary_closing(known, np.ones((3, 3)))
    _, index = ndimage.distance_transform_edt(~known, return_indices=True)
    return np.where(known | filled, depth[tuple(index)], np.inf)
