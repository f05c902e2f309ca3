"""The poses of one mesh in all frames of a window at once: least squares over images and motion.

Each frame brings the robust residuals of :mod:`pose_residuals`, as an information matrix and a gradient; neighbouring
frames are tied by three terms on the velocity ``v`` (m/s and rad/s) between them:

1. acceleration, Gaussian: hands move smoothly;
2. velocity, Gaussian and weak, but firm about axes of which the images say nothing: a ball must not spin;
3. velocity, Cauchy (a narrow peak with heavy tails): an object that stands on a table does not move at all.

Gauss-Newton steps of the whole window are solved with a banded Cholesky factor, which does what a Rauch-Tung-Striebel
smoother does on SE(3); a step is kept only if it lowers the whole cost.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded

from grasp_nodes.fitting.pose_residuals import SolverImage, SolverMesh, SolverWeights
from grasp_nodes.fitting.pose_solver import (
    PosePrior,
    PoseProblem,
    prior_cost,
    rotation_matrix,
    rotation_vector,
    weak_axis_information,
)

_BAND = 18
"""Rows below the diagonal that the acceleration's coupling over three frames fills."""
_FLOOR = 1e-3
"""Added to the diagonal of the normal matrix."""
_TOLERANCE = 2e-5
"""m, and rad times 0.1 m; a shorter step ends the search."""
_WIDENINGS = (20.0, 4.0, 1.0)
"""The peak at rest is narrowed step by step, so that frames which lean far find it (graduated non-convexity)."""
_MAX_TURN, _MAX_MOVE = 0.4, 0.1
"""rad and m; a longer step is shortened."""


@dataclass(frozen=True)
class MotionPrior:
    """How objects in hands move; standard deviations per second.

    acceleration: m/s^2 and rad/s^2. velocity: m/s and rad/s. rest: m/s and rad/s, half width of the peak at rest.
    """

    acceleration: tuple[float, float] = (2.0, 20.0)
    velocity: tuple[float, float] = (0.5, 2.0)
    rest: tuple[float, float] = (0.012, 0.15)


@dataclass(frozen=True)
class ChainFrame:
    """One frame of a window.

    image, weights: what was seen, None where nothing was. trust in [0, 1]: factor on its information.
    fatness: px of the window, standard deviation of how far the mask reaches beyond the object all around.
    expected: where the object is believed to be from more than this image, or None.
    """

    image: SolverImage | None
    weights: SolverWeights | None
    trust: float = 1.0
    fatness: float = 1.0
    expected: PosePrior | None = None

    @property
    def is_used(self) -> bool:
        """Whether its image takes part."""
        return self.image is not None and self.trust > 0


@dataclass(frozen=True)
class PoseChain:
    """Poses of T frames.

    rotations (T, 3, 3), object to camera. centres (T, 3), m: the mesh's centre. covariance (T, 6, 6), m^2 and rad^2, of
    the centre and the rotation about the camera's axes, given all frames. fatness (T,), px of the window: how far each
    mask reaches beyond the object. cost: of images and motion.
    """

    rotations: np.ndarray
    centres: np.ndarray
    covariance: np.ndarray
    fatness: np.ndarray
    cost: float


@dataclass
class _System:
    """Cost, gradient (T, 6) and the three block diagonals (T, 6, 6) of the normal matrix of a window.

    The best change of a mask's fatness is ``fatness_step (T,) + fatness_share (T, 6) . step``.
    """

    cost: float
    gradient: np.ndarray
    blocks: np.ndarray
    fatness_step: np.ndarray
    fatness_share: np.ndarray


def fit_chain(
    rotations: np.ndarray,
    centres: np.ndarray,
    mesh: SolverMesh,
    frames: Sequence[ChainFrame],
    times: np.ndarray,
    *,
    prior: MotionPrior | None = None,
    iterations: int = 8,
) -> PoseChain:
    """Improve the poses of all frames together.

    Args:
        rotations: (T, 3, 3) and centres: (T, 3), m: where to start.
        mesh: the object. frames: what was seen in each. times: (T,), s, increasing.
        prior: of the motion. iterations: at most so many steps.
    """
    chain = _Chain(mesh, frames, times, prior or MotionPrior())
    fatness = np.zeros(len(frames))
    for widening in _WIDENINGS if len(frames) > 1 else (1.0,):
        chain.rest_widening = widening
        system = chain.start(rotations, centres, fatness)
        rotations, centres, fatness, system = _descend(chain, rotations, centres, fatness, system, iterations)
    left, _, right = np.linalg.svd(rotations)
    return PoseChain(left @ right, centres, marginal_covariance(system.blocks), fatness, system.cost)


def _descend(
    chain: _Chain,
    rotations: np.ndarray,
    centres: np.ndarray,
    fatness: np.ndarray,
    system: _System,
    iterations: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, _System]:
    """Levenberg-Marquardt."""
    damping = 1e-3
    for _ in range(iterations):
        if not np.isfinite(system.cost):
            break
        step = _solve(system, damping)
        new_rotations = np.stack([rotation_matrix(s) @ r for s, r in zip(step[:, 3:], rotations, strict=True)])
        new_centres = centres + step[:, :3]
        new_fatness = fatness + system.fatness_step + np.einsum("ti,ti->t", system.fatness_share, step)
        new = chain.evaluate(new_rotations, new_centres, new_fatness)
        if new.cost < system.cost:
            rotations, centres, fatness, system = new_rotations, new_centres, new_fatness, new
            damping = max(0.2 * damping, 1e-7)
        else:
            damping *= 10
        if max(np.abs(step[:, :3]).max(), 0.1 * np.abs(step[:, 3:]).max()) < _TOLERANCE or damping > 1e4:
            break
    return rotations, centres, fatness, system


class _Chain:
    """The cost of a window."""

    def __init__(self, mesh: SolverMesh, frames: Sequence[ChainFrame], times: np.ndarray, prior: MotionPrior) -> None:
        self._frames, self._prior = frames, prior
        self.rest_widening = 1.0
        self._problems = [PoseProblem(mesh, f.image) if f.image is not None and f.is_used else None for f in frames]
        self._steps = np.diff(np.asarray(times, np.float64))
        count = max(len(frames) - 1, 0)
        # Per second of motion, whatever the rate of the camera: a long gap between frames says little.
        self._velocity = np.zeros((count, 6, 6))
        scale = np.repeat(1 / np.square(prior.acceleration), 3)
        middle = 0.5 * (self._steps[1:] + self._steps[:-1])
        self._acceleration = scale / middle[:, None] ** 2

    def start(self, rotations: np.ndarray, centres: np.ndarray, fatness: np.ndarray) -> _System:
        """Evaluate the images once for the axes of which they say nothing, then the whole."""
        system = self._images(rotations, centres, fatness)
        normals = system.blocks[0]
        used = np.array([frame.is_used for frame in self._frames])
        for t, step in enumerate(self._steps):
            pair = [normals[k] for k in (t, t + 1) if used[k]]
            # An image that says nothing because nothing was seen must not make everything firm.
            normal = np.mean(pair, axis=0) if pair else np.diag([1e9] * 6)
            velocity, turn = self._prior.velocity
            self._velocity[t] = weak_axis_information(normal, turn * step, velocity * step)
        return self._add_motion(system, rotations, centres)

    def evaluate(self, rotations: np.ndarray, centres: np.ndarray, fatness: np.ndarray) -> _System:
        """The whole cost and its derivatives."""
        return self._add_motion(self._images(rotations, centres, fatness), rotations, centres)

    def _images(self, rotations: np.ndarray, centres: np.ndarray, fatness: np.ndarray) -> _System:
        count = len(self._frames)
        system = _System(0.0, np.zeros((count, 6)), np.zeros((3, count, 6, 6)), np.zeros(count), np.zeros((count, 6)))
        for t, (frame, problem) in enumerate(zip(self._frames, self._problems, strict=True)):
            if frame.expected is not None:
                cost, normal, gradient = prior_cost(frame.expected, rotations[t], centres[t])
                system.cost += cost
                system.gradient[t] += gradient
                system.blocks[0, t] += normal
            if problem is None or frame.weights is None:
                continue
            cost, normal, gradient = problem.evaluate_with_fatness(rotations[t], centres[t], fatness[t], frame.weights)
            information = 1 / frame.fatness**2
            normal[6, 6] += information
            gradient[6] += information * fatness[t]
            system.cost += frame.trust * (cost + information * fatness[t] ** 2)
            # The mask's fatness touches one frame only: it is eliminated (Schur complement) and found again afterwards.
            share = normal[6, :6] / normal[6, 6]
            system.gradient[t] += frame.trust * (gradient[:6] - share * gradient[6])
            system.blocks[0, t] += frame.trust * (normal[:6, :6] - np.outer(share, normal[6, :6]))
            system.fatness_step[t], system.fatness_share[t] = -gradient[6] / normal[6, 6], -share
        return system

    def _add_motion(self, system: _System, rotations: np.ndarray, centres: np.ndarray) -> _System:
        if len(centres) < 2:
            return system
        turns = np.stack([rotation_vector(b @ a.T) for a, b in itertools.pairwise(rotations)])
        moves = np.concatenate([np.diff(centres, axis=0), turns], axis=1)
        self._add_velocity(system, moves)
        if len(centres) > 2:
            self._add_acceleration(system, moves / self._steps[:, None])
        return system

    def _add_velocity(self, system: _System, moves: np.ndarray) -> None:
        """Terms 2 and 3; the derivative of a move by the two poses that it joins is close to minus one and one."""
        information = self._velocity.copy()
        pull = np.einsum("tij,tj->ti", information, moves)
        system.cost += float(np.sum(moves * pull))
        for part, half_width in ((slice(0, 3), self._prior.rest[0]), (slice(3, 6), self._prior.rest[1])):
            width2 = (self.rest_widening * half_width * self._steps) ** 2
            ratio = 1 + np.square(moves[:, part]).sum(axis=1) / width2
            # -2 log of a three-dimensional Cauchy density has the factor 4; half of it leaves room for slow motion.
            system.cost += float(2 * np.log(ratio).sum())
            strength = 2 / (width2 * ratio)
            pull[:, part] += strength[:, None] * moves[:, part]
            information[:, part, part] += strength[:, None, None] * np.eye(3)
        system.gradient[1:] += pull
        system.gradient[:-1] -= pull
        system.blocks[0, 1:] += information
        system.blocks[0, :-1] += information
        system.blocks[1, :-1] -= information

    def _add_acceleration(self, system: _System, rates: np.ndarray) -> None:
        """Term 1."""
        change = np.diff(rates, axis=0)
        pull = self._acceleration * change
        system.cost += float(np.sum(change * pull))
        before, after = 1 / self._steps[:-1, None], 1 / self._steps[1:, None]
        factors = (before, -(before + after), after)
        count = len(change)
        for i, first in enumerate(factors):
            system.gradient[i : i + count] += first * pull
            for j in range(i + 1):
                block = (first * factors[j] * self._acceleration)[:, :, None] * np.eye(6)
                system.blocks[i - j, j : j + count] += block


def _solve(system: _System, damping: float) -> np.ndarray:
    """The Gauss-Newton step (T, 6), rotations bounded to where the derivatives hold."""
    count = len(system.gradient)
    banded = np.zeros((_BAND, 6 * count))
    rows, columns = np.indices((6, 6))
    for offset in range(min(3, count)):
        # Row block t + offset, column block t; the blocks are symmetric in all terms above.
        lower = 6 * offset + rows - columns
        inside = (lower >= 0) & (lower < _BAND)
        places = 6 * np.arange(count - offset)[:, None] + columns[inside]
        banded[np.broadcast_to(lower[inside], places.shape), places] = system.blocks[offset, : count - offset][
            :, inside
        ]
    banded[0] += damping * banded[0] + _FLOOR
    step = -solveh_banded(banded, system.gradient.reshape(-1), lower=True, check_finite=False).reshape(count, 6)
    turn, move = np.linalg.norm(step[:, 3:], axis=1).max(), np.linalg.norm(step[:, :3], axis=1).max()
    return step * min(1.0, _MAX_TURN / max(float(turn), 1e-12), _MAX_MOVE / max(float(move), 1e-12))


def marginal_covariance(blocks: np.ndarray) -> np.ndarray:
    """Diagonal blocks (T, 6, 6) of the inverse of a normal matrix that couples each frame with the next two.

    Two frames make one block of a block tridiagonal matrix, whose inverse is found by a pass forward and one backward,
    as in a Rauch-Tung-Striebel smoother.

    Args:
        blocks: (3, T, 6, 6): row block t + k, column block t of the matrix is ``blocks[k, t]``.
    """
    count = blocks.shape[1]
    pairs = (count + 1) // 2
    own = np.tile(np.eye(12), (pairs, 1, 1))
    ahead = np.zeros((pairs, 12, 12))
    # Directions that nothing was seen of get a standard deviation of 1 m and pi instead of infinity.
    unseen = np.diag([1.0, 1.0, 1.0, 0.1, 0.1, 0.1])
    for t in range(count):
        pair, half = divmod(t, 2)
        place = slice(6 * half, 6 * half + 6)
        own[pair, place, place] = blocks[0, t] + unseen
        for offset in (1, 2):
            if t + offset >= count:
                continue
            other, other_half = divmod(t + offset, 2)
            other_place = slice(6 * other_half, 6 * other_half + 6)
            if other == pair:
                own[pair, other_place, place], own[pair, place, other_place] = blocks[offset, t], blocks[offset, t].T
            else:
                ahead[pair, other_place, place] = blocks[offset, t]
    inverses = np.empty_like(own)
    passed = np.zeros((12, 12))
    for i in range(pairs):
        inverses[i] = np.linalg.inv(own[i] - passed)
        passed = ahead[i] @ inverses[i] @ ahead[i].T
    for i in range(pairs - 2, -1, -1):
        gain = inverses[i] @ ahead[i].T
        inverses[i] = inverses[i] + gain @ inverses[i + 1] @ gain.T
    answer = np.stack([inverses[t // 2][6 * (t % 2) :][:6, 6 * (t % 2) :][:, :6] for t in range(count)])
    return 0.5 * (answer + answer.transpose(0, 2, 1))
