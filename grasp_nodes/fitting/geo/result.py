"""What a descent and a refinement answer with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from grasp_nodes.fitting.geo.energy import GraspShift
from grasp_nodes.hand.parameters import HandParams

TERMS = ("attraction", "repulsion", "anatomy", "offset")
SETTLED = "settled: nothing is gained any more"
ENOUGH_STEPS = "all steps were made"
NO_SPRINGS = "no springs: no anchor of the hand is within 20 mm of the object; the hand stays as it was"


@dataclass(frozen=True)
class Descent:
    """How B hands came down.

    best: the lowest place of each. course: (I + 1, B, 4), energy terms of every step, as `TERMS`. steps: (B,) int64.
    reason: B, why each ended.
    """

    best: GraspShift
    course: Tensor
    steps: Tensor
    reason: list[str]

    @property
    def final_total(self) -> Tensor:
        """(B,): the lowest energy of each hand."""
        return self.course.sum(dim=-1).amin(dim=0)


@dataclass(frozen=True)
class GeoResult:
    """Refined grasps of B hands.

    hands: in the object's frame *as it is after the refinement*. T_start_object: (B, 4, 4) float64, m: the object's
    frame now to the one in which the hands were given; identity where the object does not move.
    springs: (B,) int64, attractive ones. energy_before, energy_after: (B, 4), as `TERMS`. course: (I + 1, B, 4).
    steps: (B,). reason: B texts, why each ended. seconds: of all.
    """

    hands: HandParams
    T_start_object: np.ndarray
    springs: np.ndarray
    energy_before: np.ndarray
    energy_after: np.ndarray
    course: np.ndarray
    steps: np.ndarray
    reason: list[str]
    seconds: float
