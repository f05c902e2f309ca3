"""Other poses that might explain the images as well as the one that is followed.

A first image often leaves a rotation open: a mug's handle behind the mug, a bottle seen upright or upside down. The
candidates that were as good are followed cheaply beside the best one, together with new random ones, until the
images decide (HOMan keeps the candidate whose overlap is best over the clip).
"""

from __future__ import annotations

import numpy as np
import torch

from grasp_nodes.fitting.object_initialise import pose_scores, solver_weights
from grasp_nodes.fitting.object_observation import ObjectObservation
from grasp_nodes.fitting.pose_residuals import SolverMesh
from grasp_nodes.fitting.pose_solver import refine_poses
from grasp_nodes.geometry.rotations import random_rotations

_COUNT = 4
_FOLLOW = (4.0, 0.02, 6)
_SEARCH = ((8.0, 0.05, 7), (3.0, 0.02, 6))
_SAME_ROTATION = np.deg2rad(20)
_HOPELESS = -0.15
_MEMORY = 0.8
_SHARE_TO_WIN = 0.012
_FRAMES_TO_WIN = 5
_SHARE_TO_WIN_AT_ONCE = 0.05
_RIVAL = -0.03
_DECIDED_AFTER = 15
_QUIET_INTERVAL = 3


class PoseHypotheses:
    """Competitors of one followed pose.

    Args:
        mesh: the object. seed: of the random challengers.
    """

    def __init__(self, mesh: SolverMesh, seed: int) -> None:
        self._mesh = mesh
        self._generator = torch.Generator().manual_seed(seed + 1)
        self.restart(np.zeros((0, 3, 3)), np.zeros((0, 3)))

    def restart(self, rotations: np.ndarray, centres: np.ndarray) -> None:
        """Begin with poses (N, 3, 3) and (N, 3), m; forget the others."""
        self._rotations, self._centres = rotations.copy(), centres.copy()
        self._advantage, self._age = np.zeros(len(rotations)), np.zeros(len(rotations), int)
        self._frame = 0

    def update(
        self, rotation: np.ndarray, centre: np.ndarray, observation: ObjectObservation
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Follow the competitors into the next frame and compare them with the followed pose.

        Args:
            rotation: (3, 3). centre: (3,), m: the followed pose. observation: the frame, in a small window.

        Returns:
            Rotation and centre of a competitor that explains the images better, or None.
        """
        self._frame += 1
        open_question = (self._advantage > _RIVAL) & (self._age < _DECIDED_AFTER)
        if self._frame > _DECIDED_AFTER and not open_question.any() and self._frame % _QUIET_INTERVAL:
            return None
        followed = np.concatenate([rotation[None], self._rotations])
        followed_centres = np.concatenate([centre[None], self._centres])
        self._refine(followed, followed_centres, observation, _FOLLOW)
        challenger = random_rotations(1, self._generator, dtype=torch.float64).numpy().copy()
        challenger_centre = centre[None].copy()
        for stage in _SEARCH:
            self._refine(challenger, challenger_centre, observation, stage)
        rotations = np.concatenate([followed, challenger])
        centres = np.concatenate([followed_centres, challenger_centre])
        scores = pose_scores(rotations, centres, self._mesh, observation)
        advantage = scores[1:] - scores[0]
        age = np.append(self._age + 1, 1)
        mean = np.where(age > 1, _MEMORY * np.append(self._advantage, 0) + (1 - _MEMORY) * advantage, advantage)
        keep = self._distinct(rotation, rotations[1:], mean, advantage)
        self._rotations, self._centres = rotations[1:][keep], centres[1:][keep]
        self._advantage, self._age = mean[keep], age[keep]
        wins = (self._age >= _FRAMES_TO_WIN) & (self._advantage > _SHARE_TO_WIN)
        wins |= advantage[keep] > _SHARE_TO_WIN_AT_ONCE
        if not wins.any():
            return None
        winner = int(np.argmax(np.where(wins, self._advantage, -np.inf)))
        return self._rotations[winner].copy(), self._centres[winner].copy()

    def _refine(
        self,
        rotations: np.ndarray,
        centres: np.ndarray,
        observation: ObjectObservation,
        stage: tuple[float, float, int],
    ) -> None:
        contour_scale, depth_scale, iterations = stage
        weights = solver_weights(observation, contour_scale, depth_scale)
        refine_poses(rotations, centres, self._mesh, observation.image, weights, iterations, 1e-4)

    @staticmethod
    def _distinct(followed: np.ndarray, rotations: np.ndarray, mean: np.ndarray, advantage: np.ndarray) -> np.ndarray:
        """Indices of the best few that differ from the followed pose and from each other."""
        taken = [followed]
        keep: list[int] = []
        for index in np.argsort(-mean, kind="stable"):
            if advantage[index] < _HOPELESS or len(keep) == _COUNT:
                continue
            cosines = 0.5 * (np.einsum("nij,ij->n", np.stack(taken), rotations[index]) - 1)
            if cosines.max() < np.cos(_SAME_ROTATION):
                taken.append(rotations[index])
                keep.append(int(index))
        return np.array(keep, int)
