"""What a depth camera at rest sees behind everything that moves: the farthest surface of each pixel."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from grasp_nodes.errors import InputError

VIEWS = 12
RANK = 2
"""Of the views from the farthest on: one view alone may be a flying pixel."""
MARGIN = 0.008
"""m before the background, at 0.6 m distance, from which there is something else; grows with the distance squared."""
STEP = 0.03
"""Relative step of depth between neighbouring pixels that separates two things."""
DRAWN_SHARE = 0.25
"""Share of a part's pixels where landmarks put the hand, from which the part may be the hand's."""


class DepthBackground:
    """The scene behind hands and moved things, learned window after window; for a camera at rest."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the scene."""
        self._farthest: np.ndarray | None = None

    def learn(self, depths: Sequence[np.ndarray]) -> None:
        """Take in some images of a window; what moves must have left each place in `RANK` of them.

        Args:
            depths: N >= 1 of (H, W) float32, m, 0 = not measured.

        Raises:
            InputError: sizes that differ from each other or from earlier ones.
        """
        shapes = {depth.shape for depth in depths}
        if self._farthest is not None:
            shapes.add(self._farthest.shape)
        if len(shapes) != 1:
            raise InputError(f"depth background: expected images of one size, got {sorted(shapes)}")
        place = max(len(depths) - RANK, 0)
        farthest: np.ndarray = np.partition(np.stack(depths), place, axis=0)[place]
        self._farthest = farthest if self._farthest is None else np.maximum(farthest, self._farthest)

    def before(self, depth: np.ndarray) -> np.ndarray:
        """(H, W) bool: measured pixels of (H, W) m before the background, or where there is none known."""
        assert self._farthest is not None
        margin = MARGIN * np.maximum(depth / np.float32(0.6), np.float32(0.6)) ** 2
        front: np.ndarray = (depth > 0) & ((depth < self._farthest - margin) | (self._farthest <= 0))
        return front

    def forget(self, pixels: np.ndarray) -> None:
        """Take the background of (H, W) bool pixels for unknown."""
        assert self._farthest is not None
        self._farthest = np.where(pixels, np.float32(0), self._farthest)


def continued(free: np.ndarray, raised: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """What was never seen to move but is one surface with a larger part that was: its background was never seen.

    Args:
        free: (H, W) bool, see `free_parts`. raised: (H, W) bool, off the table. depth: (H, W), m.

    Returns:
        (H, W) bool, outside of `free`.
    """
    if not free.any():
        return np.zeros_like(free)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (raised & ~_steps(raised, depth)).astype(np.uint8), connectivity=4
    )
    own = np.bincount(labels[free], minlength=count)
    grown = 2 * own > stats[:, cv2.CC_STAT_AREA]
    grown[0] = False
    result: np.ndarray = grown[labels] & ~free
    return result


def _steps(mask: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """(H, W) bool: where the depth of the masked pixels jumps."""
    brush = np.ones((3, 3), np.uint8)
    nearest = cv2.erode(np.where(mask, depth, np.float32(1e6)), brush)
    step: np.ndarray = cv2.dilate(np.where(mask, depth, np.float32(0)), brush) > np.float32(1.0 + STEP) * nearest
    return step


def free_parts(moving: np.ndarray, depth: np.ndarray, drawing: np.ndarray) -> np.ndarray:
    """What moves and hangs together neither with the hand nor with the image's border, where arms come from.

    Args:
        moving: (H, W) bool. depth: (H, W), m. drawing: (H, W) bool, where landmarks put hands.

    Returns:
        (H, W) bool, part of `moving`.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (moving & ~_steps(moving, depth)).astype(np.uint8), connectivity=4
    )
    drawn = np.bincount(labels[drawing], minlength=count)
    free = drawn < DRAWN_SHARE * stats[:, cv2.CC_STAT_AREA]
    free[np.unique(np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()]))] = False
    free[0] = False
    result: np.ndarray = (cv2.dilate(free[labels].astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & moving
    return result & ((labels == 0) | free[labels])
