"""The object in colour images: GrabCut (Rother et al. 2004), seeded by a box in the first image, then by itself.

Weak by nature (mean IoU about 0.88 on a clear object): where it matters, give a depth image or a mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.box_tracker import BoxTracker
from grasp_nodes.perception.boxes import box_of_mask, clip_box
from grasp_nodes.perception.color_model import UNIFORM, ColorModel, color_cells
from grasp_nodes.perception.evidence import HandEvidence, ObjectEvidence

MAX_EDGE = 256
"""px; GrabCut's time grows with the area, its accuracy does not."""
CONTEXT = 0.25
"""Border around the box that shows it the background, as a share of the box."""
FIRST_ROUNDS, NEXT_ROUNDS = 5, 2
SURE_SHARE = 0.35
"""Inner part of the last mask that is taken for granted, as a share of its greatest inner radius."""
MIN_SHARE, MAX_SHARE = 0.2, 2.5
"""A mask whose area leaves this range of the last one is a failure, not a motion."""
MIN_ALIKE = 0.4
"""Share of the mask's pixels that have to have the object's colours."""
MIN_PIXELS = 30


class GrabCutObjectSegmenter:
    """`ObjectSegmenter` for colour images."""

    def __init__(self, box: Sequence[float], object_id: str = "object") -> None:
        """Set up the first image.

        Args:
            box: x_min, y_min, x_max, y_max (px) of the object in the first image.
            object_id: name of the object in the evidence.

        Raises:
            InputError: a box without area.
        """
        if len(box) != 4 or box[2] <= box[0] or box[3] <= box[1]:
            raise InputError(f"object box: expected x_min < x_max and y_min < y_max, got {list(box)}")
        self._object_id, self._box = object_id, np.asarray(box, np.float64)
        self._tracker = BoxTracker()
        self.reset()

    def reset(self) -> None:
        """Start again from the prompt box."""
        self._mask: np.ndarray | None = None
        self._color = ColorModel()
        self._seed_box: np.ndarray = self._box
        self._tracker.reset()

    def segment(self, frame: Frame, hands: Sequence[HandEvidence]) -> Sequence[ObjectEvidence]:
        """The object's mask; its predicted box without a mask where the cut failed."""
        mask = self._cut(frame.color, self._hand_pixels(frame, hands))
        box = None if mask is None else box_of_mask(mask)
        tracked = self._tracker.update([] if box is None else [box], [] if box is None else [0.7])
        if mask is None or box is None:
            if tracked:
                self._seed_box = tracked[0].box
            else:
                self.reset()
            return [ObjectEvidence(self._object_id, seen.score, seen.box, None, seen.track_id) for seen in tracked[:1]]
        self._mask, self._seed_box = mask, box
        seen = next(track for track in tracked if track.index == 0)
        return [ObjectEvidence(self._object_id, seen.score, box, mask, seen.track_id)]

    @staticmethod
    def _hand_pixels(frame: Frame, hands: Sequence[HandEvidence]) -> np.ndarray:
        pixels = np.zeros(frame.color.shape[:2], bool)
        for hand in hands:
            if hand.mask is not None:
                pixels |= hand.mask
        return pixels

    def _cut(self, image: np.ndarray, hand: np.ndarray) -> np.ndarray | None:
        height, width = hand.shape
        border = CONTEXT * float((self._seed_box[2:] - self._seed_box[:2]).max())
        seed = self._seed_box + np.array([-border, -border, border, border])
        x_start, y_start, x_stop, y_stop = clip_box(seed, width, height)
        if x_stop - x_start < 8 or y_stop - y_start < 8:
            return None
        window = np.s_[y_start:y_stop, x_start:x_stop]
        scale = min(1.0, MAX_EDGE / max(x_stop - x_start, y_stop - y_start))
        size = (max(round((x_stop - x_start) * scale), 4), max(round((y_stop - y_start) * scale), 4))
        small = cv2.resize(image[window], size, interpolation=cv2.INTER_AREA)
        trimap = cv2.resize(self._trimap(window, hand), size, interpolation=cv2.INTER_NEAREST)
        if not np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD)).any() or not np.isin(trimap, (0, cv2.GC_PR_BGD)).any():
            return None
        rounds = FIRST_ROUNDS if self._mask is None else NEXT_ROUNDS
        cv2.setRNGSeed(0)  # GrabCut starts from k-means
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        no_box = (0, 0, 1, 1)
        labels, _, _ = cv2.grabCut(small, trimap, no_box, background, foreground, rounds, cv2.GC_INIT_WITH_MASK)
        found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
        mask = np.zeros((height, width), bool)
        mask[window] = cv2.resize(found, (x_stop - x_start, y_stop - y_start), interpolation=cv2.INTER_LINEAR) > 0.5
        mask &= ~hand
        return mask if self._plausible(color_cells(image)[mask]) else None

    def _trimap(self, window: tuple[slice, slice], hand: np.ndarray) -> np.ndarray:
        """What is known before the cut: (h, w) uint8 of GrabCut's four labels."""
        shape = hand[window].shape
        if self._mask is None:
            trimap = np.full(shape, cv2.GC_BGD, np.uint8)
            height, width = hand.shape
            x_start, y_start, x_stop, y_stop = clip_box(self._seed_box, width, height)
            rows, columns = window
            trimap[y_start - rows.start : y_stop - rows.start, x_start - columns.start : x_stop - columns.start] = (
                cv2.GC_PR_FGD
            )
        else:
            last = self._mask[window].astype(np.uint8)
            trimap = np.where(last > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
            inside = cv2.distanceTransform(last, cv2.DIST_L2, 3)
            trimap[inside > SURE_SHARE * max(float(inside.max()), 1.0)] = cv2.GC_FGD
            edge = np.ones(shape, bool)
            edge[2:-2, 2:-2] = False
            trimap[edge & (last == 0)] = cv2.GC_BGD
        trimap[hand[window]] = cv2.GC_BGD
        return trimap

    def _plausible(self, cells: np.ndarray) -> bool:
        """Whether size and colours are still the object's; learns the colours if so."""
        if len(cells) < MIN_PIXELS:
            return False
        if self._mask is not None:
            growth = len(cells) / max(int(self._mask.sum()), 1)
            alike = float((self._color.log_likelihood(cells) > UNIFORM).mean())
            if not MIN_SHARE < growth < MAX_SHARE or alike < MIN_ALIKE:
                return False
        self._color.learn(cells)
        return True
