"""Layers that FastGrasp's networks are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

LENGTH = 0.1
"""m: unit of length of points that networks read; hands and objects are about so large."""
_SLOWEST = 10_000.0


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them, none after the last."""
    made: list[nn.Module] = []
    for k in range(len(widths) - 1):
        made.append(nn.Linear(widths[k], widths[k + 1]))
        if k < len(widths) - 2:
            made.append(nn.ReLU())
    return nn.Sequential(*made)


class TimeEmbedding(nn.Module):
    """A step's number as features: sines of it, periods from 6 to 60,000 steps, then two layers.

    The number goes in as it is, 0 to T - 1: divided by T it would hardly turn even the fastest sine.
    """

    def __init__(self, size: int, sines: int = 128) -> None:
        super().__init__()
        half = sines // 2
        frequencies = torch.exp(-math.log(_SLOWEST) * torch.arange(half, dtype=torch.float32) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * half, size), nn.SiLU(), nn.Linear(size, size))

    def forward(self, time: Tensor) -> Tensor:
        """(B, size) of times (B,)."""
        angles = time.float()[:, None] * self.get_buffer("frequencies")
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))


class ConditionedBlock(nn.Module):
    """A residual block of two convolutions along a line, scaled and shifted by a condition."""

    def __init__(self, inputs: int, outputs: int, condition: int, groups: int = 8) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(math.gcd(groups, inputs), inputs)
        self.first = nn.Conv1d(inputs, outputs, 3, padding=1)
        self.told = nn.Linear(condition, 2 * outputs)
        self.second_norm = nn.GroupNorm(math.gcd(groups, outputs), outputs)
        self.second = nn.Conv1d(outputs, outputs, 3, padding=1)
        self.around = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """(B, outputs, L) of (B, inputs, L) and (B, condition)."""
        found = self.first(nn.functional.silu(self.first_norm(features)))
        scale, shift = self.told(nn.functional.silu(condition))[..., None].chunk(2, dim=1)
        found = self.second_norm(found) * (1.0 + scale) + shift
        return self.around(features) + self.second(nn.functional.silu(found))
