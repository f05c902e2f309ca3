"""Guidance: predictions on the way are moved out of the object, and fingers that are near onto it.

Of training grasps that were disturbed by a tenth of their deviations, 20 % are shallow and touch with three fingers;
after six rounds 90 % do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.synthesis.flow.compiled_slope import LEAST_STEEPNESS, Cost
from grasp_nodes.synthesis.flow.fields import DistanceField
from grasp_nodes.synthesis.flow.hand_points import HandPoints

_UNIT = 0.005
"""m, that costs 1."""


@dataclass(frozen=True)
class GuidanceSettings:
    """Of the guidance.

    since: time of the flow from which predictions are moved: before, they are no hands yet. rounds: at each step.
    last: rounds when the flow has ended.
    tolerated: m, of depth. near: m, from the object to a finger that ought to touch. touch: weight of that.
    pace: share of Polyak's step (energy over the slope's square) that is made.
    """

    since: float = 0.5
    rounds: int = 12
    last: int = 40
    tolerated: float = 0.001
    near: float = 0.015
    touch: float = 1.0
    pace: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.since < 1.0 or self.rounds < 0 or self.last < 0 or not 0.0 < self.pace <= 2.0:
            raise InputError(
                f"guidance: expected since in 0..1, rounds of 0 or more and a pace above 0 up to 2, got {self}"
            )

    @property
    def cost(self) -> Cost:
        """For compiled loops."""
        return Cost(self.tolerated, self.near, self.touch, self.pace, _UNIT)


class FeelingNetwork(Protocol):
    """What guidance needs of a network: the coder of its vectors, and the points that it feels with."""

    @property
    def coder(self) -> HandCoder:
        """Of the vectors."""
        ...

    @property
    def hand_points(self) -> HandPoints:
        """Of the coder's hand."""
        ...


class Guidance:
    """A `samplers.Guide` for B hands.

    Args:
        network: of the vectors. field: distance to the objects. betas: (B, 10). settings: see there.
    """

    def __init__(
        self, network: FeelingNetwork, field: DistanceField, betas: Tensor, settings: GuidanceSettings | None = None
    ) -> None:
        self._network, self._field, self._betas = network, field, betas
        self._settings = settings or GuidanceSettings()

    def __call__(self, clean: Tensor, time: Tensor) -> Tensor:
        """Better vectors (B, D) than those predicted at times (B,)."""
        return self._moved(clean, self._settings.rounds) if float(time[0]) >= self._settings.since else clean

    def settle(self, vectors: Tensor) -> Tensor:
        """Better vectors (B, D) than those that the flow ended with."""
        return self._moved(vectors, self._settings.last)

    def _moved(self, clean: Tensor, rounds: int) -> Tensor:
        objects, points = self._field.arrays, self._network.hand_points
        if objects is None or points.compiled is None or not rounds:
            return self.moved_by_autograd(clean, rounds)
        return points.compiled.descend(clean, self._betas, objects, self._settings.cost, rounds)[0]

    def moved_by_autograd(self, clean: Tensor, rounds: int) -> Tensor:
        """Vectors (B, D) after so many rounds, on any device and for any hand."""
        for _ in range(rounds):
            with torch.enable_grad():
                leaf = clean.detach().requires_grad_(True)
                energy = self.energy(leaf)
                (slope,) = torch.autograd.grad(energy.sum(), leaf)
            steepness = slope.square().sum(dim=1).clamp(min=LEAST_STEEPNESS)
            clean = clean - (self._settings.pace * energy.detach() / steepness)[:, None] * slope
        return clean

    def energy(self, vectors: Tensor) -> Tensor:
        """(B,): squared depths and distances of the points felt with, in units of 5 mm."""
        s, points = self._settings, self._network.hand_points
        distance = points.clearance(self._network.coder.parts_of(vectors, self._betas), self._field)
        deep = (-distance - s.tolerated).clamp(min=0) / _UNIT
        gap = points.pads(distance).amin(dim=2).clamp(min=0)
        touching = torch.where(gap < s.near, gap / _UNIT, 0.0)
        return deep.square().sum(dim=1) + s.touch * touching.square().sum(dim=1)
