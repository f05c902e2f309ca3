"""Pixels of a depth image that stand off the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.ray_grid import RayGrid
from grasp_nodes.perception.table_plane import MAX_DEPTH, Plane, TablePlane

PLANE_MARGIN = 0.005
"""m above the plane that still counts as the plane, at 0.6 m distance; grows with the distance squared."""


@dataclass(frozen=True)
class Foreground:
    """mask: (H, W) bool, measured and off the plane. rays: (H, W, 2), x / z and y / z. plane: None = there is none."""

    mask: np.ndarray
    rays: np.ndarray
    plane: Plane | None


class ForegroundFinder:
    """Removes the dominant plane; everything beyond it and beyond reach goes too. Answers a frame once."""

    def __init__(self, seed: int = 0) -> None:
        self._rays = RayGrid()
        self._table = TablePlane(seed)
        self._last: tuple[Frame, Foreground] | None = None

    def reset(self) -> None:
        """Forget the plane."""
        self._table.reset()
        self._last = None

    def __call__(self, frame: Frame) -> Foreground:
        """Foreground of a frame with depth."""
        if self._last is not None and self._last[0] is frame:
            return self._last[1]
        assert frame.depth is not None
        depth = np.nan_to_num(frame.depth, nan=0.0, posinf=0.0, neginf=0.0)
        rays = self._rays(frame.camera)
        plane = self._table.update(rays, depth)
        mask = (depth > 0) & (depth < MAX_DEPTH)
        if plane is not None:
            margin = PLANE_MARGIN * np.maximum(depth / 0.6, 0.6) ** 2
            mask &= plane.height(rays, depth) > margin
        self._last = (frame, Foreground(mask, rays, plane))
        return self._last[1]
