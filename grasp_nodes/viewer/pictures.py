"""Pictures of grasps: three views of a hand on its object, the hand coloured by contact, and sheets of many grasps.

Colours of the hand: warm where it touches (within 2 mm of the surface), violet where it is deeper in the object, skin
elsewhere. The object is grey. The views are those of `grasp_views`: between thumb and fingers, the back, and from the
little finger's side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.grasp_views import draw_views, hand_axes
from grasp_nodes.geometry.mesh_distance import MeshDistance
from grasp_nodes.geometry.rendering import RenderMesh, contact_sheet
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_VERTICES, HandParams
from grasp_nodes.viewer.colors import CONTACT, GRASPED_OBJECT, PENETRATION, SKIN

TOUCHING = 0.002
"""m: nearer than this, outside or inside, is touching."""
FADE = 0.001
"""m over which one colour becomes the next."""
_CAPTION_HEIGHT = 0.09
"""Of a caption's strip, as a share of a view's edge."""
_JPEG_QUALITIES = (92, 85, 75, 65, 50, 35)


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
    return np.hstack(list(draw_views(meshes, axes, size, threads)))


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


def write_jpeg(path: Path, picture: np.ndarray, most_bytes: int) -> None:
    """Write (H, W, 3) uint8, RGB, in the best quality that fits; where none does, in the least.

    Raises:
        InputError: the name does not end in .jpg, or the file cannot be written.
    """
    if path.suffix.lower() != ".jpg":
        raise InputError(f"picture {path}: expected a name that ends in .jpg")
    content = b""
    for quality in _JPEG_QUALITIES:
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
        content = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), options)[1].tobytes()
        if len(content) <= most_bytes:
            break
    try:
        path.write_bytes(content)
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
    distances: dict[int, tuple[np.ndarray, MeshDistance]] = {}
    cells = []
    for hand, (item, item_faces), caption in zip(vertices, objects, captions, strict=True):
        # Grasps of one object mostly come with the same array; it is kept, so that its id stays its own.
        if id(item) not in distances:
            distances[id(item)] = item, MeshDistance(item, item_faces, any_mesh=True)
        known = np.isfinite(hand).all()
        signed = distances[id(item)][1].signed(hand.astype(np.float64))[0] if known else np.full(len(hand), np.nan)
        cells.append((grasp_picture(hand, faces, item, item_faces, signed, size, threads), caption))
    grasp_sheet(cells, columns, path)
