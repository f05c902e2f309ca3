"""What a camera that does not move sees behind everything that does: a median over time, and who differs from it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numba import njit

from grasp_nodes.errors import InputError

NOISE = 5.0
"""Standard deviation of the same surface's colour over time, of 255: sensor, compression, light."""
DARKEST, BRIGHTEST = 0.35, 1.15
"""Factors that a shadow and a change of light put on a surface's colour."""
SHADOW_COST = 2.5
"""What the darkest shadow costs, in the units of a log likelihood."""
MAX_COST = 14.0
SHADED = 0.93
"""Brightness over the scene's below which there may be a shadow."""
HARD_BORDER = 0.06
"""Change per px of the logarithm of brightness over the scene's that no soft border of a shadow has."""
OWN_BORDER = 0.3
"""Share of the outline of a shaded part that borders on the scene, as a hard edge, from which it is a thing."""
_SMALLEST_PART = 30
"""px."""
PEAK = 0.7
"""Log likelihood of exactly the expected colour, in cells of `color_model`: density times the cell's volume."""
TEXTURE = 1.0
"""Gradient (grey levels per px) from which a pixel tells whether the camera moved."""
FLICKER = 3.0
"""Change (grey levels) of a scene at rest: noise, compression, soft shadows."""
MAX_SHIFT = 1.0
"""px between two images that a camera at rest is allowed."""
TILES, MIN_TEXTURE, MIN_VOTES = 8, 40, 0.4
"""Tiles along each edge of the image, textured pixels that a tile needs to vote, and votes that make a camera still."""


class StaticBackground:
    """The scene behind hands and objects, learned window after window."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the scene."""
        self.image: np.ndarray | None = None
        """(H, W, 3) uint8; where not `known` the colour there is of no meaning."""
        self.known: np.ndarray = np.zeros((0, 0), bool)
        """(H, W) bool."""

    def learn(self, images: Sequence[np.ndarray], covered: Sequence[np.ndarray]) -> None:
        """Take in a window.

        Args:
            images: N of (H, W, 3) uint8. covered: N of (H, W) bool, pixels that something hides in that image.

        Raises:
            InputError: images and masks differ in number or size.
        """
        shape = images[0].shape
        if len(images) != len(covered) or any(image.shape != shape for image in images):
            raise InputError(f"background: {len(images)} images and {len(covered)} masks of one size are needed")
        if self.image is None or self.image.shape != shape:
            self.image, self.known = np.zeros(shape, np.uint8), np.zeros(shape[:2], bool)
        _median_where_free(np.stack(images), np.stack(covered), self.image, self.known)

    def behind(self, window: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
        """The scene in a part of the image: (h, w, 3) uint8 and (h, w) bool, where it is known."""
        assert self.image is not None
        return self.image[window], self.known[window]


def scene_cost(image: np.ndarray, behind: np.ndarray, noise: np.ndarray | float = NOISE) -> np.ndarray:
    """Negative log likelihood that pixels show a scene that may lie in a shadow.

    A shadow scales a colour and leaves its hue (Horprasert et al. 1999): the difference to the nearest scaled colour
    counts.

    Args:
        image: (H, W, 3) uint8. behind: (H, W, 3), the scene. noise: standard deviation of the scene's colours, of 255.

    Returns:
        (H, W) float32, in units of `color_model` cells, as the likelihoods there are.
    """
    seen, expected = cv2.GaussianBlur(image, (3, 3), 0).astype(np.float32), behind.astype(np.float32)
    scale = (seen * expected).sum(-1) / np.maximum((expected * expected).sum(-1), 30.0)
    scale = np.clip(scale, DARKEST, BRIGHTEST)
    apart = ((seen - scale[..., None] * expected) ** 2).sum(-1)
    dark = np.clip((1.0 - scale) / (1.0 - DARKEST), 0.0, 1.0)
    wide = np.float32(noise)
    cost = np.minimum(apart / (2 * wide**2), MAX_COST) + SHADOW_COST * dark - PEAK + 3.0 * np.log(wide / NOISE)
    return cost.astype(np.float32)


def enclosed_shade(image: np.ndarray, behind: np.ndarray, noise: np.ndarray | float = NOISE) -> np.ndarray:
    """Pixels that a shadow would explain, but that hard edges part from the lit scene: a thing of a like colour.

    Where a scene goes over into its shadow, the brightness over the scene's changes little by little.

    Args:
        image: (H, W, 3) uint8. behind: (H, W, 3), the scene. noise: see `scene_cost`.

    Returns:
        (H, W) bool.
    """
    seen = cv2.GaussianBlur(image, (5, 5), 0).astype(np.float32)
    expected = cv2.GaussianBlur(behind.astype(np.float32), (5, 5), 0)
    scale = (seen * expected).sum(-1) / np.maximum((expected * expected).sum(-1), 30.0)
    apart = ((seen - np.clip(scale, DARKEST, BRIGHTEST)[..., None] * expected) ** 2).sum(-1)
    alike = (apart < (3.0 * np.float32(noise)) ** 2) & (scale > DARKEST) & (scale < BRIGHTEST)
    brightness = np.log(np.maximum(scale, 0.1))
    # A Scharr kernel answers a slope of one per px with 32.
    slope = np.hypot(cv2.Scharr(brightness, cv2.CV_32F, 1, 0), cv2.Scharr(brightness, cv2.CV_32F, 0, 1)) / 32.0
    hard = slope > HARD_BORDER
    count, labels = cv2.connectedComponents((alike & ~hard).astype(np.uint8), connectivity=4)
    size = np.bincount(labels.ravel(), minlength=count)
    lit = np.bincount(labels[scale > SHADED], minlength=count) > 0.5 * size
    lit[0] = False
    scene = cv2.dilate(lit[labels].astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    shaded = ~lit & (size >= _SMALLEST_PART)
    shaded[0] = False
    # Labels are exact in float32 below 2^24; where the surroundings of two parts meet, one of them has them.
    grown = cv2.dilate(np.where(shaded[labels], labels, 0).astype(np.float32), np.ones((5, 5), np.uint8)).astype(
        np.int32
    )
    border = grown * (labels != grown)
    outline = np.bincount(border.ravel(), minlength=count)
    held = np.bincount(border[hard & scene], minlength=count) > OWN_BORDER * outline
    held[0] = False
    return held[grown] & alike & (scale < SHADED)


def filled(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The image with its unknown pixels taken from the nearest known surroundings, ever coarser.

    Args:
        image: (H, W, 3) uint8. known: (H, W) bool.

    Returns:
        (H, W, 3) float32; all zero where nothing is known at all.
    """
    weight = known.astype(np.float32)[..., None]
    result, weight = image.astype(np.float32) * weight, weight[..., 0]
    if known.all() or min(known.shape) < 2:
        return result
    size = (known.shape[1], known.shape[0])
    half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    small = cv2.resize(result, half, interpolation=cv2.INTER_AREA)
    small_weight = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    small = small / np.maximum(small_weight, 1e-6)[..., None]
    coarse = filled(small, small_weight > 1e-3)
    return np.where(known[..., None], result, cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR))


def camera_is_still(images: Sequence[np.ndarray], covered: Sequence[np.ndarray]) -> bool:
    """Whether the texture stays where it is in all images, so that one picture describes what is behind.

    Args:
        images: N of (H, W, 3) uint8. covered: N of (H, W) bool, pixels of hands.

    Returns:
        Also True where there is no texture: such a background does not move.
    """
    greys = [cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (5, 5), 0) for image in images]
    middle = len(greys) // 2
    reference = greys[middle].astype(np.float32)
    slope = np.abs(cv2.Sobel(reference, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(reference, cv2.CV_32F, 0, 1))
    slope /= 8
    textured = (slope > TEXTURE) & ~covered[middle]
    rows, columns = np.indices(reference.shape)
    tiles = rows * TILES // reference.shape[0] * TILES + columns * TILES // reference.shape[1]
    members = [np.flatnonzero(textured & (tiles == tile)) for tile in range(TILES * TILES)]
    for grey, hidden in zip(greys, covered, strict=True):
        change = np.abs(grey - reference).reshape(-1)
        votes = []
        for member in members:
            visible = member[~hidden.reshape(-1)[member]]
            if len(visible) >= MIN_TEXTURE:
                votes.append(np.median(change[visible]) < FLICKER + MAX_SHIFT * np.median(slope.reshape(-1)[visible]))
        # Arms, objects and shadows change some parts of the image, a moving camera changes all.
        if votes and np.mean(votes) < MIN_VOTES:
            return False
    return True


@njit(cache=True, error_model="numpy")
def _median_where_free(images: np.ndarray, covered: np.ndarray, background: np.ndarray, known: np.ndarray) -> None:
    """Median of each pixel and channel over the images in which it is free; pixels that never are stay as they were."""
    count, height, width, _ = images.shape
    values = np.empty(count, np.uint8)
    for row in range(height):
        for column in range(width):
            free = 0
            for channel in range(3):
                free = 0
                for index in range(count):
                    if not covered[index, row, column]:
                        value = images[index, row, column, channel]
                        place = free
                        while place > 0 and values[place - 1] > value:
                            values[place] = values[place - 1]
                            place -= 1
                        values[place] = value
                        free += 1
                if free > 0:
                    background[row, column, channel] = values[free // 2]
            if free > 0:
                known[row, column] = True
