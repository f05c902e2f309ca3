"""Which thing in the images of a hand is the object: what stands out, lies at the hand, is not skin, and moves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from grasp_nodes.perception.barrier_distance import barrier_distance
from grasp_nodes.perception.boxes import clip_box
from grasp_nodes.perception.color_model import BINS, ColorModel, color_cells
from grasp_nodes.perception.static_background import scene_cost

CHROMA_WEIGHT = 2.0
"""Lightness changes with shadows, so it counts less."""
MIN_CONTRAST = 36.0
"""Barrier (of 255 per channel) from which something stands out: shadows stay below."""
KEPT_SHARE = 0.45
"""Share of a thing's own contrast down to which pixels belong to it."""
MIN_SIZE, MAX_SIZE = 0.06, 3.0
"""Square root of a thing's area over the hand's size."""
REACH = 0.6
"""Sizes of the hand over which a thing beside it loses most of its weight."""
SKIN_ODDS = 1.0
"""Log odds from which a colour is taken for skin."""
FULL_SIZE = 0.25
"""Size over the hand's from which a thing has its full weight."""
SKIN_LOSS = 0.75
"""Weight that a thing loses if all its colours are skin's."""
BLIND, AT_BORDER = 0.3, 0.2
"""Weights in an image in which the hand was missed, and of what the image's border cuts: most of it are arms."""
DARKER = 0.93
"""Brightness over that of another image from which there may be a shadow."""
RESTING = 0.2
"""Weight of what stays where it is, against 1 more for what leaves its place."""
MIN_ALIKE = 0.4
"""Overlap of the colours of two things that may be one."""
MERGED_SCORE = 0.4
"""Share of the best score from which a thing at the same place belongs to it."""
HARD_EDGE = 12.0
"""Change of colour per pixel across an outline that no shadow has."""
SURE_EDGES = 0.2
"""By how much a thing's outline has to have more than half of the edges of two images for full weight."""
MAX_METRES = 0.5
"""m; larger things, such as a wall, are not taken by a hand."""
DEPTH_STEP = 0.04
"""Relative step of depth between neighbouring pixels that separates two things."""
TYPICAL_EXTENT, SIZE_TOLERANCE = 0.6, 0.7
"""Square root of the visible area over the diameter, and how much (logarithm) it varies with shape and view."""
CHANGE = 6.0
"""Cost (see `scene_cost`) from which something else is there now."""


@dataclass(frozen=True)
class Candidate:
    """One thing in one image. index: of the image. mask: (H, W) bool. score: not negative."""

    index: int
    mask: np.ndarray
    score: float


@dataclass(frozen=True)
class View:
    """What is known of one image before the object is. All (H, W...) of one size.

    image: (H, W, 3) uint8. hidden: bool, pixels of hands and arms. arms: bool, where forearms and sleeves may be.
    points: (N, 2), px, landmarks of all hands. hand_size: px. raised: bool, off the table by depth, None = not known;
    metres: m per px at each pixel, 0 = not measured, where `raised` is known.
    """

    image: np.ndarray
    hidden: np.ndarray
    arms: np.ndarray
    points: np.ndarray
    hand_size: float
    raised: np.ndarray | None = None
    metres: np.ndarray | None = None


def find_candidates(
    views: Sequence[View], skin: ColorModel, still: bool = True, diameter: float | None = None
) -> list[Candidate]:
    """Things that may be the object, best first.

    Args:
        views: a few images of the clip. skin: colours of the hands, known or not. still: whether the camera is at rest,
            so that what changes moves. diameter: m, of the object; counts where depth tells sizes.
    """
    changes = _Changes(views) if still else None
    parts: list[tuple[int, np.ndarray, float]] = []
    for index, view in enumerate(views):
        found = _stand_outs(view) if view.raised is None else _raised_parts(view, diameter)
        parts += [(index, mask, weight) for mask, weight in found]
    if changes is not None and all(view.raised is None for view in views):
        parts += changes.parts(_smallest)
    rated = [
        Candidate(
            index, mask, weight * _unlike_arm(mask, views[index], skin) * _rate_place(mask, index, views, changes)
        )
        for index, mask, weight in parts
    ]
    if not still:
        rated = _agreed(rated, views)
    return sorted(rated, key=lambda candidate: -candidate.score)


def _agreed(candidates: Sequence[Candidate], views: Sequence[View]) -> list[Candidate]:
    """Candidates with the sum of the best scores of things of their colours in all images: an object stays at hand."""
    if not candidates:
        return []
    cells = [color_cells(cv2.GaussianBlur(view.image, (5, 5), 0)) for view in views]
    size = int(np.prod(BINS))
    counts = np.stack([np.bincount(cells[each.index][each.mask], minlength=size) for each in candidates])
    shares = counts / counts.sum(axis=1, keepdims=True)
    alike = np.stack([np.minimum(shares, own).sum(axis=1) for own in shares])
    scores = np.array([each.score for each in candidates]) * np.where(alike > MIN_ALIKE, 1.0, 0.0)
    images = np.array([each.index for each in candidates])
    total = sum(scores[:, images == index].max(axis=1, initial=0.0) for index in range(len(views)))
    return [
        replace(each, score=each.score * float(sum_)) for each, sum_ in zip(candidates, np.asarray(total), strict=True)
    ]


def merged(candidates: Sequence[Candidate]) -> Candidate:
    """The best candidate with the others of its image that cover the same thing.

    Args:
        candidates: at least one, best first.
    """
    best = candidates[0]
    mask = best.mask.copy()
    for other in candidates[1:]:
        if other.index == best.index and other.score > MERGED_SCORE * best.score:
            overlap = np.count_nonzero(best.mask & other.mask)
            if overlap > 0.5 * min(np.count_nonzero(best.mask), np.count_nonzero(other.mask)):
                mask |= other.mask
    return replace(best, mask=mask)


def find_moving(views: Sequence[View], skin: ColorModel, diameter: float | None = None) -> list[Candidate]:
    """Things among what moves, best first: the object rests, free on all sides, before it is taken or afterwards.

    Args:
        views: many images of the clip by a camera at rest, with `raised` the pixels that move. skin: see
            `find_candidates`. diameter: m, of the object.
    """
    found = find_candidates(views, skin, still=False, diameter=diameter)
    masks = [(each.index, each.mask) for each in found]
    rated = []
    for each in found:
        area = np.count_nonzero(each.mask)
        rests = {
            index
            for index, mask in masks
            if index != each.index and 2 * np.count_nonzero(mask & each.mask) > np.count_nonzero(mask | each.mask)
        }
        around = cv2.dilate(each.mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        around &= ~each.mask
        raised = views[each.index].raised
        assert raised is not None
        free = 1.0 - np.count_nonzero(around & (views[each.index].hidden | raised)) / np.count_nonzero(around)
        rated.append(replace(each, score=each.score * free**2 * (RESTING + len(rests) / len(views)) * np.sqrt(area)))
    return sorted(rated, key=lambda candidate: -candidate.score)


class _Changes:
    """What differs between the images of a camera at rest, light shadows apart."""

    def __init__(self, views: Sequence[View]) -> None:
        self._views = views
        self._open = [cv2.dilate(view.hidden.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0 for view in views]
        self._slopes = [_slope(view.image) for view in views]
        self._differs: dict[tuple[int, int], np.ndarray] = {}
        self._shaded: dict[tuple[int, int], np.ndarray] = {}
        brightness = [view.image.sum(axis=-1, dtype=np.int32) for view in views]
        for one, other in itertools.permutations(range(len(views)), 2):
            cost = scene_cost(views[one].image, views[other].image)
            both = self._open[one] & self._open[other]
            self._differs[one, other] = (cost > CHANGE) & both
            self._shaded[one, other] = (cost <= CHANGE) & (brightness[one] < DARKER * brightness[other]) & both

    def unlike_shadow(self, mask: np.ndarray, index: int) -> float:
        """1 for what no shadow explains, less the softer the outline is of what may be one."""
        brush = np.ones((3, 3), np.uint8)
        part = mask.astype(np.uint8)
        outline = (cv2.dilate(part, brush) > 0) & (cv2.erode(part, brush) == 0) & self._open[index]
        hardness = min(float(self._slopes[index][outline].mean()) / HARD_EDGE, 1.0) if outline.any() else 0.0
        area = np.count_nonzero(mask)
        others = [other for other in range(len(self._views)) if other != index]
        share = max((np.count_nonzero(mask & self._shaded[index, other]) / area for other in others), default=0.0)
        return 1.0 - share * (1.0 - hardness)

    def moved_share(self, mask: np.ndarray, index: int) -> float:
        """Share of the pixels of a thing in image `index` that show something else in another image, hands apart."""
        most, area = 0.0, np.count_nonzero(mask)
        for other in range(len(self._views)):
            if other != index:
                free = np.count_nonzero(mask & self._open[other] & self._open[index])
                if free > 0.25 * area:
                    most = max(
                        most,
                        np.count_nonzero(mask & (self._differs[index, other] | self._differs[other, index])) / free,
                    )
        return most

    def parts(self, smallest: Callable[[View], float]) -> list[tuple[int, np.ndarray, float]]:
        """Connected parts that differ between two images, each in that one in which it has the edges: there is a thing.

        In the other image there is what it hid before, which goes on beyond the thing's outline.
        """
        found: list[tuple[int, np.ndarray, float]] = []
        brush = np.ones((3, 3), np.uint8)
        for one, other in itertools.permutations(range(len(self._views)), 2):
            changed = cv2.morphologyEx(self._differs[one, other].astype(np.uint8), cv2.MORPH_OPEN, brush)
            count, labels, stats, _ = cv2.connectedComponentsWithStats(changed)
            for label in range(1, count):
                if stats[label, cv2.CC_STAT_AREA] < smallest(self._views[one]):
                    continue
                mask = labels == label
                part = mask.astype(np.uint8)
                outline = (cv2.dilate(part, brush) > 0) & (cv2.erode(part, brush) == 0)
                outline &= self._open[one] & self._open[other]
                here, there = (float(self._slopes[index][outline].sum()) for index in (one, other))
                share = here / max(here + there, 1e-6)
                index = one if share > 0.5 else other
                found.append((index, mask, min(abs(share - 0.5) / SURE_EDGES, 1.0)))
        return found


def object_in_box(view: View, box: np.ndarray) -> np.ndarray | None:
    """(H, W) bool: what stands out inside of a box (4,), px; None where nothing does."""
    height, width = view.hidden.shape
    x_start, y_start, x_stop, y_stop = clip_box(box, width, height)
    if min(x_stop - x_start, y_stop - y_start) < 4:
        return None
    seeds = np.ones(view.hidden.shape, bool)
    seeds[y_start:y_stop, x_start:x_stop] = view.hidden[y_start:y_stop, x_start:x_stop]
    border = max(x_stop - x_start, y_stop - y_start) // 8 + 2
    around = np.s_[max(y_start - border, 0) : y_stop + border, max(x_start - border, 0) : x_stop + border]
    distance = barrier_distance(_weighted_lab(view.image[around]), seeds[around])
    free = ~seeds[around]
    if not free.any():
        return None
    mask = np.zeros(view.hidden.shape, bool)
    mask[around] = free & (distance > 0.4 * np.percentile(distance[free], 90))
    return mask if mask.sum() >= 20 else None


def _rate_place(mask: np.ndarray, index: int, views: Sequence[View], changes: _Changes | None) -> float:
    """How much a thing's place speaks for it: its size, hands near it, and whether it leaves its place.

    Args:
        mask: (H, W) bool, in image `index`. views: all images. changes: of a camera at rest.
    """
    sizes = [view.hand_size for view in views if len(view.points)]
    moved, weight = 0.0, 1.0
    if changes is not None:
        moved = changes.moved_share(mask, index)
        weight = (RESTING + moved) * changes.unlike_shadow(mask, index) ** 2
    if np.concatenate([mask[[0, -1]].ravel(), mask[:, [0, -1]].ravel()]).any():
        weight *= AT_BORDER
    if not sizes:
        return weight
    size = float(np.sqrt(np.count_nonzero(mask))) / float(np.median(sizes))
    if not MIN_SIZE < size < MAX_SIZE:
        return 0.0
    if not len(views[index].points):
        weight *= BLIND
    # With a camera at rest, a thing may wait in its place until the hand comes; what stays there must always be near.
    near = _nearness(mask, views if changes is not None else [views[index]])
    return weight * min(size / FULL_SIZE, 1.0) * (float(near.mean()) + moved * float(near.max() - near.mean()) + 1e-3)


def _nearness(mask: np.ndarray, views: Sequence[View]) -> np.ndarray:
    """(N,) in [0, 1]: how near hands come to a place in each view that shows hands; a zero where none does."""
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    height, width = mask.shape
    near = [0.0]
    for view in views:
        if len(view.points):
            places = np.clip(np.round(view.points).astype(int), 0, [width - 1, height - 1])
            gap = float(away[places[:, 1], places[:, 0]].min()) / view.hand_size
            near.append(float(np.exp(-((gap / REACH) ** 2))))
    return np.array(near[1:] or near)


def _raised_parts(view: View, diameter: float | None) -> list[tuple[np.ndarray, float]]:
    """Connected parts off the table beside the hands, cut where the depth jumps, with how well their size fits."""
    assert view.raised is not None
    assert view.metres is not None
    brush = np.ones((3, 3), np.uint8)
    step = cv2.dilate(view.metres, brush) > (1.0 + DEPTH_STEP) * cv2.erode(view.metres, brush)
    open_pixels = view.raised & ~view.hidden & ~step
    count, labels, stats, _ = cv2.connectedComponentsWithStats(open_pixels.astype(np.uint8), connectivity=4)
    smallest = _smallest(view)
    parts: list[tuple[np.ndarray, float]] = []
    for label in range(1, count):
        if stats[label, cv2.CC_STAT_AREA] >= smallest:
            part = labels == label
            metres = float(np.median(view.metres[part]))
            if metres * max(stats[label, cv2.CC_STAT_WIDTH], stats[label, cv2.CC_STAT_HEIGHT]) > MAX_METRES:
                continue
            fit = 1.0
            if diameter is not None:
                extent = float(np.sqrt(part.sum())) * metres
                fit = float(np.exp(-((np.log(extent / (TYPICAL_EXTENT * diameter)) / SIZE_TOLERANCE) ** 2)))
            parts.append((part, fit))
    return parts


def _smallest(view: View) -> float:
    """px, area below which nothing is an object."""
    return max((MIN_SIZE * view.hand_size) ** 2, 12.0) if len(view.points) else 30.0


def _stand_outs(view: View) -> list[tuple[np.ndarray, float]]:
    """Connected parts that stand out, each cut at a share of its own contrast, with the contrast in [0, 1]."""
    seeds = cv2.erode(view.hidden.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    seeds[[0, -1]] = seeds[:, [0, -1]] = True
    distance = barrier_distance(_weighted_lab(view.image), seeds)
    smallest = _smallest(view)
    parts: list[tuple[np.ndarray, float]] = []
    count, labels, stats, _ = cv2.connectedComponentsWithStats((distance > MIN_CONTRAST).astype(np.uint8))
    for label in range(1, count):
        if stats[label, cv2.CC_STAT_AREA] < smallest:
            continue
        part = labels == label
        top = float(np.percentile(distance[part], 90))
        inner_count, inner, inner_stats, _ = cv2.connectedComponentsWithStats(
            (part & (distance > KEPT_SHARE * top)).astype(np.uint8)
        )
        parts += [
            (inner == each, min(top / 150.0, 1.0))
            for each in range(1, inner_count)
            if inner_stats[each, cv2.CC_STAT_AREA] >= smallest
        ]
    return parts


def _unlike_arm(mask: np.ndarray, view: View, skin: ColorModel) -> float:
    """Small for what lies where an arm may be or has more of the skin's colours than of the rest of the image."""
    elsewhere = 1.0 - float(view.arms[mask].mean())
    if not skin.is_known:
        return elsewhere**2
    cells = color_cells(view.image)
    others = ColorModel()
    others.learn(cells[~view.hidden & ~mask])
    own = cells[mask]
    alike = float((skin.log_likelihood(own) - others.log_likelihood(own) > SKIN_ODDS).mean())
    return elsewhere**2 * (1.0 - SKIN_LOSS * alike)


def _weighted_lab(image: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor(cv2.GaussianBlur(image, (3, 3), 0), cv2.COLOR_RGB2LAB).astype(np.float32)
    lab[..., 1:] *= CHROMA_WEIGHT
    return lab


def _slope(image: np.ndarray) -> np.ndarray:
    """(H, W) float32: how strongly the colours change, per pixel."""
    lab = _weighted_lab(image)
    slopes = np.abs(cv2.Scharr(lab, cv2.CV_32F, 1, 0)) + np.abs(cv2.Scharr(lab, cv2.CV_32F, 0, 1))
    total: np.ndarray = slopes.sum(axis=-1) / np.float32(32.0)
    return total
