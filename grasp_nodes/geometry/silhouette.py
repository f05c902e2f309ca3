"""Hard silhouettes: which pixels a mesh covers, at what depth, and the outline of a mask.

The centre of the top-left pixel is (0, 0); a pixel is covered when its centre lies inside a projected triangle.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numba import njit

_NEAR = 1e-3
"""m; triangles that reach closer than this to the camera's plane are left out."""


def rasterise_mask(pixels: np.ndarray, depths: np.ndarray, faces: np.ndarray, height: int, width: int) -> np.ndarray:
    """Coverage of projected meshes of one topology.

    Args:
        pixels: (B, V, 2), px. depths: (B, V), m, along the optical axis.
        faces: (F, 3) int.

    Returns:
        (B, height, width) bool.
    """
    covered = np.zeros((len(pixels), height, width), np.uint8)
    pixels, faces = np.ascontiguousarray(pixels, np.float64), np.ascontiguousarray(faces, np.int64)
    depths = np.ascontiguousarray(depths, np.float64)
    for image, pixel, depth in zip(covered, pixels, depths, strict=True):
        cover_pixels(pixel, depth, faces, image, False)
    return covered.astype(bool)


def rasterise_depth(
    pixels: np.ndarray, depths: np.ndarray, faces: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Depth of the nearest surface, interpolated in perspective, and the face that is seen.

    Args:
        pixels: (B, V, 2), px. depths: (B, V), m, along the optical axis.
        faces: (F, 3) int.

    Returns:
        depth (B, height, width) float32, m, 0 where nothing is covered, and face (B, height, width) int32, -1 there.
    """
    inverse = np.zeros((len(pixels), height, width))
    face_of = np.full(inverse.shape, -1, np.int32)
    pixels, faces = np.ascontiguousarray(pixels, np.float64), np.ascontiguousarray(faces, np.int64)
    depths = np.ascontiguousarray(depths, np.float64)
    for k in range(len(pixels)):
        nearest_surface(pixels[k], depths[k], faces, inverse[k], face_of[k], False)
    return np.divide(1, inverse, out=np.zeros_like(inverse), where=inverse > 0).astype(np.float32), face_of


@njit(cache=True, inline="always")
def _in_front(first: float, second: float, third: float) -> bool:
    return first >= _NEAR and second >= _NEAR and third >= _NEAR


@njit(cache=True)
def _clip_row(low: float, high: float, y: float, ax: float, ay: float, by: float, slope: float) -> tuple[float, float]:
    """The part of a row that lies inside the edge from a to b of a triangle of positive area."""
    if by > ay:
        return low, min(high, ax + slope * (y - ay))
    if by < ay:
        return max(low, ax + slope * (y - ay)), high
    return low, high


@njit(cache=True)
def cover_pixels(
    pixels: np.ndarray, depths: np.ndarray, faces: np.ndarray, image: np.ndarray, front_only: bool
) -> None:
    """Set the covered pixels of `image` (H, W) uint8 to one; the compiled core of :func:`rasterise_mask`.

    Args:
        pixels: (V, 2), px. depths: (V,), m. faces: (F, 3).
        front_only: faces that look away are left out; of a closed mesh they cover nothing more.
    """
    height, width = image.shape
    for i in range(len(faces)):
        a, b, c = faces[i, 0], faces[i, 1], faces[i, 2]
        ax, ay, bx, by = pixels[a, 0], pixels[a, 1], pixels[b, 0], pixels[b, 1]
        cx, cy = pixels[c, 0], pixels[c, 1]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        # With y down, a face that is counter-clockwise from outside turns clockwise in the image: negative.
        if area == 0 or (front_only and area > 0) or not _in_front(depths[a], depths[b], depths[c]):
            continue
        if area < 0:
            bx, by, cx, cy = cx, cy, bx, by
        slope_a = (bx - ax) / (by - ay) if by != ay else 0.0
        slope_b = (cx - bx) / (cy - by) if cy != by else 0.0
        slope_c = (ax - cx) / (ay - cy) if ay != cy else 0.0
        low_y, high_y = max(0, math.ceil(min(ay, by, cy))), min(height - 1, math.floor(max(ay, by, cy)))
        left, right = max(0.0, min(ax, bx, cx)), min(width - 1.0, max(ax, bx, cx))
        for y in range(low_y, high_y + 1):
            low, high = _clip_row(left, right, y, ax, ay, by, slope_a)
            low, high = _clip_row(low, high, y, bx, by, cy, slope_b)
            low, high = _clip_row(low, high, y, cx, cy, ay, slope_c)
            # The margin closes the crack that rounding could leave between two neighbours.
            for x in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1):
                image[y, x] = 1


@njit(cache=True)
def nearest_surface(
    pixels: np.ndarray,
    depths: np.ndarray,
    faces: np.ndarray,
    inverse: np.ndarray,
    face_of: np.ndarray,
    front_only: bool,
) -> None:
    """Greatest inverse depth and its face per pixel; the compiled core of :func:`rasterise_depth`.

    Args:
        inverse: (H, W), 1/m, zeros at first. face_of: (H, W) int32. The others as for :func:`cover_pixels`.
    """
    height, width = inverse.shape
    for i in range(len(faces)):
        a, b, c = faces[i, 0], faces[i, 1], faces[i, 2]
        ax, ay, bx, by = pixels[a, 0], pixels[a, 1], pixels[b, 0], pixels[b, 1]
        cx, cy = pixels[c, 0], pixels[c, 1]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0 or (front_only and area > 0) or not _in_front(depths[a], depths[b], depths[c]):
            continue
        za, zb, zc = 1 / depths[a], 1 / depths[b], 1 / depths[c]
        if area < 0:
            bx, by, zb, cx, cy, zc = cx, cy, zc, bx, by, zb
            area = -area
        # Inverse depth is linear in the image.
        step_x = ((zb - za) * (cy - ay) - (zc - za) * (by - ay)) / area
        step_y = ((zc - za) * (bx - ax) - (zb - za) * (cx - ax)) / area
        slope_a = (bx - ax) / (by - ay) if by != ay else 0.0
        slope_b = (cx - bx) / (cy - by) if cy != by else 0.0
        slope_c = (ax - cx) / (ay - cy) if ay != cy else 0.0
        low_y, high_y = max(0, math.ceil(min(ay, by, cy))), min(height - 1, math.floor(max(ay, by, cy)))
        left, right = max(0.0, min(ax, bx, cx)), min(width - 1.0, max(ax, bx, cx))
        for y in range(low_y, high_y + 1):
            low, high = _clip_row(left, right, y, ax, ay, by, slope_a)
            low, high = _clip_row(low, high, y, bx, by, cy, slope_b)
            low, high = _clip_row(low, high, y, cx, cy, ay, slope_c)
            row = za + step_y * (y - ay)
            for x in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1):
                z = row + step_x * (x - ax)
                if z > inverse[y, x]:
                    inverse[y, x] = z
                    face_of[y, x] = i


def mask_contour(mask: np.ndarray, ignored: np.ndarray | None = None) -> np.ndarray:
    """Outline of a mask: the midpoints between neighbouring pixels of which one belongs to it. Unbiased, unordered.

    Args:
        mask: (H, W) bool.
        ignored: (H, W) bool; an outside pixel of this kind says nothing about the outline (a hand in front of it).

    Returns:
        (N, 2) float64, px; no points along the image's own border.
    """
    mask = np.asarray(mask, bool)
    free = ~mask if ignored is None else ~mask & ~np.asarray(ignored, bool)
    y, x = np.nonzero((mask[:, 1:] & free[:, :-1]) | (mask[:, :-1] & free[:, 1:]))
    across = np.stack([x + 0.5, y.astype(np.float64)], axis=1)
    y, x = np.nonzero((mask[1:] & free[:-1]) | (mask[:-1] & free[1:]))
    return np.concatenate([across, np.stack([x.astype(np.float64), y + 0.5], axis=1)])


def mask_signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel's centre to the mask's outline, negative inside; unbiased at the outline itself.

    Args:
        mask: (H, W) bool with at least one pixel set and one not set.

    Returns:
        (H, W) float32, px.
    """
    inside = np.ascontiguousarray(mask, np.uint8)
    to_outside = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    to_inside = cv2.distanceTransform(1 - inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # OpenCV's last digit depends on where the image lies in memory; squared distances of pixels are integers.
    distance = np.sqrt(np.rint(np.square(np.maximum(to_outside, to_inside))))
    # The outline runs half a pixel beside the nearest centre of the other kind.
    return np.where(inside > 0, 0.5 - distance, distance - 0.5).astype(np.float32)
