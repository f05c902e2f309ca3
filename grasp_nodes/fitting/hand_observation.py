"""What one frame says about a hand: rays to its landmarks, their depth, and points of its visible skin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numba import njit

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints, pose_vertices
from grasp_nodes.fitting.hand_skeleton import HandSkeleton
from grasp_nodes.fitting.hand_solver import LandmarkTerms, PlaneTerms, no_planes
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.parameters import NUM_KEYPOINTS
from grasp_nodes.perception.evidence import HandEvidence

LANDMARK_ERROR = 0.002
"""m; standard deviation of a landmark across the viewing ray, at the hand's distance. Single landmarks err more, but
where they are all there is, a prior that wins over them turns the whole hand (measured on rendered clips)."""
LANDMARK_ERROR_BESIDE_SKIN = 0.011
"""m; the same where the skin was measured: points of the skin err independently, landmarks of one image do not."""
HIDDEN = 0.3
"""Weight of a landmark that does not lie on the hand's visible pixels: there the network guesses."""
HIDDEN_MARGIN = 5
"""px."""
LANDMARK_DEPTH_ERROR = 0.006
"""m; of a landmark's depth, given the depth at its pixel."""
PALM_DEPTH_ERROR_BESIDE_SKIN = 0.012
"""m; the same for the palm's landmarks where the skin was measured; those of fingers may lie far behind."""
PALM = (0, 1, 2, 5, 9, 13, 17)
BEFORE = (0, *(0 if k % 4 == 1 else k - 1 for k in range(1, NUM_KEYPOINTS)))
"""The landmark at the other end of each one's bone."""
RELIEF_ERROR = 0.015
"""m; of a landmark's depth beside the others', as the network guesses it (half of them are within 10 mm, in rendered
views)."""
SKIN_POINTS = 320
SKIN_ERROR = 0.003
"""m; of a measured skin point to the model's skin, along its normal."""
SKIN_VOTES = 200.0
"""Neighbouring depth pixels err together: all of them count as this many independent ones."""
EDGE = 3
"""px; border of the hand's mask that is left out: depth mixes there."""


@dataclass(frozen=True)
class HandObservation:
    """One hand in one frame.

    rays: (21, 2), x / z and y / z of the landmarks. depth: (21,), m, of the skin at the landmarks, 0 = not measured.
    points: (N, 3), m, camera frame, visible skin (forearm included); empty without depth.
    on_hand: (21,) bool, landmarks on the hand's visible pixels; all of them where no mask tells.
    relative: (21, 3), m, camera axes, the landmarks' shape as the network guesses it, or None.
    """

    rays: np.ndarray
    depth: np.ndarray
    points: np.ndarray
    on_hand: np.ndarray
    relative: np.ndarray | None = None

    @property
    def has_skin(self) -> bool:
        """Whether enough of the skin was measured to place the hand by it."""
        return len(self.points) >= 100

    @property
    def has_depth(self) -> bool:
        """Whether the distance was measured."""
        return bool((self.depth > 0).sum() >= 4 or len(self.points) >= 20)


def observe_hand(camera: CameraModel, hand: HandEvidence, depth: np.ndarray | None, seed: int = 0) -> HandObservation:
    """Collect what the solver needs.

    Args:
        camera: that took the image.
        hand: landmarks, and the mask where there is one.
        depth: (H, W) float32, m, 0 or NaN = no measurement; None = colour camera.
        seed: of the choice of skin points.

    Raises:
        InputError: landmarks that are not (21, 2) finite numbers, or a depth image of another size.
    """
    keypoints = np.asarray(hand.keypoints, np.float64)
    if keypoints.shape != (NUM_KEYPOINTS, 2) or not np.isfinite(keypoints).all():
        raise InputError(f"keypoints: expected finite ({NUM_KEYPOINTS}, 2), got shape {keypoints.shape}")
    rays = np.ascontiguousarray(camera.normalise(keypoints))
    on_hand = np.ones(NUM_KEYPOINTS, bool) if hand.mask is None else _on_mask(keypoints, hand.mask)
    relative = None if hand.keypoints_3d is None else np.asarray(hand.keypoints_3d, np.float64)
    if depth is None:
        return HandObservation(rays, np.zeros(NUM_KEYPOINTS), np.zeros((0, 3)), on_hand, relative)
    if depth.shape != (camera.height, camera.width):
        raise InputError(f"depth: expected the camera's size {(camera.height, camera.width)}, got {depth.shape}")
    at_landmarks = _depth_at(keypoints, depth, hand.mask)
    return HandObservation(rays, at_landmarks, _skin_points(camera, hand, depth, seed), on_hand, relative)


def _on_mask(keypoints: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(21,) bool: within a few pixels of the mask."""
    height, width = mask.shape
    columns, rows = np.round(keypoints).astype(int).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * HIDDEN_MARGIN + 1, 2 * HIDDEN_MARGIN + 1))
    near = cv2.dilate(mask.astype(np.uint8), brush) > 0
    found = np.zeros(len(keypoints), bool)
    found[inside] = near[rows[inside], columns[inside]]
    return found


def _depth_at(keypoints: np.ndarray, depth: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Depth (21,), m, at the landmarks' pixels; 0 outside the image, the mask and the measured."""
    height, width = depth.shape
    columns, rows = np.round(keypoints).astype(int).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    found = np.zeros(len(keypoints))
    measured = depth[rows[inside], columns[inside]].astype(np.float64)
    if mask is not None:
        measured = np.where(mask[rows[inside], columns[inside]], measured, 0.0)
    found[inside] = np.nan_to_num(measured, nan=0.0, posinf=0.0, neginf=0.0)
    return found


def _skin_points(camera: CameraModel, hand: HandEvidence, depth: np.ndarray, seed: int) -> np.ndarray:
    if hand.mask is None:
        return np.zeros((0, 3))
    inner = cv2.erode(hand.mask.astype(np.uint8), np.ones((EDGE, EDGE), np.uint8)) > 0
    low, high = hand.keypoints.min(axis=0), hand.keypoints.max(axis=0)
    border = 0.2 * float((high - low).max())
    x_start, y_start = np.maximum(np.floor(low - border), 0).astype(int)
    x_stop, y_stop = np.maximum(np.ceil(high + border), 0).astype(int)
    rows, columns = np.nonzero(inner[y_start:y_stop, x_start:x_stop])
    rows, columns = rows + y_start, columns + x_start
    z = depth[rows, columns].astype(np.float64)
    usable = np.isfinite(z) & (z > 0)
    rows, columns, z = rows[usable], columns[usable], z[usable]
    if len(z) > SKIN_POINTS:
        chosen = np.random.default_rng(seed).choice(len(z), SKIN_POINTS, replace=False)
        rows, columns, z = rows[chosen], columns[chosen], z[chosen]
    return np.ascontiguousarray(camera.unproject(np.stack([columns, rows], axis=-1), z))


def landmark_terms(
    skeleton: HandSkeleton, observation: HandObservation, distance: float, error: float | None = None
) -> LandmarkTerms:
    """Terms of the 21 landmarks.

    Args:
        skeleton: the hand. observation: its landmarks.
        distance: m, about where the hand is.
        error: m, standard deviation across the rays; None = as landmarks err that are all there is, or beside skin.
    """
    measured = observation.depth > 0
    across = error or (LANDMARK_ERROR_BESIDE_SKIN if observation.has_skin else LANDMARK_ERROR)
    front = np.where(measured, 1.0 / LANDMARK_DEPTH_ERROR, 0.0)
    behind = front
    if observation.has_skin:
        behind = np.zeros(NUM_KEYPOINTS)
        behind[list(PALM)] = np.where(measured[list(PALM)], 1.0 / PALM_DEPTH_ERROR_BESIDE_SKIN, 0.0)
    return LandmarkTerms(
        observation.rays,
        np.where(observation.on_hand, 1.0, HIDDEN) * (distance / across),
        observation.depth + skeleton.skin_depth,
        front,
        behind,
        np.zeros(NUM_KEYPOINTS),
        np.zeros(NUM_KEYPOINTS),
    )


def with_relief(
    skeleton: HandSkeleton, terms: LandmarkTerms, relative: np.ndarray, scale: float, share: float
) -> LandmarkTerms:
    """The landmarks' depths relative to each other, as their network guesses them, beside the terms of their rays.

    Args:
        skeleton: the hand. terms: of its landmarks.
        relative: (21, 3), m, camera axes, made as large as the hand by the length of all bones. scale: of the hand.
        share: 0 to 1, factor on the inverse standard deviation.
    """
    rest = pose_keypoints(
        skeleton, HandConfiguration(np.eye(3), np.zeros(3), np.zeros(skeleton.num_dofs)), landmarks=True
    )
    bones = np.linalg.norm(rest - rest[list(BEFORE)], axis=1).sum()
    guessed = np.linalg.norm(relative - relative[list(BEFORE)], axis=1).sum()
    depth = scale * bones / max(float(guessed), 1e-6) * relative[:, 2]
    return terms._replace(relief=depth - depth.mean(), relief_weights=np.full(NUM_KEYPOINTS, share / RELIEF_ERROR))


class SkinMatch(NamedTuple):
    """planes: terms of the points that were matched. missed: points that nothing of the hand explains."""

    planes: PlaneTerms
    missed: int


def match_skin(
    skeleton: HandSkeleton, configuration: HandConfiguration, observation: HandObservation, reach: float
) -> SkinMatch:
    """Each measured point draws the nearest vertex that faces the camera on to its tangent plane.

    Args:
        skeleton: the hand.
        configuration: where the hand is now.
        observation: the points.
        reach: m; points farther from every such vertex are missed. Those beyond the wrist are forearm.
    """
    if not len(observation.points):
        return SkinMatch(no_planes(), 0)
    vertices, normals = pose_vertices(skeleton, configuration)
    nearest, distance = _nearest_facing(observation.points, vertices, normals)
    if nearest[0] < 0:
        return SkinMatch(no_planes(), len(nearest))
    on_hand, near = ~skeleton.on_rim[nearest], distance < reach
    used = on_hand & near
    ids = nearest[used]
    toward = normals[ids]
    weight = np.sqrt(min(1.0, SKIN_VOTES / max(len(ids), 1))) / SKIN_ERROR
    offsets = (toward * observation.points[used]).sum(axis=1)
    planes = PlaneTerms(ids, toward, offsets, np.full(len(ids), weight))
    return SkinMatch(planes, int((on_hand & ~near).sum()))


def skin_distances(skeleton: HandSkeleton, configuration: HandConfiguration, terms: PlaneTerms) -> np.ndarray:
    """(M,) m: how far the vertices lie from the planes that `match_skin` gave them."""
    vertices, _ = pose_vertices(skeleton, configuration)
    return np.abs((terms.normals * vertices[terms.vertices]).sum(axis=1) - terms.offsets)


@njit(cache=True)
def _nearest_facing(points: np.ndarray, vertices: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest vertex whose normal faces the camera, -1 if there is none, and its distance."""
    facing = np.empty(len(vertices), np.int64)
    count = 0
    for v in range(len(vertices)):
        if (vertices[v] * normals[v]).sum() < 0.0:
            facing[count] = v
            count += 1
    nearest, distance = np.full(len(points), -1, np.int64), np.full(len(points), np.inf)
    for i in range(len(points)):
        x, y, z = points[i]
        for k in range(count):
            v = facing[k]
            dx, dy, dz = vertices[v, 0] - x, vertices[v, 1] - y, vertices[v, 2] - z
            square = dx * dx + dy * dy + dz * dz
            if square < distance[i]:
                nearest[i], distance[i] = v, square
    return nearest, np.sqrt(distance)
