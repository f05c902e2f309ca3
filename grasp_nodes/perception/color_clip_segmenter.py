"""The manipulated object in the colour images of a clip, without any depth: window after window.

What stands out at the hands and moves is taken for the object (`object_candidates`). From the image where it is seen
best it is followed to both ends of the window. Then the whole window is looked at again: by now the scene behind is
known (`StaticBackground`, for a camera at rest), and so are the colours of object, skin and surroundings; each image
is divided among these three by a Markov random field that expects the object where it was found before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import cv2
import numpy as np

from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.boxes import box_of_mask, clip_box
from grasp_nodes.perception.color_model import UNIFORM, ColorModel, color_cells
from grasp_nodes.perception.evidence import HandEvidence, ObjectEvidence
from grasp_nodes.perception.hand_mask import draw_bones, draw_forearm, draw_skeleton, pixels_per_metre
from grasp_nodes.perception.object_boxes import ObjectBoxSource
from grasp_nodes.perception.object_candidates import View, find_candidates, object_in_box
from grasp_nodes.perception.pixel_labels import label_pixels
from grasp_nodes.perception.static_background import StaticBackground, camera_is_still

SEARCH_WIDTH = 320
"""px; width of the images in which the object is looked for."""
SEARCH_VIEWS = 5
BACKGROUND_VIEWS = 12
MAX_EDGE = 256
"""px; longest edge of the part of an image that is divided among the labels."""
SMOOTHNESS = 3.0
LABEL_BEHIND, LABEL_HAND, LABEL_OBJECT = range(3)
NEW_COLORS = 0.1
"""Share of an object's pixels whose colours were not seen before: it turns and shows other sides."""
RARE_COLORS = 0.02
"""The same for skin and surroundings."""
BACKGROUND_CHANGES = 0.03
"""Share of the scene's pixels that do not look as they did before."""
HAND_INSIDE, HAND_BORDER, HAND_AWAY = 0.6, 0.25, 0.02
"""Prior of the hand inside of its mask or drawing, next to it, and elsewhere."""
SMALL_PART = 0.03
MIN_PIXELS = 30
MAX_MISSED = 30
"""Images in a row without any pixel of the object after which it is looked for anew."""


T = TypeVar("T")


@dataclass
class _Sight:
    """One image of the window. hand: (H, W) bool, pixels of hands; drawing: bool, where landmarks put them."""

    color: np.ndarray
    hand: np.ndarray
    drawing: np.ndarray
    hands: Sequence[HandEvidence]
    mask: np.ndarray | None = None


@dataclass
class _Object:
    """What is known of the object. mask: (H, W) bool, last seen. area: px, typical when nothing hides it."""

    mask: np.ndarray
    area: float
    shift: np.ndarray = field(default_factory=lambda: np.zeros(2))
    missed: int = 0


class ColorClipSegmenter:
    """`ClipSegmenter` for colour images; depth is ignored."""

    def __init__(self, object_id: str = "object", source: ObjectBoxSource | None = None) -> None:
        """Set up the search.

        Args:
            object_id: name of the object in the evidence.
            source: says where the object is; None = what the hand is at.
        """
        self._object_id, self._source = object_id, source
        self._background = StaticBackground()
        self.reset()

    def reset(self) -> None:
        """Forget the clip."""
        self._background.reset()
        self._object: _Object | None = None
        self._colors, self._skin, self._around = ColorModel(), ColorModel(), ColorModel()
        self._track_id = 0
        if self._source is not None:
            self._source.reset()

    def segment_clip(
        self, frames: Sequence[Frame], hands: Sequence[Sequence[HandEvidence]]
    ) -> list[Sequence[ObjectEvidence]]:
        """The object in each frame; frames in which none of its pixels are found get nothing."""
        if not frames:
            return []
        sights = [_sight(frame, seen) for frame, seen in zip(frames, hands, strict=True)]
        self._learn_skin(sights)
        still = self._is_still(sights)
        start = 0
        if self._object is None:
            found = self._find(frames, sights)
            if found is None:
                return [() for _ in frames]
            start, mask = found
            self._track_id += 1
            self._object = _Object(mask, float(mask.sum()))
            self._learn_colors([(sights[start], mask)])
        self._follow(sights, start)
        if still:
            self._learn_background(sights)
            self._look_again(sights)
            self._learn_background(sights)
        self._look_again(sights)
        self._remember(sights)
        return [self._evidence(sight) for sight in sights]

    # ------------------------------------------------------------------ what the window shows

    def _is_still(self, sights: Sequence[_Sight]) -> bool:
        some = _spread(sights, SEARCH_VIEWS)
        still = camera_is_still([_small(s.color) for s in some], [_small(s.hand) > 0 for s in some])
        if not still:
            self._background.reset()
        return still

    def _learn_skin(self, sights: Sequence[_Sight]) -> None:
        for sight in _spread(sights, SEARCH_VIEWS):
            for hand in sight.hands:
                bones = draw_bones(hand, pixels_per_metre(hand), *sight.hand.shape)
                if self._object is not None:
                    bones &= ~self._object.mask
                self._skin.learn(color_cells(sight.color[bones][None])[0])

    def _learn_background(self, sights: Sequence[_Sight]) -> None:
        some = _spread([sight for sight in sights if sight.mask is not None], BACKGROUND_VIEWS)
        if not some:
            return
        brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
        covered = [cv2.dilate((s.hand | s.drawing | _there(s)).astype(np.uint8), brush) > 0 for s in some]
        self._background.learn([sight.color for sight in some], covered)

    # ------------------------------------------------------------------ which thing it is

    def _find(self, frames: Sequence[Frame], sights: Sequence[_Sight]) -> tuple[int, np.ndarray] | None:
        """Image and pixels from which the object can be followed."""
        if self._source is not None:
            for index, (frame, sight) in enumerate(zip(frames, sights, strict=True)):
                boxes = self._source.boxes(frame, sight.hands)
                if boxes:
                    mask = object_in_box(_view(sight, 1.0), boxes[0].box)
                    if mask is not None:
                        return index, mask
            return None
        picks = np.unique(np.linspace(0, len(sights) - 1, SEARCH_VIEWS).round().astype(int))
        scale = min(1.0, SEARCH_WIDTH / sights[0].hand.shape[1])
        views = [_view(sights[pick], scale) for pick in picks]
        candidates = find_candidates(views, self._skin)
        if not candidates:
            return None
        best = candidates[0]
        height, width = sights[0].hand.shape
        mask = cv2.resize(best.mask.astype(np.float32), (width, height)) > 0.5
        return int(picks[best.index]), mask

    # ------------------------------------------------------------------ where it is

    def _follow(self, sights: Sequence[_Sight], start: int) -> None:
        """Forward from image `start`, then backward from it."""
        assert self._object is not None
        first = replace(self._object)
        for order in (range(start, len(sights)), range(start - 1, -1, -1)):
            now = replace(first)
            before: Sequence[HandEvidence] | None = None
            for index in order:
                sight = sights[index]
                expected, reach = _expected(now, before, sight.hands)
                sight.mask = self._divide(sight, expected, reach)
                before = sight.hands
                if sight.mask is None:
                    now = replace(now, mask=expected, missed=now.missed + 1)
                    continue
                if now.missed == 0 and index != start:
                    moved = _center(sight.mask) - _center(now.mask)
                    now.shift = 0.5 * now.shift + 0.5 * moved
                now = replace(now, mask=sight.mask, missed=0)
                if index == start:
                    first = replace(now)
                self._learn_colors([(sight, sight.mask)])

    def _look_again(self, sights: Sequence[_Sight]) -> None:
        """Each image with what all images taught."""
        found = [(sight, sight.mask) for sight in sights if sight.mask is not None]
        if not found:
            return
        self._colors, self._around = ColorModel(), ColorModel()
        for sight, mask in _spread(found, BACKGROUND_VIEWS):
            self._learn_colors([(sight, mask)])
        masks = [sight.mask for sight in sights]
        for index, sight in enumerate(sights):
            near = [mask for mask in masks[max(index - 1, 0) : index + 2] if mask is not None]
            if not near:
                continue
            own = masks[index]
            expected = own if own is not None else np.logical_or.reduce(near)
            sight.mask = self._divide(sight, expected, 0.12 * float(np.sqrt(expected.sum())))

    def _divide(self, sight: _Sight, expected: np.ndarray, reach: float) -> np.ndarray | None:
        """The object's pixels of one image.

        Args:
            expected: (H, W) bool, where it should be. reach: px that it may be beyond.
        """
        height, width = expected.shape
        box = box_of_mask(expected)
        if box is None:
            return None
        border = 2.0 * reach + 8.0
        x_start, y_start, x_stop, y_stop = clip_box(box + np.array([-border, -border, border, border]), width, height)
        if min(x_stop - x_start, y_stop - y_start) < 4:
            return None
        window = np.s_[y_start:y_stop, x_start:x_stop]
        scale = min(1.0, MAX_EDGE / max(x_stop - x_start, y_stop - y_start))
        size = (max(round((x_stop - x_start) * scale), 4), max(round((y_stop - y_start) * scale), 4))
        image = cv2.resize(sight.color[window], size, interpolation=cv2.INTER_AREA)
        costs = self._costs(sight, image, window, expected, reach)
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        labels = label_pixels(costs, lab, SMOOTHNESS)
        part = cv2.resize((labels == LABEL_OBJECT).astype(np.float32), (x_stop - x_start, y_stop - y_start)) > 0.5
        mask = np.zeros(expected.shape, bool)
        mask[window] = part
        return _without_crumbs(mask)

    def _costs(
        self, sight: _Sight, image: np.ndarray, window: tuple[slice, slice], expected: np.ndarray, reach: float
    ) -> np.ndarray:
        """(h, w, 3) float32: negative log of likelihood and prior of each label."""
        size = (image.shape[1], image.shape[0])
        cells = color_cells(image)
        likelihood = np.empty((*cells.shape, 3), np.float32)
        likelihood[..., LABEL_BEHIND] = _mixed(self._around, cells, RARE_COLORS)
        likelihood[..., LABEL_HAND] = _mixed(self._skin, cells, RARE_COLORS)
        likelihood[..., LABEL_OBJECT] = _mixed(self._colors, cells, NEW_COLORS)
        if self._background.image is not None:
            cost = cv2.resize(self._background.cost(sight.color[window], window), size, interpolation=cv2.INTER_NEAREST)
            known = ~np.isnan(cost)
            seen = np.exp(-cost[known]) * (1.0 - BACKGROUND_CHANGES)
            likelihood[known, LABEL_BEHIND] = seen + BACKGROUND_CHANGES * likelihood[known, LABEL_BEHIND]
        prior = np.empty_like(likelihood)
        inside = _resized(sight.drawing[window] | sight.hand[window], size)
        beside = cv2.dilate(inside.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        hand = np.where(inside, HAND_INSIDE, np.where(beside, HAND_BORDER, HAND_AWAY)).astype(np.float32)
        if not sight.hands:
            hand[:] = HAND_AWAY / 10
        own = _resized(expected[window], size)
        away = cv2.distanceTransform((~own).astype(np.uint8), cv2.DIST_L2, 3)
        within = cv2.distanceTransform(own.astype(np.uint8), cv2.DIST_L2, 3)
        soft = np.float32(max(reach * size[0] / (window[1].stop - window[1].start), 2.0))
        inner = np.clip(0.5 + 0.4 * within / soft, 0.5, 0.9)
        here = np.where(own, inner, 0.45 * np.exp(-((away / soft) ** 2)))
        here = np.maximum(here, 1e-3)
        prior[..., LABEL_HAND] = hand
        prior[..., LABEL_OBJECT] = (1.0 - hand) * here
        prior[..., LABEL_BEHIND] = (1.0 - hand) * (1.0 - here)
        return -np.log(np.maximum(likelihood * prior, 1e-12))

    def _learn_colors(self, examples: Sequence[tuple[_Sight, np.ndarray]]) -> None:
        """Take in the object's colours from inside of its masks and those of its surroundings from around them."""
        for sight, mask in examples:
            box = box_of_mask(mask)
            if box is None:
                continue
            border = 0.4 * float((box[2:] - box[:2]).max()) + 6
            height, width = mask.shape
            x_start, y_start, x_stop, y_stop = clip_box(
                box + np.array([-border, -border, border, border]), width, height
            )
            window = np.s_[y_start:y_stop, x_start:x_stop]
            cells, own = color_cells(sight.color[window]), mask[window].astype(np.uint8)
            inner = cv2.erode(own, np.ones((3, 3), np.uint8)) > 0
            self._colors.learn(cells[inner])
            free = cv2.dilate(own | sight.hand[window].astype(np.uint8), np.ones((7, 7), np.uint8)) == 0
            self._around.learn(cells[free])

    def _remember(self, sights: Sequence[_Sight]) -> None:
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
        areas = [float(_there(sights[index]).sum()) for index in seen]
        area = max(float(np.percentile(areas, 90)), 0.9 * self._object.area)
        self._object = _Object(last, area, np.zeros(2), len(sights) - 1 - seen[-1])

    def _evidence(self, sight: _Sight) -> Sequence[ObjectEvidence]:
        if sight.mask is None or self._object is None:
            return ()
        box = box_of_mask(sight.mask)
        assert box is not None
        score = float(np.clip(0.3 + 0.7 * sight.mask.sum() / self._object.area, 0.0, 1.0))
        return (ObjectEvidence(self._object_id, score, box, sight.mask, self._track_id),)


def _sight(frame: Frame, hands: Sequence[HandEvidence]) -> _Sight:
    height, width = frame.color.shape[:2]
    pixels, drawing = np.zeros((height, width), bool), np.zeros((height, width), bool)
    for hand in hands:
        drawn = draw_skeleton(hand, height, width).region
        drawing |= drawn
        pixels |= drawn if hand.mask is None else hand.mask
    return _Sight(frame.color, pixels, drawing, hands)


def _view(sight: _Sight, scale: float) -> View:
    """The image and its hands, smaller."""
    height, width = (round(edge * scale) for edge in sight.hand.shape)
    points, size = np.zeros((0, 2)), 1.0
    arms = np.zeros((height, width), bool)
    for hand in sight.hands:
        scaled = replace(hand, keypoints=(hand.keypoints + np.float32(0.5)) * np.float32(scale) - np.float32(0.5))
        arms |= draw_forearm(scaled, pixels_per_metre(scaled), height, width)
        points = np.concatenate([points, scaled.keypoints[1:]])
        size = max(size, float(np.ptp(scaled.keypoints, axis=0).max()))
    image = cv2.resize(sight.color, (width, height), interpolation=cv2.INTER_AREA)
    return View(image, _resized(sight.hand, (width, height)), arms, points, size)


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


def _mixed(model: ColorModel, cells: np.ndarray, share: float) -> np.ndarray:
    """Likelihood of cells if a share of the pixels may have any colour."""
    uniform = float(np.exp(UNIFORM))
    if not model.is_known:
        return np.full(cells.shape, uniform, np.float32)
    return (1.0 - share) * np.exp(model.log_likelihood(cells)) + np.float32(share * uniform)


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resized: np.ndarray = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return resized


def _small(image: np.ndarray) -> np.ndarray:
    scale = min(1.0, SEARCH_WIDTH / image.shape[1])
    if image.dtype == bool:
        image = image.astype(np.uint8)
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _there(sight: _Sight) -> np.ndarray:
    return np.zeros(sight.hand.shape, bool) if sight.mask is None else sight.mask


def _spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, evenly chosen."""
    if not items:
        return []
    picks = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[pick] for pick in picks]


def _without_crumbs(mask: np.ndarray) -> np.ndarray | None:
    """The mask without its smallest parts; None where nothing is left."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count < 2:
        return None
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    result: np.ndarray = (areas >= max(SMALL_PART * areas.max(), 6))[labels]
    return result if result.sum() >= MIN_PIXELS else None
