"""Candidates for the motion of an object through a clip: found in one frame, followed into the others, compared.

A single image often leaves a rotation open: a mug's handle behind the mug, a bottle seen upright or upside down. HOMan
keeps the candidate whose overlap is best over the clip; so do we, but a candidate is followed only while it is distinct
and not hopeless, and the turned copies of the best one (about the object's own axes) compete too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grasp_nodes.fitting.object_clip_evidence import ObjectClip
from grasp_nodes.fitting.object_initialise import DEPTH_AGREEMENT_SCALE, solver_weights
from grasp_nodes.fitting.object_observation import ObjectObservation
from grasp_nodes.fitting.pose_residuals import SolverMesh
from grasp_nodes.fitting.pose_solver import (
    DistancePrior,
    PosePrior,
    PoseProblem,
    rotation_matrix,
    rotation_vector,
    weak_axis_information,
)

SAME_ROTATION = np.deg2rad(20)
"""rad; closer candidates are the same."""
RIVAL_MARGIN = 0.03
"""Score by which a rival may be worse than the best."""
_MOST_TURNED = 8
_STAGES = ((6.0, 0.03, 6), (2.5, 0.012, 5))
"""Per level: outline scale in window pixels, depth scale in m, evaluations."""
_PRIOR_TRANSLATION, _PRIOR_ROTATION = 0.03, 0.1
"""m and rad per frame that an object is expected to move and to turn."""
_HOLD_WITHOUT_DEPTH = 4.0
_VELOCITY_SHARE = 0.7
_TOLERANCE = 1e-4
_SWITCH = 1.0
_NEAR_SWITCH = 0.05
"""What it costs, in frames' scores, to go over to another candidate, and to one that is at the same place."""


DISTANCE_TRUST = 10.0
"""Weight of a belief about the distance among an outline's points: errors of masks are shared by many of these."""
_DOUBT = 2.0
"""Standard deviations beyond the free ones at which a frame's score is halved."""
SEARCH_FREE, FIT_FREE = 0.0, 1.0
"""Standard deviations from what is believed of the distance that cost nothing: a search goes where the hand is, but a
hand's error is the same in all frames. Beyond them a good mask knows better: see `masks_know_better`."""

_WHOLE = 0.95
"""Overlap from which masks show the object whole. Turned otherwise and farther away it explains 0.91 of cut ones."""
_CLEARLY = 0.75
"""Share of the pixels missed with the hands' word below which masks know better without it."""


def masks_know_better(free: np.ndarray, believed: np.ndarray, information: np.ndarray) -> bool:
    """Whether masks tell a distance that hands contradict.

    Args:
        free, believed: (T,) overlap of silhouette and mask without and with what is believed of the distance, NaN where
            the object is not seen. information: (T,), how much each frame says.
    """
    if not information.any():
        return False
    alone, told = (float(np.average(np.nan_to_num(one), weights=information)) for one in (free, believed))
    return alone > _WHOLE and 1 - alone < _CLEARLY * (1 - told)


def distance_prior(clip: ObjectClip, frame: int, free: float) -> DistancePrior | None:
    """What is believed of the distance in a frame; None where nothing is.

    Args:
        free: standard deviations that cost nothing.
    """
    distance, spread = float(clip.belief.distance[frame]), float(clip.belief.spread[frame])
    return DistancePrior(distance, free * spread, DISTANCE_TRUST / spread**2) if np.isfinite(spread) else None


def only_distance(distance: DistancePrior | None) -> PosePrior | None:
    """A prior on nothing else."""
    return None if distance is None else PosePrior(np.eye(3), np.zeros(3), np.zeros((6, 6)), distance)


@dataclass(frozen=True)
class ObjectMotion:
    """One candidate: rotations (T, 3, 3), centres (T, 3) in m of the mesh's centre, scores (T,), NaN where not seen."""

    rotations: np.ndarray
    centres: np.ndarray
    scores: np.ndarray

    def mean_score(self, trust: np.ndarray) -> float:
        """Over the seen frames, weighted."""
        seen = np.isfinite(self.scores) & (trust > 0)
        return float(np.average(self.scores[seen], weights=trust[seen])) if seen.any() else 0.0

    def angle_to(self, other: ObjectMotion) -> np.ndarray:
        """(T,) rad, between the rotations of each frame."""
        return rotation_angles(self.rotations, other.rotations)


def rotation_angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angle (...), rad, between rotations (..., 3, 3) of two stacks that broadcast."""
    cosines = 0.5 * (np.einsum("...ij,...ij->...", first, second) - 1)
    return np.arccos(np.clip(cosines, -1, 1))


class MotionFollower:
    """Follows poses through a clip in its small windows.

    Args:
        mesh: the object. clip: what was seen of it.
    """

    def __init__(self, mesh: SolverMesh, clip: ObjectClip) -> None:
        self._clip = clip
        self._problems = [None if one is None else PoseProblem(mesh, one.image) for one in clip.coarse]

    def follow(self, start: int, rotation: np.ndarray, centre: np.ndarray) -> ObjectMotion:
        """The motion of a pose of frame `start`, forward to the end and back to the beginning.

        Args:
            rotation: (3, 3). centre: (3,), m.
        """
        count = len(self._clip)
        rotations, centres = np.tile(rotation, (count, 1, 1)), np.tile(centre, (count, 1))
        for order in (range(start, count), range(start, -1, -1)):
            self._run(order, rotations, centres)
        return ObjectMotion(rotations, centres, self.scores(rotations, centres))

    def scores(self, rotations: np.ndarray, centres: np.ndarray) -> np.ndarray:
        """(T,) overlap times agreement with depth, NaN where the object was not seen."""
        scores = motion_scores(self._problems, rotations, centres)
        belief = self._clip.belief
        known = np.isfinite(belief.spread)
        apart = (centres[known, 2] - belief.distance[known]) / belief.spread[known]
        scores[known] /= 1 + np.square(np.maximum(np.abs(apart) - FIT_FREE, 0) / _DOUBT)
        return scores

    def refine(self, frame: int, rotation: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """A pose refined in one frame without a past: rotation, centre, score."""
        problem, observation = self._problems[frame], self._clip.coarse[frame]
        if problem is None or observation is None:
            return rotation, centre, 0.0
        for contour_scale, depth_scale, iterations in _STAGES:
            weights = solver_weights(observation, contour_scale, depth_scale)
            rotation, centre, _, _ = problem.refine(
                rotation,
                centre,
                weights,
                iterations,
                _TOLERANCE,
                only_distance(distance_prior(self._clip, frame, SEARCH_FREE)),
            )
        overlap, agreement, _ = problem.explain(rotation, centre, DEPTH_AGREEMENT_SCALE)
        return rotation, centre, overlap * agreement

    def _run(self, order: Sequence[int], rotations: np.ndarray, centres: np.ndarray) -> None:
        """Frames in this order, from the first one's pose on."""
        last = order[0]
        before: int | None = None
        for frame in order:
            observation = self._clip.coarse[frame]
            if observation is None:
                rotations[frame], centres[frame] = rotations[last], centres[last]
                continue
            starts = [(rotations[last], centres[last])]
            if frame != last:
                starts += self._guesses(before, last, frame, rotations, centres)
            gap = max(1, abs(frame - last))
            rotations[frame], centres[frame] = self._step(frame, observation, starts, gap)
            before, last = last, frame

    def _guesses(
        self, before: int | None, last: int, frame: int, rotations: np.ndarray, centres: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Where the last motion leads, and where the mask went."""
        answer = []
        rotation, centre = rotations[last], centres[last]
        if before is not None and before != last:
            share = _VELOCITY_SHARE * abs(frame - last) / abs(last - before)
            turn = rotation_matrix(share * rotation_vector(rotation @ rotations[before].T))
            answer.append((turn @ rotation, centre + share * (centre - centres[before])))
        old, new = self._clip.coarse[last], self._clip.coarse[frame]
        if old is not None and new is not None:
            moved = 0.5 * (new.box[:2] + new.box[2:] - old.box[:2] - old.box[2:])
            size = float(np.linalg.norm(old.box[2:] - old.box[:2]))
            if np.linalg.norm(moved) > 0.1 * size:
                shift = np.append(moved * centre[2] / new.camera_k[[0, 1], [0, 1]], 0.0)
                if len(old.image.points) and len(new.image.points):
                    shift[2] = np.median(new.image.points[:, 2]) - np.median(old.image.points[:, 2])
                answer.append((rotation, centre + shift))
        return answer

    def _step(
        self, frame: int, observation: ObjectObservation, starts: list[tuple[np.ndarray, np.ndarray]], gap: int
    ) -> tuple[np.ndarray, np.ndarray]:
        problem = self._problems[frame]
        assert problem is not None
        weights = [solver_weights(observation, contour, depth) for contour, depth, _ in _STAGES]
        evaluated = [problem.evaluate(*start, weights[0]) for start in starts]
        best = int(np.argmin([cost for cost, _, _ in evaluated]))
        if not np.isfinite(evaluated[best][0]):
            return starts[0]
        hold = weak_axis_information(evaluated[best][1], _PRIOR_ROTATION * gap, _PRIOR_TRANSLATION * gap)
        if not len(observation.image.points):
            # Errors of masks are alike all around: an outline says less than its many points claim.
            hold *= _HOLD_WITHOUT_DEPTH
        prior = PosePrior(*starts[best], hold, distance_prior(self._clip, frame, SEARCH_FREE))
        rotation, centre = starts[best]
        for level, (_, _, iterations) in enumerate(_STAGES):
            rotation, centre, _, _ = problem.refine(rotation, centre, weights[level], iterations, _TOLERANCE, prior)
        return rotation, centre


def motion_scores(problems: Sequence[PoseProblem | None], rotations: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(T,) overlap times agreement with depth of one pose per frame; NaN where there is no problem."""
    scores = np.full(len(problems), np.nan)
    for t, problem in enumerate(problems):
        if problem is not None:
            overlap, agreement, _ = problem.explain(rotations[t], centres[t], DEPTH_AGREEMENT_SCALE)
            scores[t] = overlap * agreement
    return scores


def turned_copies(axes: np.ndarray) -> np.ndarray:
    """The 23 rotations, object frame, (23, 3, 3), that carry a box onto itself as a shape with the given axes (3, 3).

    Args:
        axes: rows are orthonormal directions in the object's frame.
    """
    turns = []
    for permutation in ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)):
        for signs in np.ndindex(2, 2, 2):
            matrix = np.eye(3)[list(permutation)] * (1 - 2 * np.array(signs))
            if np.linalg.det(matrix) > 0:
                turns.append(axes.T @ matrix @ axes)
    return np.stack([turn for turn in turns if np.trace(turn) < 2.9])


def turned_poses(
    best: ObjectMotion, frame: int, follower: MotionFollower, axes: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rotations (3, 3) and centres (3,) of turned copies that explain one frame nearly as well as a motion does.

    Args:
        best: the motion. frame: in which it is compared. follower: of its clip. axes: rows are the object's (3, 3).
    """
    rotation, centre = best.rotations[frame], best.centres[frame]
    poses = [follower.refine(frame, rotation @ turn, centre.copy()) for turn in turned_copies(axes)]
    good = [pose for pose in poses if pose[2] > best.scores[frame] - RIVAL_MARGIN]
    good.sort(key=lambda pose: -pose[2])
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for turned, moved, _ in good:
        others = np.stack([rotation, *(one[0] for one in kept)])
        if rotation_angles(others, turned).min() > SAME_ROTATION and len(kept) < _MOST_TURNED:
            kept.append((turned, moved))
    return kept


def main_axes(points: np.ndarray) -> np.ndarray:
    """Principal axes (3, 3), one per row, right-handed, of points (N, 3)."""
    _, _, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    return axes * np.sign(np.linalg.det(axes))


def distinct(motions: Sequence[ObjectMotion], trust: np.ndarray, count: int, margin: float) -> list[ObjectMotion]:
    """The best few that differ from each other by rotation somewhere in the clip; best first.

    Args:
        motions: candidates. trust: (T,), weights of the frames. count: at most so many.
        margin: those whose score is further below the best one's are hopeless.
    """
    scores = np.array([motion.mean_score(trust) for motion in motions])
    kept: list[ObjectMotion] = []
    for index in np.argsort(-scores, kind="stable"):
        if len(kept) == count or scores[index] < scores.max() - margin:
            break
        motion = motions[index]
        if all(float(np.median(motion.angle_to(other))) > SAME_ROTATION for other in kept):
            kept.append(motion)
    return kept


def stitch(motions: Sequence[ObjectMotion], trust: np.ndarray, reach: float) -> ObjectMotion:
    """The best sequence of candidates: one that was right until the object jumped, then another.

    Args:
        motions: candidates, best first. trust: (T,), weights of the frames. reach: m, the object's diameter.
    """
    if len(motions) == 1:
        return motions[0]
    scores = np.stack([np.where(np.isfinite(m.scores), m.scores, 0.0) * trust for m in motions])
    total, origins = scores[:, 0].copy(), []
    rotations, centres = np.stack([m.rotations for m in motions]), np.stack([m.centres for m in motions])
    for t in range(1, scores.shape[1]):
        apart = rotation_angles(rotations[:, None, t], rotations[None, :, t])
        apart = apart / SAME_ROTATION + np.linalg.norm(centres[:, None, t] - centres[None, :, t], axis=-1) / (
            0.1 * reach
        )
        cost = np.where(apart < 1, _NEAR_SWITCH, _SWITCH)
        np.fill_diagonal(cost, 0.0)
        paths = total[:, None] - cost
        origins.append(paths.argmax(axis=0))
        total = paths.max(axis=0) + scores[:, t]
    chosen = [int(total.argmax())]
    for origin in reversed(origins):
        chosen.append(int(origin[chosen[-1]]))
    path, times = np.array(chosen[::-1]), np.arange(scores.shape[1])
    return ObjectMotion(
        rotations[path, times], centres[path, times], np.stack([m.scores for m in motions])[path, times]
    )
