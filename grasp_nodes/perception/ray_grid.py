"""The viewing ray of every pixel, kept as long as the camera stays the same."""

from __future__ import annotations

import numpy as np

from grasp_nodes.geometry.camera import CameraModel


class RayGrid:
    """Gives (H, W, 2) float32 arrays of x / z and y / z; computes them once per camera."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._rays = np.zeros((0, 0, 2), np.float32)

    def __call__(self, camera: CameraModel) -> np.ndarray:
        """Rays of the camera's pixels, lens distortion removed."""
        key = (
            camera.camera_k.tobytes(),
            camera.distortion.tobytes(),
            camera.distortion_model,
            camera.width,
            camera.height,
        )
        if key != self._key:
            columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
            self._rays = camera.normalise(np.stack([columns, rows], axis=-1)).astype(np.float32)
            self._key = key
        return self._rays
