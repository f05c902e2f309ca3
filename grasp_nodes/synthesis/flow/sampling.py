"""Draws hand vectors: each step of the sampler is told what the step before predicted."""

from __future__ import annotations

import torch
from torch import Tensor

from grasp_nodes.synthesis.flow.fields import DistanceField
from grasp_nodes.synthesis.flow.network import FlowNetwork, Wishes
from grasp_nodes.synthesis.samplers import FlowSampler, Guide
from grasp_nodes.synthesis.schedules import RectifiedFlow


class ToldNetwork:
    """A network at given objects, as a sampler calls it: it remembers its prediction for the next call.

    Args:
        network: of the velocity. field, code, wishes: of B hands.
    """

    def __init__(self, network: FlowNetwork, field: DistanceField, code: Tensor, wishes: Wishes) -> None:
        self._network, self._field, self._code, self._wishes = network, field, code, wishes
        self._thought: Tensor | None = None

    def __call__(self, noisy: Tensor, time: Tensor) -> Tensor:
        """Velocities (B, D) of vectors (B, D) at times (B,)."""
        found = self._network(noisy, time, self._code, self._field, self._wishes, self._thought)
        self._thought = RectifiedFlow().clean(found, noisy, time)
        return found

    def remember(self, clean: Tensor) -> None:
        """Be told something better than the last prediction."""
        self._thought = clean


@torch.no_grad()
def sample_vectors(
    network: FlowNetwork,
    field: DistanceField,
    code: Tensor,
    wishes: Wishes,
    noise: Tensor,
    sampler: FlowSampler,
    guide: Guide | None = None,
) -> Tensor:
    """Clean vectors (B, D).

    Args:
        network: in evaluation mode. field, wishes: of B hands. code: (B, condition), of `FlowNetwork.encode`.
        noise: (B, D), standard normal. sampler: steps. guide: changes predictions on the way.
    """
    told = ToldNetwork(network, field, code, wishes)
    if guide is None:
        return sampler(told, noise)
    chosen = guide

    def guided(clean: Tensor, time: Tensor) -> Tensor:
        better = chosen(clean, time)
        told.remember(better)
        return better

    return sampler(told, noise, guided)
