"""What a feature network sees of a grasp: three parallel views, 64 x 64 pixels of 3 mm, of three channels.

The channels are images like any rendering, but a hand behind the object is not hidden: nearness of the hand's first
surface, nearness of the object's first surface, and touch, how near to the object or how deep in it the hand is on
this line of sight. Views are fixed to the hand; a left hand is seen as the right hand that mirrors it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.grasp_views import AZIMUTHS, hand_axes, view_rotation
from grasp_nodes.geometry.mesh import signed_volume
from grasp_nodes.geometry.rendering import RayScene, RenderMesh, interpolate
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_arrays
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.parameters import NUM_VERTICES
from grasp_nodes.objects.model import ObjectModel

PIXELS = 64
CHANNELS = 3
VIEWS = len(AZIMUTHS)
WINDOW = 0.2
"""m, edge of a view, about the middle of the hand."""
REACH = 0.1
"""m before and behind the middle of the hand: nearness falls from 1 to `FARTHEST` between."""
FARTHEST = 0.1
"""Nearness at the far end and behind; 0 is no surface at all."""
TOUCH_RANGE = 0.01
"""m: touch is 0 so far from the surface or without a hand, 1/2 on it, 1 so deep in the object."""


class GraspViews:
    """Draws hands on one object; what depends on the object alone is made once."""

    def __init__(self, object_model: ObjectModel, threads: int = 0) -> None:
        """Prepare the object.

        Args:
            object_model: the object. threads: of the ray caster, 0 = all cores.

        Raises:
            MissingDependencyError: Open3D is not installed.
        """
        self._object, self._threads = object_model, threads
        self._scene = RayScene([_mesh(object_model.vertices, object_model.faces)], threads)

    def __call__(self, hand_vertices: np.ndarray) -> np.ndarray:
        """The images of B hands.

        Args:
            hand_vertices: (B, 778, 3), m, object frame, finite.

        Returns:
            (B, 3 views, 3 channels, 64, 64) uint8; 255 is 1.

        Raises:
            InputError: another shape, or NaN.
        """
        hands = np.asarray(hand_vertices, np.float64)
        if hands.ndim != 3 or hands.shape[1:] != (NUM_VERTICES, 3) or not np.isfinite(hands).all():
            raise InputError(f"hand_vertices: expected finite (B, {NUM_VERTICES}, 3), got shape {hands.shape}")
        images = np.empty((len(hands), VIEWS, CHANNELS, PIXELS, PIXELS), np.uint8)
        for image, hand in zip(images, hands, strict=True):
            image[:] = np.round(255 * self._views(hand))
        return images

    def _views(self, hand: np.ndarray) -> np.ndarray:
        """(3 views, 3 channels, 64, 64) in [0, 1]."""
        faces = _hand_faces()
        if signed_volume(hand, faces) < 0:  # a left hand
            faces = faces[:, ::-1]
        origins, directions = view_rays()
        axes = hand_axes(hand, faces)
        origins, directions = hand.mean(axis=0) + origins @ axes, directions @ axes
        mesh = _mesh(hand, faces)
        distance = self._object.signed_distance.query(hand)[0]
        rows, hits = RayScene([mesh], self._threads).crossings(directions, origins)
        deepest = np.full(len(origins), np.inf)
        np.minimum.at(deepest, rows, interpolate(hits, [mesh], [distance[:, None]])[:, 0])
        first = np.full(len(origins), np.inf)
        np.minimum.at(first, rows, hits.depth)
        channels = [nearness(first), nearness(self._scene.cast(directions, origins).depth), touch(deepest)]
        return np.stack(channels, axis=1).reshape(VIEWS, PIXELS, PIXELS, CHANNELS).transpose(0, 3, 1, 2)


def nearness(depth: np.ndarray) -> np.ndarray:
    """In [0, 1]: depth along a ray, m from the plane `REACH` before the middle of the hand; 0 where it is infinite."""
    share = np.clip(1 - depth / (2 * REACH), 0, 1)
    return np.where(np.isfinite(depth), FARTHEST + (1 - FARTHEST) * share, 0.0)


def touch(signed_distance: np.ndarray) -> np.ndarray:
    """In [0, 1]: signed distance to the object, m, infinite where there is no hand."""
    return np.clip(0.5 - 0.5 * signed_distance / TOUCH_RANGE, 0, 1)


@lru_cache(maxsize=1)
def view_rays() -> tuple[np.ndarray, np.ndarray]:
    """Origins, m, and unit directions (3 * 64 * 64, 3) of the lines of sight, row by row.

    Frame: the axes of `hand_axes` about the middle of the hand.
    """
    step = ((np.arange(PIXELS) + 0.5) / PIXELS - 0.5) * WINDOW
    down, right = np.meshgrid(step, step, indexing="ij")
    plane = np.stack([right, down, np.full_like(right, -REACH)], axis=-1).reshape(-1, 3)
    rotations = [view_rotation(np.eye(3), float(azimuth)) for azimuth in AZIMUTHS]
    origins = np.concatenate([plane @ rotation for rotation in rotations])
    return origins, np.repeat([rotation[2] for rotation in rotations], PIXELS**2, axis=0)


@lru_cache(maxsize=1)
def _hand_faces() -> np.ndarray:
    """(F, 3): MANO's faces with the wrist closed, outward on a right hand."""
    return closed_faces(load_hand_arrays("right", OPEN_HAND_FILE).faces)


def _mesh(vertices: np.ndarray, faces: np.ndarray) -> RenderMesh:
    return RenderMesh(vertices, faces, np.zeros(3))
