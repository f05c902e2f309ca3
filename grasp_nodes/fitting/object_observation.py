"""What an image says about an object's pose: a working window with the mask's outline, and depth points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.pose_residuals import SolverImage
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.silhouette import mask_contour, mask_signed_distance

SMALLEST_MASK = 40
"""px; a mask of fewer pixels says nothing about a pose."""


@dataclass(frozen=True)
class ObjectObservation:
    """One frame as the pose solver reads it.

    image: working window. window_scale: its pixels per pixel of the camera. box: (4,) float64, px of the camera's
    undistorted image: x_min, y_min, x_max, y_max of the mask. camera_k: (3, 3), of the undistorted image.
    """

    image: SolverImage
    window_scale: float
    box: np.ndarray
    camera_k: np.ndarray


def check_images(camera: CameraModel, mask: np.ndarray, depth: np.ndarray | None, occluder: np.ndarray | None) -> None:
    """Refuse images whose size is not the camera's.

    Raises:
        InputError: naming the image.
    """
    size = (camera.height, camera.width)
    for name, image in (("mask", mask), ("depth", depth), ("occluder", occluder)):
        if image is not None and image.shape != size:
            raise InputError(f"{name}: expected the camera's size {size}, got {image.shape}")


def observe_object(
    camera: CameraModel,
    mask: np.ndarray,
    depth: np.ndarray | None = None,
    occluder: np.ndarray | None = None,
    *,
    reach: float,
    seed: int = 0,
    window: int = 192,
    contour_points: int = 160,
    depth_points: int = 600,
) -> ObjectObservation | None:
    """Cut out what the pose solver needs.

    Args:
        camera: of all images; a distorted image is first undistorted, with the same camera matrix. Skew is not used.
        mask: (H, W) bool, visible pixels of the object.
        depth: (H, W) float32, m, 0 or NaN = no measurement.
        occluder: (H, W) bool, pixels that may hide the object (a hand).
        reach: m, the object's diameter: depth points further than this from their median are of something else.
        seed: of the choice of points. window: px, longest side of the working window.
        contour_points, depth_points: how many are used.

    Returns:
        None where the mask is too small to say anything.
    """
    check_images(camera, mask, depth, occluder)
    mask = np.asarray(mask, bool)
    if camera.is_distorted:
        mask, depth, occluder = undistort_images(camera, mask, depth, occluder)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows) or int(np.count_nonzero(mask)) < SMALLEST_MASK:
        return None
    box = np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float64)
    margin = 8 + 0.35 * max(box[2] - box[0], box[3] - box[1])
    x0, y0 = max(0, int(box[0] - margin)), max(0, int(box[1] - margin))
    x1, y1 = min(camera.width, int(box[2] + margin) + 2), min(camera.height, int(box[3] + margin) + 2)
    cut = mask[y0:y1, x0:x1]
    hidden = np.zeros_like(cut) if occluder is None else np.asarray(occluder, bool)[y0:y1, x0:x1] & ~cut
    points = np.zeros((0, 3)) if depth is None else _depth_points(camera, mask, depth, box, reach, depth_points, seed)
    scale = min(1.0, window / max(cut.shape))
    size = (max(2, round(cut.shape[1] * scale)), max(2, round(cut.shape[0] * scale)))
    scale_x, scale_y = size[0] / cut.shape[1], size[1] / cut.shape[0]
    if scale < 1:
        cut = cv2.resize(cut.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
        hidden = cv2.resize(hidden.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.25
    # The border between hand and object is uncertain by a pixel or two.
    hidden = cv2.dilate(hidden.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    if cut.all() or not cut.any():
        return None
    contour = mask_contour(cut, hidden)
    contour = contour[np.linspace(0, len(contour) - 1, min(contour_points, len(contour))).astype(int)]
    image = SolverImage(
        distance=mask_signed_distance(cut),
        ignored=np.ascontiguousarray(hidden & ~cut, np.uint8),
        mask=np.ascontiguousarray(cut, np.uint8),
        contour=np.ascontiguousarray(contour),
        points=points,
        **_window_geometry(camera, (x0, y0), (scale_x, scale_y)),
    )
    return ObjectObservation(image, 0.5 * (scale_x + scale_y), box, camera.camera_k)


def _window_geometry(camera: CameraModel, corner: tuple[int, int], scale: tuple[float, float]) -> dict[str, np.ndarray]:
    """Intrinsics and the camera image's bounds in pixels of a window that begins at `corner` and is scaled."""
    k, (x0, y0), (scale_x, scale_y) = camera.camera_k, corner, scale
    return {
        "intrinsics": np.array(
            [
                k[0, 0] * scale_x,
                k[1, 1] * scale_y,
                (k[0, 2] - x0 + 0.5) * scale_x - 0.5,
                (k[1, 2] - y0 + 0.5) * scale_y - 0.5,
            ]
        ),
        "bounds": np.array(
            [
                (0.5 - x0) * scale_x,
                (0.5 - y0) * scale_y,
                (camera.width - 0.5 - x0) * scale_x - 1,
                (camera.height - 0.5 - y0) * scale_y - 1,
            ]
        ),
    }


def _depth_points(
    camera: CameraModel,
    mask: np.ndarray,
    depth: np.ndarray,
    box: np.ndarray,
    reach: float,
    count: int,
    seed: int,
) -> np.ndarray:
    """Points (M, 3) of the mask's inside, m, camera frame: its rim mixes foreground and background."""
    x0, y0, x1, y1 = (int(side) for side in box)
    cut, cut_depth = mask[y0 : y1 + 1, x0 : x1 + 1].astype(np.uint8), depth[y0 : y1 + 1, x0 : x1 + 1]
    measured = np.isfinite(cut_depth) & (cut_depth > 0)
    inner = cv2.erode(cut, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    usable = inner & measured
    if np.count_nonzero(usable) < 30:
        usable = (cut > 0) & measured
    rows, columns = np.nonzero(usable)
    if len(rows) < 10:
        return np.zeros((0, 3))
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(rows))[: min(2 * count, len(rows))]
    rows, columns = rows[chosen], columns[chosen]
    z = cut_depth[rows, columns].astype(np.float64)
    near = np.flatnonzero(np.abs(z - np.median(z)) < reach)[:count]
    rows, columns, z = rows[near] + y0, columns[near] + x0, z[near]
    k = camera.camera_k
    x, y = (columns - k[0, 2]) / k[0, 0], (rows - k[1, 2]) / k[1, 1]
    return np.ascontiguousarray(np.stack([x * z, y * z, z], axis=1))


def undistort_images(
    camera: CameraModel, mask: np.ndarray, depth: np.ndarray | None, occluder: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """The images as a camera without distortion and of the same matrix would see them; nearest pixel, black outside."""
    first, second = _undistortion_maps(
        camera.camera_k.tobytes(), camera.distortion.tobytes(), camera.distortion_model, camera.width, camera.height
    )

    def move(image: np.ndarray) -> np.ndarray:
        return cv2.remap(image, first, second, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)

    moved_mask = move(mask.astype(np.uint8)) > 0
    moved_depth = None if depth is None else move(np.ascontiguousarray(depth, np.float32))
    return moved_mask, moved_depth, None if occluder is None else move(np.asarray(occluder, np.uint8)) > 0


@lru_cache(maxsize=4)
def _undistortion_maps(
    camera_k: bytes, distortion: bytes, model: str, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    k, coefficients = np.frombuffer(camera_k).reshape(3, 3), np.frombuffer(distortion)
    make = cv2.fisheye.initUndistortRectifyMap if model == "equidistant" else cv2.initUndistortRectifyMap
    return make(k, coefficients, np.eye(3), k, (width, height), cv2.CV_32FC1)
