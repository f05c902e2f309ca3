"""What the frames of a clip say, laid out once for the joint fit: windows of the objects' masks and measured points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.homan.depth_term import DepthPoints
from grasp_nodes.fitting.object_observation import undistort_images
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.perception.evidence import HIDING, HandEvidence, ObjectEvidence, ObservedFrame

WINDOW_MARGIN = 0.3
"""Share of the longer side of the box that a window reaches beyond it (HOMan's own)."""
SMALLEST_MASK = 40
"""px; a mask of fewer pixels says nothing about a pose."""
BLUR = 3
"""px; how far from its pixel a surface may be seen because its outline is not exactly known."""
EDGE = 3
"""px; border of a mask that is left out of the depth points: depth mixes there."""


@dataclass(frozen=True)
class MaskWindows:
    """An object's masks in square windows of S x S pixels, one per frame.

    mask: (T, S, S) float32, share of the pixel that the object covers. keep: (T, S, S) float32, 0 where a hand hides
    the object, outside of the camera's image, and everywhere in frames that are not used. intrinsics: (T, 4) float32:
    fx, fy, cx, cy in pixels of the window.
    """

    mask: Tensor
    keep: Tensor
    intrinsics: Tensor


@dataclass(frozen=True)
class ClipImages:
    """Camera of the clip and its depth images (T, H, W) float32, m, 0 = no measurement; None without depth.

    nearest: (T, H, W) float32, m, the smallest measured depth near each pixel, 0 where there is none.
    """

    camera: CameraModel
    depth: np.ndarray | None
    nearest: np.ndarray | None


def read_images(frames: Sequence[ObservedFrame], use_depth: bool) -> ClipImages:
    """The camera and the depth images of a clip.

    Raises:
        InputError: no frame, more than one camera, or a depth image of another size.
    """
    if not frames:
        raise InputError("frames: expected at least one, got none")
    camera = frames[0].evidence.camera
    size = (camera.height, camera.width)
    for index, frame in enumerate(frames):
        other = frame.evidence.camera
        if (other.height, other.width) != size or not np.array_equal(other.camera_k, camera.camera_k):
            raise InputError(f"frame {index}: all frames must come from one camera, this one's intrinsics differ")
        if frame.depth is not None and frame.depth.shape != size:
            raise InputError(f"frame {index}: depth: expected the camera's size {size}, got {frame.depth.shape}")
    if not use_depth or all(frame.depth is None for frame in frames):
        return ClipImages(camera, None, None)
    empty = np.zeros(size, np.float32)
    depth = np.stack([empty if frame.depth is None else frame.depth for frame in frames]).astype(np.float32)
    depth = np.nan_to_num(depth, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return ClipImages(camera, depth, np.stack([_nearest(image) for image in depth]))


def _nearest(depth: np.ndarray) -> np.ndarray:
    """Minimum of the measurements within a few pixels, so that an edge never looks farther away than it may be."""
    # Beyond the image's border OpenCV erodes with the largest finite number, not with infinity.
    nothing = np.finfo(np.float32).max
    least = cv2.erode(np.where(depth > 0, depth, nothing), np.ones((2 * BLUR + 1, 2 * BLUR + 1), np.uint8))
    return np.where(least < nothing, least, np.float32(0)).astype(np.float32)


def hand_evidence(frames: Sequence[ObservedFrame], track: HandTrack) -> list[HandEvidence | None]:
    """The evidence of one hand track in every frame: that of its number and side, else of the only hand of its side."""
    found: list[HandEvidence | None] = []
    for frame in frames:
        same_side = [hand for hand in frame.evidence.hands if hand.side in (track.params.side, "unknown")]
        named = [hand for hand in same_side if hand.track_id == track.track_id]
        found.append(named[0] if named else same_side[0] if len(same_side) == 1 else None)
    return found


def object_evidence(
    frames: Sequence[ObservedFrame], track: ObjectTrack, only_object: bool
) -> list[ObjectEvidence | None]:
    """Evidence of one object track in every frame: that of its name; of an only object that none names, the best."""
    named = [[item for item in frame.evidence.objects if item.object_id == track.object_id] for frame in frames]
    if only_object and not any(named):
        named = [[item for item in frame.evidence.objects if item.object_id != HIDING] for frame in frames]
    return [candidates[0] if candidates else None for candidates in named]


def hidden_pixels(frames: Sequence[ObservedFrame]) -> list[np.ndarray | None]:
    """For each frame (H, W) bool: pixels of any hand and of what else is in front; None where nothing has a mask."""
    result: list[np.ndarray | None] = []
    for frame in frames:
        masks = [np.asarray(hand.mask, bool) for hand in frame.evidence.hands if hand.mask is not None]
        masks += [
            np.asarray(item.mask, bool)
            for item in frame.evidence.objects
            if item.object_id == HIDING and item.mask is not None
        ]
        result.append(np.logical_or.reduce(masks) if masks else None)
    return result


def mask_windows(
    camera: CameraModel,
    evidence: Sequence[ObjectEvidence | None],
    hidden: Sequence[np.ndarray | None],
    active: np.ndarray,
    outlines: np.ndarray,
    size: int,
) -> tuple[MaskWindows, np.ndarray]:
    """Cut the windows.

    Args:
        camera: of all images. evidence: of the object. hidden: from :func:`hidden_pixels`. active: (T,) bool.
        outlines: (T, 4), px, box of the object's outline at its initial pose: x_min, y_min, x_max, y_max.
        size: px, sides of the windows.

    Returns:
        The windows, and (T,) bool, frames whose mask is used.

    Raises:
        InputError: a mask whose size is not the camera's.
    """
    count = len(evidence)
    mask, keep = np.zeros((count, size, size), np.float32), np.zeros((count, size, size), np.float32)
    intrinsics = np.tile(np.array([1.0, 1.0, 0.0, 0.0], np.float32), (count, 1))
    used = np.zeros(count, bool)
    for t, item in enumerate(evidence):
        if item is None or item.mask is None or not active[t]:
            continue
        full = _sized(item.mask, camera, "object mask", t)
        occluder = hidden[t]
        occluder = None if occluder is None else _sized(occluder, camera, "hand mask", t)
        if camera.is_distorted:
            full, _, occluder = undistort_images(camera, full, None, occluder)
        box = _box(full)
        if box is None:
            continue
        box = np.concatenate([np.minimum(box[:2], outlines[t, :2]), np.maximum(box[2:], outlines[t, 2:])])
        mask[t], keep[t], intrinsics[t] = _cut(camera, full, occluder, box, size)
        used[t] = True
    return MaskWindows(torch.from_numpy(mask), torch.from_numpy(keep), torch.from_numpy(intrinsics)), used


def depth_points(
    camera: CameraModel,
    masks: Sequence[np.ndarray | None],
    depth: np.ndarray,
    active: np.ndarray,
    count: int,
    seed: int = 0,
    boxes: Sequence[np.ndarray] | None = None,
) -> DepthPoints:
    """Measured points inside masks.

    Args:
        camera: of all images. masks: (H, W) bool of each frame, or None. depth: (T, H, W), m.
        active: (T,) bool, frames to use. count: points per frame at most. seed: of their choice.
        boxes: (4,), px, x_min, y_min, x_max, y_max, of each frame: only points inside; None = all of the mask.

    Raises:
        InputError: a mask whose size is not the camera's.
    """
    points = np.zeros((len(masks), count, 3), np.float32)
    weight = np.zeros((len(masks), count), np.float32)
    generator = np.random.default_rng(seed)
    for t, mask in enumerate(masks):
        if mask is None or not active[t]:
            continue
        full = _sized(mask, camera, "mask", t)
        box = _box(full)
        if box is None:
            continue
        limit = None if boxes is None else boxes[t]
        if limit is not None:
            box = np.concatenate([np.maximum(box[:2], limit[:2]), np.minimum(box[2:], limit[2:])])
            if (box[2:] <= box[:2]).any():
                continue
        x0, y0, x1, y1 = box.astype(int)
        inner = cv2.erode(full[y0 : y1 + 1, x0 : x1 + 1].astype(np.uint8), np.ones((EDGE, EDGE), np.uint8)) > 0
        row, column = np.nonzero(inner & (depth[t, y0 : y1 + 1, x0 : x1 + 1] > 0))
        if not len(row):
            continue
        chosen = generator.permutation(len(row))[:count]
        pixels = np.stack([column[chosen] + x0, row[chosen] + y0], axis=1)
        points[t, : len(chosen)] = camera.unproject(pixels, depth[t, pixels[:, 1], pixels[:, 0]])
        weight[t, : len(chosen)] = 1 / len(chosen)
    return DepthPoints(torch.from_numpy(points), torch.from_numpy(weight))


def _sized(mask: np.ndarray, camera: CameraModel, name: str, frame: int) -> np.ndarray:
    if mask.shape != (camera.height, camera.width):
        raise InputError(
            f"frame {frame}: {name}: expected the camera's size {(camera.height, camera.width)}, got {mask.shape}"
        )
    return np.asarray(mask, bool)


def _box(mask: np.ndarray) -> np.ndarray | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows) or np.count_nonzero(mask) < SMALLEST_MASK:
        return None
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float64)


def _cut(
    camera: CameraModel, mask: np.ndarray, hidden: np.ndarray | None, box: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mask, kept pixels and intrinsics of the square window about a box."""
    side = (1 + 2 * WINDOW_MARGIN) * max(float((box[2:] - box[:2]).max()), 8.0)
    corner = 0.5 * (box[:2] + box[2:]) - 0.5 * side
    x0, y0 = int(np.floor(corner[0])), int(np.floor(corner[1]))
    whole = int(np.ceil(side)) + 1
    scale = size / whole

    def window(image: np.ndarray) -> np.ndarray:
        cut = np.zeros((whole, whole), np.float32)
        left, top = max(x0, 0), max(y0, 0)
        part = image[top : max(y0 + whole, 0), left : max(x0 + whole, 0)]
        cut[top - y0 : top - y0 + part.shape[0], left - x0 : left - x0 + part.shape[1]] = part
        return cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)

    covered = window(mask)
    inside = window(np.ones(mask.shape, np.float32))
    keep = inside > 0.99
    if hidden is not None:
        # The border between hand and object is uncertain by a pixel or two.
        behind = cv2.dilate((window(hidden & ~mask) > 0.25).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        keep &= ~(behind & (covered < 0.5))
    k = camera.camera_k
    intrinsics = [
        k[0, 0] * scale,
        k[1, 1] * scale,
        (k[0, 2] - x0 + 0.5) * scale - 0.5,
        (k[1, 2] - y0 + 0.5) * scale - 0.5,
    ]
    return covered, keep.astype(np.float32), np.array(intrinsics, np.float32)
