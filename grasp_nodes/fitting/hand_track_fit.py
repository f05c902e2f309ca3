"""One hand through all frames of a window: forward, backward, then every frame between its two neighbours.

In each frame the hand is explained from where the motion leads, with each place that its landmarks may have and with
none of them; what explains skin, outline, landmarks and motion best is kept. So a hand is followed by its skin alone
where the landmark network fails, and landmarks of the wrong side or place are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from grasp_nodes.fitting.hand_configuration import between
from grasp_nodes.fitting.hand_fit import (
    CANDIDATES,
    FRAME_TIME,
    MISSED_COST,
    SKIN_REACHES,
    HandFitOptions,
)
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints
from grasp_nodes.fitting.hand_observation import HandObservation, landmark_terms, match_skin, with_relief
from grasp_nodes.fitting.hand_outline import match_outline
from grasp_nodes.fitting.hand_search import hand_starts
from grasp_nodes.fitting.hand_skeleton import HandSkeleton
from grasp_nodes.fitting.hand_solver import (
    HandSolution,
    LandmarkTerms,
    PriorTerms,
    joined_planes,
    no_planes,
    solve_hand,
)
from grasp_nodes.fitting.hand_views import HandView
from grasp_nodes.fitting.landmark_reading import LandmarkReader, LandmarkReading
from grasp_nodes.fitting.posture_prior import grasping_postures, unforced_postures
from grasp_nodes.fitting.reader_doubt import (
    doubt_of_window,
    prior_with_reading,
    read_landmark_error,
    unfamiliarity,
)

NO_LANDMARKS_COST = 12.0
"""Cost of a frame whose landmarks are not believed; landmarks that cost more are wrong."""
NO_LANDMARKS_COST_WITHOUT_DEPTH = 40.0
"""The same where landmarks are all there is: there they weigh more."""
JUMP_COST = 25.0
"""Cost of a hand that is found anew although it was followed."""
OUTSIDE_COST, UNCOVERED_COST = 150.0, 40.0
"""Costs of a hand that lies wholly where no hand is seen, and of a mask that nothing of it covers."""
LOST_COST = 130.0
"""Cost above which a frame does not show this hand in this pose."""
FOLLOW_STEPS, SEARCH_STEPS, SMOOTH_STEPS = (4, 3, 3), (6, 6, 6, 6), (4, 3)
SWEEPS = 3
SEARCHED_CHOICES = 2
"""Readings of the landmarks from which a lost hand is looked for."""
BLIND_STEPS = 3
"""Frames without any evidence over which the last motion is believed to go on."""
NEAREST, FARTHEST = 0.1, 3.0
"""m; where hands are looked for."""
DISTANCE_RANGE = 1.5
"""Factor by which a hand without depth may be nearer or farther than it usually is."""
TURN_CHANGE, BEND_CHANGE = 0.08, 0.06
"""rad; unforeseen within 1/30 s where landmarks are read. Readings of successive images err alike, so that neighbours
tell less than as many independent ones: half of what is expected where each image is measured."""
GIVEN_DISTANCE_ERROR = 0.05
"""Relative; of a distance that nobody read."""
DISTANCE_SPREAD = 0.04
"""m; how far a hand without depth is expected to be from its usual distance."""
BLIND_FIRMNESS = 3.0
"""Factor on the motion's firmness where an outline is all there is: it tells little about distance and fingers."""
SAME_TURN, SAME_PLACE = 0.05, 0.003
"""rad, m; solutions nearer than this are one."""
VISIBLE_SKIN = 0.5
"""Least share of the measured skin (of the mask, without depth) that a followed hand explains."""


@dataclass(frozen=True)
class FrameFit:
    """One frame's answer.

    cost: as of the solver, with what is left unexplained. with_landmarks: landmarks were believed.
    supported: skin or outline agree. choice: which of the view's landmarks, -1 = none.
    """

    configuration: HandConfiguration
    cost: float
    with_landmarks: bool
    supported: bool
    choice: int = -1


class HandTrackFitter:
    """Fits one hand of one side and shape."""

    def __init__(
        self,
        skeleton: HandSkeleton,
        options: HandFitOptions,
        size: float | None = None,
        reader: LandmarkReader | None = None,
    ) -> None:
        """Prepare.

        Args:
            skeleton: the hand.
            options: how firmly it is expected to go on as it did.
            size: its scale, None = not known yet.
            reader: of landmarks in views without depth, None = they are taken as they are.
        """
        self.skeleton, self.options, self.size = skeleton, options, size
        self._reader = reader
        self._readings: dict[int, LandmarkReading] = {}
        self.doubt = 0.0
        self._postures = grasping_postures(skeleton)
        self._unforced = unforced_postures(skeleton)
        self._distances = (NEAREST, FARTHEST)
        self._usual: float | None = None

    # -- passes

    def learn_distance(self, views: Sequence[HandView | None], given: Mapping[int, HandConfiguration]) -> None:
        """How far the hand usually is, for views without depth: single landmarks tell it badly, most of them well.

        Args:
            views: of T frames. given: frames whose answer is known.
        """
        distances = [(configuration.wrist[2], GIVEN_DISTANCE_ERROR) for configuration in given.values()]
        for view in views:
            if view is None or not view.choices:
                continue
            reading = self._reading(view, 0)
            if reading is not None:
                distances.append((reading.wrist[2], reading.distance_error))
            elif (fit := self._search(view, 0)) is not None:
                distances.append((fit.configuration.wrist[2], GIVEN_DISTANCE_ERROR))
        if distances:
            found, errors = np.array(distances).T
            self._usual = _weighted_median(found, errors**-2)
            self._distances = (self._usual / DISTANCE_RANGE, self._usual * DISTANCE_RANGE)

    def learn_doubt(self, views: Sequence[HandView | None], before: float = 0.0) -> None:
        """Whether the clip shows what the reader knows: where it does not, landmarks that are sure win.

        Args:
            views: of T frames. before: the doubt of the window before, 0 to 1.
        """
        apart = []
        for view in views:
            reading = None if view is None or not view.choices else self._reading(view, 0)
            if view is not None and reading is not None:
                apart.append(unfamiliarity(self.skeleton, reading, view.choices[0].rays, view.score))
        self.doubt = doubt_of_window(apart, before)

    def _is_near(self, configuration: HandConfiguration) -> bool:
        return self._distances[0] < configuration.wrist[2] < self._distances[1]

    def follow(
        self, views: Sequence[HandView | None], given: Mapping[int, HandConfiguration], backward: bool = False
    ) -> dict[int, FrameFit]:
        """One pass through the frames; those in which the hand is not found are left out.

        Args:
            views: of T frames. given: frames whose answer is known. backward: from the last frame to the first.
        """
        found: dict[int, FrameFit] = {}
        past: list[tuple[float, HandConfiguration]] = []
        order = range(len(views) - 1, -1, -1) if backward else range(len(views))
        for index in order:
            view = views[index]
            if index in given:
                found[index] = FrameFit(given[index], 0.0, True, True)
            elif view is None or view.is_blind:
                continue
            else:
                fit = self._frame(view, past)
                if fit is None:
                    past = []
                    continue
                found[index] = fit
            time = float(index) * FRAME_TIME if view is None else view.time
            past = [*past[-1:], (time, found[index].configuration)]
        return found

    def refine(
        self,
        views: Sequence[HandView | None],
        found: Mapping[int, FrameFit],
        given: Mapping[int, HandConfiguration],
    ) -> dict[int, FrameFit]:
        """Every frame anew, half-way between its neighbours, a few times over."""
        fits = dict(found)
        for sweep in range(SWEEPS):
            rows = sorted(fits)
            for index in rows if sweep % 2 == 0 else reversed(rows):
                view = views[index]
                if index in given or view is None or view.is_blind:
                    continue
                before = max((row for row in rows if row < index), default=None)
                after = min((row for row in rows if row > index), default=None)
                fit = self._between(
                    view,
                    fits[index],
                    None if before is None else (views[before], fits[before].configuration),
                    None if after is None else (views[after], fits[after].configuration),
                )
                fits[index] = fit
        return fits

    # -- one frame

    def _frame(self, view: HandView, past: Sequence[tuple[float, HandConfiguration]]) -> FrameFit | None:
        """The best explanation of one frame, None where there is none."""
        answers: list[FrameFit] = []
        if past:
            expected, step = self._expected(past, view.time)
            prior = self._prior(expected, step, view)
            answers = [
                self._solve(view, choice, expected, prior, FOLLOW_STEPS) for choice in range(-1, len(view.choices))
            ]
        best = min(answers, key=lambda fit: fit.cost, default=None)
        if best is None or not best.with_landmarks or best.cost > self.options.worst_cost:
            for choice in range(min(len(view.choices), SEARCHED_CHOICES)):
                anew = self._search(view, choice)
                if anew is not None:
                    answers.append(replace(anew, cost=anew.cost + (JUMP_COST if past else 0.0)))
            best = min(answers, key=lambda fit: fit.cost, default=None)
        if best is None or best.cost > LOST_COST or not (best.with_landmarks or best.supported):
            return None
        if not view.observation.has_depth and not self._is_near(best.configuration):
            return None
        return best

    def _between(
        self,
        view: HandView,
        fit: FrameFit,
        before: tuple[HandView | None, HandConfiguration] | None,
        after: tuple[HandView | None, HandConfiguration] | None,
    ) -> FrameFit:
        near = [pair for pair in (before, after) if pair is not None]
        if not near:
            return fit
        steps = [abs(view.time - other.time) if other is not None else FRAME_TIME for other, _ in near]
        expected = near[0][1] if len(near) == 1 else between(near[0][1], near[1][1], steps[0] / max(sum(steps), 1e-6))
        prior = self._prior(expected._replace(scale=self._scale(fit)), min(steps), view)
        answers = [
            self._solve(view, choice, fit.configuration, prior, SMOOTH_STEPS)
            for choice in sorted({-1, fit.choice, *range(min(len(view.choices), 1))})
        ]
        return min(answers, key=lambda answer: answer.cost)

    def _scale(self, fit: FrameFit) -> float:
        return self.size if self.size is not None else fit.configuration.scale

    def _expected(
        self, past: Sequence[tuple[float, HandConfiguration]], time: float
    ) -> tuple[HandConfiguration, float]:
        """Where the last motion leads to, and the time since."""
        last_time, last = past[-1]
        step = abs(time - last_time) or FRAME_TIME
        size = self.size if self.size is not None else last.scale
        if len(past) < 2:
            return last._replace(scale=size), step
        earlier_time, earlier = past[-2]
        share = self.options.velocity_share * min(step / max(abs(last_time - earlier_time), 1e-6), BLIND_STEPS)
        moved = between(earlier, last, 1.0 + share)
        angles = last.angles + 0.5 * share * (last.angles - earlier.angles)
        return moved._replace(angles=angles, scale=size), step

    def _prior(self, expected: HandConfiguration, step: float, view: HandView) -> PriorTerms:
        options = self.options
        spread = np.sqrt(max(step / FRAME_TIME, 0.25))
        wrist = np.full(3, 1.0 / (options.wrist_change * spread))
        measured = view.observation.has_depth
        turn, bend = options.rotation_change, options.angle_change
        if not measured and self._reader is not None:
            turn, bend = min(turn, TURN_CHANGE), min(bend, BEND_CHANGE)
        if not measured:
            wrist[2] = 1.0 / (options.distance_change_without_depth * spread)
        is_open = self.size is None and measured
        return PriorTerms(
            expected._replace(scale=1.0 if is_open else expected.scale),
            1.0 / (turn * spread),
            wrist,
            np.full(self.skeleton.num_dofs, 1.0 / (bend * spread)),
            1.0 / options.size_spread if is_open and options.size_spread > 0 else 1e4,
            *self._postures,
        )

    def _with_distance(self, expected: HandConfiguration, firmness: float) -> tuple[HandConfiguration, float]:
        """The expected distance and its firmness (1 / m), with what is usual added."""
        if self._usual is None:
            return expected, firmness
        total = firmness**2 + DISTANCE_SPREAD**-2
        distance = (firmness**2 * expected.wrist[2] + DISTANCE_SPREAD**-2 * self._usual) / total
        return expected._replace(wrist=np.array([*expected.wrist[:2], distance])), float(np.sqrt(total))

    def _reading(self, view: HandView, choice: int) -> LandmarkReading | None:
        """What the landmarks say, None where depth says more or there is nobody to read them."""
        if self._reader is None or choice < 0 or view.observation.has_depth:
            return None
        seen = view.choices[choice]
        if id(seen) not in self._readings:
            self._readings[id(seen)] = self._reader.read(self.skeleton, seen.rays, seen.relative, view.score)
        return self._readings[id(seen)]

    def _landmark_terms(
        self, observation: HandObservation, distance: float, reading: LandmarkReading | None
    ) -> LandmarkTerms:
        error = None if reading is None else read_landmark_error(reading, self.doubt)
        terms = landmark_terms(self.skeleton, observation, distance, error)
        if self.doubt > 0 and reading is not None and observation.relative is not None:
            size = 1.0 if self.size is None else self.size
            terms = with_relief(self.skeleton, terms, observation.relative, size, self.doubt)
        return terms

    def _search(self, view: HandView, choice: int) -> FrameFit | None:
        """From the landmarks alone, wherever the hand was before."""
        observation = view.choices[choice]
        size = self.size if self.size is not None else 1.0
        is_open = self.size is None and observation.has_depth
        candidates = []
        reading = self._reading(view, choice)
        starts = (
            hand_starts(self.skeleton, observation, size)
            if reading is None
            else [HandConfiguration(reading.rotation, size * reading.wrist, reading.postures.mean, size)]
        )
        for start in starts:
            prior = self._no_motion(start, is_open)
            if reading is not None:
                prior, _ = prior_with_reading(prior, reading, self.doubt, self._unforced)
            terms = self._landmark_terms(observation, float(start.wrist[2]), reading)
            candidates.append(solve_hand(self.skeleton, start, terms, no_planes(), prior, 12))
        candidates.sort(key=lambda found: found.cost)
        candidates = [found for found in candidates if self._is_near(found.configuration)]
        answers = [
            self._solve(view, choice, found.configuration, self._no_motion(found.configuration, is_open), SEARCH_STEPS)
            for found in _distinct(candidates)[: CANDIDATES if observation.has_skin else 1]
        ]
        return min(answers, key=lambda fit: fit.cost, default=None)

    def _no_motion(self, start: HandConfiguration, is_open: bool) -> PriorTerms:
        spread = self.options.size_spread
        return PriorTerms(
            start._replace(scale=1.0) if is_open else start,
            0.0,
            np.zeros(3),
            np.zeros(self.skeleton.num_dofs),
            1.0 / spread if is_open and spread > 0 else 1e4,
            *self._postures,
        )

    def _solve(
        self, view: HandView, choice: int, start: HandConfiguration, prior: PriorTerms, steps: Sequence[int]
    ) -> FrameFit:
        """Match skin and outline, solve, and again; choice -1 leaves the landmarks out."""
        observation = view.choices[choice] if choice >= 0 else view.observation
        reading, contradiction = self._reading(view, choice), 0.0
        terms = self._landmark_terms(observation, float(max(start.wrist[2], 0.05)), reading)
        if reading is not None:
            prior, contradiction = prior_with_reading(prior, reading, self.doubt, self._unforced)
        if not observation.has_depth:
            expected, firmness = self._with_distance(prior.expected, prior.wrist[2])
            prior = prior._replace(expected=expected, wrist=np.array([*prior.wrist[:2], firmness]))
        if choice < 0:
            if not observation.has_depth:
                prior = prior._replace(
                    rotation=BLIND_FIRMNESS * prior.rotation,
                    wrist=BLIND_FIRMNESS * prior.wrist,
                    angles=BLIND_FIRMNESS * prior.angles,
                )
            nothing = np.zeros_like(terms.ray_weights)
            terms = terms._replace(ray_weights=nothing, front_weights=nothing, behind_weights=nothing)
        solution = HandSolution(start, np.inf, np.zeros((0, 0)))
        for index, count in enumerate(steps):
            reach = SKIN_REACHES[min(index, len(SKIN_REACHES) - 1)]
            planes = match_skin(self.skeleton, solution.configuration, observation, reach).planes
            if view.outline is not None and (choice < 0 or observation.has_depth):
                planes = joined_planes(
                    planes, match_outline(self.skeleton, solution.configuration, view.outline).planes
                )
            solution = solve_hand(self.skeleton, solution.configuration, terms, planes, prior, count)
        solution = solution._replace(cost=solution.cost + contradiction)
        return self._judged(view, observation, choice, solution)

    def _judged(self, view: HandView, observation: HandObservation, choice: int, solution: HandSolution) -> FrameFit:
        """What the solution leaves unexplained must not make it look better."""
        configuration = solution.configuration
        skin = match_skin(self.skeleton, configuration, observation, SKIN_REACHES[-1])
        cost = solution.cost + skin.missed * MISSED_COST
        if choice < 0:
            cost += NO_LANDMARKS_COST if observation.has_depth else NO_LANDMARKS_COST_WITHOUT_DEPTH
        matched = len(skin.planes.vertices)
        supported = matched >= 30 and matched >= VISIBLE_SKIN * (matched + skin.missed)
        if view.outline is not None:
            outline = match_outline(self.skeleton, configuration, view.outline)
            cost += OUTSIDE_COST * outline.outside + UNCOVERED_COST * outline.uncovered
            if not observation.has_depth:
                supported = outline.uncovered < 1.0 - VISIBLE_SKIN and outline.outside < VISIBLE_SKIN
        return FrameFit(configuration, cost, choice >= 0, supported, choice)


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), 0.5 * weights.sum())])


def landmark_error(skeleton: HandSkeleton, configuration: HandConfiguration, observation: HandObservation) -> float:
    """Root mean square distance (m, across the rays) of the hand's landmarks from those that were seen."""
    marks = pose_keypoints(skeleton, configuration, landmarks=True)
    across = (marks[:, :2] / marks[:, 2:] - observation.rays) * configuration.wrist[2]
    return float(np.sqrt((across**2).sum(axis=1).mean()))


def _distinct(solutions: Sequence[HandSolution]) -> list[HandSolution]:
    """Without those that led to the same place."""
    kept: list[HandSolution] = []
    for found in solutions:
        here = found.configuration
        if not any(
            np.linalg.norm(here.wrist - other.configuration.wrist) < SAME_PLACE
            and _turn_between(here, other.configuration) < SAME_TURN
            for other in kept
        ):
            kept.append(found)
    return kept


def _turn_between(first: HandConfiguration, last: HandConfiguration) -> float:
    """rad, of the wrist."""
    return float(np.linalg.norm(Rotation.from_matrix(last.rotation @ first.rotation.T).as_rotvec()))
