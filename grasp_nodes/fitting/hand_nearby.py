"""What a hand near an object says about the object's distance, which colour alone tells by the size of its mask.

Masks of held objects are cut by fingers, and a mask that misses half of an object puts it twice as far away. Hands are
seen by other means. While the two touch in the image, the object is about as far away as the part of the hand that
touches it, the more surely if it moves; at all other times it is within an arm's reach of the hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from grasp_nodes.fitting.mask_motion import moving_frames
from grasp_nodes.fitting.tracks import HandTrack
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side

TOUCH = 0.02
"""m at the hand's distance, between a keypoint and the object's pixels: fingers are about as thick."""
_TOUCHING = 5
"""Keypoints that are nearest to the object's pixels and say how far away the hand touches it."""
SIZE_SPREAD = 0.08
"""Relative standard deviation of a hand's distance by colour: hands differ in size, and their landmarks err."""
CARRIED, AT, REACH = 0.03, 0.10, 0.30
"""m; standard deviations of the distance from hand to object: moved by it, beside it in the image, and anywhere."""


@dataclass(frozen=True)
class HandPath:
    """A hand through T frames, camera frame, NaN where it is lost. keypoints: (T, 21, 3), m."""

    keypoints: np.ndarray


@dataclass(frozen=True)
class DistanceBelief:
    """How far away an object is believed to be.

    distance: (T,), m, along the optical axis, NaN where nothing is known. spread: (T,), m, its standard deviation, inf
    where nothing is known.
    """

    distance: np.ndarray
    spread: np.ndarray


def nothing_believed(count: int) -> DistanceBelief:
    """Of T frames."""
    return DistanceBelief(np.full(count, np.nan), np.full(count, np.inf))


def hand_paths(hands: Sequence[HandTrack], hand_models: Mapping[Side, HandModel]) -> list[HandPath]:
    """Paths of tracks; sides without a model are left out."""
    answer = []
    for hand in hands:
        model = hand_models.get(hand.params.side)
        if model is None:
            continue
        with torch.no_grad():
            params = hand.params.to(dtype=model.dtype, device=model.device)
            keypoints = model(params).keypoints.cpu().numpy().astype(np.float64)
        keypoints[np.asarray(hand.lost, bool)] = np.nan
        answer.append(HandPath(keypoints))
    return answer


def believed_distance(
    paths: Sequence[HandPath],
    camera: CameraModel,
    masks: Sequence[np.ndarray | None],
    times: np.ndarray,
    camera_moves: np.ndarray | None = None,
) -> DistanceBelief:
    """What the hands say of the distance of what has these masks.

    Args:
        paths: of T frames. camera: that took the images. masks: T of (H, W) bool, None where nothing is seen.
        times: (T,), s, increasing. camera_moves: (T,) bool, frames in which masks that move do not show that the object
            does; None = in none.
    """
    count = len(masks)
    moves = moving_frames(masks, times)
    if camera_moves is not None:
        moves &= ~camera_moves
    distance, spread = np.full(count, np.nan), np.full(count, np.inf)
    for path in paths:
        near = _touch_distances(path, camera, masks)
        middle = path.keypoints[..., 2].mean(axis=1)
        usual = float(np.nanmedian(middle)) if np.isfinite(middle).any() else np.nan
        for t in range(count):
            own = near[t] if np.isfinite(near[t]) else middle[t]
            gap = (CARRIED if moves[t] else AT) if np.isfinite(near[t]) else REACH
            if not np.isfinite(own):
                own, gap = usual, 2 * REACH  # It may have come closer since.
            width = float(np.hypot(SIZE_SPREAD * own, gap))
            if np.isfinite(own) and width < spread[t]:
                distance[t], spread[t] = own, width
    return DistanceBelief(distance, spread)


def _touch_distances(path: HandPath, camera: CameraModel, masks: Sequence[np.ndarray | None]) -> np.ndarray:
    """(T,) m, distance of the keypoints nearest to the object's pixels, NaN where none is at them."""
    answer = np.full(len(masks), np.nan)
    for t, mask in enumerate(masks):
        points = path.keypoints[t]
        if mask is None or not mask.any() or not np.isfinite(points).all() or (points[:, 2] <= 0).any():
            continue
        away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
        pixels = np.round(camera.project(points)).astype(int)
        inside = ((pixels >= 0) & (pixels < [mask.shape[1], mask.shape[0]])).all(axis=1)
        if not inside.any():
            continue
        columns, rows = pixels[inside].T
        gaps = away[rows, columns] * points[inside, 2] / camera.camera_k[0, 0]
        order = np.argsort(gaps, kind="stable")[:_TOUCHING]
        if gaps[order[0]] < TOUCH:
            answer[t] = points[inside][order, 2].mean()
    return answer
