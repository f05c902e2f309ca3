"""One thing followed through the windows of a clip: from the image where it is seen best to both ends, then once more.

The second look knows what the whole window taught: the scene behind, for a camera at rest, and the colours of the
thing, of skin and of the surroundings (`object_division`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from grasp_nodes.perception.clip_sights import Sight
from grasp_nodes.perception.color_model import BINS, FINE_BINS
from grasp_nodes.perception.evidence import HandEvidence
from grasp_nodes.perception.object_division import ObjectDivider

MAX_MISSED = 30
"""Images in a row without any pixel of the thing after which it is given up."""
GROWTH = 1.03
"""The most that the extent may grow from image to image."""
MAX_SPREAD = 1.25
"""The most by which the extent in some images exceeds the typical one: hands hide parts."""
NEAR = 0.12
"""Share of the size by which it may differ from what was found before."""

KEPT_MERIT = 0.9
"""Share of an earlier window's merit that a thing keeps."""
RESTING = 0.15
"""Merit of what stays where it is, against 1 more for what moves by its own size."""
UNKNOWN_MOTION = 0.5
"""What counts as the move of every thing, in its sizes, while the camera moves: all change their places then."""
AT_BORDER = 0.1
"""Factor for what the image's border always cuts: arms, tables."""
REACH = 0.6
"""Sizes of the hand over which a thing beside it loses most of its merit."""
MAX_SIZE = 1.5
"""Square root of the area over the hand's size from which things are hardly taken by a hand."""


@dataclass
class _Seen:
    """What is known of the thing.

    mask: (H, W) bool, last seen. area: px, and extent: px, its longest diameter, when nothing hides it. shift: (2,) px
    per image. missed: images.
    """

    mask: np.ndarray
    area: float
    extent: float
    shift: np.ndarray = field(default_factory=lambda: np.zeros(2))
    missed: int = 0


class ThingTracker:
    """Pixels of one thing in all images of a window, window after window."""

    def __init__(self, track_id: int, mask: np.ndarray, fine: bool = False) -> None:
        """Start from a mask.

        Args:
            track_id: of the thing. mask: (H, W) bool, in the image that `follow` is told to start from.
            fine: whether arm and thing can be seen apart, so that finer differences of their colours can be learned.
        """
        self.track_id = track_id
        self.merit, self.window_merit = 0.0, 0.0
        self._divider = ObjectDivider(FINE_BINS if fine else BINS)
        self._seen = _Seen(mask, float(mask.sum()), _extent(mask))

    @property
    def area(self) -> float:
        """px, of the thing when nothing hides it."""
        return self._seen.area

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool, where it was seen last."""
        return self._seen.mask

    @property
    def is_lost(self) -> bool:
        """Whether it was not seen for long."""
        return self._seen.missed > MAX_MISSED

    def follow(
        self, sights: Sequence[Sight], still: bool, start: int | None = None, camera_moves: bool = False
    ) -> None:
        """Put the masks into the sights.

        Args:
            sights: of a window; their masks are replaced. still: whether the camera is at rest.
            start: the image that the first mask belongs to; None = go on from the last window.
            camera_moves: what changes its place does not move for that. Without it a camera may be at rest and one
                picture may still not describe what is behind: shadows pass.
        """
        if not still:
            self._divider.background.reset()
        if start is not None:
            first = replace(sights[start], mask=self._seen.mask)
            self._divider.learn_colors(first)
            self._divider.learn_skin([first])
        self._divider.learn_skin(sights)
        self._follow(sights, start or 0)
        if still:
            self._divider.learn_background(sights)
            if any(sight.depth is None or sight.depth.moving is None for sight in sights):
                self._look_again(sights)
                self._divider.learn_background(sights)
        self._look_again(sights)
        self._remember(sights)
        self.window_merit = _merit(sights, camera_moves)
        self.merit = max(KEPT_MERIT * self.merit, self.window_merit)

    def _follow(self, sights: Sequence[Sight], start: int) -> None:
        """Forward from image `start`, then backward from it."""
        first = replace(self._seen)
        for order in (range(start, len(sights)), range(start - 1, -1, -1)):
            now = replace(first)
            before: Sequence[HandEvidence] | None = None
            for index in order:
                sight = sights[index]
                expected, reach = _expected(now, before, sight.hands)
                sight.mask = self._divider.divide(sight, expected, reach, now.extent)
                before = sight.hands
                if sight.mask is None:
                    now = replace(now, mask=expected, missed=now.missed + 1)
                    continue
                if now.missed == 0 and index != start:
                    moved = _center(sight.mask) - _center(now.mask)
                    now.shift = 0.5 * now.shift + 0.5 * moved
                now = replace(
                    now,
                    mask=sight.mask,
                    missed=0,
                    extent=max(now.extent, min(_extent(sight.mask), GROWTH * now.extent)),
                )
                if index == start:
                    first = replace(now)
                self._divider.learn_colors(sight)

    def _look_again(self, sights: Sequence[Sight]) -> None:
        """Each image with what all images taught."""
        self._divider.learn_window(sights)
        masks = [sight.mask for sight in sights]
        extents = [_extent(mask) for mask in masks if mask is not None]
        if not extents:
            return
        extent = min(float(np.percentile(extents, 90)), MAX_SPREAD * float(np.median(extents)))
        for index, sight in enumerate(sights):
            near = [mask for mask in masks[max(index - 1, 0) : index + 2] if mask is not None]
            if near:
                own = masks[index]
                expected = own if own is not None else np.logical_or.reduce(near)
                sight.mask = self._divider.divide(sight, expected, NEAR * float(np.sqrt(expected.sum())), extent)

    def _remember(self, sights: Sequence[Sight]) -> None:
        """What the next window starts from."""
        seen = [index for index, sight in enumerate(sights) if sight.mask is not None]
        if not seen:
            self._seen.missed += len(sights)
            return
        last = sights[seen[-1]].mask
        assert last is not None
        areas = [float(sights[index].found.sum()) for index in seen]
        area = max(float(np.percentile(areas, 90)), 0.9 * self._seen.area)
        extent = float(np.percentile([_extent(sights[index].found) for index in seen], 90))
        extent = max(extent, 0.9 * self._seen.extent)
        self._seen = _Seen(last, area, extent, np.zeros(2), len(sights) - 1 - seen[-1])


def _merit(sights: Sequence[Sight], camera_moves: bool) -> float:
    """How much the track of a thing says that a hand moves it: it changes place, near a hand, clear of the border."""
    seen = [sight for sight in sights if sight.mask is not None]
    if not seen:
        return 0.0
    centers = np.stack([_center(sight.found) for sight in seen])
    size = float(np.sqrt(np.median([np.count_nonzero(sight.found) for sight in seen])))
    # Single images may be wrong: the change from the median place that a tenth of the images exceeds.
    moved = float(np.percentile(np.linalg.norm(centers - np.median(centers, axis=0), axis=1), 90)) / size
    if camera_moves:
        moved = UNKNOWN_MOTION
    cut = np.mean([bool(_rim(sight.found).any()) for sight in seen])
    merit = (RESTING + min(moved, 1.0)) * (1.0 - (1.0 - AT_BORDER) * float(cut)) * len(seen) / len(sights)
    near, large = [], []
    for sight in seen:
        for hand in sight.hands:
            hand_size = max(float(np.ptp(hand.keypoints, axis=0).max()), 1.0)
            away = cv2.distanceTransform((~sight.found[::4, ::4]).astype(np.uint8), cv2.DIST_L2, 3)
            places = np.clip(np.round(hand.keypoints / 4).astype(int), 0, [away.shape[1] - 1, away.shape[0] - 1])
            near.append(np.exp(-((4 * float(away[places[:, 1], places[:, 0]].min()) / hand_size / REACH) ** 2)))
            large.append(size / hand_size / MAX_SIZE)
    if near:
        merit *= float(np.mean(near)) / max(float(np.median(large)), 1.0) ** 2
    return merit


def _rim(mask: np.ndarray) -> np.ndarray:
    return np.concatenate([mask[[0, -1]].ravel(), mask[:, [0, -1]].ravel()])


def _expected(
    now: _Seen, before: Sequence[HandEvidence] | None, hands: Sequence[HandEvidence]
) -> tuple[np.ndarray, float]:
    """Where the object should be next, and how far (px) it may be from there: it stays, goes on or follows a hand."""
    size = float(np.sqrt(max(now.mask.sum(), 1)))
    moves = [now.shift]
    for hand in hands:
        moves += [
            (hand.keypoints - old.keypoints).mean(axis=0) for old in before or () if old.track_id == hand.track_id
        ]
    moves = [move for move in moves if np.linalg.norm(move) > 1.0]
    expected = now.mask.copy()
    for move in moves:
        expected |= _shifted(now.mask, move)
    longest = max((float(np.linalg.norm(move)) for move in moves), default=0.0)
    return expected, 0.12 * size + 0.3 * longest + 3.0 + 0.1 * size * min(now.missed, 5)


def _shifted(mask: np.ndarray, move: np.ndarray) -> np.ndarray:
    matrix = np.array([[1.0, 0.0, move[0]], [0.0, 1.0, move[1]]])
    moved: np.ndarray = cv2.warpAffine(mask.astype(np.uint8), matrix, (mask.shape[1], mask.shape[0])) > 0
    return moved


def _center(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()])


def _extent(mask: np.ndarray) -> float:
    """Longest diameter of a mask, px, as its box and its diagonal shadows say."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return 0.0
    along = [columns, rows, (columns + rows) / np.sqrt(2), (columns - rows) / np.sqrt(2)]
    return float(max(np.ptp(values) for values in along)) + 1.0
