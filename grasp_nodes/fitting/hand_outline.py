"""What a mask says about a hand: where in the image its skin must not lie, and what its skin has to cover.

Both become planes through the camera's centre, so that the solver of skin points serves them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.ndimage import distance_transform_edt

from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_vertices
from grasp_nodes.fitting.hand_skeleton import HandSkeleton
from grasp_nodes.fitting.hand_solver import PlaneTerms
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.perception.boxes import clip_box

STRIDE = 2
"""px between the points of the map of nearest pixels."""
COVERED_PIXELS = 160
REACH_OUTSIDE, REACH_UNCOVERED = 2.0, 5.0
"""px; a vertex this far outside is still inside; a pixel this far from every vertex is still covered."""
FARTHEST = 60.0
"""px; pixels farther from every vertex than this belong to something else."""
OUTLINE_ERROR = 0.006
"""m; standard deviation of the outline."""
OUTLINE_VOTES = 50.0
"""Neighbouring pixels err together: all vertices outside count as this many, and all uncovered pixels."""


@dataclass(frozen=True)
class HandOutline:
    """The window of the image around a hand.

    corner: (2,) px, of the window's first pixel. allowed: (h, w) bool, every `STRIDE`-th pixel: the hand or what may
    hide it. nearest: (h, w, 2) px, the nearest allowed pixel of the image. pixels: (N, 2) px, a sample of the hand's.
    """

    camera: CameraModel
    corner: np.ndarray
    allowed: np.ndarray
    nearest: np.ndarray
    pixels: np.ndarray


class OutlineMatch(NamedTuple):
    """planes: terms for the solver. outside: share of the hand's vertices that lie where no hand can be seen.

    uncovered: share of the hand's pixels (forearm left out) that nothing of the model covers.
    """

    planes: PlaneTerms
    outside: float
    uncovered: float


def observe_outline(
    camera: CameraModel, mask: np.ndarray, occluder: np.ndarray | None, box: np.ndarray, seed: int = 0
) -> HandOutline | None:
    """Prepare a mask; None where it is empty.

    Args:
        camera: that took the image.
        mask: (H, W) bool, visible pixels of the hand and its forearm.
        occluder: (H, W) bool, pixels of what may be in front of the hand, or None.
        box: (4,) px, where the hand is.
        seed: of the choice of pixels.
    """
    edge = float((box[2:] - box[:2]).max())
    x_start, y_start, x_stop, y_stop = clip_box(
        box + np.array([-1, -1, 1, 1]) * 0.5 * edge, camera.width, camera.height
    )
    window = np.s_[y_start:y_stop:STRIDE, x_start:x_stop:STRIDE]
    allowed = mask[window] if occluder is None else mask[window] | occluder[window]
    if not mask[window].any():
        return None
    rows, columns = distance_transform_edt(~allowed, return_distances=False, return_indices=True)
    nearest = np.stack([columns, rows], axis=-1) * STRIDE + np.array([x_start, y_start])
    inner = clip_box(box + np.array([-1, -1, 1, 1]) * 0.15 * edge, camera.width, camera.height)
    rows, columns = np.nonzero(mask[inner[1] : inner[3], inner[0] : inner[2]])
    pixels = np.stack([columns + inner[0], rows + inner[1]], axis=-1)
    if len(pixels) > COVERED_PIXELS:
        pixels = pixels[np.random.default_rng(seed).choice(len(pixels), COVERED_PIXELS, replace=False)]
    return HandOutline(
        camera, np.array([x_start, y_start]), allowed, nearest.astype(np.float64), pixels.astype(np.float64)
    )


def match_outline(skeleton: HandSkeleton, configuration: HandConfiguration, outline: HandOutline) -> OutlineMatch:
    """Planes that draw vertices on to allowed pixels, and vertices on to pixels that nothing covers."""
    camera = outline.camera
    vertices, _ = pose_vertices(skeleton, configuration)
    projected = np.nan_to_num(camera.project(vertices), nan=-1e6)
    in_image = (projected > -0.5).all(axis=1) & (projected < [camera.width - 0.5, camera.height - 0.5]).all(axis=1)
    rows, columns = outline.allowed.shape
    cells = np.round((projected - outline.corner) / STRIDE).astype(np.int64)
    cells = np.clip(cells, 0, [columns - 1, rows - 1])
    targets = outline.nearest[cells[:, 1], cells[:, 0]]
    out = in_image & (np.linalg.norm(targets - projected, axis=1) > REACH_OUTSIDE + STRIDE)
    ids, distance = _nearest_2d(outline.pixels, projected)
    near = ~skeleton.on_rim[ids] & (distance < FARTHEST)
    bare = near & (distance > REACH_UNCOVERED)
    joined = [
        _planes(camera, np.flatnonzero(out), projected[out], targets[out]),
        _planes(camera, ids[bare], projected[ids[bare]], outline.pixels[bare]),
    ]
    planes = PlaneTerms(*(np.concatenate(parts) for parts in zip(*joined, strict=True)))
    return OutlineMatch(planes, float(out.mean()), float(bare.sum() / max(int(near.sum()), 1)))


def _planes(camera: CameraModel, ids: np.ndarray, here: np.ndarray, there: np.ndarray) -> PlaneTerms:
    """Planes through the camera's centre and, across the way from here to there, through there; (M, 2) px each."""
    way = there - here
    across = np.stack([-way[:, 1], way[:, 0]], axis=1)
    ends = camera.normalise(np.stack([there, there + across]))
    rays = np.concatenate([ends, np.ones_like(ends[..., :1])], axis=-1)
    normals = np.cross(rays[0], rays[1])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    weight = np.sqrt(min(1.0, OUTLINE_VOTES / max(len(ids), 1))) / OUTLINE_ERROR
    return PlaneTerms(ids.astype(np.int64), normals, np.zeros(len(ids)), np.full(len(ids), weight))


@njit(cache=True)
def _nearest_2d(pixels: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest of the points for every pixel, and its distance, px."""
    nearest, distance = np.zeros(len(pixels), np.int64), np.full(len(pixels), np.inf)
    for i in range(len(pixels)):
        for v in range(len(points)):
            x, y = points[v, 0] - pixels[i, 0], points[v, 1] - pixels[i, 1]
            square = x * x + y * y
            if square < distance[i]:
                nearest[i], distance[i] = v, square
    return nearest, np.sqrt(distance)
