"""Meshes of the hands of a state, with the contact that was measured on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from grasp_nodes.contact.interaction import HandObjectState, HandState
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.viewer.colors import REGION_COLORS


@dataclass(frozen=True)
class PosedHand:
    """vertices: (778, 3) float32, m, camera frame. faces: (1538, 3) int64. contact: (778,) float32, 0..1."""

    vertices: np.ndarray
    faces: np.ndarray
    contact: np.ndarray


class HandPoser:
    """Turns hand parameters into meshes; loads the model of each side once.

    path: hand model file, None for the default hand.
    """

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._models: dict[str, HandModel] = {}

    def model(self, side: str) -> HandModel:
        """The hand model of one side."""
        if side not in self._models:
            self._models[side] = load_hand_model(side="left" if side == "left" else "right", path=self._path)
        return self._models[side]

    def region_colors(self, side: str) -> np.ndarray:
        """(778, 3) in [0, 1], RGB: the colour of each vertex' region."""
        return REGION_COLORS[anchors_of(self.model(side)).vertex_region] / 255.0

    def pose(self, hand: HandState, state: HandObjectState) -> PosedHand:
        """Mesh of one hand of `state`, in the state's frame."""
        vertices, faces = self.mesh(hand)
        contact = np.zeros(len(vertices), np.float32)
        for contact_map in state.contact_maps:
            if contact_map.hand_side == hand.params.side and contact_map.hand_track_id == hand.track_id:
                contact = np.maximum(contact, contact_map.hand_contact)
        return PosedHand(vertices, faces, contact)

    def mesh(self, hand: HandState) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (778, 3) float32, m, in the hand's frame, and faces (1538, 3)."""
        model = self.model(hand.params.side)
        with torch.no_grad():
            vertices = model(hand.params.to(dtype=model.dtype, device="cpu")).vertices[0].numpy()
        return vertices.astype(np.float32), model.faces.numpy()
