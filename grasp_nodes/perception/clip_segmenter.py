"""The manipulated object in a clip, window after window, by depth and colour or by colour alone.

What stands out at the hands and moves is taken for the object (`object_candidates`). From the image where it is seen
best it is followed to both ends of the window. Then the whole window is looked at again: by now the scene behind is
known, for a camera at rest, and so are the colours of object, skin and surroundings (`object_division`). Depth, where
there is any, tells what stands on the table; everything else is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.boxes import box_of_mask
from grasp_nodes.perception.clip_sights import Sight, sight_of, spread, spread_indices, view_of
from grasp_nodes.perception.evidence import HandEvidence, ObjectEvidence, ObjectSegmenter
from grasp_nodes.perception.foreground import ForegroundFinder
from grasp_nodes.perception.object_boxes import ObjectBoxSource
from grasp_nodes.perception.object_candidates import find_candidates, merged, object_in_box
from grasp_nodes.perception.object_division import ObjectDivider
from grasp_nodes.perception.static_background import camera_is_still

SEARCH_WIDTH = 256
"""px; width of the images in which the object is looked for."""
SEARCH_VIEWS = 5
MAX_MISSED = 30
"""Images in a row without any pixel of the object after which it is looked for anew."""
GROWTH = 1.03
"""The most that the object's extent may grow from image to image."""
MAX_SPREAD = 1.25
"""The most by which the extent in some images exceeds the typical one: hands hide parts."""
NEAR = 0.12
"""Share of the object's size by which it may differ from what was found before."""


class StreamedClipSegmenter:
    """`ClipSegmenter` that shows a window to an `ObjectSegmenter`, frame by frame."""

    def __init__(self, segmenter: ObjectSegmenter) -> None:
        self._segmenter = segmenter

    def segment_clip(
        self, frames: Sequence[Frame], hands: Sequence[Sequence[HandEvidence]]
    ) -> list[Sequence[ObjectEvidence]]:
        """Objects of each frame.

        Raises:
            InputError: `frames` and `hands` differ in length, or frames differ in size.
        """
        check_window(frames, hands)
        return [self._segmenter.segment(frame, seen) for frame, seen in zip(frames, hands, strict=True)]

    def reset(self) -> None:
        """Forget the clip."""
        self._segmenter.reset()


@dataclass
class _Object:
    """What is known of the object.

    mask: (H, W) bool, last seen. area: px, and extent: px, its longest diameter, when nothing hides it. shift: (2,) px
    per image. missed: images.
    """

    mask: np.ndarray
    area: float
    extent: float
    shift: np.ndarray = field(default_factory=lambda: np.zeros(2))
    missed: int = 0


class ClipObjectSegmenter:
    """`ClipSegmenter` of our own: by depth where the frames have it, else by colour, motion and the hands."""

    def __init__(
        self,
        object_id: str = "object",
        source: ObjectBoxSource | None = None,
        diameter: float | None = None,
        foreground: ForegroundFinder | None = None,
        use_depth: bool = True,
    ) -> None:
        """Set up the search.

        Args:
            object_id: name of the object in the evidence.
            source: says where the object is; None = what the hand is at.
            diameter: m, extent of the object where it is known; with depth, things of that size are preferred.
            foreground: to share the table's plane with others.
            use_depth: False ignores the frames' depth.

        Raises:
            InputError: a diameter that is not positive.
        """
        if diameter is not None and not diameter > 0:
            raise InputError(f"object diameter: expected a positive number of metres, got {diameter}")
        self._object_id, self._source, self._diameter, self._use_depth = object_id, source, diameter, use_depth
        self._foreground = foreground or ForegroundFinder()
        self._divider = ObjectDivider()
        self.reset()

    def reset(self) -> None:
        """Forget the clip."""
        self._foreground.reset()
        self._divider.reset()
        self._object: _Object | None = None
        self._track_id = 0
        if self._source is not None:
            self._source.reset()

    def segment_clip(
        self, frames: Sequence[Frame], hands: Sequence[Sequence[HandEvidence]]
    ) -> list[Sequence[ObjectEvidence]]:
        """The object in each frame; frames in which none of its pixels are found get nothing.

        Args:
            frames: of one camera, in time order, following those of the last call. hands: of each frame, with masks.

        Raises:
            InputError: `frames` and `hands` differ in length, or frames or masks differ in size from each other or
                from the last window's.
        """
        check_window(frames, hands)
        if not frames:
            return []
        if self._object is not None and self._object.mask.shape != frames[0].color.shape[:2]:
            raise InputError(
                f"window of a clip: frames are {frames[0].color.shape[:2]}, those before {self._object.mask.shape}; "
                "call reset between clips"
            )
        sights = [self._sight(frame, seen) for frame, seen in zip(frames, hands, strict=True)]
        self._divider.learn_skin(sights)
        still = self._is_still(sights)
        start = 0
        if self._object is None:
            found = self._find(frames, sights, still)
            if found is None:
                return [() for _ in frames]
            start, mask = found
            self._track_id += 1
            self._object = _Object(mask, float(mask.sum()), _extent(mask))
            self._divider.forget_object()
            self._divider.learn_colors(replace(sights[start], mask=mask))
        self._follow(sights, start)
        if still:
            self._divider.learn_background(sights)
            self._look_again(sights)
            self._divider.learn_background(sights)
        self._look_again(sights)
        self._remember(sights)
        return [self._evidence(sight) for sight in sights]

    # ------------------------------------------------------------------ what the window shows

    def _sight(self, frame: Frame, hands: Sequence[HandEvidence]) -> Sight:
        if frame.depth is None or not self._use_depth:
            return sight_of(frame, hands)
        return sight_of(frame, hands, self._foreground(frame).mask)

    def _is_still(self, sights: Sequence[Sight]) -> bool:
        some = spread(sights, SEARCH_VIEWS)
        still = camera_is_still([_small(s.color) for s in some], [_small_mask(s.hand) for s in some])
        if not still:
            self._divider.background.reset()
        return still

    # ------------------------------------------------------------------ which thing it is

    def _find(self, frames: Sequence[Frame], sights: Sequence[Sight], still: bool) -> tuple[int, np.ndarray] | None:
        """Image and pixels from which the object can be followed."""
        if self._source is not None:
            for index, (frame, sight) in enumerate(zip(frames, sights, strict=True)):
                boxes = self._source.boxes(frame, sight.hands)
                if boxes:
                    mask = object_in_box(view_of(sight, 1.0), boxes[0].box)
                    if mask is not None:
                        return index, mask
            return None
        picks = spread_indices(len(sights), SEARCH_VIEWS)
        scale = min(1.0, SEARCH_WIDTH / sights[0].hand.shape[1])
        views = [view_of(sights[pick], scale) for pick in picks]
        candidates = find_candidates(views, self._divider.skin, still, self._diameter)
        if not candidates:
            return None
        best = merged(candidates)
        height, width = sights[0].hand.shape
        mask = cv2.resize(best.mask.astype(np.float32), (width, height)) > 0.5
        return picks[best.index], mask

    # ------------------------------------------------------------------ where it is

    def _follow(self, sights: Sequence[Sight], start: int) -> None:
        """Forward from image `start`, then backward from it."""
        assert self._object is not None
        first = replace(self._object)
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
        assert self._object is not None
        seen = [index for index, sight in enumerate(sights) if sight.mask is not None]
        if not seen:
            self._object.missed += len(sights)
            if self._object.missed > MAX_MISSED:
                self._object = None
            return
        last = sights[seen[-1]].mask
        assert last is not None
        areas = [float(sights[index].found.sum()) for index in seen]
        area = max(float(np.percentile(areas, 90)), 0.9 * self._object.area)
        extent = float(np.percentile([_extent(sights[index].found) for index in seen], 90))
        extent = max(extent, 0.9 * self._object.extent)
        self._object = _Object(last, area, extent, np.zeros(2), len(sights) - 1 - seen[-1])

    def _evidence(self, sight: Sight) -> Sequence[ObjectEvidence]:
        if sight.mask is None or self._object is None:
            return ()
        box = box_of_mask(sight.mask)
        assert box is not None
        score = float(np.clip(0.3 + 0.7 * sight.mask.sum() / self._object.area, 0.0, 1.0))
        return (ObjectEvidence(self._object_id, score, box, sight.mask, self._track_id),)


def check_window(frames: Sequence[Frame], hands: Sequence[Sequence[HandEvidence]]) -> None:
    """Check what every `ClipSegmenter` takes for granted.

    Raises:
        InputError: `frames` and `hands` differ in length, or frames or masks of hands differ in size.
    """
    if len(frames) != len(hands):
        raise InputError(f"window of a clip: {len(frames)} frames but hands of {len(hands)}")
    for index, (frame, seen) in enumerate(zip(frames, hands, strict=True)):
        size = frame.color.shape[:2]
        if size != frames[0].color.shape[:2]:
            raise InputError(f"window of a clip: frame {index} is {size}, frame 0 {frames[0].color.shape[:2]}")
        for hand in seen:
            if hand.mask is not None and hand.mask.shape != size:
                raise InputError(f"hand mask of frame {index}: expected the image's size {size}, got {hand.mask.shape}")


def _expected(
    now: _Object, before: Sequence[HandEvidence] | None, hands: Sequence[HandEvidence]
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


def _small(image: np.ndarray) -> np.ndarray:
    scale = min(1.0, SEARCH_WIDTH / image.shape[1])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _small_mask(mask: np.ndarray) -> np.ndarray:
    scale = min(1.0, SEARCH_WIDTH / mask.shape[1])
    return cv2.resize(mask.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST) > 0
