"""The weakest hands of reconstructed states, given to a refiner of grasps; the others stay as they were fitted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from grasp_nodes.contact.hand_states import hand_states
from grasp_nodes.contact.interaction import HandObjectState, HandState, ObjectState
from grasp_nodes.evaluation.harness.protocols import Polisher
from grasp_nodes.fitting.state_hands import StateHands
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.objects.model import ObjectModel

logger = logging.getLogger(__name__)

BEFORE, AFTER = "refined_depth_before", "refined_depth_after"
"""In a state's `residuals`: m, how deep the refined hands of a state were in objects, and are; the deepest."""


@dataclass(frozen=True)
class WeakHandSettings:
    """Which hands are given to the refiner, and which of its answers are taken.

    near: m, of an object; others grasp nothing. deep: m, skin in the object: deeper is weak. score: less is weak.
    furthest: m, mean motion of the keypoints above which an answer is of another grasp, and is not taken.
    """

    near: float = 0.02
    deep: float = 0.006
    score: float = 0.3
    furthest: float = 0.06


class WeakHandRefiner:
    """Refines what is weak: hands that are deep in the object that they grasp, or hardly seen.

    An answer counts only if the hand is no deeper in the object than before, and not far away. What was done is in the
    states' residuals and, once for all states of a call, in the log.

    Args:
        hand_models: by side, on the CPU. object_models: by object id. refine: the refiner. sides: of hands that it can
            refine. settings: see there.
    """

    def __init__(
        self,
        hand_models: Mapping[Side, HandModel],
        object_models: Mapping[str, ObjectModel],
        refine: Polisher,
        sides: Sequence[Side] = ("right",),
        settings: WeakHandSettings | None = None,
    ) -> None:
        self._hands, self._refine = StateHands(hand_models, object_models), refine
        self._sides, self._settings = tuple(sides), settings or WeakHandSettings()

    def refine(self, states: Sequence[HandObjectState]) -> list[HandObjectState]:
        """The states, their weak hands refined."""
        result, before, after, weak = list(states), [], [], 0
        for row, state in enumerate(states):
            for number, hand in enumerate(state.hands):
                found = self._weak_at(hand, state)
                if found is None:
                    continue
                weak += 1
                placed, depth = found
                better = self._answer(hand, placed, depth)
                if better is None:
                    continue
                new, reached = better
                before.append(depth)
                after.append(reached)
                told = result[row].residuals
                told = {
                    **told,
                    BEFORE: max(depth, told.get(BEFORE, 0.0)),
                    AFTER: max(reached, told.get(AFTER, 0.0)),
                }
                result[row] = replace(self._hands.exchanged(result[row], number, new), residuals=told)
        if weak:
            logger.info(
                "%d weak hands in %d states, %d refined: depth %.1f mm before, %.1f mm after",
                *(weak, len(states), len(before), 1e3 * _mean(before), 1e3 * _mean(after)),
            )
        return result

    def _weak_at(self, hand: HandState, state: HandObjectState) -> tuple[ObjectState, float] | None:
        """The object that a weak hand grasps, and how deep it is in it, m; None for a hand that is well."""
        if hand.params.side not in self._sides or hand.params.side not in self._hands.models:
            return None
        nearest: tuple[ObjectState, float, float] | None = None
        for placed in state.objects:
            if placed.object_id in self._hands.objects:
                gap = self._least(self._in_object(hand.params, placed), placed)
                if nearest is None or gap < nearest[1]:
                    nearest = placed, gap, max(0.0, -gap)
        s = self._settings
        if nearest is None or nearest[1] > s.near or (nearest[2] < s.deep and hand.score >= s.score):
            return None
        return nearest[0], nearest[2]

    def _answer(self, hand: HandState, placed: ObjectState, depth: float) -> tuple[HandState, float] | None:
        """The refined hand in the camera's frame and its depth, m; None where it is not taken."""
        here, model = self._in_object(hand.params, placed), self._hands.models[hand.params.side]
        item = self._hands.object_model(placed.object_id, self._hands.scale_of(placed))
        found = self._refine(here, item).to(dtype=model.dtype, device="cpu")
        gap = self._least(found, placed)
        with torch.no_grad():
            away = float((model(found).keypoints - model(here).keypoints).norm(dim=-1).mean())
        s = self._settings
        if not np.isfinite(away) or away > s.furthest or max(0.0, -gap) > depth or gap > s.near:
            return None
        moved = move_hands(found, placed.T_camera_object, model).to(dtype=torch.float32)
        return hand_states(moved, model)[0], max(0.0, -gap)

    def _in_object(self, hands: HandParams, placed: ObjectState) -> HandParams:
        model = self._hands.models[hands.side]
        own = hands.to(dtype=model.dtype, device="cpu")
        return move_hands(own, np.linalg.inv(placed.T_camera_object), model)

    def _least(self, hands: HandParams, placed: ObjectState) -> float:
        """Signed distance of the skin that is nearest to the object, or deepest in it, m."""
        item = self._hands.object_model(placed.object_id, self._hands.scale_of(placed))
        with torch.no_grad():
            return float(item.signed_distance(self._hands.models[hands.side](hands).vertices).min())


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
