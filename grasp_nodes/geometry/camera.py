"""The pinhole camera with lens distortion, and a frame that it took.

Pixel coordinates: the centre of the top-left pixel is (0, 0).
Camera axes: x right, y down, z forward (REP-103, optical frames).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from grasp_nodes.errors import InputError

_UNDISTORT_ROUNDS = 20

DISTORTION_SIZES = {"plumb_bob": (0, 4, 5), "rational_polynomial": (0, 8, 12, 14), "equidistant": (0, 4), "": (0,)}


@dataclass(frozen=True)
class CameraModel:
    """Intrinsics of one camera.

    camera_k: (3, 3) float64, px. distortion: (D,) float64, coefficients in OpenCV's order.
    is_metric: false when the focal length was guessed, so that depth is known only up to scale.
    """

    camera_k: np.ndarray
    width: int
    height: int
    distortion: np.ndarray = field(default_factory=lambda: np.zeros(0))
    distortion_model: str = "plumb_bob"
    frame_id: str = "camera_color_optical_frame"
    is_metric: bool = True

    def __post_init__(self) -> None:
        camera_k = np.asarray(self.camera_k, dtype=np.float64)
        if camera_k.shape != (3, 3) or not np.isfinite(camera_k).all():
            raise InputError(f"camera_k: expected a finite (3, 3) matrix, got {camera_k.tolist()}")
        if camera_k[0, 0] <= 0 or camera_k[1, 1] <= 0:
            raise InputError(
                f"camera_k: focal lengths must be positive, got fx={camera_k[0, 0]:g} fy={camera_k[1, 1]:g}: "
                "the camera is not calibrated"
            )
        if self.width <= 0 or self.height <= 0:
            raise InputError(f"camera size must be positive, got {self.width}x{self.height}")
        distortion = np.asarray(self.distortion, dtype=np.float64).reshape(-1)
        allowed = DISTORTION_SIZES.get(self.distortion_model)
        if allowed is None:
            raise InputError(
                f"distortion_model: {self.distortion_model!r} is not known; expected one of {sorted(DISTORTION_SIZES)}"
            )
        if distortion.size not in allowed:
            raise InputError(
                f"distortion: {self.distortion_model!r} takes {allowed} coefficients, got {distortion.size}"
            )
        object.__setattr__(self, "camera_k", camera_k)
        object.__setattr__(self, "distortion", distortion)

    @property
    def is_distorted(self) -> bool:
        """Whether any distortion coefficient differs from zero."""
        return bool(np.any(self.distortion))

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels of points in front of the camera.

        Args:
            points: (..., 3), m, camera frame. Points with z <= 0 give NaN.

        Returns:
            (..., 2) float64, px.
        """
        points = np.asarray(points, dtype=np.float64)
        depth = np.where(points[..., 2:] > 0, points[..., 2:], np.nan)
        normalised = points[..., :2] / depth
        if not self.is_distorted:
            return (
                normalised * self.camera_k[[0, 1], [0, 1]]
                + self.camera_k[:2, 2]
                + normalised[..., 1:] * np.array([self.camera_k[0, 1], 0.0])
            )
        rays = np.concatenate([normalised, np.ones_like(depth)], axis=-1).reshape(-1, 1, 3)
        zero = np.zeros(3)
        if self.distortion_model == "equidistant":
            pixels, _ = cv2.fisheye.projectPoints(rays, zero, zero, self.camera_k, self.distortion)
        else:
            pixels, _ = cv2.projectPoints(rays, zero, zero, self.camera_k, self.distortion)
        return pixels.reshape(*points.shape[:-1], 2)

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """Undistorted coordinates on the plane z = 1.

        Args:
            pixels: (..., 2), px.

        Returns:
            (..., 2) float64, unitless: x / z and y / z.
        """
        pixels = np.asarray(pixels, dtype=np.float64)
        if not self.is_distorted:
            y = (pixels[..., 1] - self.camera_k[1, 2]) / self.camera_k[1, 1]
            x = (pixels[..., 0] - self.camera_k[0, 2] - self.camera_k[0, 1] * y) / self.camera_k[0, 0]
            return np.stack([x, y], axis=-1)
        flat = np.ascontiguousarray(pixels.reshape(-1, 1, 2))
        if self.distortion_model == "equidistant":
            return cv2.fisheye.undistortPoints(flat, self.camera_k, self.distortion).reshape(pixels.shape)
        normalised = cv2.undistortPoints(flat, self.camera_k, self.distortion).reshape(pixels.shape)
        # OpenCV stops after a few rounds of its fixed-point iteration: go on until the pixels come back.
        focal = self.camera_k[[0, 1], [0, 1]]
        for _ in range(_UNDISTORT_ROUNDS):
            points = np.concatenate([normalised, np.ones_like(normalised[..., :1])], axis=-1)
            normalised = normalised - (self.project(points) - pixels) / focal
        return normalised

    def unproject(self, pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Points at a depth.

        Args:
            pixels: (..., 2), px.
            depth: (...), m, distance along the optical axis.

        Returns:
            (..., 3) float64, m, camera frame.
        """
        depth = np.asarray(depth, dtype=np.float64)[..., None]
        return np.concatenate([self.normalise(pixels) * depth, depth], axis=-1)


@dataclass(frozen=True)
class Frame:
    """One image of a camera, with depth where the camera measures it.

    stamp: ns since the epoch of the source. color: (H, W, 3) uint8, RGB.
    depth: (H, W) float32, m along the optical axis, registered to color; 0 = no measurement. None: a colour camera.
    """

    stamp: int
    color: np.ndarray
    camera: CameraModel
    depth: np.ndarray | None = None

    def __post_init__(self) -> None:
        size = (self.camera.height, self.camera.width)
        if self.color.shape != (*size, 3) or self.color.dtype != np.uint8:
            raise InputError(
                f"color: expected uint8 {(*size, 3)} as camera_info says, got {self.color.dtype} {self.color.shape}"
            )
        if self.depth is not None and (self.depth.shape != size or self.depth.dtype != np.float32):
            raise InputError(f"depth: expected float32 {size}, got {self.depth.dtype} {self.depth.shape}")
