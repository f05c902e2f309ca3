"""Samplers: from noise to clean samples in a few calls of a network.

Each gives the network exactly the time that its input has the noise of: one int64 (diffusion) or float (flow) per
sample. Everything a sample is conditioned on is the network's own affair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.synthesis.schedules import NoiseSchedule, RectifiedFlow, Spacing

Denoiser: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Of noisy samples (B, ...) and their times (B,): the prediction that the schedule names, or the flow's velocity."""
Guide: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Of predicted clean samples (B, ...) and times (B,): better ones, such as a step down an energy's gradient."""
Method = Literal["ddpm", "ddim", "dpm-solver++"]
FlowMethod = Literal["euler", "heun"]


@dataclass(frozen=True)
class DiffusionSampler:
    """Draws samples of a diffusion.

    schedule: that the network was trained with. method: ``ddpm`` (Ho et al., 2020), ``ddim`` (Song et al., 2021) or
    ``dpm-solver++`` (Lu et al., 2022: second order, multistep, midpoint). steps: calls of the network.
    spacing: of their times. eta: noise of DDIM, 0 = none, 1 = about DDPM's.
    """

    schedule: NoiseSchedule
    method: Method = "ddim"
    steps: int = 20
    spacing: Spacing = "trailing"
    eta: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InputError(f"sampler: expected one of {', '.join(get_args(Method))}, got {self.method!r}")
        if not 0.0 <= self.eta <= 1.0:
            raise InputError(f"eta: expected 0 to 1, got {self.eta}")
        self.schedule.times(self.steps, self.spacing)

    def __call__(
        self,
        denoiser: Denoiser,
        start: Tensor,
        generator: torch.Generator | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Clean samples of noise.

        Args:
            denoiser: the network. start: (B, ...) noise, standard normal.
            generator: of the noise that DDPM, and DDIM with eta, add on the way; on the device of `start`.
            guide: changes each prediction of the clean samples.

        Raises:
            InputError: a generator is needed and there is none.
        """
        times = self.schedule.times(self.steps, self.spacing)
        noisy, earlier = start, None
        for time, following in zip(times, [*times[1:], -1], strict=True):
            now = torch.full((len(start),), time, dtype=torch.int64, device=start.device)
            clean = self.schedule.clean(denoiser(noisy, now), noisy, now)
            if guide is not None:
                clean = guide(clean, now)
            if self.method == "dpm-solver++":
                noisy, earlier = self._solver_step(noisy, clean, time, following, earlier), (time, clean)
            else:
                noisy = self._step(noisy, clean, time, following, generator)
        return noisy

    def _step(
        self, noisy: Tensor, clean: Tensor, time: int, following: int, generator: torch.Generator | None
    ) -> Tensor:
        """One step of DDIM; DDPM is DDIM with eta = 1 (Song et al., 2021, Eq. 12 and 16)."""
        alpha, sigma = self._share(time)
        next_alpha, next_sigma = self._share(following)
        eta = 1.0 if self.method == "ddpm" else self.eta
        added = eta * (next_sigma / sigma) * max(1.0 - (alpha / next_alpha) ** 2, 0.0) ** 0.5
        noise = (noisy - alpha * clean) / sigma
        moved = next_alpha * clean + max(next_sigma**2 - added**2, 0.0) ** 0.5 * noise
        if added == 0.0:
            return moved
        if generator is None:
            raise InputError(f"sampler {self.method!r}: it adds noise on the way and needs a generator")
        fresh = torch.randn(noisy.shape, generator=generator, dtype=noisy.dtype, device=noisy.device)
        return moved + added * fresh

    def _solver_step(
        self, noisy: Tensor, clean: Tensor, time: int, following: int, earlier: tuple[int, Tensor] | None
    ) -> Tensor:
        """One step of DPM-Solver++(2M) (Lu et al., 2022, algorithm 2); lambda = log(alpha / sigma)."""
        if following < 0:
            return clean  # without noise lambda is infinite, and the step's limit is the prediction
        alpha, sigma = self._share(time)
        next_alpha, next_sigma = self._share(following)
        width = _log_ratio(next_alpha, next_sigma) - _log_ratio(alpha, sigma)
        direction = clean
        if earlier is not None:
            before = _log_ratio(alpha, sigma) - _log_ratio(*self._share(earlier[0]))
            direction = clean + 0.5 * (width / before) * (clean - earlier[1])
        shrink = next_sigma / sigma
        return shrink * noisy + (next_alpha - shrink * alpha) * direction

    def _share(self, time: int) -> tuple[float, float]:
        at = torch.tensor(time)
        return float(self.schedule.alpha(at)), float(self.schedule.sigma(at))


@dataclass(frozen=True)
class FlowSampler:
    """Draws samples of a rectified flow.

    steps: over the time from 0 to 1. method: ``euler``: one call of the network each; ``heun``: two each but the last,
    second order.
    """

    steps: int = 8
    method: FlowMethod = "euler"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"steps of the sampler: expected 1 or more, got {self.steps}")
        if self.method not in get_args(FlowMethod):
            raise InputError(f"sampler: expected one of {', '.join(get_args(FlowMethod))}, got {self.method!r}")

    def __call__(self, denoiser: Denoiser, start: Tensor, guide: Guide | None = None) -> Tensor:
        """Clean samples of noise; arguments as for `DiffusionSampler`."""
        flow, noisy = RectifiedFlow(), start

        def velocity(samples: Tensor, time: float) -> Tensor:
            now = torch.full((len(samples),), time, dtype=samples.dtype, device=samples.device)
            found = denoiser(samples, now)
            if guide is None:
                return found
            return (guide(flow.clean(found, samples, now), now) - samples) / (1.0 - time)

        for step in range(self.steps):
            time, following = step / self.steps, (step + 1) / self.steps
            first = velocity(noisy, time)
            ahead = noisy + (following - time) * first
            if self.method == "heun" and step + 1 < self.steps:
                # At time 1 there is no noise left to learn from: the last step stays Euler's.
                first = 0.5 * (first + velocity(ahead, following))
                ahead = noisy + (following - time) * first
            noisy = ahead
        return noisy


def _log_ratio(alpha: float, sigma: float) -> float:
    return float(torch.log(torch.tensor(alpha / sigma, dtype=torch.float64)))
