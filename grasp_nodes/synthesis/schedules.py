"""Noise schedules: how much of a sample is left at each time, and what a network is asked to predict there.

Diffusion counts its times down, from T - 1 (noise) to 0 (almost clean):
``x_t = alpha_t x_0 + sigma_t noise`` with ``alpha_t^2 + sigma_t^2 = 1`` (Ho et al., 2020).
Rectified flow runs from 0 (noise) to 1 (clean) along straight lines (Liu et al., 2023; Lipman et al., 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from grasp_nodes.errors import InputError

Prediction = Literal["noise", "clean", "velocity"]
"""What the network gives: noise (eps), the clean sample (x0), or ``alpha noise - sigma x_0`` (v: Salimans and Ho)."""
Kind = Literal["linear", "cosine", "sigmoid"]
Spacing = Literal["trailing", "leading"]

LARGEST_BETA = 0.999


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """A variance-preserving diffusion in T steps.

    kept: (T,) float64, ``alpha_t^2`` (the papers' cumulative product of 1 - beta), falling. prediction: of the network.
    """

    kept: Tensor
    prediction: Prediction = "noise"

    def __post_init__(self) -> None:
        if self.prediction not in get_args(Prediction):
            raise InputError(f"prediction: expected one of {', '.join(get_args(Prediction))}, got {self.prediction!r}")
        kept = self.kept
        if kept.ndim != 1 or len(kept) < 2 or not ((kept > 0) & (kept < 1)).all() or not (kept.diff() < 0).all():
            raise InputError("schedule: expected at least two values that fall from below 1 to above 0")

    @staticmethod
    def make(kind: Kind = "linear", steps: int = 1000, prediction: Prediction = "noise") -> NoiseSchedule:
        """A schedule by name.

        Args:
            kind: ``linear``: betas from 1e-4 to 0.02 (Ho et al., 2020), for 1,000 steps; for another number they are
                scaled, so that the end is as noisy. ``cosine``: Nichol and Dhariwal, 2021. ``sigmoid``: Jabri et al.,
                2023, from -3 to 3 at temperature 1.
            steps: T. prediction: of the network.

        Raises:
            InputError: no such kind, or fewer than 2 steps.
        """
        if kind not in get_args(Kind):
            raise InputError(f"schedule: expected one of {', '.join(get_args(Kind))}, got {kind!r}")
        if steps < 2:
            raise InputError(f"steps of the schedule: expected 2 or more, got {steps}")
        if kind == "linear":
            ratio = 1000.0 / steps
            betas = torch.linspace(1e-4 * ratio, 0.02 * ratio, steps, dtype=torch.float64)
        else:
            times = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64)
            kept = _cosine(times) if kind == "cosine" else _sigmoid(times)
            betas = 1.0 - kept[1:] / kept[:-1]
        return NoiseSchedule(torch.cumprod(1.0 - betas.clamp(max=LARGEST_BETA), dim=0), prediction)

    def __len__(self) -> int:
        return len(self.kept)

    def alpha(self, time: Tensor) -> Tensor:
        """Share of the clean sample at times (...,) int64: float64 of that shape; 1 at time -1, before the first."""
        return self._kept_at(time).sqrt()

    def sigma(self, time: Tensor) -> Tensor:
        """Share of the noise at times (...,) int64: float64 of that shape; 0 at time -1."""
        return (1.0 - self._kept_at(time)).sqrt()

    def times(self, count: int, spacing: Spacing = "trailing") -> list[int]:
        """Times of a sampler of `count` steps, falling.

        ``trailing`` begins with T - 1, the time whose input is the noisiest; ``leading`` ends with 0, and begins before
        it has only noise (Lin et al., 2024).

        Raises:
            InputError: not 1 to T steps.
        """
        total = len(self)
        if not 1 <= count <= total:
            raise InputError(f"steps of the sampler: expected 1 to {total}, got {count}")
        if spacing == "leading":
            return [(total // count) * k for k in range(count)][::-1]
        return [round(total * k / count) - 1 for k in range(count, 0, -1)]

    def draw_times(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) int64 on the generator's device: every time is as likely."""
        return torch.randint(0, len(self), (count,), generator=generator, device=generator.device)

    def noised(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Samples (B, ...) with the noise of their times (B,)."""
        alpha, sigma = self._like(clean, time)
        return alpha * clean + sigma * noise

    def target(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What the network ought to predict for samples (B, ...) and their noise at times (B,)."""
        if self.prediction == "noise":
            return noise
        if self.prediction == "clean":
            return clean
        alpha, sigma = self._like(clean, time)
        return alpha * noise - sigma * clean

    def clean(self, predicted: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """The clean samples (B, ...) that a prediction at times (B,) stands for."""
        if self.prediction == "clean":
            return predicted
        alpha, sigma = self._like(noisy, time)
        if self.prediction == "noise":
            return (noisy - sigma * predicted) / alpha
        return alpha * noisy - sigma * predicted

    def noise(self, clean: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """The noise that lies between clean and noisy samples (B, ...) at times (B,)."""
        alpha, sigma = self._like(noisy, time)
        return (noisy - alpha * clean) / sigma

    def _kept_at(self, time: Tensor) -> Tensor:
        return self._with_clean.to(time.device)[time]

    @cached_property
    def _with_clean(self) -> Tensor:
        """(T + 1,): index -1 is the clean sample."""
        return torch.cat([self.kept, self.kept.new_ones(1)])

    def _like(self, samples: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma of each sample, in its dtype, ready to be multiplied with it."""
        shape = (-1, *[1] * (samples.ndim - 1))
        return self.alpha(time).to(samples.dtype).view(shape), self.sigma(time).to(samples.dtype).view(shape)


@dataclass(frozen=True)
class RectifiedFlow:
    """Straight lines from noise (time 0) to clean samples (time 1); the network predicts the velocity along them.

    towards_clean: of the times that training draws: 1 = all as likely; above 1, late times come more often.
    """

    towards_clean: float = 1.0

    def draw_times(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) in [0, 1) on the generator's device."""
        uniform = torch.rand(count, generator=generator, device=generator.device)
        return uniform ** (1.0 / self.towards_clean)

    def noised(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Points of the lines at times (B,)."""
        share = _shaped(time, clean)
        return share * clean + (1.0 - share) * noise

    def target(self, clean: Tensor, noise: Tensor) -> Tensor:
        """The velocity."""
        return clean - noise

    def clean(self, velocity: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """Where a velocity at times (B,) leads."""
        return noisy + (1.0 - _shaped(time, noisy)) * velocity


def _cosine(times: Tensor) -> Tensor:
    return torch.cos((times + 0.008) / 1.008 * math.pi / 2).square()


def _sigmoid(times: Tensor) -> Tensor:
    first, last = (torch.sigmoid(torch.tensor(value, dtype=torch.float64)) for value in (-3.0, 3.0))
    return (last - torch.sigmoid(6.0 * times - 3.0)) / (last - first)


def _shaped(time: Tensor, samples: Tensor) -> Tensor:
    return time.to(samples.dtype).view(-1, *[1] * (samples.ndim - 1))
