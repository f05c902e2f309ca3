"""Whether the camera itself moves, so that what changes its place in the images is not what a hand carries.

Points of texture are followed over two frames (Lucas-Kanade). Before a camera at rest some part of the scene stays
where it is, however much arms, objects and their shadows move; before one that moves nothing does but what moves with
it, as hands do before a camera on a head: then one motion goes about the image along its edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

WIDTH = 256
"""px; of the images that are compared."""
GAP = 2
"""Frames from one image to the one that it is compared with."""
STEP = 0.75
"""px of these images, from one to the other; points that move less stay."""
TILES, LEAST_TILES = 8, 16
"""Tiles along each edge of the image, and tiles with points of which fewer tell nothing."""
MOVING_SHARE = 0.9
"""Share of the tiles with points that move before a moving camera.

Before cameras at rest, with an arm across the image: at most 0.9 over two frames in 32 rendered clips, 0.25 in a video.
"""
ALIKE, PARALLAX, ALIKE_SHARE = 1.0, 0.3, 0.6
"""px, and share of the usual move, that parts of the image may move otherwise than one motion of the whole image says
before a moving camera, as near things do; and the share of the tiles that have to."""
LONGEST_PAUSE = 10
"""Frames between two in which the camera is seen to move, from which it rests: arms hide what would tell."""
SURE_TILES, SURE_BORDER = 32, 8
"""Tiles with points in the image and along its edges, from which parts of it may stay before a moving camera."""
TOGETHER, BORDER_TOGETHER = 0.45, 0.6
"""Shares of them that move as one before a moving camera that holds something still: what covers a third of the image.

In 31 rendered clips of cameras at rest at most 0.45 and 0.5; what fills half of the image has 0.57 of the edges.
"""
_ROUNDS = 10
_POINTS, _QUALITY, _SPACING, _WINDOW, _LEVELS = 1000, 0.002, 5, 11, 3
_RETURN = 0.3
"""px; a point that is followed there and back comes back to within this."""


class CameraWatch:
    """Tells of the frames of a clip, window after window, whether the camera moves about them.

    Texture is needed: where there is next to none, as before an empty wall, the camera is taken to be at rest.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the clip."""
        self._last: list[np.ndarray] = []
        self._seen_moving: int | None = None

    def moves(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """(N,) bool, frames about which the camera moves.

        Args:
            images: N of (H, W, 3) uint8, RGB, in time order, following those of the last call.
        """
        if not len(images):
            return np.zeros(0, bool)
        greys = [_small_grey(image) for image in images]
        before = self._last if self._last and self._last[0].shape == greys[0].shape else []
        shown = [*before, *greys]
        self._last = shown[-GAP:]
        found = np.zeros(len(shown), bool)
        last = len(shown) - 1
        for stop in sorted({*range(GAP, last, GAP), last} - {0}):
            start = max(stop - GAP, 0)
            if everything_moves(shown[start], shown[stop]):
                found[start : stop + 1] = True
        moving = np.flatnonzero(found).tolist()
        if before and self._seen_moving is not None:
            moving.insert(0, len(before) + self._seen_moving)
        for one, next_one in pairwise(moving):
            if next_one - one <= LONGEST_PAUSE:
                found[max(one, 0) : next_one] = True
        # Counted from the first frame of the next call.
        self._seen_moving = moving[-1] - len(shown) if moving else None
        return found[len(before) :]


def everything_moves(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether next to nothing of what can be followed from one image to the other stays where it was.

    Or whether all that stays is before a scene which moves as one on all sides.

    Args:
        first, second: (H, W) uint8, a few frames apart at most.
    """
    points: np.ndarray | None = cv2.goodFeaturesToTrack(first, _POINTS, _QUALITY, _SPACING, blockSize=5)
    if points is None:
        return False
    there, found = _followed(first, second, points)
    back, again = _followed(second, first, there)
    sure = found & again & (np.linalg.norm(back - points, axis=2)[:, 0] < _RETURN)
    places, steps = points[sure, 0], (there - points)[sure, 0]
    columns, rows = (places * TILES / np.array(first.shape[::-1])).astype(int).T
    tiles = rows * TILES + columns
    names = np.unique(tiles)
    if len(names) < LEAST_TILES:
        return False
    moves = np.stack([np.median(steps[tiles == tile], axis=0) for tile in names])
    middles = np.stack([places[tiles == tile].mean(axis=0) for tile in names])
    leaves = np.linalg.norm(moves, axis=1) > STEP
    if leaves.mean() > MOVING_SHARE and _alike(middles, moves).mean() >= ALIKE_SHARE:
        return True
    at_border = np.isin(names // TILES, (0, TILES - 1)) | np.isin(names % TILES, (0, TILES - 1))
    if len(names) < SURE_TILES or np.count_nonzero(at_border) < SURE_BORDER or leaves.mean() <= TOGETHER:
        return False
    together = leaves.copy()
    together[leaves] = _alike(middles[leaves], moves[leaves])
    return bool(together.mean() > TOGETHER and together[at_border].mean() > BORDER_TOGETHER)


def _followed(first: np.ndarray, second: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 1, 2), px, in the second image, and (N,) bool, whether they were found there."""
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        first,
        second,
        points,
        None,  # type: ignore[call-overload]
        winSize=(_WINDOW, _WINDOW),
        maxLevel=_LEVELS,
    )
    return there, found[:, 0] > 0


def _alike(places: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """(N,) bool, moves (N, 2) at places (N, 2), px, that one affine motion explains; noise moves at random."""
    known = np.column_stack([places - places.mean(axis=0), np.ones(len(places))])
    weights = np.ones(len(places))
    apart = np.zeros(len(places))
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)[:, None]
        motion = np.linalg.lstsq(root * known, root * moves, rcond=None)[0]
        apart = np.linalg.norm(known @ motion - moves, axis=1)
        weights = 1.0 / np.maximum(apart, 0.1)
    usual = float(np.median(np.linalg.norm(moves, axis=1)))
    alike: np.ndarray = apart < max(ALIKE, PARALLAX * usual)
    return alike


def _small_grey(image: np.ndarray) -> np.ndarray:
    scale = min(1.0, WIDTH / image.shape[1])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), (3, 3), 0)
