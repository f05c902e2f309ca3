"""How good boxes and masks are: average precision of detections (HOMan, table A.1) and overlap of masks (table A.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.perception.boxes import box_iou

IOU_THRESHOLD = 0.5
"""Overlap from which a box is a hit."""


@dataclass(frozen=True)
class ScoredBoxes:
    """Boxes of one kind in one image. boxes: (N, 4), px. scores: (N,). truths: (M, 4), px."""

    boxes: np.ndarray
    scores: np.ndarray
    truths: np.ndarray


def average_precision(images: Sequence[ScoredBoxes], threshold: float = IOU_THRESHOLD) -> float:
    """Area under the curve of precision over recall, all points, precision made to fall (Pascal VOC since 2010).

    Boxes of all images are taken from the surest on. Each hits the free truth of its image that it overlaps most; a
    second box on the same truth is a false alarm. Of equal scores, hits do not come first: the order is that given.

    Args:
        images: all of a set. threshold: overlap (intersection over union) of a hit.

    Returns:
        0..1, NaN where there is no truth at all.

    Raises:
        InputError: boxes and scores differ in number.
    """
    for image in images:
        if len(image.boxes) != len(image.scores):
            raise InputError(f"boxes: expected {len(image.boxes)} scores, got {len(image.scores)}")
    total = sum(len(image.truths) for image in images)
    if total == 0:
        return float("nan")
    order = [(float(score), number, k) for number, image in enumerate(images) for k, score in enumerate(image.scores)]
    order.sort(key=lambda entry: -entry[0])
    free = [np.ones(len(image.truths), bool) for image in images]
    hits = np.zeros(len(order), bool)
    for place, (_, number, k) in enumerate(order):
        truths = images[number].truths
        overlap = np.where(free[number], box_iou(images[number].boxes[k], truths), -1.0)
        if len(overlap) and overlap.max() >= threshold:
            free[number][int(overlap.argmax())] = False
            hits[place] = True
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(falling[hits].sum() / total)


def mask_iou(estimate: np.ndarray | None, truth: np.ndarray) -> float:
    """Intersection over union of two masks (H, W) bool; no estimate scores 0, an empty truth NaN.

    Raises:
        InputError: masks of different sizes.
    """
    if not truth.any():
        return float("nan")
    if estimate is None:
        return 0.0
    if estimate.shape != truth.shape:
        raise InputError(f"mask: expected the truth's shape {truth.shape}, got {estimate.shape}")
    return float((estimate & truth).sum() / (estimate | truth).sum())


def square_box(box: np.ndarray) -> np.ndarray:
    """The square (4,) around the same centre with the longer edge: what HOMan compares hands' boxes by."""
    box = np.asarray(box, np.float64)
    centre, half = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max()) / 2
    return np.concatenate([centre - half, centre + half])
