"""Pictures of the states of a clip: in the camera's picture, and from the side, where errors in depth show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from grasp_nodes.contact.interaction import HandObjectState
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.viewer.overlay import draw_overlay
from grasp_nodes.viewer.posed_hands import HandPoser, PosedHand

SIDE_FIELD_OF_VIEW = np.deg2rad(30.0)
FILL = 1.1
"""Free space around what is seen from the side."""


class StatePainter:
    """Draws states; the meshes of hands and objects are kept from picture to picture."""

    def __init__(self, object_models: Sequence[ObjectModel] = (), hand_model: str | None = None) -> None:
        """Prepare the shapes.

        Args:
            object_models: by whose ids the states name their objects. hand_model: file, None = the default hand.
        """
        self._objects = tuple(object_models)
        self._poser = HandPoser(hand_model)
        self._from_left: bool | None = None

    def overlay(self, frame: Frame, state: HandObjectState) -> np.ndarray:
        """The state drawn into the frame's picture: (H, W, 3) uint8, RGB."""
        return draw_overlay(frame.color, frame.camera, state, self._posed(state), self._objects)

    def points(self, state: HandObjectState) -> np.ndarray:
        """(N, 3), m, camera frame: vertices of all hands and objects of the state."""
        parts = [hand.vertices for hand in self._posed(state)] + [self._corners(state)]
        return np.concatenate([part.reshape(-1, 3) for part in parts])

    def side_view(self, state: HandObjectState, size: int, beside: Sequence[HandObjectState] = ()) -> np.ndarray:
        """Hands and objects as seen from the camera's right, where the camera looks to the right, or from its left.

        The side is that on which the hand is in the first state with a hand and an object; it stays for the clip.

        Args:
            state: in the camera's frame. size: px, edge of the picture.
            beside: others that the picture has room for, too, so that their pictures can be compared with this one.

        Returns:
            (size, size, 3) uint8, RGB; white where the state is empty.
        """
        picture = np.full((size, size, 3), 255, np.uint8)
        hands = self._posed(state)
        cloud = np.concatenate([self.points(each) for each in (state, *beside)])
        if not (state.hands or state.objects) or not len(cloud):
            return picture
        center = (cloud.max(axis=0) + cloud.min(axis=0)) / 2
        radius = max(float(np.linalg.norm(cloud - center, axis=1).max()), 1e-3)
        distance = FILL * radius / np.sin(SIDE_FIELD_OF_VIEW / 2)
        # A quarter turn about the vertical axis: what is far (z) comes to lie on the right (x), what is right, near.
        sign = -1.0 if self._sees_from_left(hands, state) else 1.0
        turn = np.array([[0.0, 0.0, sign], [0.0, 1.0, 0.0], [-sign, 0.0, 0.0]])
        move = np.eye(4)
        move[:3, :3] = turn
        move[:3, 3] = np.array([0.0, 0.0, distance]) - turn @ center
        focal = size / 2 / np.tan(SIDE_FIELD_OF_VIEW / 2)
        middle = (size - 1) / 2
        camera = CameraModel(np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]]), size, size)
        seen = [replace(hand, vertices=_moved(hand.vertices, move).astype(np.float32)) for hand in hands]
        return draw_overlay(picture, camera, _moved_state(state, move), seen, self._objects)

    def _sees_from_left(self, hands: Sequence[PosedHand], state: HandObjectState) -> bool:
        corners = self._corners(state)
        if self._from_left is None and hands and len(corners):
            self._from_left = bool(hands[0].vertices[:, 0].mean() < corners[:, 0].mean())
        return bool(self._from_left)

    def _posed(self, state: HandObjectState) -> list[PosedHand]:
        return [self._poser.pose(hand, state) for hand in state.hands]

    def _corners(self, state: HandObjectState) -> np.ndarray:
        """(N, 3), m, camera frame: vertices of the objects whose shapes are known."""
        shapes = {model.object_id: model for model in self._objects}
        parts = [
            _moved(
                shapes[found.object_id].vertices * found.scale / shapes[found.object_id].scale, found.T_camera_object
            )
            for found in state.objects
            if found.object_id in shapes
        ]
        return np.concatenate([np.zeros((0, 3)), *parts])


def _moved(points: np.ndarray, transform: np.ndarray) -> np.ndarray:
    return np.asarray(points @ transform[:3, :3].T + transform[:3, 3])


def _moved_state(state: HandObjectState, transform: np.ndarray) -> HandObjectState:
    """What `draw_overlay` reads of a state, in another camera's frame."""
    return replace(
        state,
        hands=tuple(replace(hand, keypoints=_moved(hand.keypoints, transform)) for hand in state.hands),
        objects=tuple(replace(found, T_camera_object=transform @ found.T_camera_object) for found in state.objects),
    )
