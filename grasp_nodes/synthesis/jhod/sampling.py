"""Sampling: a hand for a given object, an object for a given hand, or both (JHOD, section 3.3.3).

Which of the three it is, is a matter of times alone: what is given has time 0 throughout, and is never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.synthesis.flow.fields import DistanceField
from grasp_nodes.synthesis.flow.guidance import Guidance, GuidanceSettings
from grasp_nodes.synthesis.flow.network import Wishes
from grasp_nodes.synthesis.jhod.network import Felt, JhodNetwork, Tokens
from grasp_nodes.synthesis.samplers import DiffusionSampler
from grasp_nodes.synthesis.schedules import NoiseSchedule

VectorGuide: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Of predicted hand vectors (B, D) and the shares of noise-free time behind them (B,), 0..1: better vectors."""


@dataclass(frozen=True)
class HandSampling:
    """How hands are drawn. sampler: of the network's schedule. guide: changes predictions on the way; None = none."""

    sampler: DiffusionSampler
    guide: VectorGuide | None = None


class ConditionalDenoiser:
    """Hands at given objects, as a sampler calls it: it remembers its prediction, which the next call feels with.

    Args:
        items: (B, 4, size), clean tokens of the objects. wishes, field: of B hands; the field may be None where the
            network is not local.
    """

    def __init__(self, network: JhodNetwork, items: Tensor, wishes: Wishes, field: DistanceField | None) -> None:
        self._network, self._items, self._wishes, self._field = network, items, wishes, field
        if network.config.local and field is None:
            raise InputError("this network feels the object: expected the distances to it")
        self._thought: Tensor | None = None

    def __call__(self, noisy: Tensor, time: Tensor) -> Tensor:
        """Clean tokens (B, S) of noisy ones at the schedule's times (B,)."""
        felt = None
        if self._thought is not None and self._field is not None:
            felt = Felt(self._thought, self._wishes.betas, self._field)
        clean = torch.zeros_like(time)
        found = self._network(Tokens(noisy, self._items), time + 1, clean, self._wishes, felt).hand
        self.remember(found)
        return found

    def remember(self, clean: Tensor) -> None:
        """Be told something better than the last prediction."""
        self._thought = self._network.hand_tokens.decode(clean)


@torch.no_grad()
def sample_hands(
    network: JhodNetwork,
    items: Tensor,
    wishes: Wishes,
    field: DistanceField | None,
    noise: Tensor,
    how: HandSampling,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Vectors (B, D) of hands at given objects: ``t_O = 0``.

    Args:
        network: in evaluation mode. items, wishes, field: as for `ConditionalDenoiser`. noise: (B, S), what the
            sampler begins with. how: see there. generator: of the noise that some samplers add.
    """
    denoiser = ConditionalDenoiser(network, items, wishes, field)
    guide, total = how.guide, network.steps

    def guided(clean: Tensor, time: Tensor) -> Tensor:
        assert guide is not None
        vectors = guide(network.hand_tokens.decode(clean), 1.0 - (time + 1) / total)
        better = network.hand_tokens.encode(vectors)
        denoiser.remember(better)
        return better

    found = how.sampler(denoiser, noise, generator, guided if guide is not None else None)
    return network.hand_tokens.decode(found)


def guided_hands(
    network: JhodNetwork,
    items: Tensor,
    wishes: Wishes,
    field: DistanceField,
    noise: Tensor,
    sampler: DiffusionSampler,
    guidance: GuidanceSettings | None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """As `sample_hands`: vectors that guidance moves on the way and settles at the end; None = without."""
    guide = None if guidance is None else Guidance(network, field, wishes.betas, guidance)
    vectors = sample_hands(network, items, wishes, field, noise, HandSampling(sampler, guide), generator)
    return vectors if guide is None else guide.settle(vectors)


@torch.no_grad()
def sample_pairs(
    network: JhodNetwork,
    noise: Tokens,
    wishes: Wishes,
    sampler: DiffusionSampler,
    generator: torch.Generator | None = None,
) -> Tokens:
    """Clean tokens of hands with their objects: ``t_H = t_O``.

    Args:
        noise: (B, S) and (B, 4, size).
    """
    split = noise.hand.shape[1]

    def denoiser(noisy: Tensor, time: Tensor) -> Tensor:
        tokens = Tokens(noisy[:, :split], noisy[:, split:].unflatten(1, noise.object.shape[1:]))
        found = network(tokens, time + 1, time + 1, wishes)
        return torch.cat([found.hand, found.object.flatten(1)], dim=1)

    found = sampler(denoiser, torch.cat([noise.hand, noise.object.flatten(1)], dim=1), generator)
    return Tokens(found[:, :split], found[:, split:].unflatten(1, noise.object.shape[1:]))


@torch.no_grad()
def sample_objects(
    network: JhodNetwork,
    hands: Tensor,
    noise: Tensor,
    wishes: Wishes,
    sampler: DiffusionSampler,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Clean tokens (B, 4, size) of objects for given hands: ``t_H = 0``.

    Args:
        hands: (B, D), vectors. noise: (B, 4, size). wishes: kinds and shapes of the hands.
    """
    tokens = network.hand_tokens.encode(hands)

    def denoiser(noisy: Tensor, time: Tensor) -> Tensor:
        return network(Tokens(tokens, noisy), torch.zeros_like(time), time + 1, wishes).object

    return sampler(denoiser, noise, generator)


def from_midway(schedule: NoiseSchedule, share: float, steps: int) -> tuple[DiffusionSampler, int]:
    """A sampler that begins with a share of the noise's time, and that time, 0..T-1.

    Raises:
        InputError: a share that leaves nothing to do.
    """
    count = round(share * len(schedule))
    if not 2 <= count <= len(schedule):
        raise InputError(f"share of the time: expected above 0 and up to 1, got {share}")
    part = NoiseSchedule(schedule.kept[:count], schedule.prediction)
    return DiffusionSampler(part, "ddim", min(steps, count)), count - 1
