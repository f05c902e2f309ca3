"""Which pixels show the hand and its forearm: a drawing of the landmarks' skeleton, corrected by depth and colour."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import cv2
import numpy as np

from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.boxes import box_of_mask, box_of_points, clip_box
from grasp_nodes.perception.color_model import ColorModel, color_cells
from grasp_nodes.perception.evidence import HandEvidence

FINGERS = ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
PALM_TRIANGLES = ((0, 1, 5), (0, 5, 9), (0, 9, 13), (0, 13, 17))
HAND_SPAN = 0.07
"""m; root mean square distance of the 21 landmarks of an open hand from their centre."""
FINGER_WIDTH = 0.021
PALM_MARGIN = 0.024
BORDER = 0.007
"""m; how far beyond the drawing the hand's pixels may reach."""
DEPTH_TOLERANCE = 0.035
CORE_ODDS = -1.5
"""Log odds of skin colour below which even a pixel inside the drawing is not the hand."""
ARM_LENGTH, ARM_WIDTH_WRIST, ARM_WIDTH_ELBOW = 0.45, 0.075, 0.16
SURE_ODDS = 1.5
"""Log odds of skin colour that say enough where no depth does."""
SEARCH_BORDER = 0.3
"""Share of a hand's box by which its skin is looked for around it."""
SMALL_PART = 0.05
"""Parts smaller than this share of the largest are noise."""
ARM_SLOPE = 0.7
"""How much nearer or farther the forearm may get per length."""


@dataclass(frozen=True)
class SkeletonDrawing:
    """The hand as a drawing. depth: (H, W) float32, relative to the hand's centre, m; NaN outside. pixels_per_metre."""

    depth: np.ndarray
    pixels_per_metre: float

    @property
    def region(self) -> np.ndarray:
        """(H, W) bool."""
        return np.isfinite(self.depth)


def pixels_per_metre(hand: HandEvidence) -> float:
    """Image scale at the hand, px / m, from its landmarks in 3D where there are any, else from its size."""
    spread = np.sqrt(((hand.keypoints - hand.keypoints.mean(axis=0)) ** 2).sum(axis=1).mean())
    span = HAND_SPAN
    if hand.keypoints_3d is not None:
        flat = hand.keypoints_3d[:, :2]
        span = max(float(np.sqrt(((flat - flat.mean(axis=0)) ** 2).sum(axis=1).mean())), 0.02)
    return float(max(spread / span, 1.0))


def draw_skeleton(hand: HandEvidence, height: int, width: int) -> SkeletonDrawing:
    """Draw palm and fingers as thick lines that carry their depth relative to the hand's centre."""
    scale = pixels_per_metre(hand)
    points = np.round(hand.keypoints).astype(int)
    relative = np.zeros(21, np.float32) if hand.keypoints_3d is None else hand.keypoints_3d[:, 2].astype(np.float32)
    depth = np.full((height, width), np.nan, np.float32)
    thickness = max(round(FINGER_WIDTH * scale), 1)
    margin = max(round(PALM_MARGIN * scale), 1)
    strokes: list[tuple[float, list[int]]] = [
        (float(relative[list(corners)].mean()), list(corners)) for corners in PALM_TRIANGLES
    ]
    for finger in FINGERS:
        strokes += [(float(relative[[a, b]].mean()), [a, b]) for a, b in itertools.pairwise(finger)]
    for z, corners in sorted(strokes, reverse=True):  # the nearest is drawn last
        if len(corners) == 2:
            cv2.line(depth, points[corners[0]].tolist(), points[corners[1]].tolist(), z, thickness)
        else:
            cv2.fillConvexPoly(depth, points[corners], z)
            cv2.polylines(depth, [points[corners]], True, z, margin)
    return SkeletonDrawing(depth, scale)


def draw_bones(hand: HandEvidence, scale: float, height: int, width: int) -> np.ndarray:
    """(H, W) bool: thin lines that are skin unless something covers them; scale: px / m."""
    mask = np.zeros((height, width), np.uint8)
    points = np.round(hand.keypoints).astype(int)
    thickness = max(round(0.3 * FINGER_WIDTH * scale), 1)
    for finger in FINGERS:
        cv2.polylines(mask, [points[[0, *finger]]], False, 1, thickness)
    return mask > 0


def forearm_corners(hand: HandEvidence, scale: float) -> np.ndarray:
    """(4, 2) px: a trapezoid beyond the wrist, where the forearm can be; scale: px / m."""
    wrist = hand.keypoints[0].astype(np.float64)
    direction = wrist - hand.keypoints[[5, 9, 13, 17]].mean(axis=0)
    direction /= max(float(np.linalg.norm(direction)), 1e-6)
    across = np.array([-direction[1], direction[0]])
    elbow = wrist + direction * ARM_LENGTH * scale
    half_wrist, half_elbow = across * ARM_WIDTH_WRIST * scale / 2, across * ARM_WIDTH_ELBOW * scale / 2
    return np.array([wrist - half_wrist, wrist + half_wrist, elbow + half_elbow, elbow - half_elbow])


def draw_forearm(hand: HandEvidence, scale: float, height: int, width: int) -> np.ndarray:
    """(H, W) bool: the forearm's trapezoid; scale: px / m."""
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, np.round(forearm_corners(hand, scale)).astype(np.int32), 1)
    return mask > 0


def hand_distance(frame: Frame, hand: HandEvidence) -> float | None:
    """Distance of the hand's centre (m along the optical axis) by the depth at its landmarks; None without depth."""
    if frame.depth is None:
        return None
    height, width = frame.depth.shape
    columns = np.round(hand.keypoints[:, 0]).astype(int)
    rows = np.round(hand.keypoints[:, 1]).astype(int)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    measured = np.zeros(21, np.float64)
    measured[inside] = frame.depth[rows[inside], columns[inside]]
    valid = measured > 0
    if valid.sum() < 4:
        return None
    relative = 0.0 if hand.keypoints_3d is None else hand.keypoints_3d[valid, 2]
    return float(np.median(measured[valid] - relative))


class HandMasker:
    """Masks of hands, frame after frame; learns the skin's colour of each track."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the colours."""
        self._colors: dict[int, ColorModel] = {}
        self._others: dict[int, ColorModel] = {}

    def learn_object(self, frame: Frame, mask: np.ndarray) -> None:
        """Take in the colours of an object, mask (H, W): they are not skin, whatever the drawing covers."""
        box = box_of_mask(mask)
        if box is None or not self._others:
            return
        x_start, y_start, x_stop, y_stop = clip_box(box, frame.camera.width, frame.camera.height)
        window = np.s_[y_start:y_stop, x_start:x_stop]
        cells = color_cells(frame.color[window])[mask[window]]
        for others in self._others.values():
            others.learn(cells)

    def mask(self, frame: Frame, hand: HandEvidence, foreground: np.ndarray | None = None) -> np.ndarray:
        """Visible pixels of the hand and of the forearm behind it.

        Args:
            frame: colour, and depth where there is any.
            hand: landmarks; a mask that it brings is ignored.
            foreground: (H, W) bool, pixels off the table, where a depth camera tells; keeps the table out.

        Returns:
            (H, W) bool.
        """
        height, width = frame.color.shape[:2]
        mask = np.zeros((height, width), bool)
        scale = pixels_per_metre(hand)
        corners = np.concatenate([hand.keypoints, forearm_corners(hand, scale)])
        box = box_of_points(corners, 0.0) + np.array([-1, -1, 1, 1], np.float32) * (2 * PALM_MARGIN * scale)
        x_start, y_start, x_stop, y_stop = clip_box(box, width, height)
        window = np.s_[y_start:y_stop, x_start:x_stop]
        if min(x_stop - x_start, y_stop - y_start) < 8:
            return mask
        # Everything happens in the window, in its own pixel coordinates.
        inside = replace(hand, keypoints=hand.keypoints - np.array([x_start, y_start], np.float32))
        depth = None if frame.depth is None else np.nan_to_num(frame.depth[window], nan=0.0, posinf=0.0)
        mask[window] = self._in_window(frame.color[window], depth, inside, hand_distance(frame, hand))
        return mask if foreground is None else mask & foreground

    def mask_in_box(self, frame: Frame, hand: HandEvidence, foreground: np.ndarray | None = None) -> np.ndarray:
        """Skin-coloured pixels in and around the hand's box, whatever its landmarks; none before colours are known.

        Args:
            frame: colour, and depth where there is any.
            hand: its box and track.
            foreground: (H, W) bool, pixels off the table, where a depth camera tells.

        Returns:
            (H, W) bool.
        """
        height, width = frame.color.shape[:2]
        mask = np.zeros((height, width), bool)
        skin, others = self._colors.get(hand.track_id), self._others.get(hand.track_id)
        if skin is None or others is None or not (skin.is_known and others.is_known):
            return mask
        border = SEARCH_BORDER * float((hand.box[2:] - hand.box[:2]).max())
        x_start, y_start, x_stop, y_stop = clip_box(
            hand.box + np.array([-1, -1, 1, 1], np.float32) * border, width, height
        )
        if min(x_stop - x_start, y_stop - y_start) < 8:
            return mask
        window = np.s_[y_start:y_stop, x_start:x_stop]
        cells = color_cells(frame.color[window])
        least = SURE_ODDS if foreground is None else 0.0
        own = cv2.blur(skin.log_likelihood(cells) - others.log_likelihood(cells), (3, 3)) > least
        if foreground is not None:
            own &= foreground[window]
        own = cv2.medianBlur(own.astype(np.uint8), 5) > 0
        count, labels, stats, _ = cv2.connectedComponentsWithStats(own.astype(np.uint8), connectivity=8)
        if count > 1:
            areas = stats[1:, cv2.CC_STAT_AREA]
            mask[window] = np.isin(labels, 1 + np.flatnonzero(areas >= SMALL_PART * areas.max()))
        return mask

    def _in_window(
        self, color: np.ndarray, depth: np.ndarray | None, hand: HandEvidence, distance: float | None
    ) -> np.ndarray:
        drawing = draw_skeleton(hand, *color.shape[:2])
        core = drawing.region
        if depth is not None and distance is not None:
            core &= (np.abs(depth - drawing.depth - distance) < DEPTH_TOLERANCE) | (depth == 0)
        arm = draw_forearm(hand, drawing.pixels_per_metre, *color.shape[:2])
        border = 2 * max(round(BORDER * drawing.pixels_per_metre), 1) + 1
        brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (border, border))
        bones = core & draw_bones(hand, drawing.pixels_per_metre, *color.shape[:2])
        outside = cv2.dilate((core | arm).astype(np.uint8), brush) == 0
        odds = self._skin_odds(hand.track_id, color_cells(color), bones, outside)
        mask = core & (odds > CORE_ODDS)
        grown = (cv2.dilate(mask.astype(np.uint8), brush) > 0) & (odds > 0.0)
        if depth is not None and distance is not None:
            grown &= np.abs(depth - np.float32(distance)) < 3 * DEPTH_TOLERANCE
            arm &= self._on_arm(depth, hand, drawing.pixels_per_metre, distance)
        else:
            arm &= odds > 0.0
        return cv2.medianBlur((mask | grown | arm).astype(np.uint8), 5) > 0

    def _skin_odds(self, track_id: int, cells: np.ndarray, bones: np.ndarray, outside: np.ndarray) -> np.ndarray:
        """Log odds of skin against everything else in the image, learned on the bones and outside the drawing."""
        skin = self._colors.setdefault(track_id, ColorModel())
        others = self._others.setdefault(track_id, ColorModel())
        if skin.is_known and others.is_known:
            # What covers the hand for long must not become skin.
            bones = bones & (skin.log_likelihood(cells) - others.log_likelihood(cells) > CORE_ODDS)
        skin.learn(cells[bones])
        others.learn(cells[::2, ::2][outside[::2, ::2]])
        return cv2.blur(skin.log_likelihood(cells) - others.log_likelihood(cells), (3, 3))

    @staticmethod
    def _on_arm(depth: np.ndarray, hand: HandEvidence, scale: float, distance: float) -> np.ndarray:
        """Pixels whose depth agrees with a limb that starts at the wrist."""
        height, width = depth.shape
        wrist_depth = distance + (0.0 if hand.keypoints_3d is None else float(hand.keypoints_3d[0, 2]))
        columns = np.arange(width, dtype=np.float32)[None] - hand.keypoints[0, 0]
        rows = np.arange(height, dtype=np.float32)[:, None] - hand.keypoints[0, 1]
        away = np.sqrt(columns**2 + rows**2) / np.float32(scale)
        return (np.abs(depth - np.float32(wrist_depth)) < DEPTH_TOLERANCE + ARM_SLOPE * away) & (depth > 0)
