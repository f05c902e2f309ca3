"""Rigid pose of a mesh by Levenberg-Marquardt on its outline and on depth points, compiled.

A step is kept only if it lowers the cost, so that no candidate diverges.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from grasp_nodes.fitting.pose_residuals import (
    SolverImage,
    SolverMesh,
    SolverWeights,
    assemble,
    make_work,
    point_distance,
    project_mesh,
)
from grasp_nodes.geometry.silhouette import cover_pixels

_MAX_ROTATION_STEP = 0.4
"""rad."""
_MAX_TRANSLATION_STEP = 0.2
"""Share of the distance to the camera."""


@njit(cache=True)
def refine_poses(
    rotations: np.ndarray,
    centres: np.ndarray,
    prior_rotation: np.ndarray,
    prior_centre: np.ndarray,
    mesh: SolverMesh,
    image: SolverImage,
    weights: SolverWeights,
    iterations: int,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Improve candidate poses in place, each by at most `iterations` evaluations.

    Args:
        rotations: (B, 3, 3), object to camera. centres: (B, 3), m: the mesh's centre in the camera's frame.
        prior_rotation (3, 3), prior_centre (3,): of the prior pose, if the weights have one.
        tolerance: a step shorter than this (m, and rad times 0.1 m) ends the search.

    Returns:
        cost (B,), and normal matrix (B, 6, 6) at each pose, in 1/m^2 and 1/rad^2.
    """
    work = make_work(mesh, image)
    count = len(rotations)
    costs, normals = np.empty(count), np.zeros((count, 6, 6))
    normal, gradient, damped, step = np.zeros((6, 6)), np.zeros(6), np.zeros((6, 6)), np.zeros(6)
    best_gradient, new_rotation, new_centre = np.zeros(6), np.zeros((3, 3)), np.zeros(3)
    for b in range(count):
        damping = 1e-3
        rotation, centre, best_normal = rotations[b], centres[b], normals[b]
        best = assemble(
            rotation, centre, prior_rotation, prior_centre, mesh, image, weights, work, best_normal, best_gradient
        )
        for _ in range(iterations):
            if not best < np.inf:
                break
            for i in range(6):
                for j in range(6):
                    damped[i, j] = best_normal[i, j]
                # A direction that nothing was seen of must not take a huge step.
                damped[i, i] += damping * best_normal[i, i] + (1.0 if i < 3 else 1e-2)
                step[i] = -best_gradient[i]
            _solve(damped, step)
            move = math.sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2)
            turn = math.sqrt(step[3] ** 2 + step[4] ** 2 + step[5] ** 2)
            move_share = min(1.0, _MAX_TRANSLATION_STEP * centre[2] / max(move, 1e-12))
            turn_share = min(1.0, _MAX_ROTATION_STEP / max(turn, 1e-12))
            for k in range(3):
                new_centre[k] = centre[k] + move_share * step[k]
            _rotate(turn_share * step[3], turn_share * step[4], turn_share * step[5], rotation, new_rotation)
            cost = assemble(
                new_rotation, new_centre, prior_rotation, prior_centre, mesh, image, weights, work, normal, gradient
            )
            if cost < best:
                best = cost
                _copy_state(new_rotation, new_centre, normal, gradient, rotation, centre, best_normal, best_gradient)
                damping = max(damping * 0.3, 1e-6)
            else:
                damping *= 10.0
            if max(move, 0.1 * turn) < tolerance or damping > 1e4:
                break
        costs[b] = best
    return costs, normals


@njit(cache=True)
def _copy_state(
    rotation: np.ndarray,
    centre: np.ndarray,
    normal: np.ndarray,
    gradient: np.ndarray,
    to_rotation: np.ndarray,
    to_centre: np.ndarray,
    to_normal: np.ndarray,
    to_gradient: np.ndarray,
) -> None:
    for i in range(3):
        to_centre[i] = centre[i]
        for j in range(3):
            to_rotation[i, j] = rotation[i, j]
    for i in range(6):
        to_gradient[i] = gradient[i]
        for j in range(6):
            to_normal[i, j] = normal[i, j]


@njit(cache=True)
def _solve(matrix: np.ndarray, vector: np.ndarray) -> None:
    """Solve a symmetric positive definite system in place by Cholesky's factorisation."""
    size = len(vector)
    for i in range(size):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            matrix[i, j] = math.sqrt(max(total, 1e-12)) if i == j else total / matrix[j, j]
    for i in range(size):
        for k in range(i):
            vector[i] -= matrix[i, k] * vector[k]
        vector[i] /= matrix[i, i]
    for i in range(size - 1, -1, -1):
        for k in range(i + 1, size):
            vector[i] -= matrix[k, i] * vector[k]
        vector[i] /= matrix[i, i]


@njit(cache=True)
def _rotate(x: float, y: float, z: float, rotation: np.ndarray, out: np.ndarray) -> None:
    """Set `out` to exp([x, y, z]) @ rotation, by the unit quaternion."""
    angle = math.sqrt(x * x + y * y + z * z)
    factor = math.sin(0.5 * angle) / angle if angle > 1e-12 else 0.5
    a, b, c, w = factor * x, factor * y, factor * z, math.cos(0.5 * angle)
    m00, m01, m02 = 1 - 2 * (b * b + c * c), 2 * (a * b - c * w), 2 * (a * c + b * w)
    m10, m11, m12 = 2 * (a * b + c * w), 1 - 2 * (a * a + c * c), 2 * (b * c - a * w)
    m20, m21, m22 = 2 * (a * c - b * w), 2 * (b * c + a * w), 1 - 2 * (a * a + b * b)
    for k in range(3):
        p, q, r = rotation[0, k], rotation[1, k], rotation[2, k]
        out[0, k] = m00 * p + m01 * q + m02 * r
        out[1, k] = m10 * p + m11 * q + m12 * r
        out[2, k] = m20 * p + m21 * q + m22 * r


@njit(cache=True)
def compare_masks(
    rotations: np.ndarray, centres: np.ndarray, mesh: SolverMesh, image: SolverImage, depth_scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How well poses explain what was seen.

    Returns:
        For each of the (B,) poses: intersection over union of silhouette and mask where nothing hides the object;
        mean of ``1 / (1 + (d / depth_scale)^2)`` over the depth points (1 where there are none); and the root mean
        square (m) of their distances below three `depth_scale` (NaN where there are none).
    """
    work = make_work(mesh, image)
    count = len(rotations)
    overlap, agreement, rms = np.zeros(count), np.ones(count), np.full(count, np.nan)
    slope = np.empty(3)
    for b in range(count):
        rotation, centre = rotations[b], centres[b]
        if not project_mesh(rotation, centre, mesh, image, work):
            agreement[b] = 0.0
            continue
        work.cover.fill(0)
        cover_pixels(work.pixels, work.camera[:, 2], mesh.faces, work.cover, True)
        both, either = 0, 0
        for y in range(image.mask.shape[0]):
            for x in range(image.mask.shape[1]):
                if image.mask[y, x] or (work.cover[y, x] and not image.ignored[y, x]):
                    either += 1
                    both += image.mask[y, x] and work.cover[y, x]
        overlap[b] = both / max(either, 1)
        if len(image.points):
            total, squares, inliers = 0.0, 0.0, 0
            for i in range(len(image.points)):
                d = point_distance(image.points[i], rotation, centre, mesh, slope)
                total += 1 / (1 + (d / depth_scale) ** 2)
                if abs(d) < 3 * depth_scale:
                    squares += d * d
                    inliers += 1
            agreement[b] = total / len(image.points)
            if inliers:
                rms[b] = math.sqrt(squares / inliers)
    return overlap, agreement, rms
