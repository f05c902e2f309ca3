"""Adam as the paper uses it: 400 steps, the rate halved whenever the energy has not fallen for 20 of them."""

from __future__ import annotations

import torch

from grasp_nodes.fitting.geo.energy import GraspingEnergy, GraspShift
from grasp_nodes.fitting.geo.result import ENOUGH_STEPS, SETTLED, Descent
from grasp_nodes.fitting.geo.settings import ADAM_STEPS

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
_COOLED = 0.5
_LEAST_GAIN = 1e-4
"""Relative; less than that counts as no fall of the energy."""


def descend(energy: GraspingEnergy, start: GraspShift) -> Descent:
    """Lower the energy of each hand; what becomes of one hand does not depend on the others of the batch.

    Args:
        energy: of B hands. start: where they begin.

    Returns:
        The best of all steps.
    """
    settings = energy.settings
    at = [part.detach().clone() for part in start]
    moving = range(5 if settings.move_object else 3)
    rates = [settings.rate, settings.translation_rate, settings.rate, settings.rate, settings.translation_rate]
    first, second = ([torch.zeros_like(part) for part in at] for _ in range(2))
    batch = len(at[0])
    share = at[0].new_ones(batch, 1)
    lowest, waited = at[0].new_full((batch,), torch.inf), torch.zeros(batch, dtype=torch.int64)
    best, best_total = GraspShift(*at), at[0].new_full((batch,), torch.inf)
    course = []
    most = settings.iterations or ADAM_STEPS
    step = 0
    while True:
        leaves = [part.detach().requires_grad_(number in moving) for number, part in enumerate(at)]
        terms = energy.terms(GraspShift(*leaves))
        total = terms.total.detach()
        course.append(torch.stack([term.detach() for term in terms], dim=-1))
        better = total < best_total
        best = GraspShift(*(part.detach() for part in leaves)).where(better, best)
        best_total = torch.minimum(total, best_total)
        if step == most or bool((share * settings.rate < settings.least_rate).all()):
            break
        waited = torch.where(total < lowest * (1 - _LEAST_GAIN), 0, waited + 1)
        lowest = torch.minimum(total, lowest)
        cooled = waited > settings.patience
        share = torch.where(cooled[:, None], _COOLED * share, share)
        waited = torch.where(cooled, 0, waited)
        step += 1
        gradients = torch.autograd.grad(terms.total.sum(), [leaves[k] for k in moving])
        with torch.no_grad():
            for k, gradient in zip(moving, gradients, strict=True):
                first[k].lerp_(gradient, 1 - _BETAS[0])
                second[k].mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
                scale = (second[k] / (1 - _BETAS[1] ** step)).sqrt_().add_(_EPSILON)
                at[k] = leaves[k].detach() - rates[k] / (1 - _BETAS[0] ** step) * share * first[k] / scale
    settled = (share[:, 0] * settings.rate < settings.least_rate).tolist()
    return Descent(
        best,
        torch.stack(course),
        torch.full((batch,), step),
        [SETTLED if one else ENOUGH_STEPS for one in settled],
    )
