"""Pictures of grasps: three views of a hand on its object, the hand coloured by contact, and sheets of many grasps.

Colours of the hand: warm where it touches (within 2 mm of the surface), violet where it is deeper in the object, skin
elsewhere. The object is grey. Fingers point up; the first view sees the palm's side, the other two are a third of a
turn further round the forearm, so that every side of the hand is seen once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.mesh import vertex_normals
from grasp_nodes.geometry.mesh_distance import MeshDistance
from grasp_nodes.geometry.rendering import (
    DEFAULT_LIGHT,
    RayScene,
    RenderMesh,
    SurfaceHits,
    contact_sheet,
    draw_meshes,
    to_uint8,
)
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_arrays
from grasp_nodes.hand.keypoints import FINGER_JOINTS, WRIST_LOOP, closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_VERTICES, HandParams
from grasp_nodes.viewer.colors import CONTACT, GRASPED_OBJECT, PENETRATION, SKIN

TOUCHING = 0.002
"""m: nearer than this, outside or inside, is touching."""
FADE = 0.001
"""m over which one colour becomes the next."""
AZIMUTHS = np.deg2rad([25.0, 145.0, 265.0])
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
_CAPTION_HEIGHT = 0.09
"""Of a caption's strip, as a share of a view's edge."""


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


def contact_tints(signed_distance: np.ndarray) -> np.ndarray:
    """Colours of hand vertices by their distance to the object.

    Args:
        signed_distance: (V,), m, negative inside the object; NaN is shown as skin.

    Returns:
        (V, 3) float64 in [0, 1], RGB.
    """
    distance = np.nan_to_num(np.asarray(signed_distance, np.float64), nan=np.inf)
    touching = np.clip((TOUCHING + FADE - distance) / FADE, 0, 1)[:, None]
    deep = np.clip((-TOUCHING - distance) / FADE, 0, 1)[:, None]
    tint = SKIN * (1 - touching) + CONTACT * touching
    return (tint * (1 - deep) + PENETRATION * deep) / 255


def grasp_picture(
    hand_vertices: np.ndarray,
    hand_faces: np.ndarray,
    object_vertices: np.ndarray,
    object_faces: np.ndarray,
    signed_distance: np.ndarray | None = None,
    size: int = 200,
    threads: int = 0,
) -> np.ndarray:
    """Three views of one grasp side by side.

    Args:
        hand_vertices: (V, 3), m, MANO's vertices first; with NaN only the object is drawn.
        hand_faces: (F, 3), outward. object_vertices: (W, 3), m, the same frame. object_faces: (G, 3).
        signed_distance: (V,), m, negative inside the object; None = the hand is not coloured by contact.
        size: px, edge of a view. threads: of the ray caster, 0 = all cores.

    Returns:
        (size, 3 * size, 3) uint8, RGB.

    Raises:
        InputError: arrays of other shapes. MissingDependencyError: Open3D is not installed.
    """
    hand = np.asarray(hand_vertices, np.float64)
    item = np.asarray(object_vertices, np.float64)
    if hand.ndim != 2 or hand.shape[1] != 3 or len(hand) < NUM_VERTICES:
        raise InputError(f"hand_vertices: expected (V, 3) with the {NUM_VERTICES} of a hand, got {hand.shape}")
    if signed_distance is not None and signed_distance.shape != hand.shape[:1]:
        raise InputError(f"signed_distance: expected shape {hand.shape[:1]}, got {signed_distance.shape}")
    known = bool(np.isfinite(hand).all())
    meshes = [RenderMesh(item, object_faces, GRASPED_OBJECT / 255, smooth=False)]
    if known:
        tint = SKIN / 255 if signed_distance is None else contact_tints(signed_distance)
        meshes.append(RenderMesh(hand, hand_faces, tint))
    axes = hand_axes(hand, hand_faces) if known else np.eye(3)
    return np.hstack([_view(meshes, view_rotation(axes, float(turn)), size, threads) for turn in AZIMUTHS])


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


def grasp_pictures(
    hand_vertices: np.ndarray,
    hand_faces: np.ndarray,
    object_vertices: np.ndarray,
    object_faces: np.ndarray,
    signed_distance: np.ndarray | None = None,
    size: int = 200,
    threads: int = 0,
) -> list[np.ndarray]:
    """Three views of each of B grasps of one object; as `grasp_picture`, with (B, V, 3) and (B, V).

    Returns:
        B pictures (size, 3 * size, 3) uint8, RGB.
    """
    if hand_vertices.ndim != 3:
        raise InputError(f"hand_vertices: expected (B, V, 3), got {hand_vertices.shape}")
    if signed_distance is not None and signed_distance.shape != hand_vertices.shape[:2]:
        raise InputError(f"signed_distance: expected shape {hand_vertices.shape[:2]}, got {signed_distance.shape}")
    distances = [None] * len(hand_vertices) if signed_distance is None else list(signed_distance)
    return [
        grasp_picture(hand, hand_faces, object_vertices, object_faces, distance, size, threads)
        for hand, distance in zip(hand_vertices, distances, strict=True)
    ]


def captioned(picture: np.ndarray, caption: str) -> np.ndarray:
    """A picture (H, W, 3) uint8 with a strip of small text under it; text too long for it is cut."""
    size = picture.shape[0]
    height = max(round(_CAPTION_HEIGHT * size), 14)
    strip = np.full((height, picture.shape[1], 3), 255, np.uint8)
    scale = height / 30
    text = caption.encode("ascii", "replace").decode()
    while text and cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] > picture.shape[1] - 8:
        text = text[:-1]
    place = (4, round(0.7 * height))
    cv2.putText(strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (40, 40, 40), 1, cv2.LINE_AA)
    return np.vstack([picture, strip])


def grasp_sheet(cells: Sequence[tuple[np.ndarray, str]], columns: int, path: Path) -> None:
    """Write pictures of one size with their captions as a PNG, row by row.

    Args:
        cells: picture (H, W, 3) uint8, RGB, and caption, such as "mug:12 power 3". columns: of the sheet.
        path: the PNG; its folder must exist.

    Raises:
        InputError: no cell, or it cannot be written.
    """
    tiles = [cv2.copyMakeBorder(captioned(*cell), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(205,) * 3) for cell in cells]
    columns = min(columns, len(tiles))
    if tiles:  # white where the last row has no grasps
        tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    write_png(path, contact_sheet(tiles, columns))


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) uint8, RGB.

    Raises:
        InputError: the name does not end in .png, or the file cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"picture {path}: expected a name that ends in .png")
    try:
        path.write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
    except OSError as error:
        raise InputError(f"picture {path}: could not be written ({error})") from error


def write_grasp_sheet(
    path: Path,
    hands: HandParams,
    hand_model: HandModel,
    objects: Sequence[tuple[np.ndarray, np.ndarray]],
    captions: Sequence[str],
    columns: int = 4,
    size: int = 200,
    threads: int = 0,
) -> None:
    """Write a sheet of grasps, coloured by their distance to their objects.

    Args:
        path: the PNG. hands: B hands, each in the frame of its object. hand_model: of their side and dtype.
        objects: B times vertices (W, 3), m, and outward faces (G, 3), closed. captions: B.
        columns: grasps in a row. size: px, edge of a view. threads: of the ray caster, 0 = all cores.

    Raises:
        InputError: counts that differ, or a file that cannot be written.
    """
    if not len(hands) == len(objects) == len(captions):
        raise InputError(f"sheet {path}: {len(hands)} hands, {len(objects)} objects and {len(captions)} captions")
    with torch.no_grad():
        vertices = hand_model(hands).vertices.cpu().numpy()
    faces = closed_faces(hand_model.faces.cpu().numpy())
    distances: dict[int, MeshDistance] = {}
    cells = []
    for hand, (item, item_faces), caption in zip(vertices, objects, captions, strict=True):
        # Grasps of one object mostly come with the same array.
        if id(item) not in distances:
            distances[id(item)] = MeshDistance(item, item_faces)
        known = np.isfinite(hand).all()
        signed = distances[id(item)].signed(hand.astype(np.float64))[0] if known else np.full(len(hand), np.nan)
        cells.append((grasp_picture(hand, faces, item, item_faces, signed, size, threads), caption))
    grasp_sheet(cells, columns, path)
