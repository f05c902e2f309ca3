"""The contact map of a known hand and object, on the points that an estimate used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from grasp_nodes.contact.computation import compute_contact_map
from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.interaction import HandObjectState
from grasp_nodes.errors import InputError
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.model import ObjectModel


class TrueContact:
    """Computes contact maps from hand parameters and object poses; loads the hand model of each side once.

    Args:
        object_model: the object of the states.
        hand_model_path: hand model file, None for the open hand.
    """

    def __init__(self, object_model: ObjectModel, hand_model_path: str | None = None) -> None:
        self._object, self._path = object_model, hand_model_path
        self._hands: dict[Side, tuple[HandModel, np.ndarray]] = {}

    def __call__(self, state: HandObjectState, points: np.ndarray) -> ContactMap:
        """Contact of the first hand and the first object of a state.

        Args:
            points: (N, 3), m, object frame, where contact is wanted.

        Raises:
            InputError: the state has no hand or no object, or its hand belongs to another hand model.
        """
        if not state.hands or not state.objects:
            raise InputError("true contact: the state has no hand or no object")
        hand = state.hands[0]
        model, faces = self._hand(hand.params.side)
        if hand.model_fingerprint and hand.model_fingerprint != model.fingerprint:
            raise InputError(
                f"true contact: the state's hand is {hand.model_id} ({hand.model_fingerprint[:12]}), the loaded model "
                f"{model.model_id} ({model.fingerprint[:12]}): give the hand model that the recording was made with"
            )
        with torch.no_grad():
            vertices = model(hand.params.to(dtype=model.dtype, device="cpu")).vertices[0].double().numpy()
        T_camera_object = state.objects[0].T_camera_object
        in_object = (vertices - T_camera_object[:3, 3]) @ T_camera_object[:3, :3]
        probed = replace(self._object, points=np.asarray(points, np.float32))
        return compute_contact_map(in_object, faces, probed, hand_side=hand.params.side, anchors=anchors_of(model))

    def _hand(self, side: Side) -> tuple[HandModel, np.ndarray]:
        if side not in self._hands:
            model = load_hand_model(side, self._path)
            self._hands[side] = model, closed_faces(model.faces.numpy())
        return self._hands[side]
