"""Depth of one camera as seen from another, for data sets that publish the two side by side."""

from __future__ import annotations

import numpy as np
from numba import njit

from grasp_nodes.geometry.camera import CameraModel

_CORNERS = np.array([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])


def register_depth(
    depth: np.ndarray, depth_camera: CameraModel, camera: CameraModel, T_camera_depth: np.ndarray
) -> np.ndarray:
    """Depth images seen from another camera.

    Every pixel of depth is a small rectangle that faces the depth camera, and covers the upright box around its four
    corners; the nearest one that covers the centre of a pixel of the other camera counts. What the depth camera did not
    see stays 0.

    Args:
        depth: (h, w), m, 0 = no measurement. depth_camera: that took it. camera: to be seen from.
        T_camera_depth: (4, 4), depth camera's frame to the other's, m; turned little against each other.

    Returns:
        (H, W) float32, m along the optical axis of `camera`, 0 = none.
    """
    rows, columns = np.nonzero(depth > 0)
    z = depth[rows, columns].astype(np.float64)
    centre = np.stack([columns, rows], -1).astype(np.float64)

    def moved(pixels: np.ndarray) -> np.ndarray:
        return depth_camera.unproject(pixels, z) @ T_camera_depth[:3, :3].T + T_camera_depth[:3, 3]

    distance = moved(centre)[:, 2]
    corners = np.stack([camera.project(moved(centre + offset)) for offset in _CORNERS])
    good = (distance > 0) & np.isfinite(corners).all((0, 2))
    corners, distance = corners[:, good], distance[good]
    low, high = np.ceil(corners.min(0)).astype(np.int64), np.ceil(corners.max(0)).astype(np.int64)
    seen = np.full((camera.height, camera.width), np.inf)
    _cover(np.maximum(low, 0), np.minimum(high, [camera.width, camera.height]), distance, seen)
    return np.where(np.isfinite(seen), seen, 0.0).astype(np.float32)


@njit(cache=True)
def _cover(low: np.ndarray, high: np.ndarray, distance: np.ndarray, seen: np.ndarray) -> None:
    """Lower `seen` (H, W) to the distance (N,) of every box of pixels from low to below high, (N, 2) column and row."""
    for box in range(len(distance)):
        for row in range(low[box, 1], high[box, 1]):
            for column in range(low[box, 0], high[box, 0]):
                seen[row, column] = min(seen[row, column], distance[box])
