"""A trained generator's grasps on another hand than the one that it was trained with, such as a user's MANO."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from grasp_nodes.contact.hand_states import hand_states, stack_hands
from grasp_nodes.contact.interaction import GraspGenerator, GraspSet
from grasp_nodes.fitting.grasp_refine import GraspPolisher
from grasp_nodes.fitting.hand_transfer import TransferSettings, transfer_hands
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.model import ObjectModel


class OtherHandGenerator:
    """Another generator, its grasps carried over to hands of another model by keypoints and contacts, and polished.

    Args:
        generator: of hands of the source models. sources, targets: of both sides; targets on the CPU.
        betas: (10,), the shape of the target hands; None = zeros. settings: of the transfer.
    """

    def __init__(
        self,
        generator: GraspGenerator,
        sources: Mapping[Side, HandModel],
        targets: Mapping[Side, HandModel],
        betas: np.ndarray | None = None,
        settings: TransferSettings | None = None,
    ) -> None:
        self._generator, self._sources, self._targets = generator, sources, targets
        self._betas, self._settings = betas, settings
        self._polishers = {side: GraspPolisher(model) for side, model in targets.items()}

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """As many as the generator makes, in its order."""
        start = time.perf_counter()
        found = self._generator.generate(object_model, count, seed)
        grasps = list(found.grasps)
        for side, source in self._sources.items():
            rows = [k for k, one in enumerate(grasps) if one.hand.params.side == side]
            if not rows:
                continue
            target, given = self._targets[side], stack_hands([grasps[k] for k in rows])
            hands = transfer_hands(given, source, target, object_model, self._betas, self._settings)
            hands = self._polishers[side](hands, object_model)
            for k, state in zip(rows, hand_states(hands, target), strict=True):
                # What was measured was true of the first hand.
                grasps[k] = replace(grasps[k], hand=state, metrics={}, contact_map=None)
        return replace(found, grasps=grasps, duration=time.perf_counter() - start)
