"""Where a grasp is looked at from: three cameras round the forearm, found from the hand's skin alone.

Fingers point up. The first camera looks between thumb and fingers, the second at the back of the hand, the third from
the little finger's side, a third of a turn apart: what the hand holds hides the palm from a camera right before it. A
left hand is seen from the mirrored places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.mesh import vertex_normals
from grasp_nodes.geometry.rendering import DEFAULT_LIGHT, RayScene, RenderMesh, SurfaceHits, draw_meshes, to_uint8
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_arrays
from grasp_nodes.hand.keypoints import FINGER_JOINTS, WRIST_LOOP, closed_faces

AZIMUTHS = np.deg2rad([65.0, 185.0, 305.0])
"""rad of the views round the forearm: 0 looks into the palm, a quarter of a turn is the thumb's side."""
ELEVATION = np.deg2rad(15.0)
"""rad: the camera stands above the wrist's level, towards the fingertips."""
VIEWS = len(AZIMUTHS)
SUPERSAMPLE = 2
_LIGHT = np.array(DEFAULT_LIGHT) / np.linalg.norm(DEFAULT_LIGHT)
_DISTANCE = 4.0
"""Of the camera from the scene's centre, in radii of the scene: a mild perspective."""
_MARGIN = 0.04
"""Share of a view's edge that stays free on each side."""


@dataclass(frozen=True)
class _HandLandmarks:
    """Vertex ids of the palm's skin and of the ball of the thumb; MANO's topology."""

    palm: np.ndarray
    thumb: np.ndarray


@lru_cache(maxsize=1)
def _landmarks() -> _HandLandmarks:
    arrays = load_hand_arrays("right", OPEN_HAND_FILE)
    normals = vertex_normals(arrays.v_template, closed_faces(arrays.faces))
    palm = (arrays.weights[:, 0] > 0.8) & (normals[:, 1] < -0.8)  # at rest a hand's palm looks along -y
    thumb = arrays.weights.argmax(axis=1) == FINGER_JOINTS["thumb"][0]
    return _HandLandmarks(np.flatnonzero(palm), np.flatnonzero(thumb))


def hand_axes(hand_vertices: np.ndarray, hand_faces: np.ndarray) -> np.ndarray:
    """Where a hand points, from its skin alone.

    Args:
        hand_vertices: (V, 3), m, MANO's vertices first. hand_faces: (F, 3), outward.

    Returns:
        (3, 3) float64, rows: unit towards the thumb's side, along the palm to the fingers, out of the palm.
    """
    ids = _landmarks()
    normals = vertex_normals(hand_vertices, hand_faces)
    wrist = hand_vertices[list(WRIST_LOOP)].mean(axis=0)
    palm = hand_vertices[ids.palm].mean(axis=0)
    out = _unit(normals[ids.palm].mean(axis=0))
    along = palm - wrist
    along = _unit(along - (along @ out) * out)
    beside = np.cross(along, out)
    towards_thumb = np.sign((hand_vertices[ids.thumb].mean(axis=0) - palm) @ beside) or 1.0
    return np.stack([towards_thumb * beside, along, out])


def view_rotation(axes: np.ndarray, azimuth: float, elevation: float = float(ELEVATION)) -> np.ndarray:
    """Rotation from the scene's frame to that of a camera that looks at the hand, fingers up.

    Args:
        axes: (3, 3), as `hand_axes`. azimuth: rad, 0 looks into the palm, a quarter of a turn is the thumb's side.
        elevation: rad, above the wrist's level.

    Returns:
        (3, 3): rows are the camera's x (right), y (down) and z (forward).
    """
    thumb, along, out = axes
    level = np.cos(azimuth) * out + np.sin(azimuth) * thumb
    forward = -(np.cos(elevation) * level + np.sin(elevation) * along)
    right = _unit(np.cross(forward, along))
    return np.stack([right, np.cross(forward, right), forward])


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def framed_camera(points: np.ndarray, size: int, margin: float = _MARGIN) -> tuple[np.ndarray, CameraModel]:
    """A camera that has points as large as they fit.

    Args:
        points: (N, 3), m, in the axes of the camera, anywhere. size: px. margin: free share of the edge.

    Returns:
        (3,) what to add to the points, and the camera.
    """
    centre = (points.max(axis=0) + points.min(axis=0)) / 2
    radius = max(float(np.linalg.norm(points - centre, axis=1).max()), 1e-6)
    shift = np.array([0, 0, _DISTANCE * radius]) - centre
    moved = points + shift
    plane = moved[:, :2] / moved[:, 2:]
    low, high = plane.min(axis=0), plane.max(axis=0)
    focal = (1 - 2 * margin) * size / float((high - low).max())
    principal = (size - 1) / 2 - focal * (low + high) / 2
    matrix = np.array([[focal, 0, principal[0]], [0, focal, principal[1]], [0, 0, 1]])
    return shift, CameraModel(matrix, size, size)


def draw_views(meshes: Sequence[RenderMesh], axes: np.ndarray, size: int, threads: int = 0) -> np.ndarray:
    """Meshes from the three sides, each view filled.

    Args:
        meshes: of the scene, m. axes: (3, 3), as `hand_axes`. size: px, edge of a view.
        threads: of the ray caster, 0 = all cores.

    Returns:
        (3, size, size, 3) uint8, RGB.
    """
    return np.stack([_view(meshes, view_rotation(axes, float(turn)), size, threads) for turn in AZIMUTHS])


def _view(meshes: Sequence[RenderMesh], rotation: np.ndarray, size: int, threads: int) -> np.ndarray:
    """(size, size, 3) uint8: meshes seen by a camera with this rotation."""
    turned = [mesh.vertices @ rotation.T for mesh in meshes]
    shift, camera = framed_camera(np.concatenate(turned), SUPERSAMPLE * size)
    moved = [
        RenderMesh(points + shift, mesh.faces, mesh.colors, mesh.smooth)
        for points, mesh in zip(turned, meshes, strict=True)
    ]
    canvas = np.full((camera.height, camera.width, 3), 1.0)
    draw_meshes(RayScene(moved, threads), camera, canvas, _LIGHT, _shade, supersample=1)
    return cv2.resize(to_uint8(canvas), (size, size), interpolation=cv2.INTER_AREA)


def _shade(_: SurfaceHits, look: np.ndarray, normals: np.ndarray, __: np.ndarray) -> np.ndarray:
    """As `render_meshes`, but bright in creases: contact is always in one, and its colour must be seen there."""
    diffuse = np.clip(normals @ _LIGHT, 0, 1) * (0.4 + 0.6 * look[:, 4])
    ambient = (0.52 - 0.08 * normals[:, 1]) * (0.55 + 0.45 * look[:, 3])
    return look[:, :3] * (ambient + 0.6 * diffuse)[:, None]
