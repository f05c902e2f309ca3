"""An object followed through a clip by what its own mesh predicts: no mask is needed, so that none leads astray.

In each frame the pose that is expected tells which pixels are the object's and what hides it (`predicted_object`),
these move the pose, and the better pose tells it again, closer. Where next to nothing can be seen the object goes with
the hand that hides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from grasp_nodes.fitting.object_initialise import solver_weights
from grasp_nodes.fitting.object_observation import ObjectObservation, observe_object
from grasp_nodes.fitting.pose_residuals import SolverMesh
from grasp_nodes.fitting.pose_solver import (
    PosePrior,
    PoseProblem,
    rotation_matrix,
    rotation_vector,
    weak_axis_information,
)
from grasp_nodes.fitting.predicted_object import LEAST_VISIBLE, Scene, Sighting, predict, sight_by_depth

Pose = tuple[np.ndarray, np.ndarray]
"""Rotation (3, 3), object to camera, and the mesh's centre (3,), m, in the camera's frame."""


class Guess(NamedTuple):
    """A pose that is expected.

    freedom: m and rad that the pose may differ, None = any. bonus: evidence that it needs less than others to be taken.
    """

    pose: Pose
    freedom: tuple[float, float] | None
    bonus: float


_ROUNDS = ((0.03, 6.0, 0.03, 5), (0.014, 2.5, 0.012, 5))
"""Per round: m, how far off the pose may be; outline scale in window pixels; depth scale in m; evaluations."""
FINE = _ROUNDS[-1][0]
_WINDOW = {"window": 96, "contour_points": 80, "depth_points": 200}
_AT_REST, _CARRIED, _FREE = (0.002, 0.02), (0.006, 0.06), (0.02, 0.1)
"""m and rad that an object may differ from where it rested, where a hand carries it, and from the frame before."""
_ANCHOR_LOSS = 0.06
"""Evidence that a hypothesis lacks once it is over."""
_LIKELY = 0.02
"""Evidence that the likelier motion needs less than others."""
_VELOCITY_SHARE = 0.7
_TOLERANCE = 1e-4
_WELL_PLACED = 0.85
"""Score from which pixels that are far from the prediction are none of the object's."""
_EVIDENCE_NOISE = 0.01
_REMEMBERED = 16
"""Looks that are not repeated: refining begins with what was compared before."""


@dataclass(frozen=True)
class GuidedMotion:
    """Poses of T frames: rotations (T, 3, 3), centres (T, 3), m; sightings of the visible frames, else None."""

    rotations: np.ndarray
    centres: np.ndarray
    sightings: Sequence[Sighting | None]

    @property
    def scores(self) -> np.ndarray:
        """(T,) in [0, 1], 0 where nothing was seen."""
        return np.array([0.0 if one is None else one.score for one in self.sightings])

    @property
    def visible(self) -> np.ndarray:
        """(T,) share of the silhouette that was seen."""
        return np.array([0.0 if one is None else one.visible_share for one in self.sightings])

    @property
    def mean_score(self) -> float:
        """Over the frames, those in which more can be seen count more; frames without a sighting count a little."""
        weights = np.sqrt(np.maximum(self.visible, LEAST_VISIBLE))
        return float(np.average(self.scores, weights=weights))

    @property
    def evidence(self) -> float:
        """Mean over the frames."""
        return float(self.evidences.mean())

    @property
    def evidences(self) -> np.ndarray:
        """(T,) of each sighting; frames without one count as a contradiction."""
        return np.array([-1.0 if one is None else one.evidence for one in self.sightings])


class GuidedFollower:
    """Follows poses of one mesh through frames.

    Args:
        mesh: the object. scenes: of each frame. palms: of each hand (T, 4, 4), camera frame, NaN where not known.
        known: poses (T, 4, 4) of the mesh that compete in every frame, such as those found by masks, or None.
    """

    def __init__(
        self,
        mesh: SolverMesh,
        scenes: Sequence[Scene | None],
        palms: Sequence[np.ndarray] = (),
        known: np.ndarray | None = None,
    ) -> None:
        self._mesh, self._scenes, self._palms = mesh, scenes, palms
        self._known = known
        self._looks: dict[tuple[int, float, bytes, bytes], Sighting | None] = {}
        self._reach = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))

    def look(self, frame: int, pose: Pose, tolerance: float = FINE) -> Sighting | None:
        """What a frame says about a pose; None where it is out of sight or the frame has no depth."""
        key = (frame, tolerance, pose[0].tobytes(), pose[1].tobytes())
        if key not in self._looks:
            while len(self._looks) >= _REMEMBERED:
                self._looks.pop(next(iter(self._looks)))
            self._looks[key] = self._looked(frame, pose, tolerance)
        return self._looks[key]

    def _looked(self, frame: int, pose: Pose, tolerance: float) -> Sighting | None:
        scene = self._scenes[frame]
        prediction = None if scene is None else predict(self._mesh, scene.camera, *pose)
        if prediction is None or scene is None or not prediction.whole:
            return None
        return sight_by_depth(prediction, scene, tolerance)

    def refine(self, frame: int, guess: Guess) -> tuple[Pose, Sighting | None]:
        """Improve a pose by one frame; a pose that contradicts the frame more than it did is not taken."""
        start = self.look(frame, guess.pose)
        rounds = _ROUNDS if start is None or start.score < _WELL_PLACED else _ROUNDS[1:]
        best, moved = (guess.pose, start), guess.pose
        for stage in rounds:
            moved = self._refined(frame, moved, guess, *stage)
            seen = self.look(frame, moved)
            if seen is not None and (best[1] is None or seen.evidence >= best[1].evidence - _EVIDENCE_NOISE):
                best = (moved, seen)
        return best

    def settle(self, frame: int, pose: Pose) -> tuple[Pose, Sighting | None]:
        """Improve a pose that has no past."""
        return self.refine(frame, Guess(pose, None, 0.0))

    def _refined(
        self,
        frame: int,
        pose: Pose,
        guess: Guess,
        tolerance: float,
        contour_scale: float,
        depth_scale: float,
        iterations: int,
    ) -> Pose:
        scene, sighting = self._scenes[frame], self.look(frame, pose, tolerance)
        observation = None if sighting is None or scene is None else self._observe(scene, sighting, frame)
        if observation is None:
            return pose
        problem = PoseProblem(self._mesh, observation.image)
        weights = solver_weights(observation, contour_scale, depth_scale)
        prior = None
        if guess.freedom is not None:
            cost, normal, _ = problem.evaluate(*pose, weights)
            if np.isfinite(cost):
                translation, rotation = guess.freedom
                prior = PosePrior(*guess.pose, weak_axis_information(normal, rotation, translation))
        turned, centre, cost, _ = problem.refine(*pose, weights, iterations, _TOLERANCE, prior)
        return (turned, centre) if np.isfinite(cost) else pose

    def follow(self, start: int, pose: Pose) -> GuidedMotion:
        """The motion of a pose of frame `start`, forward to the end and back to the beginning."""
        count = len(self._scenes)
        rotations, centres = np.tile(pose[0], (count, 1, 1)), np.tile(pose[1], (count, 1))
        sightings: list[Sighting | None] = [None] * count
        for order in (range(start, count), range(start, -1, -1)):
            self._run(order, rotations, centres, sightings)
        return GuidedMotion(rotations, centres, sightings)

    def seen_again(self, motion: GuidedMotion) -> GuidedMotion:
        """A motion that was found in other scenes of the same frames, looked at in these."""
        poses = zip(motion.rotations, motion.centres, strict=True)
        return replace(motion, sightings=[self.look(frame, pose) for frame, pose in enumerate(poses)])

    def _run(
        self, order: Sequence[int], rotations: np.ndarray, centres: np.ndarray, sightings: list[Sighting | None]
    ) -> None:
        """Frames in this order, from the first one's pose on."""
        first = order[0]
        pose, sightings[first] = self.refine(first, Guess((rotations[first], centres[first]), None, 0.0))
        rotations[first], centres[first] = pose
        anchors = [first] * (1 + len(self._palms))
        last, before, rests = first, first, True
        for frame in order[1:]:
            guesses = self._guesses(anchors, before, last, frame, rotations, centres, rests)
            seen = [self.look(frame, guess.pose) for guess in guesses]
            evidence = np.array([-np.inf if one is None else one.evidence for one in seen])
            best = int(np.argmax(evidence + [guess.bonus for guess in guesses]))
            if np.isfinite(evidence[best]):
                pose, sightings[frame] = self.refine(frame, guesses[best])
            else:
                pose = guesses[best].pose
            rotations[frame], centres[frame] = pose
            now = sightings[frame]
            if now is not None and now.is_enough:
                rests = best == 0
            self._move_anchors(anchors, evidence, frame, sightings)
            before, last = last, frame

    @staticmethod
    def _move_anchors(
        anchors: list[int], evidence: np.ndarray, frame: int, sightings: Sequence[Sighting | None]
    ) -> None:
        """To this frame, where it shows more, or where what an anchor predicted is over: the object was let go.

        Args:
            evidence: of the guesses, those of the anchors first.
        """
        now = sightings[frame]
        if now is None:
            return
        for index, anchor in enumerate(anchors):
            then = sightings[anchor]
            clearer = then is None or now.visible_share > then.visible_share
            if clearer or now.evidence > evidence[index] + _ANCHOR_LOSS:
                anchors[index] = frame

    def _guesses(
        self,
        anchors: Sequence[int],
        before: int,
        last: int,
        frame: int,
        rotations: np.ndarray,
        centres: np.ndarray,
        rests: bool,
    ) -> list[Guess]:
        """At rest, carried by each hand, as before, on the way that it had, and where masks put it.

        Where nothing tells them apart, what rested goes on to rest, and what did not goes with the hand.
        """
        resting = anchors[0]
        answer = [Guess((rotations[resting], centres[resting]), _AT_REST, _LIKELY if rests else 0.0)]
        for palms, anchor in zip(self._palms, anchors[1:], strict=True):
            if np.isfinite(palms[[anchor, frame]]).all():
                move = palms[frame] @ np.linalg.inv(palms[anchor])
                pose = (move[:3, :3] @ rotations[anchor], move[:3, :3] @ centres[anchor] + move[:3, 3])
                answer.append(Guess(pose, _CARRIED, _LIKELY / 2 if rests else _LIKELY))
            else:
                answer.append(Guess((rotations[last], centres[last]), _FREE, -0.01))
        rotation, centre = rotations[last], centres[last]
        answer.append(Guess((rotation, centre), _FREE, 0.0))
        if before != last:
            turn = rotation_matrix(_VELOCITY_SHARE * rotation_vector(rotation @ rotations[before].T))
            answer.append(Guess((turn @ rotation, centre + _VELOCITY_SHARE * (centre - centres[before])), _FREE, 0.0))
        if self._known is not None:
            answer.append(Guess((self._known[frame][:3, :3], self._known[frame][:3, 3]), _FREE, -0.02))
        return answer

    def _observe(self, scene: Scene, sighting: Sighting, frame: int) -> ObjectObservation | None:
        mask, hiding = whole_masks(sighting, scene.depth.shape)
        return observe_object(scene.camera, mask, scene.depth, hiding, reach=self._reach, seed=frame, **_WINDOW)


def whole_masks(sighting: Sighting, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A sighting's visible and hiding pixels in the whole image, (H, W) bool each."""
    mask, hiding = np.zeros(shape, bool), np.zeros(shape, bool)
    mask[sighting.prediction.window], hiding[sighting.prediction.window] = sighting.visible, sighting.hiding
    return mask, hiding
