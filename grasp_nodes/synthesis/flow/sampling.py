"""Draws hand vectors: each step of the sampler is told what the step before predicted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from grasp_nodes.synthesis.flow.fields import DistanceField
from grasp_nodes.synthesis.flow.network import FlowNetwork, Wishes
from grasp_nodes.synthesis.samplers import FlowSampler, Guide
from grasp_nodes.synthesis.schedules import RectifiedFlow


@dataclass(frozen=True)
class Conditions:
    """What B hands are told, most of it the same for many of them.

    codes: (G, condition), of `FlowNetwork.encode`. wishes: of G groups. group: (B,) int64, that each hand is of.
    """

    codes: Tensor
    wishes: Wishes
    group: Tensor

    @staticmethod
    def of_each(codes: Tensor, wishes: Wishes) -> Conditions:
        """Every hand is a group of its own."""
        return Conditions(codes, wishes, torch.arange(len(codes), device=codes.device))


class ToldNetwork:
    """A network at given objects, as a sampler calls it: it remembers its prediction for the next call.

    Args:
        network: of the velocity. field: distance to the objects of B hands. conditions: of them.
        steps: of the sampler: it asks for times that are multiples of 1 / steps.
    """

    def __init__(self, network: FlowNetwork, field: DistanceField, conditions: Conditions, steps: int) -> None:
        self._network, self._field, self._group, self._steps = network, field, conditions.group, steps
        codes, wishes = conditions.codes, conditions.wishes
        times = torch.arange(steps, device=codes.device).to(codes.dtype).div(steps).repeat_interleave(len(codes))
        every = torch.arange(len(codes), device=codes.device).repeat(steps)
        self._told = network.told(times, codes[every], wishes.rows(every)).unflatten(0, (steps, len(codes)))
        self._betas = wishes.betas[conditions.group]
        self._thought: Tensor | None = None

    def __call__(self, noisy: Tensor, time: Tensor) -> Tensor:
        """Velocities (B, D) of vectors (B, D) at times (B,), all the same."""
        told = self._told[round(float(time[0]) * self._steps)][self._group]
        found = self._network(noisy, told, self._betas, self._field, self._thought)
        self._thought = RectifiedFlow().clean(found, noisy, time)
        return found

    def remember(self, clean: Tensor) -> None:
        """Be told something better than the last prediction."""
        self._thought = clean


@torch.no_grad()
def sample_vectors(
    network: FlowNetwork,
    field: DistanceField,
    conditions: Conditions,
    noise: Tensor,
    sampler: FlowSampler,
    guide: Guide | None = None,
) -> Tensor:
    """Clean vectors (B, D).

    Args:
        network: in evaluation mode. field, conditions: of B hands. noise: (B, D), standard normal. sampler: steps.
        guide: changes predictions on the way.
    """
    told = ToldNetwork(network, field, conditions, sampler.steps)
    if guide is None:
        return sampler(told, noise)
    chosen = guide

    def guided(clean: Tensor, time: Tensor) -> Tensor:
        better = chosen(clean, time)
        told.remember(better)
        return better

    return sampler(told, noise, guided)
