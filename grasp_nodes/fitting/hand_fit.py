"""MANO parameters of a hand that is followed through a clip, from 21 landmarks and, where there is any, depth.

Each frame is a small least-squares problem that starts where the last one leads to. Without depth the hand's size
tells the distance. With depth the visible skin is matched point to plane, and the hand's size is estimated once per
track, from its first frames, and then kept.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.hand_configuration import configurations_of
from grasp_nodes.fitting.hand_contact import ObjectSurface, contact_terms
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints
from grasp_nodes.fitting.hand_observation import (
    HandObservation,
    landmark_terms,
    match_skin,
    observe_hand,
    skin_distances,
)
from grasp_nodes.fitting.hand_search import UnexplainedHandError, hand_starts
from grasp_nodes.fitting.hand_skeleton import KeypointOffsets, make_hand_skeleton
from grasp_nodes.fitting.hand_solver import HandSolution, PriorTerms, joined_planes, no_planes, solve_hand
from grasp_nodes.fitting.posture_prior import unforced_postures
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.perception.evidence import HandEvidence

SKIN_REACHES = (0.03, 0.02, 0.012)
"""m; how far points may lie from the skin, from round to round."""
MISSED_COST = 1.5
"""Cost of a skin point that no part of the model explains."""
CANDIDATES = 3
"""Poses that explain the landmarks best and are tried on the skin."""
FRAME_TIME = 1.0 / 30.0
SLOPE_FADE = 0.3
"""Weight of an answer relative to that of the next one, when their motion is estimated."""
GIVEN_TURN_ERROR, GIVEN_ANGLE_ERROR = 0.2, 0.15
"""rad; standard deviations of a pose that is given from elsewhere."""
MAX_GAP = 0.5
"""s without the hand after which it is looked for anew."""


@dataclass(frozen=True)
class HandFitOptions:
    """How firmly a hand is expected to go on as it did, and how its size is found."""

    wrist_change: float = 0.012
    """m; standard deviation of the wrist's unforeseen motion within 1/30 s."""
    distance_change_without_depth: float = 0.008
    """m; the same along the optical axis where no depth is measured."""
    rotation_change: float = 0.15
    """rad, the same."""
    angle_change: float = 0.12
    """rad, the same, of each joint angle."""
    velocity_share: float = 0.6
    """Share of the last motion that is expected to go on."""
    size_spread: float = 0.06
    """Standard deviation of the hand's size relative to the model; 0 = the model's size is the hand's."""
    size_frames: int = 15
    """Frames with depth after which the size is kept."""
    window: int = 2
    """Answers from which the motion that goes on is estimated."""
    worst_cost: float = 70.0
    """Cost above which a followed hand is looked for anew."""

    def __post_init__(self) -> None:
        for name in ("wrist_change", "distance_change_without_depth", "rotation_change", "angle_change", "worst_cost"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if self.size_spread < 0 or self.size_frames < 1:
            raise InputError(f"size_spread, size_frames: expected >= 0 and >= 1, got {self}")
        if self.window < 2:
            raise InputError(f"window: expected at least 2 answers, got {self.window}")


@dataclass(frozen=True)
class HandFit:
    """One hand in one frame.

    configuration: as the solver has it. params: the same in MANO's terms, batch of one, float32.
    landmark_error: m, root mean square, across the rays. skin_error: m, median distance of the skin points to tangent
    planes; NaN without depth. is_initial: found anew. is_metric: the camera's focal length is known.
    """

    configuration: HandConfiguration
    params: HandParams
    landmark_error: float
    skin_error: float
    score: float
    is_initial: bool
    is_metric: bool


class HandFitter:
    """Follows one hand of one side."""

    def __init__(
        self,
        hand_model: HandModel,
        options: HandFitOptions | None = None,
        offsets: KeypointOffsets | None = None,
        betas: np.ndarray | None = None,
    ) -> None:
        """Prepare a hand model for fitting.

        Args:
            hand_model: of one side.
            options: how firmly it is followed.
            offsets: of the landmark network; None = the package's table.
            betas: (10,), shape of the hand; None = zeros.
        """
        self.side = hand_model.side
        self.options = options or HandFitOptions()
        self.skeleton = make_hand_skeleton(hand_model, offsets, betas)
        self._betas = np.zeros(10) if betas is None else np.asarray(betas, np.float64)
        self._postures = unforced_postures(self.skeleton)
        self.reset()

    def reset(self) -> None:
        """Forget the hand, its size included."""
        self._last: HandConfiguration | None = None
        self._past: deque[tuple[int, HandConfiguration]] = deque(maxlen=self.options.window)
        self._stamp, self._step = 0, FRAME_TIME
        self._sizes: list[float] = []
        self._size: float | None = None if self.options.size_spread > 0 else 1.0
        self._observation: HandObservation | None = None

    def update(
        self,
        camera: CameraModel,
        hand: HandEvidence,
        depth: np.ndarray | None = None,
        stamp: int = 0,
        surface: ObjectSurface | None = None,
        start: HandParams | None = None,
    ) -> HandFit:
        """The hand in the next frame.

        Args:
            camera: that took the image.
            hand: landmarks and mask.
            depth: (H, W) float32, m, 0 or NaN = no measurement; None = colour camera.
            stamp: ns, of the image.
            surface: the object that the hand may touch, where its pose is known.
            start: pose that is likely, from elsewhere; its turn and fingers are expected, its place is only tried.

        Raises:
            UnexplainedHandError: no hand can have these landmarks.
            InputError: landmarks that are not numbers, or a depth image of another size.
        """
        observation = observe_hand(camera, hand, depth)
        gap = (stamp - self._stamp) * 1e-9
        solution, is_initial = None, False
        if self._last is not None and 0.0 <= gap <= MAX_GAP:
            self._step = gap if gap > 0 else FRAME_TIME
            solution = self._follow(observation, surface)
        if start is not None:
            given = self._from_elsewhere(observation, start, surface)
            if solution is None or given.cost < solution.cost:
                is_initial, solution = solution is None, given
        if solution is None or solution.cost > self.options.worst_cost:
            searched = self._search(observation, surface)
            if solution is None or searched.cost < 0.8 * solution.cost:
                solution, is_initial = searched, True
        self._observation, self._stamp = observation, stamp
        if is_initial:
            self._past.clear()
        self._past.append((stamp, solution.configuration))
        self._last = solution.configuration
        self._learn_size(observation)
        return self._result(solution.configuration, hand.score, is_initial, camera.is_metric)

    def _follow(self, observation: HandObservation, surface: ObjectSurface | None) -> HandSolution:
        """Start from where the last motion leads to."""
        expected = self._expected()
        options = self.options
        spread = np.sqrt(max(self._step / FRAME_TIME, 0.25))
        wrist = np.full(3, 1.0 / (options.wrist_change * spread))
        if not observation.has_depth:
            wrist[2] = 1.0 / (options.distance_change_without_depth * spread)
        prior = self._prior_at(
            expected,
            rotation=1.0 / (options.rotation_change * spread),
            wrist=wrist,
            angles=1.0 / (options.angle_change * spread),
            size_is_open=self._size is None and observation.has_depth,
        )
        return self._rounds(observation, expected, prior, surface, (4, 3, 3))

    def _expected(self) -> HandConfiguration:
        """Where the motion of the last answers leads to."""
        assert self._last is not None
        last = self._last
        size = self._size if self._size is not None else last.scale
        if len(self._past) < 2:
            return last._replace(scale=size)
        times = np.array([stamp - self._stamp for stamp, _ in self._past]) * 1e-9
        turns = np.stack([Rotation.from_matrix(one.rotation @ last.rotation.T).as_rotvec() for _, one in self._past])
        wrists, angles = (np.stack([one[k] for _, one in self._past]) for k in (1, 2))
        share = self.options.velocity_share * self._step
        return HandConfiguration(
            Rotation.from_rotvec(share * _slope(times, turns)).as_matrix() @ last.rotation,
            last.wrist + share * _slope(times, wrists),
            last.angles + 0.5 * share * _slope(times, angles),
            size,
        )

    def _from_elsewhere(
        self, observation: HandObservation, start: HandParams, surface: ObjectSurface | None
    ) -> HandSolution:
        """Start from a given pose, near the depth that was measured."""
        (given,) = configurations_of(self.skeleton, start)
        measured = observation.depth[observation.depth > 0]
        if len(measured):
            given = given._replace(wrist=given.wrist * (np.median(measured) / max(given.wrist[2], 0.05)))
        options = self.options
        prior = self._prior_at(
            given._replace(scale=self._known_size()),
            rotation=1.0 / GIVEN_TURN_ERROR,
            wrist=np.zeros(3),
            angles=1.0 / GIVEN_ANGLE_ERROR,
            size_is_open=self._size is None and observation.has_depth and options.size_spread > 0,
        )
        return self._rounds(observation, prior.expected, prior, surface, (6, 4, 4))

    def _search(self, observation: HandObservation, surface: ObjectSurface | None) -> HandSolution:
        """Several postures and directions by the landmarks alone; the best go on to the skin."""
        candidates = []
        for start in hand_starts(self.skeleton, observation, self._known_size()):
            prior = self._prior_at(start, rotation=0.0, wrist=np.zeros(3), angles=0.0)
            terms = landmark_terms(self.skeleton, observation, float(start.wrist[2]))
            candidates.append(solve_hand(self.skeleton, start, terms, no_planes(), prior, 12))
        if not candidates:
            raise UnexplainedHandError("keypoints: no hand in front of the camera explains them")
        candidates.sort(key=lambda found: found.cost)
        solutions = []
        for found in candidates[: CANDIDATES if observation.has_skin else 1]:
            prior = self._prior_at(found.configuration, rotation=0.0, wrist=np.zeros(3), angles=0.0)
            solutions.append(self._rounds(observation, found.configuration, prior, surface, (6, 6, 6, 6)))
        return min(solutions, key=lambda found: found.cost)

    def _rounds(
        self,
        observation: HandObservation,
        start: HandConfiguration,
        prior: PriorTerms,
        surface: ObjectSurface | None,
        iterations: tuple[int, ...],
    ) -> HandSolution:
        """Solve, match skin and object anew, and solve again."""
        terms = landmark_terms(self.skeleton, observation, float(max(start.wrist[2], 0.05)))
        solution = HandSolution(start, np.inf, np.zeros((0, 0)))
        for index, count in enumerate(iterations):
            reach = SKIN_REACHES[min(index, len(SKIN_REACHES) - 1)]
            planes = match_skin(self.skeleton, solution.configuration, observation, reach).planes
            if surface is not None and index > 0:
                planes = joined_planes(planes, contact_terms(self.skeleton, solution.configuration, surface))
            solution = solve_hand(self.skeleton, solution.configuration, terms, planes, prior, count)
            if surface is None and not len(observation.points):
                break
        # A pose that leaves points unexplained must not look better for it.
        match = match_skin(self.skeleton, solution.configuration, observation, SKIN_REACHES[-1])
        return solution._replace(cost=solution.cost + match.missed * MISSED_COST)

    def _prior_at(
        self,
        expected: HandConfiguration,
        rotation: float,
        wrist: np.ndarray,
        angles: float,
        size_is_open: bool = False,
    ) -> PriorTerms:
        """What is expected; the size is that known so far, or open around the model's."""
        return PriorTerms(
            expected._replace(scale=1.0 if size_is_open else self._known_size()),
            rotation,
            wrist,
            np.full(self.skeleton.num_dofs, angles),
            1.0 / self.options.size_spread if size_is_open else 1e4,
            *self._postures,
        )

    def _known_size(self) -> float:
        """The size that was kept, else the middle of those seen so far, else the model's."""
        if self._size is not None:
            return self._size
        return float(np.median(self._sizes)) if self._sizes else 1.0

    def _learn_size(self, observation: HandObservation) -> None:
        """The size of the first frames with depth; without depth size and distance cannot be told apart."""
        if self._size is not None or self._last is None or not observation.has_depth:
            return
        self._sizes.append(self._last.scale)
        if len(self._sizes) >= self.options.size_frames:
            self._size = self._known_size()

    def _result(
        self,
        configuration: HandConfiguration,
        evidence_score: float,
        is_initial: bool,
        is_metric: bool,
    ) -> HandFit:
        assert self._observation is not None
        marks = pose_keypoints(self.skeleton, configuration, landmarks=True)
        across = (marks[:, :2] / marks[:, 2:] - self._observation.rays) * configuration.wrist[2]
        landmark_error = float(np.sqrt((across**2).sum(axis=1).mean()))
        skin = match_skin(self.skeleton, configuration, self._observation, SKIN_REACHES[0]).planes
        skin_error = float("nan")
        if len(skin.vertices):
            skin_error = float(np.median(skin_distances(self.skeleton, configuration, skin)))
        score = evidence_score * float(np.exp(-((landmark_error / 0.04) ** 2)))
        params = HandParams.zeros(1, self.side)
        transl = configuration.wrist - configuration.scale * self.skeleton.joints[0]
        params = replace(
            params,
            global_orient=_row(Rotation.from_matrix(configuration.rotation).as_rotvec()),
            hand_pose=_row(self.skeleton.hand_pose(configuration.angles)),
            betas=_row(self._betas),
            transl=_row(transl),
            scale=torch.tensor([configuration.scale], dtype=torch.float32),
        )
        return HandFit(configuration, params, landmark_error, skin_error, score, is_initial, is_metric)


def _slope(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(N,): change per second of (T, N) values at (T,) times; what is older counts less."""
    weights = SLOPE_FADE ** np.arange(len(times))[::-1]
    apart = times - np.average(times, weights=weights)
    spread = float(weights @ apart**2)
    return (weights * apart) @ values / max(spread, 1e-12)


def _row(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[None]
