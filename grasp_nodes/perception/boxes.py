"""Axis-aligned boxes: x_min, y_min, x_max, y_max in px."""

from __future__ import annotations

import numpy as np


def box_iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box with many.

    Args:
        box: (4,), px.
        boxes: (N, 4), px.

    Returns:
        (N,) float64 in [0, 1]; 0 for boxes without area.
    """
    box, boxes = np.asarray(box, np.float64), np.asarray(boxes, np.float64).reshape(-1, 4)
    overlap = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None).prod(axis=1)
    areas = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    union = np.clip(box[2:] - box[:2], 0, None).prod() + areas - overlap
    return np.where(union > 0, overlap / np.maximum(union, 1e-12), 0.0)


def box_of_points(points: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Tight box of points.

    Args:
        points: (N, 2), px.
        margin: added on every side, as a share of the longer edge.

    Returns:
        (4,) float32, px.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    border = margin * float((high - low).max())
    return np.concatenate([low - border, high + border]).astype(np.float32)


def box_of_mask(mask: np.ndarray) -> np.ndarray | None:
    """Tight box (4,) float32 of the true pixels of a (H, W) mask, pixel borders included; None of an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return np.array([columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5], np.float32)


def clip_box(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """The whole pixels that a box covers inside an image: x_start, y_start, x_stop, y_stop (stops excluded)."""
    low = np.floor(np.asarray(box[:2], np.float64) + 0.5)
    high = np.ceil(np.asarray(box[2:], np.float64) + 0.5)
    x_start, y_start = np.clip(low, 0, [width, height]).astype(int)
    x_stop, y_stop = np.clip(high, 0, [width, height]).astype(int)
    return int(x_start), int(y_start), int(max(x_stop, x_start)), int(max(y_stop, y_start))
