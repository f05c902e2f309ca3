"""The camera picture with the fitted hands and object drawn into it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from grasp_nodes.contact.interaction import HandObjectState
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.silhouette import rasterise_depth
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.viewer.colors import OBJECT, contact_colors
from grasp_nodes.viewer.posed_hands import PosedHand

OPACITY = 0.55
BONES = tuple((0 if joint % 4 == 1 else joint - 1, joint) for joint in range(1, 21))
FINGER_COLORS = ((60, 220, 60), (60, 200, 255), (90, 110, 255), (210, 90, 255), (255, 190, 60))
_DRAWN_BITS = 3


def draw_overlay(
    color: np.ndarray,
    camera: CameraModel,
    state: HandObjectState,
    hands: Sequence[PosedHand],
    object_models: Sequence[ObjectModel] = (),
) -> np.ndarray:
    """Shade the meshes half transparent, the nearest in front, and draw the hands' bones on top.

    Args:
        color: (H, W, 3) uint8, RGB, taken by `camera`.
        state: what was fitted; `hands` are its hands, posed.
        object_models: shapes of the state's objects of the same ids; an object without its shape is not drawn.

    Returns:
        (H, W, 3) uint8, RGB, a new array.
    """
    picture = color.copy()
    vertices, faces, face_colors = _collect(state, hands, object_models)
    if len(faces):
        _blend(picture, camera, vertices, faces, face_colors)
    for hand in state.hands:
        _draw_bones(picture, camera.project(hand.keypoints))
    return picture


def _collect(
    state: HandObjectState, hands: Sequence[PosedHand], object_models: Sequence[ObjectModel]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All meshes as one: vertices (V, 3) m camera frame, faces (F, 3), colours (F, 3) float of the faces."""
    parts = [(hand.vertices, hand.faces, contact_colors(hand.contact[hand.faces].mean(1))) for hand in hands]
    shapes = {model.object_id: model for model in object_models}
    for item in state.objects:
        model = shapes.get(item.object_id)
        if model is not None:
            # A state's scale is that of the file's coordinates, and so is the one that the model has already applied.
            size = item.scale / model.scale
            moved = model.vertices * size @ item.T_camera_object[:3, :3].T + item.T_camera_object[:3, 3]
            parts.append((moved, model.faces, np.tile(OBJECT, (len(model.faces), 1))))
    if not parts:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64), np.zeros((0, 3))
    starts = np.cumsum([0, *(len(vertices) for vertices, _, _ in parts[:-1])])
    return (
        np.concatenate([vertices for vertices, _, _ in parts]).astype(np.float64),
        np.concatenate([faces + start for (_, faces, _), start in zip(parts, starts, strict=True)]),
        np.concatenate([colors for _, _, colors in parts]).astype(np.float32),
    )


def _blend(
    picture: np.ndarray, camera: CameraModel, vertices: np.ndarray, faces: np.ndarray, face_colors: np.ndarray
) -> None:
    pixels = np.nan_to_num(camera.project(vertices), nan=-1e6)
    _, face = rasterise_depth(pixels[None], vertices[None, :, 2], faces, *picture.shape[:2])
    row, column = np.nonzero(face[0] >= 0)
    if not len(row):
        return
    seen = face[0, row, column]
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = np.abs(normal[:, 2]) / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
    shaded = face_colors * (0.45 + 0.55 * facing[:, None]).astype(np.float32)
    picture[row, column] = (picture[row, column] * (1 - OPACITY) + shaded[seen] * OPACITY).astype(np.uint8)


def _draw_bones(picture: np.ndarray, keypoints: np.ndarray) -> None:
    """keypoints: (21, 2), px; bones with an end behind the camera are left out."""
    fixed = np.round(np.nan_to_num(keypoints, nan=-1e4) * 2**_DRAWN_BITS).astype(int)
    for start, end in BONES:
        if np.isfinite(keypoints[[start, end]]).all():
            finger = FINGER_COLORS[(end - 1) // 4]
            cv2.line(picture, fixed[start].tolist(), fixed[end].tolist(), finger, 1, cv2.LINE_AA, _DRAWN_BITS)
    for point, finger_color in zip(fixed[1:], np.repeat(FINGER_COLORS, 4, 0).tolist(), strict=True):
        cv2.circle(picture, point.tolist(), 2 << _DRAWN_BITS, finger_color, -1, cv2.LINE_AA, _DRAWN_BITS)
