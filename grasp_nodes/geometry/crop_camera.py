"""A virtual camera that looks straight at a box of an image: crops without the distortion of the image's border.

What is seen in the middle of such a crop looks the same wherever the box lay in the image, so a network that reads it
needs to know nothing of the camera; its answers are turned back by one rotation.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel


@dataclass(frozen=True, eq=False)
class CropCamera:
    """A square pinhole camera at the place of another one.

    size: px, of the square image. focal: px. R_crop_camera: (3, 3), from the other camera's axes to those of this one.
    """

    size: int
    focal: float
    R_crop_camera: np.ndarray

    @property
    def middle(self) -> float:
        """px, both coordinates of the principal point: the middle of the image."""
        return 0.5 * (self.size - 1)

    @property
    def camera(self) -> CameraModel:
        """The same without its rotation."""
        camera_k = np.array([[self.focal, 0.0, self.middle], [0.0, self.focal, self.middle], [0.0, 0.0, 1.0]])
        return CameraModel(camera_k, self.size, self.size)

    @staticmethod
    def around(box: np.ndarray, camera: CameraModel, size: int) -> CropCamera:
        """The camera whose image holds a box of another camera's image and as little else as a square can.

        Args:
            box: (4,) px: x0, y0, x1, y1; may reach over the image's border. camera: that took the image.
            size: px, of the crop.

        Raises:
            InputError: a box without extent.
        """
        box = np.asarray(box, np.float64)
        if box.shape != (4,) or not np.isfinite(box).all() or box[2] <= box[0] or box[3] <= box[1]:
            raise InputError(f"box: expected x0, y0, x1, y1 with x0 < x1 and y0 < y1, got {box.tolist()}")
        middle = 0.5 * (box[:2] + box[2:])
        turn = turn_forward(np.append(camera.normalise(middle), 1.0))
        sides = np.array([[box[0], middle[1]], [box[2], middle[1]], [middle[0], box[1]], [middle[0], box[3]]])
        rays = np.concatenate([camera.normalise(sides), np.ones((4, 1))], axis=1) @ turn.T
        if rays[:, 2].min() <= 0:
            raise InputError(f"box {box.tolist()}: reaches beyond what one camera can see")
        half = np.abs(rays[:, :2] / rays[:, 2:]).max()
        return CropCamera(size, 0.5 * size / half, turn)

    def cut(self, image: np.ndarray, camera: CameraModel, border: int = 0) -> np.ndarray:
        """The crop of an image.

        Args:
            image: (H, W) or (H, W, C), of `camera`. border: value beyond the image.

        Returns:
            (size, size) or (size, size, C), of the image's type; smoothed first where it becomes smaller.
        """
        step = float(camera.camera_k[0, 0]) / self.focal
        if step > 1:
            image = cv2.GaussianBlur(image, (0, 0), 0.4 * step)
        places = self.pixels_in(camera).astype(np.float32)
        value = (border,) * 4
        return cv2.remap(
            image, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=value
        )

    def pixels_in(self, camera: CameraModel) -> np.ndarray:
        """(size, size, 2) px: where the other camera sees what each pixel of the crop shows; NaN = behind it."""
        x, y = np.meshgrid(np.arange(self.size), np.arange(self.size))
        flat = (np.stack([x, y], axis=-1) - self.middle) / self.focal
        rays = np.concatenate([flat, np.ones((*flat.shape[:2], 1))], axis=-1) @ self.R_crop_camera
        return camera.project(rays)


def turn_forward(direction: np.ndarray) -> np.ndarray:
    """(3, 3): the smallest rotation that brings a direction (3,) with z > 0 onto +z.

    Raises:
        InputError: a direction that does not point forwards.
    """
    unit = direction / np.linalg.norm(direction)
    if not unit[2] > 0:
        raise InputError(f"direction: expected one in front of the camera, got {np.asarray(direction).tolist()}")
    axis = np.cross(unit, [0.0, 0.0, 1.0])
    across = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + across + across @ across / (1 + unit[2])
