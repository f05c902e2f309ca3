"""Generators whose hands come out of noise: a network's sampler is all that a method adds.

The noise of a grasp follows from the seed and the grasp's number alone: the first ten of a hundred are the ten.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from grasp_nodes.contact.hand_states import make_grasps, stack_params
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.chunks import CHUNK, check_request, chunk_seed

_BLOCK = 64
"""Rows of noise that are drawn together, whether they are all needed or not."""


class HandSampler(Protocol):
    """Turns noise into hands that grasp an object."""

    @property
    def model(self) -> HandModel:
        """The full hand that the parameters are of; noise comes in its dtype, on its device."""
        ...

    @property
    def noise_size(self) -> int:
        """Numbers of noise of one hand."""
        ...

    def __call__(self, object_model: ObjectModel, noise: Tensor, generator: torch.Generator) -> HandParams:
        """Hands of standard normal noise.

        Args:
            object_model: to be grasped. noise: (B, noise_size), on the model's device.
            generator: of noise that is added on the way, if any is; on the model's device.

        Returns:
            B hands of the model's side, object frame.
        """
        ...


class SampledGenerator:
    """Grasps of a sampler, in the order of their numbers, none of them scored.

    Args:
        method: name of the grasps' set. sampler: of hands. chunk: hands at once.
    """

    def __init__(self, method: str, sampler: HandSampler, chunk: int = CHUNK) -> None:
        self._method, self._sampler, self._chunk = method, sampler, chunk

    def hands(self, object_model: ObjectModel, count: int, seed: int) -> HandParams:
        """`count` hands, object frame.

        Raises:
            InputError: a count below 1 or a negative seed.
        """
        check_request(count, seed)
        model = self._sampler.model
        parts = []
        for number, noise in enumerate(_chunks(count, self._chunk, self._sampler.noise_size, seed)):
            on_the_way = torch.Generator(model.device).manual_seed(chunk_seed(seed, number))
            there = noise.to(dtype=model.dtype, device=model.device)
            with torch.no_grad():
                parts.append(self._sampler(object_model, there, on_the_way))
        return stack_params(parts)

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """`count` grasps.

        Raises:
            InputError: a count below 1 or a negative seed.
        """
        start = time.perf_counter()
        grasps = make_grasps(self.hands(object_model, count, seed), self._sampler.model)
        return GraspSet(object_model.object_id, self._method, seed, time.perf_counter() - start, grasps)


def draw_noise(first: int, count: int, size: int, seed: int) -> Tensor:
    """Standard normal noise (count, size) of the grasps number `first` and following; float32 on the CPU."""
    blocks = range(first // _BLOCK, -(-(first + count) // _BLOCK))
    drawn = torch.cat([_block(number, size, seed) for number in blocks])
    skipped = first - blocks.start * _BLOCK
    return drawn[skipped : skipped + count]


def _chunks(count: int, chunk: int, size: int, seed: int) -> Iterator[Tensor]:
    for first in range(0, count, chunk):
        yield draw_noise(first, min(chunk, count - first), size, seed)


def _block(number: int, size: int, seed: int) -> Tensor:
    return torch.randn(_BLOCK, size, generator=torch.Generator().manual_seed(chunk_seed(seed, number)))
