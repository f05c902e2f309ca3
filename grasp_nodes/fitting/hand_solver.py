"""Levenberg-Marquardt over a hand's place, angles and size, compiled. A step that does not lower the cost is not taken.

Landmarks are weighed as by the pseudo-Huber loss, depths and planes by Cauchy's, the rest by squares.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from grasp_nodes.fitting.hand_kinematics import (
    ANGLES,
    WRIST,
    Bones,
    HandConfiguration,
    PosedBones,
    Skin,
    add_point_jacobian,
    bones_of,
    exponential,
    pose_bones,
    skin_of,
    skinned_point,
)
from grasp_nodes.fitting.hand_skeleton import HandSkeleton

OVERSTEP_WEIGHT = 20.0**2
"""Inverse variance (1 / rad^2) of leaving the limits of a joint."""
START_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-3, 1e-7, 1e5
ENOUGH = 1e-5
"""Relative gain below which the search ends."""
SMALLEST_DEPTH = 0.02


class LandmarkTerms(NamedTuple):
    """The 21 landmarks.

    rays: (21, 2), x / z and y / z. ray_weights: (21,), inverse standard deviation of these. depth: (21,), m along the
    optical axis. front_weights, behind_weights: (21,), 1 / m, for a landmark before and behind that depth; 0 = none.
    A landmark may well lie behind the surface that is seen at its pixel, but never before it.
    relief: (21,), m along the optical axis, less their mean, and relief_weights: (21,), 1 / m; 0 = none.
    """

    rays: np.ndarray
    ray_weights: np.ndarray
    depth: np.ndarray
    front_weights: np.ndarray
    behind_weights: np.ndarray
    relief: np.ndarray
    relief_weights: np.ndarray


class PlaneTerms(NamedTuple):
    """Vertices that ought to lie on planes ``normal . x = offset``.

    vertices: (M,) ids. normals: (M, 3), unit, camera axes. offsets: (M,), m. weights: (M,), 1 / m.
    """

    vertices: np.ndarray
    normals: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray


class PriorTerms(NamedTuple):
    """What is expected. Firmness is an inverse standard deviation.

    expected: configuration. rotation: 1 / rad. wrist: (3,), 1 / m. angles: (D,), 1 / rad. log_scale: unitless.
    posture: (D,), rad, the usual hand, and posture_precision: (D, D), 1 / rad^2, inverse covariance of hands around it.
    """

    expected: HandConfiguration
    rotation: float
    wrist: np.ndarray
    angles: np.ndarray
    log_scale: float
    posture: np.ndarray
    posture_precision: np.ndarray


class HandSolution(NamedTuple):
    """cost: half the robust sum of squares. hessian: (7 + D, 7 + D), Gauss-Newton, at the solution."""

    configuration: HandConfiguration
    cost: float
    hessian: np.ndarray


class _Marks(NamedTuple):
    carrier: np.ndarray
    local: np.ndarray


class _Limits(NamedTuple):
    low: np.ndarray
    high: np.ndarray


def no_planes() -> PlaneTerms:
    """An empty set of planes."""
    return PlaneTerms(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros(0), np.zeros(0))


def joined_planes(first: PlaneTerms, second: PlaneTerms) -> PlaneTerms:
    """Both sets."""
    return PlaneTerms(*(np.concatenate([a, b]) for a, b in zip(first, second, strict=True)))


def solve_hand(
    skeleton: HandSkeleton,
    start: HandConfiguration,
    landmarks: LandmarkTerms,
    planes: PlaneTerms,
    prior: PriorTerms,
    iterations: int,
) -> HandSolution:
    """Minimise the sum of all terms.

    Args:
        skeleton: the hand.
        start: where to begin.
        landmarks: 2D and depth terms.
        planes: point-to-plane terms.
        prior: what is expected.
        iterations: steps that are tried at most.
    """
    rotation, wrist, angles = (np.array(value, np.float64, order="C") for value in start[:3])
    log_scale, cost, hessian = _solve(
        rotation,
        wrist,
        angles,
        math.log(start.scale),
        bones_of(skeleton),
        skin_of(skeleton),
        _Marks(skeleton.keypoint_joint, skeleton.landmark_local),
        _Limits(skeleton.low, skeleton.high),
        landmarks,
        planes,
        prior,
        iterations,
    )
    return HandSolution(HandConfiguration(rotation, wrist, angles, math.exp(log_scale)), cost, hessian)


@njit(cache=True)
def _add_row(hessian: np.ndarray, gradient: np.ndarray, row: np.ndarray, residual: float, weight: float) -> None:
    """Add one residual to the normal equations (lower triangle); zero entries of its row are skipped."""
    for a in range(len(row)):
        if row[a] != 0.0:
            scaled = weight * row[a]
            gradient[a] += scaled * residual
            for b in range(a + 1):
                hessian[a, b] += scaled * row[b]


@njit(cache=True)
def _add_landmarks(
    hessian: np.ndarray,
    gradient: np.ndarray,
    posed: PosedBones,
    bones: Bones,
    marks: _Marks,
    terms: LandmarkTerms,
    with_derivatives: bool,
) -> float:
    cost = _add_relief(hessian, gradient, posed, bones, marks, terms, with_derivatives)
    jacobian = np.zeros((3, len(gradient)))
    for k in range(len(marks.carrier)):
        j = marks.carrier[k]
        point = posed.placed[j] + posed.scale * (posed.turned[j] @ marks.local[k])
        z = max(point[2], SMALLEST_DEPTH)
        u, v = point[0] / z, point[1] / z
        weight = terms.ray_weights[k]
        depth_weight = terms.front_weights[k] if point[2] < terms.depth[k] else terms.behind_weights[k]
        right, down = (u - terms.rays[k, 0]) * weight, (v - terms.rays[k, 1]) * weight
        robust = math.sqrt(1.0 + right * right + down * down)
        away = (point[2] - terms.depth[k]) * depth_weight
        cost += robust - 1.0 + 0.5 * math.log1p(away * away)
        if with_derivatives:
            jacobian[:] = 0.0
            add_point_jacobian(jacobian, 1.0, j, point, posed, bones)
            if weight > 0.0:
                _add_row(hessian, gradient, (jacobian[0] - u * jacobian[2]) * (weight / z), right, 1.0 / robust)
                _add_row(hessian, gradient, (jacobian[1] - v * jacobian[2]) * (weight / z), down, 1.0 / robust)
            if depth_weight > 0.0:
                _add_row(hessian, gradient, jacobian[2] * depth_weight, away, 1.0 / (1.0 + away * away))
    return cost


@njit(cache=True)
def _add_relief(
    hessian: np.ndarray,
    gradient: np.ndarray,
    posed: PosedBones,
    bones: Bones,
    marks: _Marks,
    terms: LandmarkTerms,
    with_derivatives: bool,
) -> float:
    """How the landmarks' depths differ from each other: their mean is free."""
    total = terms.relief_weights.sum()
    if total == 0.0:
        return 0.0
    count = len(marks.carrier)
    depth, middle = np.zeros(count), 0.0
    slopes, common = np.zeros((count, len(gradient))), np.zeros(len(gradient))
    jacobian = np.zeros((3, len(gradient)))
    for k in range(count):
        j = marks.carrier[k]
        point = posed.placed[j] + posed.scale * (posed.turned[j] @ marks.local[k])
        depth[k] = point[2] - terms.relief[k]
        middle += terms.relief_weights[k] / total * depth[k]
        if with_derivatives:
            jacobian[:] = 0.0
            add_point_jacobian(jacobian, 1.0, j, point, posed, bones)
            slopes[k] = jacobian[2]
            common += terms.relief_weights[k] / total * jacobian[2]
    cost = 0.0
    for k in range(count):
        weight = terms.relief_weights[k]
        away = (depth[k] - middle) * weight
        cost += 0.5 * math.log1p(away * away)
        if with_derivatives and weight > 0.0:
            _add_row(hessian, gradient, (slopes[k] - common) * weight, away, 1.0 / (1.0 + away * away))
    return cost


@njit(cache=True)
def _add_planes(
    hessian: np.ndarray,
    gradient: np.ndarray,
    posed: PosedBones,
    bones: Bones,
    skin: Skin,
    planes: PlaneTerms,
    with_derivatives: bool,
) -> float:
    cost = 0.0
    jacobian, row = np.zeros((3, len(gradient))), np.zeros(len(gradient))
    for m in range(len(planes.vertices)):
        jacobian[:] = 0.0
        point = skinned_point(posed, bones, skin, planes.vertices[m], jacobian, with_derivatives)
        nx, ny, nz = planes.normals[m, 0], planes.normals[m, 1], planes.normals[m, 2]
        weight = planes.weights[m]
        residual = (nx * point[0] + ny * point[1] + nz * point[2] - planes.offsets[m]) * weight
        cost += 0.5 * math.log1p(residual * residual)
        if with_derivatives:
            for a in range(len(row)):
                row[a] = weight * (nx * jacobian[0, a] + ny * jacobian[1, a] + nz * jacobian[2, a])
            _add_row(hessian, gradient, row, residual, 1.0 / (1.0 + residual * residual))
    return cost


@njit(cache=True)
def _add_square(hessian: np.ndarray, gradient: np.ndarray, place: int, apart: float, firmness: float) -> float:
    weight = firmness * firmness
    gradient[place] += weight * apart
    hessian[place, place] += weight
    return 0.5 * weight * apart * apart


@njit(cache=True)
def _add_prior(
    hessian: np.ndarray,
    gradient: np.ndarray,
    rotation: np.ndarray,
    wrist: np.ndarray,
    angles: np.ndarray,
    log_scale: float,
    prior: PriorTerms,
    limits: _Limits,
) -> float:
    cost = 0.0
    expected = prior.expected
    for k in range(3):
        cost += _add_square(hessian, gradient, WRIST + k, wrist[k] - expected.wrist[k], prior.wrist[k])
    for i in range(len(angles)):
        cost += _add_square(hessian, gradient, ANGLES + i, angles[i] - expected.angles[i], prior.angles[i])
        for j in range(len(angles)):
            pull = prior.posture_precision[i, j] * (angles[j] - prior.posture[j])
            cost += 0.5 * (angles[i] - prior.posture[i]) * pull
            gradient[ANGLES + i] += pull
            hessian[ANGLES + i, ANGLES + j] += prior.posture_precision[i, j]
        beyond = max(angles[i] - limits.high[i], 0.0) + min(angles[i] - limits.low[i], 0.0)
        if beyond != 0.0:
            cost += _add_square(hessian, gradient, ANGLES + i, beyond, math.sqrt(OVERSTEP_WEIGHT))
    # The chordal distance 3 - trace is the squared angle for small turns; its gradient is the antisymmetric part.
    turn = rotation @ expected.rotation.T
    weight = prior.rotation * prior.rotation
    cost += 0.5 * weight * (3.0 - turn[0, 0] - turn[1, 1] - turn[2, 2])
    gradient[0] += 0.5 * weight * (turn[2, 1] - turn[1, 2])
    gradient[1] += 0.5 * weight * (turn[0, 2] - turn[2, 0])
    gradient[2] += 0.5 * weight * (turn[1, 0] - turn[0, 1])
    for k in range(3):
        hessian[k, k] += weight
    return cost + _add_square(
        hessian, gradient, len(gradient) - 1, log_scale - math.log(expected.scale), prior.log_scale
    )


@njit(cache=True)
def _accumulate(
    hessian: np.ndarray,
    gradient: np.ndarray,
    rotation: np.ndarray,
    wrist: np.ndarray,
    angles: np.ndarray,
    log_scale: float,
    bones: Bones,
    skin: Skin,
    marks: _Marks,
    limits: _Limits,
    landmarks: LandmarkTerms,
    planes: PlaneTerms,
    prior: PriorTerms,
    with_derivatives: bool,
) -> float:
    """Cost; gradient and full Gauss-Newton matrix are written where they are wanted."""
    hessian[:], gradient[:] = 0.0, 0.0
    posed = pose_bones(rotation, wrist, angles, math.exp(log_scale), bones)
    cost = _add_landmarks(hessian, gradient, posed, bones, marks, landmarks, with_derivatives)
    cost += _add_planes(hessian, gradient, posed, bones, skin, planes, with_derivatives)
    cost += _add_prior(hessian, gradient, rotation, wrist, angles, log_scale, prior, limits)
    for a in range(len(gradient)):
        for b in range(a):
            hessian[b, a] = hessian[a, b]
    return cost


@njit(cache=True)
def _solve_positive(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solution of a symmetric positive definite system by Cholesky's factorisation; both arguments are overwritten."""
    size = len(right)
    for i in range(size):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i == j:
                matrix[i, i] = math.sqrt(max(total, 1e-12))
            else:
                matrix[i, j] = total / matrix[j, j]
        for k in range(i):
            right[i] -= matrix[i, k] * right[k]
        right[i] /= matrix[i, i]
    for i in range(size - 1, -1, -1):
        for k in range(i + 1, size):
            right[i] -= matrix[k, i] * right[k]
        right[i] /= matrix[i, i]
    return right


@njit(cache=True)
def _solve(
    rotation: np.ndarray,
    wrist: np.ndarray,
    angles: np.ndarray,
    log_scale: float,
    bones: Bones,
    skin: Skin,
    marks: _Marks,
    limits: _Limits,
    landmarks: LandmarkTerms,
    planes: PlaneTerms,
    prior: PriorTerms,
    iterations: int,
) -> tuple[float, float, np.ndarray]:
    """Improve rotation, wrist and angles in place; gives log scale, cost and Gauss-Newton matrix."""
    size = 7 + len(angles)
    hessian, gradient = np.zeros((size, size)), np.zeros(size)
    no_hessian, no_gradient = np.zeros((size, size)), np.zeros(size)
    damping = START_DAMPING
    cost = _accumulate(
        hessian, gradient, rotation, wrist, angles, log_scale, bones, skin, marks, limits, landmarks, planes,
        prior, True,
    )  # fmt: skip
    for _ in range(iterations):
        damped = hessian.copy()
        for a in range(size):
            damped[a, a] += damping * hessian[a, a] + 1e-9
        step = _solve_positive(damped, -gradient)
        new_rotation = exponential(step[:WRIST]) @ rotation
        new_wrist, new_angles = wrist + step[WRIST:ANGLES], angles + step[ANGLES : size - 1]
        new_scale = log_scale + step[size - 1]
        new_cost = _accumulate(
            no_hessian, no_gradient, new_rotation, new_wrist, new_angles, new_scale, bones, skin, marks, limits,
            landmarks, planes, prior, False,
        )  # fmt: skip
        if not new_cost < cost:
            damping *= 10.0
            if damping > MOST_DAMPING:
                break
            continue
        gained = cost - new_cost
        rotation[:], wrist[:], angles[:] = new_rotation, new_wrist, new_angles
        log_scale, damping = new_scale, max(0.2 * damping, LEAST_DAMPING)
        cost = _accumulate(
            hessian, gradient, rotation, wrist, angles, log_scale, bones, skin, marks, limits, landmarks, planes,
            prior, True,
        )  # fmt: skip
        if gained < ENOUGH * (1.0 + cost):
            break
    return log_scale, cost, hessian
