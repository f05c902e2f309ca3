"""Which thing in the images of a hand is the object: what stands out, lies at the hand, is not skin, and moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from grasp_nodes.perception.barrier_distance import barrier_distance
from grasp_nodes.perception.boxes import clip_box
from grasp_nodes.perception.color_model import ColorModel, color_cells

CHROMA_WEIGHT = 2.0
"""Lightness changes with shadows, so it counts less."""
MIN_CONTRAST = 36.0
"""Barrier (of 255 per channel) from which something stands out: shadows stay below."""
KEPT_SHARE = 0.45
"""Share of a thing's own contrast down to which pixels belong to it."""
MIN_SIZE, MAX_SIZE = 0.1, 3.0
"""Square root of a thing's area over the hand's size."""
REACH = 0.6
"""Sizes of the hand over which a thing beside it loses most of its weight."""
SKIN_ODDS = 1.0
"""Log odds from which a colour is taken for skin."""
MOVED_WEIGHT = 1.5
DEPTH_STEP = 0.04
"""Relative step of depth between neighbouring pixels that separates two things."""
TYPICAL_EXTENT, SIZE_TOLERANCE = 0.6, 0.7
"""Square root of the visible area over the diameter, and how much (logarithm) it varies with shape and view."""
CHANGE = 30.0
"""Difference of colours that shows that something else is there now."""


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


def find_candidates(views: Sequence[View], skin: ColorModel, diameter: float | None = None) -> list[Candidate]:
    """Things that may be the object, best first.

    Args:
        views: a few images of the clip. skin: colours of the hands, known or not. diameter: m, of the object; counts
            where depth tells sizes.
    """
    found = []
    labs = [_weighted_lab(view.image) for view in views]
    for index, view in enumerate(views):
        parts = _stand_outs(labs[index], view) if view.raised is None else _raised_parts(view, diameter)
        found += [
            Candidate(
                index,
                mask,
                contrast * _unlike_arm(mask, view, skin) * rate_place(mask, index, views, labs),
            )
            for mask, contrast in parts
        ]
    return sorted(found, key=lambda candidate: -candidate.score)


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


def rate_place(mask: np.ndarray, index: int, views: Sequence[View], labs: Sequence[np.ndarray] | None = None) -> float:
    """How much a thing's place speaks for it: its size, hands near it in any image, and whether it leaves its place.

    Args:
        mask: (H, W) bool, in image `index`. views: all images. labs: of the views, as this module weighs colours.
    """
    labs = labs or [_weighted_lab(view.image) for view in views]
    sizes = [view.hand_size for view in views if len(view.points)]
    if not sizes:
        return 1.0 + MOVED_WEIGHT * _moved_share(mask, index, views, labs)
    size = float(np.sqrt(mask.sum())) / float(np.median(sizes))
    if not MIN_SIZE < size < MAX_SIZE:
        return 0.0
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    # In its own image it must be at the hand, or else stay where it is until the hand comes.
    gap = np.inf
    height, width = mask.shape
    for view in views:
        if len(view.points):
            places = np.clip(np.round(view.points).astype(int), 0, [width - 1, height - 1])
            gap = min(gap, float(away[places[:, 1], places[:, 0]].min()) / view.hand_size)
    near = float(np.exp(-((gap / REACH) ** 2))) + 1e-3
    return near * min(size / 0.5, 1.0) * (1.0 + MOVED_WEIGHT * _moved_share(mask, index, views, labs))


def _moved_share(mask: np.ndarray, index: int, views: Sequence[View], labs: Sequence[np.ndarray]) -> float:
    """Share of the thing's pixels that show something else in another image, hands apart."""
    most = 0.0
    for view, lab in zip(views, labs, strict=True):
        open_pixels = mask & (cv2.dilate(view.hidden.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0)
        if open_pixels.sum() > 0.25 * mask.sum():
            change = np.abs(lab[open_pixels] - labs[index][open_pixels]).sum(axis=-1) > CHANGE
            most = max(most, float(change.mean()))
    return most


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
            fit = 1.0
            if diameter is not None:
                extent = float(np.sqrt(part.sum())) * float(np.median(view.metres[part]))
                fit = float(np.exp(-((np.log(extent / (TYPICAL_EXTENT * diameter)) / SIZE_TOLERANCE) ** 2)))
            parts.append((part, fit))
    return parts


def _smallest(view: View) -> float:
    """px, area below which nothing is an object."""
    return max((MIN_SIZE * view.hand_size) ** 2, 12.0) if len(view.points) else 30.0


def _stand_outs(lab: np.ndarray, view: View) -> list[tuple[np.ndarray, float]]:
    """Connected parts that stand out, each cut at a share of its own contrast, with the contrast in [0, 1]."""
    seeds = cv2.erode(view.hidden.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    seeds[[0, -1]] = seeds[:, [0, -1]] = True
    distance = barrier_distance(lab, seeds)
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
    return (elsewhere * (1.0 - alike)) ** 2


def _weighted_lab(image: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor(cv2.GaussianBlur(image, (3, 3), 0), cv2.COLOR_RGB2LAB).astype(np.float32)
    lab[..., 1:] *= CHROMA_WEIGHT
    return lab
