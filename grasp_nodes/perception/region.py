"""The rotated square of the image that a network looks at.

Coordinates here are *corner* coordinates, as the networks were trained with: the centre of the top-left pixel is
(0.5, 0.5). Whoever hands results on subtracts one half.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

RECTANGLE_POINTS = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
"""Landmarks that span the rectangle of the next image: all but the outer two joints of the fingers."""
PALM_SCALE, PALM_SHIFT = 2.6, -0.5
TRACK_SCALE, TRACK_SHIFT = 2.0, -0.1


@dataclass(frozen=True)
class Region:
    """A square. center: px, corner coordinates. size: px. angle: rad, clockwise turn of its upward axis."""

    center: tuple[float, float]
    size: float
    angle: float

    @property
    def box(self) -> np.ndarray:
        """(4,) box of the square as if it were upright."""
        x, y = self.center
        half = self.size / 2
        return np.array([x - half, y - half, x + half, y + half])

    @property
    def rotation(self) -> np.ndarray:
        """(2, 2) rotation from the square's axes to the image's."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return np.array([[c, -s], [s, c]])

    def crop_to_image(self, crop_size: int) -> np.ndarray:
        """(2, 3) affine map from crop coordinates to image coordinates."""
        linear = self.rotation * (self.size / crop_size)
        offset = np.array(self.center) - linear @ np.full(2, crop_size / 2)
        return np.concatenate([linear, offset[:, None]], axis=1)

    def crop(self, image: np.ndarray, crop_size: int) -> np.ndarray:
        """What is inside, as network input.

        Args:
            image: (H, W, 3) uint8, RGB.
            crop_size: edge of the result, px.

        Returns:
            (1, crop_size, crop_size, 3) float32 in [0, 1], black outside the image. Plain bilinear sampling: it is
            what the networks were trained with.
        """
        warped = cv2.warpAffine(
            image,
            self.crop_to_image(crop_size),
            (crop_size, crop_size),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
        )
        return warped.astype(np.float32)[None] / 255.0

    def turned(self, angle: float) -> Region:
        """The same square, turned further by `angle` (rad)."""
        return Region(self.center, self.size, self.angle + angle)


def upward_angle(wrist: np.ndarray, middle: np.ndarray) -> float:
    """Clockwise turn (rad, in [-pi, pi)) that takes the image's upward axis to wrist -> middle knuckle."""
    x, y = middle - wrist
    return float((np.pi / 2 - np.arctan2(-y, x) + np.pi) % (2 * np.pi) - np.pi)


def _square(center: np.ndarray, width: float, height: float, angle: float, scale: float, shift: float) -> Region:
    s, c = np.sin(angle), np.cos(angle)
    moved = (float(center[0] - s * height * shift), float(center[1] + c * height * shift))
    return Region(moved, float(max(width, height) * scale), angle)


def region_of_palm(box: np.ndarray, wrist: np.ndarray, middle: np.ndarray) -> Region:
    """Where the landmarks of a detected palm are looked for.

    Args:
        box: (4,) palm box, px, corner coordinates.
        wrist: (2,) its wrist.
        middle: (2,) its middle knuckle.
    """
    width, height = box[2:] - box[:2]
    return _square((box[:2] + box[2:]) / 2, width, height, upward_angle(wrist, middle), PALM_SCALE, PALM_SHIFT)


def region_of_landmarks(landmarks: np.ndarray) -> Region:
    """Where the same hand is looked for in the next image.

    Args:
        landmarks: (21, 2), px, corner coordinates.
    """
    knuckles = ((landmarks[5] + landmarks[13]) / 2 + landmarks[9]) / 2
    angle = upward_angle(landmarks[0], knuckles)
    points = landmarks[list(RECTANGLE_POINTS)]
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    rotation = Region((0.0, 0.0), 1.0, angle).rotation
    upright = (points - middle) @ rotation
    low, high = upright.min(axis=0), upright.max(axis=0)
    width, height = high - low
    return _square(middle + rotation @ ((low + high) / 2), width, height, angle, TRACK_SCALE, TRACK_SHIFT)
