"""Levenberg-Marquardt on GeO's energy: exact gradients, Gauss-Newton's curvature, no step that does not lower it."""

from __future__ import annotations

import numpy as np
import torch

from grasp_nodes.fitting.geo.curvature import CurvatureOfHands
from grasp_nodes.fitting.geo.energy import GraspingEnergy, GraspShift
from grasp_nodes.fitting.geo.result import ENOUGH_STEPS, SETTLED, Descent
from grasp_nodes.fitting.geo.settings import NEWTON_STEPS

_LARGEST_TURN = 0.3
"""rad, of one step."""
_LARGEST_SHIFT = 0.02
"""m, of one step."""
_LEAST_GAIN = 3e-4
"""Relative to the energy; a step that gains less is followed by one more at most."""
_STUBBORN = 1e6
"""Damping at which a hand is taken for settled: even the smallest steps do not help."""


def descend(energy: GraspingEnergy, start: GraspShift) -> Descent:
    """Lower the energy of each hand, each with its own damping.

    Args:
        energy: of B hands; its settings say how many steps may be tried. start: where they begin.
    """
    settings = energy.settings
    curvature = CurvatureOfHands(energy)
    at = GraspShift(*(part.detach() for part in start))
    moving = 5 if settings.move_object else 3
    batch = len(at.turn)
    terms, gradient, seen = _with_gradient(energy, at, moving)
    total = terms.sum(axis=1)
    course, count = [terms], np.zeros(batch, np.int64)
    damping = np.full(batch, 1e-3)
    quiet = np.zeros(batch, np.int64)
    active = np.ones(batch, bool)
    bend = curvature(at, seen, np.arange(batch))
    for _ in range(settings.iterations or NEWTON_STEPS):
        rows = np.flatnonzero(active)
        if not len(rows):
            break
        count[rows] += 1
        scale = np.einsum("rii->ri", bend[rows])
        floor = 1e-9 * scale.max(axis=1, keepdims=True)
        matrix = bend[rows] + np.einsum("ri,ij->rij", damping[rows, None] * scale + floor, np.eye(scale.shape[1]))
        step = np.zeros((batch, bend.shape[1]))
        step[rows] = -np.linalg.solve(matrix, gradient[rows][..., None])[..., 0]
        tried = _moved(at, _limited(step, moving))
        new_terms, new_gradient, new_seen = terms.copy(), gradient.copy(), seen.copy()
        index = torch.from_numpy(rows)
        part = energy if len(rows) == batch else energy.part(index)
        new_terms[rows], new_gradient[rows], new_seen[rows] = _with_gradient(part, tried.rows(index), moving)
        new_total = new_terms.sum(axis=1)
        better = active & (new_total < total)
        gain = np.where(better, (total - new_total) / np.maximum(total, 1e-12), 0.0)
        at = tried.where(torch.from_numpy(better), at)
        terms, total = np.where(better[:, None], new_terms, terms), np.where(better, new_total, total)
        gradient = np.where(better[:, None], new_gradient, gradient)
        course.append(terms)
        damping = np.where(better, np.maximum(0.3 * damping, 1e-7), 4.0 * damping)
        quiet = np.where(better & (gain < _LEAST_GAIN), quiet + 1, np.where(better, 0, quiet))
        active &= (quiet < 2) & (damping < _STUBBORN)
        fresh = np.flatnonzero(better & active)
        if len(fresh):
            index = torch.from_numpy(fresh)
            bend[fresh] = curvature(at.rows(index), new_seen[fresh], fresh)
    reason = [ENOUGH_STEPS if one else SETTLED for one in active]
    dtype = at.turn.dtype
    return Descent(at, torch.from_numpy(np.stack(course)).to(dtype), torch.from_numpy(count), reason)


def _with_gradient(energy: GraspingEnergy, at: GraspShift, moving: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Terms (B, 4), gradient (B, D), and the vertices (B, V, 3) in the object's frame."""
    leaves = GraspShift(*(part.detach().requires_grad_(k < moving) for k, part in enumerate(at)))
    posed = energy.posed(leaves)
    terms = energy.terms_of(leaves, posed)
    found = torch.autograd.grad(terms.total.sum(), list(leaves[:moving]))
    return (
        torch.stack([term.detach() for term in terms], dim=-1).double().numpy(),
        torch.cat(found, dim=1).double().numpy(),
        posed.at_object.detach().double().numpy(),
    )


def _limited(step: np.ndarray, moving: int) -> np.ndarray:
    """Steps shortened as a whole where a turn or a shift would be too long."""
    turns = np.concatenate([step[:, :3, None], step[:, 6:51].reshape(len(step), 15, 3).transpose(0, 2, 1)], axis=2)
    largest = np.linalg.norm(turns, axis=1).max(axis=1) / _LARGEST_TURN
    largest = np.maximum(largest, np.linalg.norm(step[:, 3:6], axis=1) / _LARGEST_SHIFT)
    if moving > 3:
        largest = np.maximum(largest, np.linalg.norm(step[:, 51:54], axis=1) / _LARGEST_TURN)
        largest = np.maximum(largest, np.linalg.norm(step[:, 54:], axis=1) / _LARGEST_SHIFT)
    return step / np.maximum(largest, 1.0)[:, None]


def _moved(at: GraspShift, step: np.ndarray) -> GraspShift:
    parts = torch.from_numpy(step).to(at.turn.dtype)
    places = (slice(0, 3), slice(3, 6), slice(6, 51), slice(51, 54), slice(54, 57))
    return GraspShift(
        *(own + parts[:, place] if parts.shape[1] >= place.stop else own for own, place in zip(at, places, strict=True))
    )
