"""Levenberg-Marquardt on a hand's place, pose and shape: points where they were told to be, skin on the surface.

What is lowered is minus twice a logarithm of probability: each term is squared in units of its own deviation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from grasp_nodes.fitting.choir.carried_points import (
    BETAS,
    POSE,
    UNKNOWNS,
    WRIST,
    Carrier,
    HandPlace,
    Mixed,
    mix_derivatives,
    mix_points,
    pose_points,
)
from grasp_nodes.fitting.choir.multilateration import kabsch
from grasp_nodes.fitting.choir.prior import HandPrior
from grasp_nodes.fitting.hand_kinematics import exponential
from grasp_nodes.geometry.signed_distance import query_grid
from grasp_nodes.hand.parameters import NUM_POSE

_LARGEST_TURN = 0.6
"""rad, of one step."""
_LARGEST_SHIFT = 0.05
"""m, of one step."""
_FIRST_DAMPING = 1e-3
_NO_DERIVATIVES = np.zeros((0, 3, 0))
_STUBBORN = 1e8
"""Damping at which not even the smallest steps help."""


class PointGoals(NamedTuple):
    """Where P points of the hand should be. position: (P, 3), m. information: (P, 3, 3), 1/m^2."""

    position: np.ndarray
    information: np.ndarray


class SurfaceGoals(NamedTuple):
    """How M points of the skin and in the flesh should lie at an object. Without any, `contact` has no rows.

    contact: (M,), how much each ought to touch, 0..1. area: (M,), what each counts, their mean is 1 on the skin.
    least: (M,), m, of the signed distance: less is too deep; a little below 0 for skin, above for points in the flesh.
    values, origin, spacing: of the object's signed distance. contact_deviation, depth_deviation: m.
    """

    contact: np.ndarray
    area: np.ndarray
    least: np.ndarray
    values: np.ndarray
    origin: np.ndarray
    spacing: float
    contact_deviation: float
    depth_deviation: float


class Solved(NamedTuple):
    """place: of the hand. cost: at the end. steps: that were tried."""

    place: HandPlace
    cost: float
    steps: int


def no_surface() -> SurfaceGoals:
    """Nothing is known of an object."""
    none = np.zeros(0)
    return SurfaceGoals(none, none, none, np.zeros((2, 2, 2), np.float32), np.zeros(3), 1.0, 1.0, 1.0)


def usual_place(points: tuple[Carrier, Mixed], goals: PointGoals, prior: HandPrior) -> HandPlace:
    """The usual posture, brought to the goals as a whole: where a search begins.

    Args:
        points: those of the goals. goals: with no information about a point it does not count.
    """
    pose, betas = prior.mean[:NUM_POSE].copy(), prior.mean[NUM_POSE:].copy()
    here = points_of(points, HandPlace(np.eye(3), np.zeros(3), pose, betas))
    weights = np.zeros(len(here))
    known = np.trace(goals.information, axis1=1, axis2=2) > 0
    # By the direction that is known least.
    weights[known] = 1.0 / np.trace(np.linalg.inv(goals.information[known]), axis1=1, axis2=2)
    rotation, shift = kabsch(here, goals.position, weights)
    return HandPlace(rotation, shift, pose, betas)


def points_of(points: tuple[Carrier, Mixed], place: HandPlace) -> np.ndarray:
    """(P, 3), m, of a hand."""
    return mix_points(points[1], pose_points(points[0], place, _NO_DERIVATIVES))


@njit(cache=True)
def solve(
    carrier: Carrier,
    mixed: Mixed,
    goals: PointGoals,
    surface: SurfaceGoals,
    prior: HandPrior,
    start: HandPlace,
    steps: int,
    least_gain: float,
) -> Solved:
    """The most likely hand near a start.

    Args:
        carrier: the points' M; those of a surface are the same. mixed: the P points of the goals, of them.
        steps: at most. least_gain: two steps that gain less than this share of the cost in turn are the last.
    """
    place, damping, quiet = start, _FIRST_DAMPING, 0
    cost, slope, bend = _terms(carrier, mixed, goals, surface, prior, place)
    done = 0
    while done < steps and quiet < 2 and damping < _STUBBORN:
        done += 1
        matrix = bend.copy()
        for i in range(UNKNOWNS):
            matrix[i, i] += damping * bend[i, i] + 1e-12
        tried = _moved(place, _limited(np.linalg.solve(matrix, -slope)))
        new_cost, new_slope, new_bend = _terms(carrier, mixed, goals, surface, prior, tried)
        if new_cost < cost:
            quiet = quiet + 1 if cost - new_cost < least_gain * cost else 0
            place, cost, slope, bend = tried, new_cost, new_slope, new_bend
            damping = max(0.1 * damping, 1e-9)
        else:
            damping *= 6.0
    return Solved(place, cost, done)


@njit(cache=True)
def evaluate(
    carrier: Carrier, mixed: Mixed, goals: PointGoals, surface: SurfaceGoals, prior: HandPrior, place: HandPlace
) -> tuple[float, np.ndarray]:
    """Cost of a hand and its gradient (61,); of pose correctives the gradient knows nothing."""
    cost, slope, _ = _terms(carrier, mixed, goals, surface, prior, place)
    return cost, 2.0 * slope


@njit(cache=True)
def _terms(
    carrier: Carrier, mixed: Mixed, goals: PointGoals, surface: SurfaceGoals, prior: HandPrior, place: HandPlace
) -> tuple[float, np.ndarray, np.ndarray]:
    """Cost, half its gradient, and Gauss-Newton's half second derivatives."""
    jacobian = np.empty((len(carrier.template), 3, UNKNOWNS))
    points = pose_points(carrier, place, jacobian)
    here, own = mix_points(mixed, points), mix_derivatives(mixed, jacobian)
    count = len(here)
    pushed = np.empty((count, 3, UNKNOWNS))
    cost, slope = 0.0, np.zeros(UNKNOWNS)
    for p in range(count):
        off = here[p] - goals.position[p]
        force = goals.information[p] @ off
        cost += off @ force
        pushed[p] = goals.information[p] @ own[p]
        slope += own[p].T @ force
    bend = own.reshape(3 * count, UNKNOWNS).T @ pushed.reshape(3 * count, UNKNOWNS)
    if len(surface.contact):
        more, force, rows = _at_surface(points, jacobian, surface)
        cost += more
        slope += force
        bend += rows.T @ rows
    away = np.concatenate((place.pose, place.betas)) - prior.mean
    drawn = prior.precision @ away
    cost += away @ drawn
    slope[POSE:] += drawn
    bend[POSE:, POSE:] += prior.precision
    return cost, slope, bend


@njit(cache=True)
def _at_surface(
    points: np.ndarray, jacobian: np.ndarray, surface: SurfaceGoals
) -> tuple[float, np.ndarray, np.ndarray]:
    """Skin that ought to touch is drawn to the surface, skin that is too deep is pushed out."""
    count = len(surface.contact)
    distance, gradient = query_grid(surface.values, surface.origin, surface.spacing, points[:count])
    rows = np.empty((count, UNKNOWNS))
    cost, slope, used = 0.0, np.zeros(UNKNOWNS), 0
    for v in range(count):
        deep = distance[v] < surface.least[v]
        if deep:
            residual, deviation = distance[v] - surface.least[v], surface.depth_deviation
            weight = math.sqrt(surface.area[v])
        elif surface.contact[v] > 0.0 and distance[v] > 0.0:
            residual, deviation = distance[v], surface.contact_deviation
            weight = math.sqrt(surface.area[v] * surface.contact[v])
        else:
            continue
        scale = weight / deviation
        rows[used] = scale * (gradient[v] @ jacobian[v])
        cost += (scale * residual) ** 2
        slope += scale * residual * rows[used]
        used += 1
    return cost, slope, rows[:used]


@njit(cache=True)
def _limited(step: np.ndarray) -> np.ndarray:
    """The step, shortened as a whole where a turn or a shift would be too long."""
    largest = 0.0
    for first in range(0, BETAS, 3):
        length = math.sqrt(step[first] ** 2 + step[first + 1] ** 2 + step[first + 2] ** 2)
        largest = max(largest, length / (_LARGEST_SHIFT if first == WRIST else _LARGEST_TURN))
    return step / max(largest, 1.0)


@njit(cache=True)
def _moved(place: HandPlace, step: np.ndarray) -> HandPlace:
    return HandPlace(
        exponential(step[:WRIST]) @ place.rotation,
        place.wrist + step[WRIST:POSE],
        place.pose + step[POSE:BETAS],
        place.betas + step[BETAS:],
    )
