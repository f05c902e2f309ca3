"""Adam on the vector of a clip's unknowns, with falling rates, and sick frames taken out.

A pass ends at its last state, or, where that is worse, at the best one since matches were last renewed: losses with
different matches are not comparable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from grasp_nodes.fitting.homan.settings import JointFitSettings
from grasp_nodes.fitting.homan.variables import SHARED, ClipVariables, Kind

logger = logging.getLogger(__name__)

BETAS, EPSILON = (0.9, 0.999), 1e-8
PLATEAU = 0.01
"""A block of steps that lowers the loss by a smaller share than this halves the rates (early stop only)."""
FARTHEST = 0.5
"""m; an unknown place that moves farther than this from its initial one diverged."""

Terms = Callable[[Tensor], dict[str, Tensor]]


@dataclass
class Descent:
    """State of the descent from pass to pass.

    vector: (N,). frozen: (N,) bool, unknowns that are kept. diverged: (tracks, T) bool.
    losses: course of every term and of the total, one number per step. warned: of a gradient without any finite number.
    """

    vector: Tensor
    frozen: Tensor
    diverged: Tensor
    losses: dict[str, list[float]]
    warned: bool = False

    @classmethod
    def start(cls, variables: ClipVariables, anchored: Tensor, scale_free: bool) -> Descent:
        """At the initial vector.

        Args:
            variables: of the clip. anchored: (T,) bool, frames that are kept; any of them keeps the scales too.
            scale_free: whether the scales of objects are unknowns.
        """
        frame, tracks = variables.frame, len(variables.hands) + len(variables.objects)
        frozen = anchored[frame.clamp(min=0)] & (frame != SHARED)
        is_scale = variables.kind == Kind.SCALE
        of_object = variables.track >= len(variables.hands)
        frozen |= is_scale & (bool(anchored.any()) | (of_object & (not scale_free)))
        return cls(variables.initial.clone(), frozen, torch.zeros(tracks, variables.num_frames, dtype=torch.bool), {})


def rates_of(variables: ClipVariables, settings: JointFitSettings) -> Tensor:
    """(N,): Adam's rate of every unknown, to be multiplied by a factor that starts at `rate_start`."""
    by_kind = torch.empty(len(Kind))
    by_kind[[Kind.ROTATION, Kind.PCA]] = settings.rotation_rate
    by_kind[[Kind.TRANSLATION, Kind.SCALE]] = settings.translation_rate
    rates = by_kind[variables.kind]
    # Of a free object's size nothing good is known at first: it begins at its full rate.
    of_object = (variables.kind == Kind.SCALE) & (variables.track >= len(variables.hands))
    return torch.where(of_object, rates / settings.rate_start, rates)


def descend(
    state: Descent,
    variables: ClipVariables,
    terms: Terms,
    renew: Callable[[Tensor], None],
    steps: int,
    settings: JointFitSettings,
) -> None:
    """One pass of Adam; changes `state`.

    The rates are `rate_start` of their nominal values and fall exponentially to `rate_end` of them over the second
    half of the pass. With `early_stop` they also fall by half whenever a block of `renewal` steps brought nothing; at
    `rate_end` the pass is over.

    Args:
        state: where to start. variables: of the clip. terms: weighted terms of a vector.
        renew: called with the vector before each block of steps. steps: at most. settings: rates.
    """
    if not steps:
        return
    rates = rates_of(variables, settings)
    factor = settings.rate_start
    decay = (settings.rate_end / settings.rate_start) ** (2 / steps)
    first, second = torch.zeros_like(state.vector), torch.zeros_like(state.vector)
    best, best_loss, last_best = state.vector.clone(), float("inf"), float("inf")
    for step in range(steps):
        if step % settings.renewal == 0:
            _take_out_far(state, variables)
            renew(state.vector)
            if settings.early_stop and step and best_loss > (1 - PLATEAU) * last_best:
                factor *= 0.5
            if factor < settings.rate_end * (1 - 1e-9):
                break
            last_best = best_loss
            best, best_loss = state.vector.clone(), float("inf")
        loss, gradient = _evaluate(state, terms)
        healthy = _take_out_sick(state, variables, gradient)
        gradient = gradient.masked_fill(state.frozen | ~torch.isfinite(gradient), 0.0)
        if healthy and loss < best_loss:
            best, best_loss = state.vector.clone(), loss
        first.lerp_(gradient, 1 - BETAS[0])
        second.lerp_(gradient * gradient, 1 - BETAS[1])
        unbiased = first / (1 - BETAS[0] ** (step + 1))
        spread = (second / (1 - BETAS[1] ** (step + 1))).sqrt_() + EPSILON
        moved = factor * rates * unbiased / spread
        state.vector = torch.where(state.frozen, state.vector, state.vector - moved)
        if 2 * step >= steps:
            factor *= decay
    final = _evaluate(state, terms)[0]
    if not final < best_loss:
        state.vector = torch.where(state.frozen, state.vector, best)


def _evaluate(state: Descent, terms: Terms) -> tuple[float, Tensor]:
    """Loss and gradient (N,) at the state; its terms are noted."""
    leaf = state.vector.requires_grad_(True)
    found = terms(leaf)
    total = torch.stack([*found.values(), 0 * leaf.sum()]).sum()  # there may be no term at all
    (gradient,) = torch.autograd.grad(total, leaf)
    state.vector = leaf.detach()
    for name, value in (*found.items(), ("total", total)):
        state.losses.setdefault(name, []).append(float(value.detach()))
    return float(total.detach()), gradient


def _take_out_sick(state: Descent, variables: ClipVariables, gradient: Tensor) -> bool:
    """Freeze frames with numbers that are not finite at their initial values; whether there was none."""
    sick = ~torch.isfinite(state.vector)
    if not sick.any():
        sick = ~torch.isfinite(gradient) & ~state.frozen
        if not sick.any():
            return True
        if sick[~state.frozen].all():
            # No frame is to blame alone: this step moves nothing.
            if not state.warned:
                logger.warning(
                    "joint fit: the gradient is not finite in any frame; such steps move nothing, and where all are, "
                    "the tracks stay as they began"
                )
                state.warned = True
            return False
    _take_out(state, variables, sick)
    return False


def _take_out_far(state: Descent, variables: ClipVariables) -> None:
    far = (variables.kind == Kind.TRANSLATION) & ((state.vector - variables.initial).abs() > FARTHEST)
    if far.any():
        _take_out(state, variables, far)


def _take_out(state: Descent, variables: ClipVariables, sick: Tensor) -> None:
    rows = sick & (variables.frame != SHARED)
    state.diverged[variables.track[rows], variables.frame[rows]] = True
    out = state.diverged[variables.track, variables.frame.clamp(min=0)] & (variables.frame != SHARED)
    # What all frames share goes back as well, but stays free.
    back = out | (sick & (variables.frame == SHARED))
    state.vector = torch.where(back, variables.initial, state.vector)
    state.frozen = state.frozen | out
