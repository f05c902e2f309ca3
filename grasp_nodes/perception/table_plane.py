"""The plane that most of what a depth camera sees lies on: the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SAMPLES = 1500
HYPOTHESES = 120
MIN_SHARE = 0.2
"""Least share of the points on a plane that counts as the table."""
MIN_SPREAD = 0.07
"""m; standard deviation of the table's points along its narrower direction: a thing's flat side is smaller."""
RELATIVE_TOLERANCE = 0.008
"""Half thickness of the plane, as a share of the distance: depth noise grows with it."""
MAX_DEPTH = 3.0


@dataclass(frozen=True)
class Plane:
    """``normal . x + offset = height``. normal: (3,) unit, towards the camera. offset: m, the camera's height."""

    normal: np.ndarray
    offset: float

    def height(self, rays: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Heights above the plane.

        Args:
            rays: (..., 2), x / z and y / z.
            depth: (...), m.

        Returns:
            (...) m, positive on the camera's side.
        """
        along = rays[..., 0] * np.float32(self.normal[0]) + rays[..., 1] * np.float32(self.normal[1])
        return (along + np.float32(self.normal[2])) * depth + np.float32(self.offset)


def fit_plane(points: np.ndarray) -> Plane:
    """Least-squares plane of (N, 3) points, m, camera frame; N >= 3."""
    center = points.mean(axis=0)
    normal = np.linalg.svd(points - center, full_matrices=False)[2][2]
    offset = -float(normal @ center)
    return Plane(normal, offset) if offset >= 0 else Plane(-normal, -offset)


def _inliers(plane: Plane, points: np.ndarray) -> np.ndarray:
    tolerance = RELATIVE_TOLERANCE * np.maximum(points[:, 2], 0.3)
    return np.abs(points @ plane.normal + plane.offset) < tolerance


def _spread(points: np.ndarray) -> float:
    """Standard deviation along the second principal direction, m."""
    return float(np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[1] / np.sqrt(len(points)))


class TablePlane:
    """Finds the dominant plane once and then follows it; looks for it anew when it no longer fits."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        """Forget the plane."""
        self._rng = np.random.default_rng(self._seed)
        self._plane: Plane | None = None
        self._share = 0.0

    def update(self, rays: np.ndarray, depth: np.ndarray) -> Plane | None:
        """The dominant plane of a depth image.

        Args:
            rays: (H, W, 2), x / z and y / z of each pixel.
            depth: (H, W), m, 0 = no measurement.

        Returns:
            None where fewer than a fifth of the points lie on one plane.
        """
        points = self._sample(rays, depth)
        if len(points) < 50:
            return None
        if self._plane is not None:
            on = _inliers(self._plane, points)
            if on.mean() >= max(MIN_SHARE, 0.6 * self._share):
                self._plane, self._share = fit_plane(points[on]), 0.9 * self._share + 0.1 * float(on.mean())
                return self._plane
        self._plane, self._share = self._search(points)
        return self._plane

    def _sample(self, rays: np.ndarray, depth: np.ndarray) -> np.ndarray:
        chosen = self._rng.integers(0, depth.size, 2 * SAMPLES)
        z = depth.reshape(-1)[chosen]
        near = (z > 0) & (z < MAX_DEPTH)
        chosen, z = chosen[near][:SAMPLES], z[near][:SAMPLES].astype(np.float64)
        return np.concatenate([rays.reshape(-1, 2)[chosen] * z[:, None], z[:, None]], axis=1)

    def _search(self, points: np.ndarray) -> tuple[Plane | None, float]:
        """RANSAC (Fischler and Bolles 1981), all hypotheses at once, then two least-squares rounds."""
        corners = points[self._rng.integers(0, len(points), (HYPOTHESES, 3))]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        lengths = np.linalg.norm(normals, axis=1)
        valid = lengths > 1e-6
        if not valid.any():
            return None, 0.0
        normals, anchors = normals[valid] / lengths[valid, None], corners[valid, 0]
        distances = np.abs(points @ normals.T - (normals * anchors).sum(axis=1))
        counts = (distances < RELATIVE_TOLERANCE * np.maximum(points[:, 2:], 0.3)).sum(axis=0)
        best = int(counts.argmax())
        on = distances[:, best] < RELATIVE_TOLERANCE * np.maximum(points[:, 2], 0.3)
        for _ in range(2):
            if on.mean() < MIN_SHARE:
                return None, 0.0
            plane = fit_plane(points[on])
            on = _inliers(plane, points)
        if on.mean() < MIN_SHARE or _spread(points[on]) < MIN_SPREAD:
            return None, 0.0
        return plane, float(on.mean())
