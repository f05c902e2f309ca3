"""The images of a window as the parts that look for the object pass them on: with hands, and with what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np

from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.evidence import HandEvidence
from grasp_nodes.perception.hand_mask import draw_forearm, draw_skeleton, pixels_per_metre
from grasp_nodes.perception.object_candidates import View

T = TypeVar("T")


@dataclass(frozen=True)
class DepthView:
    """What depth says about each pixel.

    depth: (H, W) float32, m, 0 = not measured. raised: (H, W) bool, off the table. focal: px.
    moving: (H, W) bool, those of the raised pixels before which something else was seen to be; None = not known.
    free: (H, W) bool, those of the moving pixels that hang together with no hand; known together with `moving`.
    """

    depth: np.ndarray
    raised: np.ndarray
    focal: float
    moving: np.ndarray | None = None
    free: np.ndarray | None = None


@dataclass
class Sight:
    """One image of the window.

    color: (H, W, 3) uint8. hand: (H, W) bool, pixels of hands. drawing: (H, W) bool, where landmarks put them.
    mask: (H, W) bool, the object's pixels as far as they are found; None = none.
    """

    color: np.ndarray
    hand: np.ndarray
    drawing: np.ndarray
    hands: Sequence[HandEvidence]
    mask: np.ndarray | None = None
    depth: DepthView | None = None

    @property
    def found(self) -> np.ndarray:
        """(H, W) bool: the mask, empty where there is none."""
        return np.zeros(self.hand.shape, bool) if self.mask is None else self.mask


def sight_of(frame: Frame, hands: Sequence[HandEvidence], raised: np.ndarray | None = None) -> Sight:
    """A frame before anything was found in it; raised: (H, W) bool, its pixels off the table; None = ignore depth."""
    height, width = frame.color.shape[:2]
    pixels, drawing = np.zeros((height, width), bool), np.zeros((height, width), bool)
    for hand in hands:
        drawn = draw_skeleton(hand, height, width).region
        drawing |= drawn
        if hand.mask is None:
            pixels |= drawn | draw_forearm(hand, pixels_per_metre(hand), height, width)
        else:
            pixels |= hand.mask
    depth = None
    if frame.depth is not None and raised is not None:
        measured = np.nan_to_num(frame.depth, nan=0.0, posinf=0.0, neginf=0.0)
        depth = DepthView(measured, raised, float(frame.camera.camera_k[0, 0]))
    return Sight(frame.color, pixels, drawing, hands, depth=depth)


def view_of(sight: Sight, scale: float) -> View:
    """The image and its hands, smaller by a factor."""
    height, width = (max(round(edge * scale), 1) for edge in sight.hand.shape)
    points, size = np.zeros((0, 2)), 1.0
    arms = np.zeros((height, width), bool)
    for hand in sight.hands:
        scaled = replace(hand, keypoints=(hand.keypoints + np.float32(0.5)) * np.float32(scale) - np.float32(0.5))
        arms |= draw_forearm(scaled, pixels_per_metre(scaled), height, width)
        if sight.depth is not None and sight.depth.moving is not None:
            arms |= _behind_wrist(scaled, height, width)
        points = np.concatenate([points, scaled.keypoints[1:]])
        size = max(size, float(np.ptp(scaled.keypoints, axis=0).max()))
    image = cv2.resize(sight.color, (width, height), interpolation=cv2.INTER_AREA)
    raised, distance = None, None
    if sight.depth is not None:
        raised = resized(sight.depth.raised if sight.depth.moving is None else sight.depth.moving, (width, height))
        distance = cv2.resize(sight.depth.depth, (width, height), interpolation=cv2.INTER_NEAREST)
        distance = distance / np.float32(sight.depth.focal * scale)
    return View(image, resized(sight.hand, (width, height)), arms, points, size, raised, distance)


def _behind_wrist(hand: HandEvidence, height: int, width: int) -> np.ndarray:
    """(H, W) bool: everything within 60 degrees of the direction in which the arm leaves the hand."""
    wrist = hand.keypoints[0]
    away = wrist - hand.keypoints[[5, 9, 13, 17]].mean(axis=0)
    columns = np.arange(width, dtype=np.float32)[None] - wrist[0]
    rows = np.arange(height, dtype=np.float32)[:, None] - wrist[1]
    length = np.hypot(columns, rows) * np.float32(max(float(np.linalg.norm(away)), 1e-6))
    behind: np.ndarray = columns * away[0] + rows * away[1] > 0.5 * length
    return behind


def resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A (H, W) bool mask at another size: width, height."""
    result: np.ndarray = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return result


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, evenly chosen."""
    return [items[pick] for pick in spread_indices(len(items), count)]


def spread_indices(length: int, count: int) -> list[int]:
    """At most `count` of the numbers below `length`, evenly chosen."""
    if not length:
        return []
    picks: list[int] = np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(int)).tolist()
    return picks
