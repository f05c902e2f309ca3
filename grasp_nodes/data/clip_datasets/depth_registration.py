"""Depth of one camera as seen from another, for data sets that publish the two side by side."""

from __future__ import annotations

import numpy as np

from grasp_nodes.geometry.camera import CameraModel

_CORNERS = np.array([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])
_LARGEST_FOOTPRINT = 8
"""px of the other camera, along each axis, that one pixel of depth covers at most."""


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
    seen = np.full(camera.height * camera.width, np.inf)
    extent = np.minimum(high - low, _LARGEST_FOOTPRINT)
    for step in np.ndindex(tuple(extent.max(0, initial=0)) if len(extent) else (0, 0)):
        pixel = low + step
        covered = (step < extent).all(1) & (pixel >= 0).all(1) & (pixel < [camera.width, camera.height]).all(1)
        np.minimum.at(seen, pixel[covered, 1] * camera.width + pixel[covered, 0], distance[covered])
    return np.where(np.isfinite(seen), seen, 0.0).reshape(camera.height, camera.width).astype(np.float32)
