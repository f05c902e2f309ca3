"""Draws one hand that holds one object, as a crop looks: any side, light, skin, surface and background."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.data.backdrops import backdrop, cover_edges
from grasp_nodes.data.benchmark_looks import ClipLook, clip_look
from grasp_nodes.data.shading import photograph, skin_shader
from grasp_nodes.data.skin import SkinnedArm
from grasp_nodes.geometry.crop_camera import CropCamera, turn_forward
from grasp_nodes.geometry.rendering import RayScene, RenderMesh, draw_meshes
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.hand.placement import move_hands

DISTANCE = (0.3, 0.9)
"""m, of the camera from the middle of hand and object."""
MARGIN = (1.05, 1.45)
"""Width of the crop as a multiple of what hand and object need."""
SHIFT = 0.08
"""Of that width: how far the crop may miss the middle."""
ALONG_ARM = 0.85
"""Cosine between the view and the forearm above which the arm would hide the hand."""
LEAST_HAND, LEAST_OBJECT = 0.05, 0.025
"""Share of the crop's pixels that must show them."""
TRIALS = 6
WRIST_BEND = 0.35
"""rad, deviation of each coordinate of the forearm's turn against the hand."""
SKIN_SUBDIVISIONS = 1
AMBIENT_RAYS, SHADOW_RAYS = 10, 4
"""Of each vertex: fewer than for films, where they must not flicker."""
COVERED, COARSE = 0.2, 0.35
"""Share of images with a thing before their border, and of those that were taken from far away."""
COARSEST = 0.375
"""Size of a crop taken from far away, before it was enlarged, as a share of what it becomes."""


@dataclass(frozen=True, eq=False)
class DrawnHand:
    """One crop.

    image: (S, S, 3) uint8. focal: px. hand: one, and T_camera_object: (4, 4), both in the crop's camera.
    hand_share, object_share: of the crop's pixels.
    """

    image: np.ndarray
    focal: float
    hand: HandParams
    T_camera_object: np.ndarray
    hand_share: float
    object_share: float


class HandObjectDrawer:
    """Draws hands on one object.

    Args:
        model: of the right hand, float32. vertices: (V, 3) m, object's frame, and faces: (F, 3), of the object.
        size: px, of the crops.
    """

    def __init__(self, model: HandModel, vertices: np.ndarray, faces: np.ndarray, size: int) -> None:
        self._model, self._vertices, self._faces, self._size = model, vertices, faces, size
        self._paint = SkinnedArm(model, SKIN_SUBDIVISIONS).skin_paint
        self._half_extent = 0.5 * (vertices.max(axis=0) - vertices.min(axis=0))

    def draw(self, hand: HandParams, rng: np.random.Generator) -> DrawnHand | None:
        """One hand from a direction that shows it and the object; None where none was found.

        Args:
            hand: one, in the object's frame. rng: of everything random.
        """
        with torch.no_grad():
            output = self._model(hand)
        vertices = output.vertices[0].double().numpy()
        wrist = output.joint_frames[0, 0].double().numpy()
        bend = rng.normal(0, WRIST_BEND, 3)
        look = clip_look(rng, self._half_extent, bend, 0)
        arm = SkinnedArm(self._model, SKIN_SUBDIVISIONS, hand.betas[0].double().numpy(), look.arm, self._paint)
        skin = arm.vertices(vertices, wrist)
        elbow = Rotation.from_matrix(wrist[:3, :3]).apply(Rotation.from_rotvec(bend).apply([1.0, 0.0, 0.0]))
        for _ in range(TRIALS):
            T_view = _view(rng, np.concatenate([vertices, self._vertices]), elbow)
            crop, T_camera = self._crop(rng, T_view, vertices)
            image, hand_share, object_share = self._picture(rng, crop, T_camera, arm, skin, look)
            if hand_share >= LEAST_HAND and object_share >= LEAST_OBJECT:
                moved = move_hands(hand, T_camera, self._model)
                return DrawnHand(image, crop.focal, moved, T_camera, hand_share, object_share)
        return None

    def _crop(
        self, rng: np.random.Generator, T_view: np.ndarray, hand_vertices: np.ndarray
    ) -> tuple[CropCamera, np.ndarray]:
        """The crop's camera, and T_camera_object (4, 4) there."""
        points = np.concatenate([hand_vertices, self._vertices]) @ T_view[:3, :3].T + T_view[:3, 3]
        flat = points[:, :2] / points[:, 2:]
        low, high = flat.min(axis=0), flat.max(axis=0)
        reach = float((high - low).max())
        middle = 0.5 * (low + high) + rng.uniform(-SHIFT, SHIFT, 2) * reach
        turn = turn_forward(np.append(middle, 1.0))
        crop = CropCamera(self._size, self._size / (reach * rng.uniform(*MARGIN)), turn)
        turned = np.eye(4)
        turned[:3, :3] = turn
        return crop, turned @ T_view

    def _picture(
        self,
        rng: np.random.Generator,
        crop: CropCamera,
        T_camera: np.ndarray,
        arm: SkinnedArm,
        skin: np.ndarray,
        look: ClipLook,
    ) -> tuple[np.ndarray, float, float]:
        """Image, and the shares of hand and object in it."""
        rotation, shift = T_camera[:3, :3], T_camera[:3, 3]
        meshes = [
            RenderMesh(skin @ rotation.T + shift, arm.faces, np.clip(arm.colors, 0, 1)),
            RenderMesh(self._vertices @ rotation.T + shift, self._faces, look.coat(self._vertices)),
        ]
        light = np.array(look.studio.light) / np.linalg.norm(look.studio.light)
        canvas = backdrop(rng, self._size, crop.focal, look.studio.table)
        shader = skin_shader(light, look.studio)
        _, hits = draw_meshes(
            RayScene(meshes, threads=1), crop.camera, canvas, light, shader, 2, AMBIENT_RAYS, SHADOW_RAYS
        )
        is_hand = (hits.mesh == 0) & ~arm.is_forearm[hits.triangle * (hits.mesh == 0)]
        if rng.random() < COVERED:
            canvas = cover_edges(rng, canvas)
        if rng.random() < COARSE:
            canvas = _coarse(canvas, int(rng.integers(int(COARSEST * self._size), self._size)))
        image = photograph(canvas, rng, rng.uniform(0.3, 1.1), look.studio.color_noise)
        area = self._size**2
        return image, float(is_hand.sum()) / area, float((hits.mesh == 1).sum()) / area


def _view(rng: np.random.Generator, points: np.ndarray, elbow: np.ndarray) -> np.ndarray:
    """(4, 4), T_camera_object: from any side, but not along the arm.

    Args:
        points: (N, 3), m, of hand and object. elbow: (3,), direction from the hand to the elbow. Object's frame.
    """
    turn = Rotation.random(random_state=rng).as_matrix()
    while (turn @ elbow)[2] < -ALONG_ARM:
        turn = Rotation.random(random_state=rng).as_matrix()
    middle = 0.5 * (points.min(axis=0) + points.max(axis=0))
    pose = np.eye(4)
    pose[:3, :3] = turn
    reach = 0.5 * float(np.linalg.norm(points.max(axis=0) - points.min(axis=0)))
    pose[:3, 3] = [0.0, 0.0, max(rng.uniform(*DISTANCE), reach + 0.1)] - turn @ middle
    return pose


def _coarse(image: np.ndarray, size: int) -> np.ndarray:
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
