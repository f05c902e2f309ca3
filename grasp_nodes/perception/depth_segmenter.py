"""The object in RGB-D images: what stands off the table, is not the hand, and looks and lies like the object before.

Without a prompt the object is chosen once: the thing of graspable size that is largest and most central. From then on
its place in space, its size and its colours say which pixels are its own, also while a hand covers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.box_tracker import BoxTracker
from grasp_nodes.perception.boxes import box_of_mask, clip_box
from grasp_nodes.perception.color_model import UNIFORM, ColorModel, color_cells
from grasp_nodes.perception.evidence import HandEvidence, ObjectEvidence
from grasp_nodes.perception.foreground import ForegroundFinder
from grasp_nodes.perception.hand_mask import draw_skeleton

MIN_SIZE, MAX_SIZE = 0.01, 0.5
"""m; extent of things that a hand takes."""
MIN_PIXELS = 60
"""Fewer measured pixels tell nothing."""
SMALL_PART = 0.02
"""Parts smaller than this share of the object are noise."""
REACH = 1.25
"""Factor on the object's radius within which its pixels lie."""
GROWTH = 1.02
"""The most that the radius may grow per image: another thing that touches the object must not become part of it."""
DEPTH_STEP = 0.02
"""m; a larger step of depth between neighbouring pixels separates two things."""
MAX_GROWTH = 1.25
"""The most that it may grow in all."""
COLOR_VOTE = 1.0
SAME_PLACE_VOTE = 1.5
SKELETON_VOTE = 2.0


@dataclass
class _Target:
    """What is known of the object. center: (3,) m, camera frame; velocity: m per image; radius: m."""

    center: np.ndarray
    velocity: np.ndarray
    radius: float
    max_radius: float
    mask: np.ndarray
    pixels: float
    missed: int = 0


class DepthObjectSegmenter:
    """`ObjectSegmenter` for RGB-D images."""

    def __init__(
        self,
        object_id: str = "object",
        box: Sequence[float] | None = None,
        diameter: float | None = None,
        foreground: ForegroundFinder | None = None,
        max_missed: int = 15,
    ) -> None:
        """Set up the search.

        Args:
            object_id: name of the object in the evidence.
            box: x_min, y_min, x_max, y_max (px) of the object in the first image; None = choose by size and place.
            diameter: m, extent of the object where it is known; things of another size are not chosen.
            foreground: to share the table's plane with others.
            max_missed: images without any pixel of the object after which it is chosen anew.

        Raises:
            InputError: a box without area or a diameter that is not positive.
        """
        if box is not None and (len(box) != 4 or box[2] <= box[0] or box[3] <= box[1]):
            raise InputError(f"object box: expected x_min < x_max and y_min < y_max, got {list(box)}")
        if diameter is not None and not diameter > 0:
            raise InputError(f"object diameter: expected a positive number of metres, got {diameter}")
        self._object_id, self._diameter, self._max_missed = object_id, diameter, max_missed
        self._box = None if box is None else np.asarray(box, np.float64)
        self._foreground = foreground or ForegroundFinder()
        self._tracker = BoxTracker()
        self.reset()

    def reset(self) -> None:
        """Forget the object; the prompt box counts for the next image again."""
        self._target: _Target | None = None
        self._prompt = self._box
        self._object_color, self._skin_color = ColorModel(), ColorModel()
        self._foreground.reset()
        self._tracker.reset()

    def segment(self, frame: Frame, hands: Sequence[HandEvidence]) -> Sequence[ObjectEvidence]:
        """The object's visible pixels; without depth there is no answer."""
        if frame.depth is None:
            return ()
        candidates = self._foreground(frame).mask
        hand_mask = np.zeros(candidates.shape, bool)
        for hand in hands:
            if hand.mask is not None:
                hand_mask |= hand.mask
        if self._target is None:
            chosen = self._choose(frame, candidates & ~hand_mask)
            if chosen is None:
                return self._missed()
            self._remember(frame, chosen, hand_mask)
        # Also in the first image: what belongs to the object but hangs on it loosely is found by place and colour.
        mask = self._follow(frame, candidates, hands, hand_mask)
        if mask is None or np.count_nonzero(frame.depth[mask]) < MIN_PIXELS:
            return self._missed()
        self._remember(frame, mask, hand_mask)
        return self._evidence(mask)

    def _choose(self, frame: Frame, candidates: np.ndarray) -> np.ndarray | None:
        """The thing that is most likely meant, among the connected parts of the foreground."""
        assert frame.depth is not None
        count, labels, stats, centroids = _components(candidates, frame.depth)
        height, width = candidates.shape
        prompt, self._prompt = self._prompt, None
        rays = self._foreground(frame).rays
        best, best_score = None, 0.0
        for label in range(1, count):
            if stats[label, cv2.CC_STAT_AREA] < MIN_PIXELS:
                continue
            part = labels == label
            size = 2.0 * _place(part, rays, frame.depth)[1]
            if not MIN_SIZE < size < MAX_SIZE:
                continue
            if prompt is not None:
                x_start, y_start, x_stop, y_stop = clip_box(prompt, width, height)
                inside = part[y_start:y_stop, x_start:x_stop].sum()
                score = float(inside) * float(inside) / float(part.sum())
            else:
                offset = np.hypot(*(centroids[label] - (width / 2, height / 2))) / (0.35 * np.hypot(width, height))
                score = float(part.sum()) * float(np.exp(-(offset**2)))
            if self._diameter is not None:
                score *= float(np.exp(-((np.log(size / self._diameter) / 0.25) ** 2)))
            if score > best_score:
                best, best_score = part, score
        if best is None:
            return None
        if prompt is not None:
            x_start, y_start, x_stop, y_stop = clip_box(prompt, width, height)
            kept = np.zeros_like(best)
            kept[y_start:y_stop, x_start:x_stop] = best[y_start:y_stop, x_start:x_stop]
            best = kept
        return best

    def _follow(
        self,
        frame: Frame,
        candidates: np.ndarray,
        hands: Sequence[HandEvidence],
        hand_mask: np.ndarray,
    ) -> np.ndarray | None:
        assert frame.depth is not None
        assert self._target is not None
        target = self._target
        rays = self._foreground(frame).rays
        center = target.center + target.velocity
        x_start, y_start, x_stop, y_stop = self._window(frame, center, REACH * target.radius)
        if x_stop - x_start < 4 or y_stop - y_start < 4:
            return None
        window = np.s_[y_start:y_stop, x_start:x_stop]
        depth, cells = frame.depth[window], color_cells(frame.color[window])
        points = np.dstack([rays[window] * depth[..., None], depth])
        near = ((points - center.astype(np.float32)) ** 2).sum(axis=-1) < (REACH * target.radius) ** 2
        before = self._moved(frame, target, center, (x_start, y_start, x_stop, y_stop))
        votes = COLOR_VOTE * self._color_votes(cells)
        votes += SAME_PLACE_VOTE * (2.0 * before - 1.0)
        for hand in hands:
            # The drawing of the skeleton says where the hand is only if the depth there agrees: hand.mask does both.
            moved = replace(hand, keypoints=hand.keypoints - np.array([x_start, y_start], np.float32))
            drawn = draw_skeleton(moved, y_stop - y_start, x_stop - x_start).region
            votes -= SKELETON_VOTE * (drawn & hand_mask[window])
        # What was not the object before has to look like it: a stand or a neighbour must not be taken in.
        alike = self._object_color.log_likelihood(cells) > UNIFORM
        own = candidates[window] & near & np.where(hand_mask[window], votes > 0, (before > 0.5) | alike)
        own |= (depth == 0) & alike & (votes > 0) & self._in_reach(frame, center, target.radius)[window]
        mask = np.zeros_like(candidates)
        mask[window] = cv2.medianBlur(own.astype(np.uint8), 5) > 0
        return _without_crumbs(mask, MIN_PIXELS)

    @staticmethod
    def _in_reach(frame: Frame, center: np.ndarray, radius: float) -> np.ndarray:
        """(H, W) bool: pixels without depth that may show the object."""
        disc = np.zeros(frame.color.shape[:2], np.uint8)
        if center[2] > 0:
            middle = np.round(frame.camera.project(center)).astype(int)
            cv2.circle(disc, middle.tolist(), round(radius * frame.camera.camera_k[0, 0] / float(center[2])), 1, -1)
        return disc > 0

    def _color_votes(self, cells: np.ndarray) -> np.ndarray:
        """Log odds of the object's colours against the skin's, clipped; zero as long as one of them is unknown."""
        if not (self._object_color.is_known and self._skin_color.is_known):
            return np.zeros(cells.shape, np.float32)
        return cv2.blur(np.clip(self._odds(cells), -4.0, 4.0), (3, 3))

    @staticmethod
    def _moved(frame: Frame, target: _Target, center: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
        """The last mask, shifted as the object is expected to have moved; the window of it, float32 in [0, 1]."""
        x_start, y_start, x_stop, y_stop = window
        before, after = frame.camera.project(np.stack([target.center, center]))
        right, down = np.nan_to_num(after - before)
        shift = np.array([[1.0, 0.0, right - x_start], [0.0, 1.0, down - y_start]])
        return cv2.warpAffine(target.mask.astype(np.float32), shift, (x_stop - x_start, y_stop - y_start))

    @staticmethod
    def _window(frame: Frame, center: np.ndarray, radius: float) -> tuple[int, int, int, int]:
        camera = frame.camera
        if center[2] <= radius:
            return 0, 0, camera.width, camera.height
        middle = camera.project(center)
        reach = 1.1 * radius * camera.camera_k[[0, 1], [0, 1]] / (center[2] - radius)
        return clip_box(np.concatenate([middle - reach, middle + reach]), camera.width, camera.height)

    def _remember(self, frame: Frame, mask: np.ndarray, hand_mask: np.ndarray) -> None:
        """Update place, size and colours from the pixels that were just found."""
        assert frame.depth is not None
        center, radius = _place(mask, self._foreground(frame).rays, frame.depth)
        target = self._target
        pixels = float(mask.sum())
        if target is None:
            radius = radius if self._diameter is None else self._diameter / 2
            self._target = _Target(center, np.zeros(3), radius, MAX_GROWTH * radius, mask, pixels)
        else:
            # The part that is seen moves its centre when a hand covers more of it: believe what is seen in full.
            weight = min(pixels / max(target.pixels, 1.0), 1.0)
            predicted = target.center + target.velocity
            corrected = predicted + (0.3 + 0.5 * weight) * (center - predicted)
            target.velocity = 0.6 * target.velocity + 0.4 * (corrected - target.center)
            target.center = corrected
            if self._diameter is None:
                grown = min(GROWTH * target.radius, target.max_radius)
                target.radius = float(np.clip(radius, target.radius, grown))
            target.pixels = max(0.995 * target.pixels, pixels)
            target.mask, target.missed = mask, 0
        box = box_of_mask(mask | hand_mask)
        if box is not None:
            x_start, y_start, x_stop, y_stop = clip_box(box, frame.camera.width, frame.camera.height)
            window = np.s_[y_start:y_stop, x_start:x_stop]
            cells = color_cells(frame.color[window])
            self._learn_colors(mask[window], (hand_mask & ~mask)[window], cells)

    def _learn_colors(self, mask: np.ndarray, hand: np.ndarray, cells: np.ndarray) -> None:
        """Learn from inside the two masks; once both are known, from pixels that do not look like the other's."""
        inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
        own, skin = cells[inside > min(4.0, 0.5 * float(inside.max()))], cells[_eroded(hand)]
        if self._object_color.is_known and self._skin_color.is_known:
            own = own[self._odds(own) > -1.0]
            skin = skin[self._odds(skin) < 1.0]
        self._object_color.learn(own)
        self._skin_color.learn(skin)

    def _odds(self, cells: np.ndarray) -> np.ndarray:
        """Log odds of the object's colours against the skin's."""
        return self._object_color.log_likelihood(cells) - self._skin_color.log_likelihood(cells)

    def _evidence(self, mask: np.ndarray) -> list[ObjectEvidence]:
        assert self._target is not None
        box = box_of_mask(mask)
        assert box is not None
        score = float(np.clip(0.3 + 0.7 * mask.sum() / self._target.pixels, 0.0, 1.0))
        tracked = next((seen for seen in self._tracker.update([box], [score]) if seen.index == 0), None)
        track_id = 0 if tracked is None else tracked.track_id
        return [ObjectEvidence(self._object_id, score, box, mask, track_id)]

    def _missed(self) -> list[ObjectEvidence]:
        """The predicted box without a mask, with falling score."""
        if self._target is not None:
            self._target.missed += 1
            self._target.center = self._target.center + self._target.velocity
            self._target.velocity = 0.8 * self._target.velocity
            if self._target.missed > self._max_missed:
                self._target = None
        return [
            ObjectEvidence(self._object_id, seen.score, seen.box, None, seen.track_id)
            for seen in self._tracker.update([], [])[:1]
        ]


def _eroded(mask: np.ndarray) -> np.ndarray:
    return cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0


def _components(mask: np.ndarray, depth: np.ndarray) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Connected parts of a mask, cut where the depth jumps."""
    step = np.zeros(depth.shape, bool)
    step[:, 1:] |= np.abs(np.diff(depth, axis=1)) > DEPTH_STEP
    step[1:] |= np.abs(np.diff(depth, axis=0)) > DEPTH_STEP
    return cv2.connectedComponentsWithStats((mask & ~step).astype(np.uint8), connectivity=4)


def _without_crumbs(mask: np.ndarray, min_pixels: int) -> np.ndarray | None:
    """The mask without its smallest parts; None where nothing is left."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count < 2:
        return None
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    kept = areas >= max(SMALL_PART * areas.sum(), 20)
    result = kept[labels]
    return result if result.sum() >= min_pixels else None


def _place(mask: np.ndarray, rays: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (3,) and radius (m) of the measured points of a mask, robust to a few wrong depths."""
    z = depth[mask].astype(np.float64)
    points = np.concatenate([rays[mask] * z[:, None], z[:, None]], axis=1)[z > 0]
    low, high = np.percentile(points, [2, 98], axis=0)
    center = (low + high) / 2
    radius = float(np.percentile(np.linalg.norm(points - center, axis=1), 98))
    return center, max(radius, 1e-3)
