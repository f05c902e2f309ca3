"""Palm detection: one network, its anchors, and weighted non-maximum suppression (BlazePalm, Zhang et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from grasp_nodes.perception.boxes import box_iou
from grasp_nodes.perception.region import Region, region_of_palm

Network = Callable[[np.ndarray], list[np.ndarray]]

INPUT_SIZE = 192
STRIDES = (8, 16, 16, 16)
NMS_IOU = 0.3
NUM_PALM_KEYPOINTS = 7
WRIST, MIDDLE_KNUCKLE = 0, 2


@dataclass(frozen=True)
class Palm:
    """One palm. box: (4,), keypoints: (7, 2); px, corner coordinates. score in [0, 1]."""

    box: np.ndarray
    keypoints: np.ndarray
    score: float

    @property
    def region(self) -> Region:
        """Where its landmarks are looked for."""
        return region_of_palm(self.box, self.keypoints[WRIST], self.keypoints[MIDDLE_KNUCKLE])


def palm_anchors(strides: Sequence[int] = STRIDES, size: int = INPUT_SIZE) -> np.ndarray:
    """Anchor centres of the network, two per layer and cell; layers of equal stride share their cells.

    Returns:
        (A, 2) float32, in units of the input's edge; A = 2016 for the default strides.
    """
    centers = []
    for stride in sorted(set(strides)):
        cells = -(-size // stride)
        axis = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        centers.append(np.repeat(grid, 2 * strides.count(stride), axis=0))
    return np.concatenate(centers).astype(np.float32)


def weighted_nms(
    candidates: np.ndarray, scores: np.ndarray, iou_threshold: float = NMS_IOU
) -> list[tuple[np.ndarray, float]]:
    """Blend candidates that overlap, weighted by score: the noise of their places averages out.

    Args:
        candidates: (N, 4 + ...), the first four columns are the box.
        scores: (N,), positive.
        iou_threshold: overlap above which two candidates are one.

    Returns:
        (blended candidate, best score) of each group, best first.
    """
    kept = []
    order = np.argsort(-scores, kind="stable")
    while len(order):
        same = box_iou(candidates[order[0], :4], candidates[order, :4]) > iou_threshold
        same[0] = True
        group = order[same]
        kept.append((np.average(candidates[group], axis=0, weights=scores[group]), float(scores[order[0]])))
        order = order[~same]
    return kept


class PalmDetector:
    """Finds palms in any square of an image."""

    def __init__(self, network: Network, score_threshold: float = 0.5) -> None:
        self._network = network
        self._threshold = score_threshold
        self._anchors = palm_anchors()

    def detect(self, image: np.ndarray, region: Region | None = None, threshold: float | None = None) -> list[Palm]:
        """Palms, best first.

        Args:
            image: (H, W, 3) uint8, RGB.
            region: where to look; None = the whole image, upright.
            threshold: lowest score; None = the detector's own.
        """
        height, width = image.shape[:2]
        region = region or Region((width / 2, height / 2), float(max(height, width)), 0.0)
        raw, logits = self._network(region.crop(image, INPUT_SIZE))
        scores = 1.0 / (1.0 + np.exp(-np.clip(logits[:, 0].astype(np.float64), -100, 100)))
        chosen = np.flatnonzero(scores >= (self._threshold if threshold is None else threshold))
        if not len(chosen):
            return []
        anchors, values = self._anchors[chosen], raw[chosen].astype(np.float64) / INPUT_SIZE
        center, extent = values[:, :2] + anchors, values[:, 2:4]
        keypoints = values[:, 4:].reshape(-1, NUM_PALM_KEYPOINTS, 2) + anchors[:, None]
        # Suppression happens in the upright crop, where boxes are boxes.
        flat = np.concatenate([center - extent / 2, center + extent / 2, keypoints.reshape(len(chosen), -1)], axis=1)
        affine = region.crop_to_image(INPUT_SIZE)
        return [self._palm(blended, score, affine) for blended, score in weighted_nms(flat, scores[chosen])]

    @staticmethod
    def _palm(candidate: np.ndarray, score: float, affine: np.ndarray) -> Palm:
        points = candidate.reshape(-1, 2) * INPUT_SIZE @ affine[:, :2].T + affine[:, 2]
        # A turned crop turns the box as well: keep its centre and edges.
        center, extent = points[:2].mean(axis=0), candidate[2:4] - candidate[:2]
        half = extent * INPUT_SIZE * float(np.hypot(affine[0, 0], affine[1, 0])) / 2
        return Palm(np.concatenate([center - half, center + half]), points[2:], score)
