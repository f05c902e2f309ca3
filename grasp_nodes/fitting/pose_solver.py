"""Rigid pose of a mesh by Levenberg-Marquardt on its outline and on depth points.

A step is kept only if it lowers the cost, so that no candidate diverges.
"""

# The loop over steps stays in Python: numba's cache does not notice a change in a compiled function of another file.
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from grasp_nodes.fitting.pose_residuals import (
    MAX_SAMPLES,
    SolverImage,
    SolverMesh,
    SolverWeights,
    SolverWork,
    accumulate,
    explain,
    project_mesh,
)
from grasp_nodes.geometry.silhouette import cover_pixels, nearest_surface

_MAX_ROTATION_STEP = 0.4
"""rad."""
_MAX_TRANSLATION_STEP = 0.2
"""Share of the distance to the camera."""
_UNSEEN = np.array([1.0, 1.0, 1.0, 1e-2, 1e-2, 1e-2])
"""Added to the normal matrix: a direction that nothing was seen of must not take a huge step."""
_WEAK_ROTATION = 20.0
"""1/rad^2; what an image says of a rotation below this information is the mesh's facets and noise."""
_FIRM = 15.0
"""How much more firmly than loosely a pose is held about an axis that the image says nothing of."""


def rotation_matrix(vector: np.ndarray) -> np.ndarray:
    """Rodrigues' formula for one vector (3,), rad; the batched torch form costs ten times as much for one."""
    angle = float(np.sqrt(vector @ vector))
    x, y, z = vector
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    half = 0.5 * angle
    cosine = 0.5 * (np.sin(half) / half) ** 2 if angle > 1e-8 else 0.5
    sine = np.sin(angle) / angle if angle > 1e-8 else 1.0
    return np.eye(3) + sine * cross + cosine * (cross @ cross)


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """Axis times angle (3,), rad, of one rotation (3, 3) well below pi."""
    axis = 0.5 * np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    sine = float(np.sqrt(axis @ axis))
    return axis * (np.arctan2(sine, 0.5 * (np.trace(matrix) - 1)) / sine if sine > 1e-9 else 1.0)


class DistancePrior(NamedTuple):
    """A distance to stay near, along the optical axis.

    distance, free: m; poses within `free` of it cost nothing. information: 1/m^2, of what is beyond.
    """

    distance: float
    free: float
    information: float


class PosePrior(NamedTuple):
    """A pose to stay near: rotation (3, 3), centre (3,), m, and information (6, 6), 1/m^2 and 1/rad^2.

    distance: of the centre, that is believed as well, or None.
    """

    rotation: np.ndarray
    centre: np.ndarray
    information: np.ndarray
    distance: DistancePrior | None = None


def prior_cost(prior: PosePrior, rotation: np.ndarray, centre: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Cost of a pose under a prior, its normal matrix (6, 6) and half of its gradient (6,)."""
    turn = rotation_vector(rotation @ prior.rotation.T)
    difference = np.concatenate([centre - prior.centre, turn])
    information, pull = prior.information, prior.information @ difference
    cost = float(difference @ pull)
    if prior.distance is not None:
        apart = float(centre[2]) - prior.distance.distance
        beyond = abs(apart) - prior.distance.free
        if beyond > 0:
            information, strength = information.copy(), prior.distance.information
            information[2, 2] += strength
            pull[2] += strength * beyond * np.sign(apart)
            cost += strength * beyond**2
    return cost, information, pull


class PoseProblem:
    """Evaluates poses of one mesh in one image.

    A pose is a rotation (3, 3), object to camera, and the mesh's centre (3,), m, in the camera's frame.
    """

    def __init__(self, mesh: SolverMesh, image: SolverImage) -> None:
        self._mesh, self._image = mesh, image
        window = image.mask.shape
        self._work = SolverWork(
            camera=np.empty((len(mesh.vertices), 3)),
            pixels=np.empty((len(mesh.vertices), 2)),
            front=np.empty(len(mesh.faces), np.bool_),
            cover=np.zeros(window, np.uint8),
            inverse=np.zeros(window, np.float32),
            face_of=np.zeros(window, np.int32),
            sample=np.empty((MAX_SAMPLES, 2)),
            normal=np.empty((MAX_SAMPLES, 2)),
            jacobian=np.empty((MAX_SAMPLES, 2, 6)),
            length=np.empty(MAX_SAMPLES),
        )

    def _place(self, rotation: np.ndarray, centre: np.ndarray, *, with_faces: bool) -> bool:
        """Project the mesh and cover the window; false where it is behind the camera."""
        mesh, work = self._mesh, self._work
        if not project_mesh(rotation, centre, mesh, self._image, work):
            return False
        depths = work.camera[:, 2]
        if with_faces:
            work.inverse.fill(0)
            nearest_surface(work.pixels, depths, mesh.faces, work.inverse, work.face_of, True)
            np.greater(work.inverse, 0, out=work.cover.view(np.bool_))
        else:
            work.cover.fill(0)
            cover_pixels(work.pixels, depths, mesh.faces, work.cover, True)
        return True

    def evaluate(
        self,
        rotation: np.ndarray,
        centre: np.ndarray,
        weights: SolverWeights,
        prior: PosePrior | None = None,
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Cost, normal matrix (6, 6) and half of the gradient (6,); infinite cost behind the camera.

        Args:
            prior: a pose to stay near.
        """
        normal, gradient = np.zeros((6, 6)), np.zeros(6)
        if not self._place(rotation, centre, with_faces=weights.use_visible and len(self._image.points) > 0):
            return np.inf, normal, gradient
        cost = accumulate(rotation, centre, self._mesh, self._image, weights, 0.0, self._work, normal, gradient)
        if prior is not None:
            held, information, pull = prior_cost(prior, rotation, centre)
            cost += held
            gradient += pull
            normal += information
        return cost, normal, gradient

    def evaluate_with_fatness(
        self, rotation: np.ndarray, centre: np.ndarray, fatness: float, weights: SolverWeights
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """The same with a seventh unknown, how far the mask reaches beyond the object: cost, (7, 7) and (7,).

        Args:
            fatness: px of the window.
        """
        normal, gradient = np.zeros((7, 7)), np.zeros(7)
        if not self._place(rotation, centre, with_faces=weights.use_visible and len(self._image.points) > 0):
            return np.inf, normal, gradient
        cost = accumulate(rotation, centre, self._mesh, self._image, weights, fatness, self._work, normal, gradient)
        return cost, normal, gradient

    def refine(
        self,
        rotation: np.ndarray,
        centre: np.ndarray,
        weights: SolverWeights,
        iterations: int,
        tolerance: float,
        prior: PosePrior | None = None,
    ) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
        """Improve a pose by at most `iterations` evaluations.

        Args:
            tolerance: a step shorter than this (m, and rad times 0.1 m) ends the search.

        Returns:
            rotation, centre, cost, and normal matrix, 1/m^2 and 1/rad^2.
        """
        best, normal, gradient = self.evaluate(rotation, centre, weights, prior)
        damping = 1e-3
        for _ in range(iterations):
            if not np.isfinite(best):
                break
            step = -np.linalg.solve(normal + np.diag(damping * normal.diagonal() + _UNSEEN), gradient)
            move, turn = np.sqrt(step[:3] @ step[:3]), np.sqrt(step[3:] @ step[3:])
            step[:3] *= min(1.0, _MAX_TRANSLATION_STEP * centre[2] / max(move, 1e-12))
            step[3:] *= min(1.0, _MAX_ROTATION_STEP / max(turn, 1e-12))
            new_rotation, new_centre = rotation_matrix(step[3:]) @ rotation, centre + step[:3]
            cost, new_normal, new_gradient = self.evaluate(new_rotation, new_centre, weights, prior)
            if cost < best:
                rotation, centre, best, normal, gradient = new_rotation, new_centre, cost, new_normal, new_gradient
                damping = max(0.3 * damping, 1e-6)
            else:
                damping *= 10
            if max(move, 0.1 * turn) < tolerance or damping > 1e4:
                break
        return rotation, centre, best, normal

    def explain(self, rotation: np.ndarray, centre: np.ndarray, depth_scale: float) -> tuple[float, float, float]:
        """How well a pose explains what was seen.

        Returns:
            Intersection over union of silhouette and mask where nothing hides the object; mean of
            ``1 / (1 + (d / depth_scale)^2)`` over the depth points (1 where there are none); and the root mean square
            (m) of their distances below three `depth_scale` (NaN where there are none).
        """
        if not self._place(rotation, centre, with_faces=len(self._image.points) > 0):
            return 0.0, 0.0, np.nan
        return explain(rotation, centre, self._mesh, self._image, self._work, depth_scale)


def refine_poses(
    rotations: np.ndarray,
    centres: np.ndarray,
    mesh: SolverMesh,
    image: SolverImage,
    weights: SolverWeights,
    iterations: int,
    tolerance: float,
    prior: PosePrior | None = None,
) -> np.ndarray:
    """Improve candidate poses (B, 3, 3) and (B, 3) in place, see :meth:`PoseProblem.refine`; their costs (B,)."""
    problem = PoseProblem(mesh, image)
    costs = np.empty(len(rotations))
    for b in range(len(rotations)):
        rotations[b], centres[b], costs[b], _ = problem.refine(
            rotations[b].copy(), centres[b].copy(), weights, iterations, tolerance, prior
        )
    return costs


def weak_axis_information(normal: np.ndarray, rotation_scale: float, translation_scale: float) -> np.ndarray:
    """How strongly a pose is held near its neighbour's, (6, 6).

    Loosely where the image knows better; firmly about axes that it says nothing of, so that a ball does not spin.

    Args:
        normal: (6, 6), information of the image. rotation_scale: rad, translation_scale: m: where it is loose.
    """
    information = np.diag([1 / translation_scale**2] * 3 + [0.0] * 3)
    translation = normal[:3, :3] + information[:3, :3]
    left_over = normal[3:, 3:] - normal[3:, :3] @ np.linalg.solve(translation, normal[:3, 3:])
    strength, axes = np.linalg.eigh(0.5 * (left_over + left_over.T))
    hold = (1 + _FIRM / (1 + (np.maximum(strength, 0) / _WEAK_ROTATION) ** 2)) / rotation_scale**2
    information[3:, 3:] = axes @ np.diag(hold) @ axes.T
    return information


def carry_covariance(covariance: np.ndarray, lever: np.ndarray) -> np.ndarray:
    """Covariance (6, 6) of the mesh's centre carried to the object's origin.

    Args:
        covariance: m^2 and rad^2, camera axes. lever: (3,), m, from the origin to the centre, camera axes.
    """
    carry = np.eye(6)
    # dt = dc + lever x dw
    carry[:3, 3:] = [[0, -lever[2], lever[1]], [lever[2], 0, -lever[0]], [-lever[1], lever[0], 0]]
    covariance = carry @ covariance @ carry.T
    return 0.5 * (covariance + covariance.T)
