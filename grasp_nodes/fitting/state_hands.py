"""Hands of states exchanged for refined ones, with the contact maps that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from grasp_nodes.contact.computation import compute_contact_map
from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.interaction import HandObjectState, HandState, ObjectState
from grasp_nodes.contact.springs import SPRING_REACH
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.model import ObjectModel


class StateHands:
    """What is known of the hands and objects of states.

    Args:
        hand_models: by side, on the CPU. object_models: by object id.
    """

    def __init__(self, hand_models: Mapping[Side, HandModel], object_models: Mapping[str, ObjectModel]) -> None:
        self.models, self.objects = dict(hand_models), dict(object_models)
        self._scaled: dict[tuple[str, float], ObjectModel] = {}

    def exchanged(self, state: HandObjectState, number: int, new: HandState) -> HandObjectState:
        """The state with another hand at a place; track, score and whether it is metric stay those of the old one."""
        old = state.hands[number]
        hand = replace(new, track_id=old.track_id, score=old.score, is_metric=old.is_metric)
        model = self.models[hand.params.side]
        with torch.no_grad():
            vertices = model(hand.params.to(dtype=model.dtype)).vertices[0].double().numpy()
        maps = tuple(
            self._contact(one, state, hand, vertices) if is_of(one, hand) and one.object_id in self.objects else one
            for one in state.contact_maps
        )
        hands = tuple(hand if k == number else other for k, other in enumerate(state.hands))
        return replace(state, hands=hands, contact_maps=maps)

    def scale_of(self, found: ObjectState) -> float:
        """Of the object as it was fitted to its model as it was loaded."""
        return round(found.scale / self.objects[found.object_id].scale, 9)

    def object_model(self, object_id: str, scale: float) -> ObjectModel:
        """An object's model in another size."""
        if scale == 1.0:
            return self.objects[object_id]
        if (object_id, scale) not in self._scaled:
            self._scaled = {(object_id, scale): self.objects[object_id].resized(scale)}
        return self._scaled[object_id, scale]

    def _contact(self, before: ContactMap, state: HandObjectState, hand: HandState, vertices: np.ndarray) -> ContactMap:
        found = next(one for one in state.objects if one.object_id == before.object_id)
        side = hand.params.side
        return compute_contact_map(
            (vertices - found.T_camera_object[:3, 3]) @ found.T_camera_object[:3, :3],
            closed_faces(self.models[side].faces.cpu().numpy()),
            self.object_model(found.object_id, self.scale_of(found)),
            before.contact_threshold,
            side,
            hand.track_id,
            anchors_of(self.models[side]),
            SPRING_REACH,
        )


def is_of(contact: ContactMap, hand: HandState) -> bool:
    """Whether a contact map is of a hand."""
    return (contact.hand_side, contact.hand_track_id) == (hand.params.side, hand.track_id)
