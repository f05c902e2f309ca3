"""GeO on reconstructed states: each hand that touches an object is refined by the springs of its own contact map."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from grasp_nodes.contact.contact_map import REGION_NOT_COMPUTED, ContactMap
from grasp_nodes.contact.hand_states import hand_states, stack_params
from grasp_nodes.contact.interaction import HandObjectState, ObjectState
from grasp_nodes.fitting.geo.refiner import GeoRefiner
from grasp_nodes.fitting.geo.result import NO_SPRINGS
from grasp_nodes.fitting.geo.settings import GeoSettings
from grasp_nodes.fitting.state_hands import StateHands, is_of
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.objects.model import ObjectModel

logger = logging.getLogger(__name__)

NO_MODEL = "no hand model of their side"
NO_CONTACT_MAP = "no contact map with an object whose model is known"
NO_REGIONS = "their contact maps have no regions, which springs need"


class GeoStateRefiner:
    """Refines the hands of states; objects stay where they were seen.

    A hand that is near several objects is drawn to the one that its springs pull at most; one that is 20 mm away from
    all, and one whose contact map has no regions, stays as it is; the first time a
    warning says why.

    Args:
        hand_models: by side. object_models: by object id. settings: weights; the object is never moved.
    """

    def __init__(
        self,
        hand_models: Mapping[Side, HandModel],
        object_models: Mapping[str, ObjectModel],
        settings: GeoSettings | None = None,
    ) -> None:
        self._hands = StateHands(hand_models, object_models)
        chosen = replace(settings or GeoSettings(), move_object=False)
        self._refiners = {side: GeoRefiner(model, chosen) for side, model in self._hands.models.items()}
        self._told: set[str] = set()

    def refine(self, states: Sequence[HandObjectState]) -> list[HandObjectState]:
        """The states with refined hands and their contact maps; hands of one side at one object are done together."""
        groups: dict[tuple[Side, str, float], list[tuple[int, int, ContactMap, ObjectState]]] = {}
        left: Counter[str] = Counter()
        for row, state in enumerate(states):
            placed = {found.object_id: found for found in state.objects if found.object_id in self._hands.objects}
            for number, hand in enumerate(state.hands):
                own = [one for one in state.contact_maps if is_of(one, hand) and one.object_id in placed]
                contact = _most_touched(own)
                if hand.params.side not in self._hands.models:
                    left[NO_MODEL] += 1
                elif contact is None:
                    left[_why_untouched(own)] += 1
                else:
                    found = placed[contact.object_id]
                    key = (hand.params.side, found.object_id, self._hands.scale_of(found))
                    groups.setdefault(key, []).append((row, number, contact, found))
        for reason, count in left.items():
            # A node refines frame by frame: each reason is worth one warning.
            level = logging.DEBUG if reason in self._told else logging.WARNING
            self._told.add(reason)
            logger.log(level, "GeO: %d hands of %d frames stay as they are: %s", count, len(states), reason)
        result = list(states)
        for (side, object_id, scale), members in groups.items():
            model, item = self._hands.models[side], self._hands.object_model(object_id, scale)
            dtype = model.dtype
            hands = stack_params([states[row].hands[number].params for row, number, _, _ in members])
            hands = hands.to(dtype=dtype, device="cpu")
            poses = np.stack([found.T_camera_object for _, _, _, found in members])
            refiner = self._refiners[side]
            here = move_hands(hands, np.linalg.inv(poses), model)
            refined = refiner.refine(
                here,
                item,
                refiner.springs_of_contact([contact for _, _, contact, _ in members], here),
            )
            back = hand_states(move_hands(refined.hands, poses, model).to(dtype=torch.float32), model)
            for (row, number, _, _), new in zip(members, back, strict=True):
                result[row] = self._hands.exchanged(result[row], number, new)
        return result


def _most_touched(contact_maps: Sequence[ContactMap]) -> ContactMap | None:
    """The contact map with the strongest springs, None where there are none: elasticity is 0 from 20 mm on."""
    best, most = None, 0.0
    for contact in contact_maps:
        strength = float(np.nansum(contact.elasticity[contact.region != REGION_NOT_COMPUTED]))
        if strength > most:
            best, most = contact, strength
    return best


def _why_untouched(contact_maps: Sequence[ContactMap]) -> str:
    """Of a hand without springs, by its own contact maps."""
    if not contact_maps:
        return NO_CONTACT_MAP
    if all((contact.region == REGION_NOT_COMPUTED).all() for contact in contact_maps):
        return NO_REGIONS
    return NO_SPRINGS
