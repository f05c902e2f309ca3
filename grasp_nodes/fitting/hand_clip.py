"""The hands of a window of a clip, each followed through all of its frames: where joint fits start."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.doubted_depth import distance_factor
from grasp_nodes.fitting.hand_configuration import between, configurations_of, params_of
from grasp_nodes.fitting.hand_fit import HandFitOptions
from grasp_nodes.fitting.hand_kinematics import HandConfiguration
from grasp_nodes.fitting.hand_skeleton import HandSkeleton, make_hand_skeleton
from grasp_nodes.fitting.hand_track_fit import FrameFit, HandTrackFitter, landmark_error
from grasp_nodes.fitting.hand_views import HandView, hand_views
from grasp_nodes.fitting.landmark_reading import load_landmark_reader
from grasp_nodes.fitting.tracks import HandTrack
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, Side
from grasp_nodes.perception.evidence import HandEvidence, ObservedFrame

logger = logging.getLogger(__name__)

DOUBT_COST = 25.0
"""Mean cost from which the other side is tried as well."""
UNFOUND_COST = 100.0
"""Cost of a frame in which a hand is not found, when sides are compared, and the most that a frame may cost there: a
side that is found badly is no worse than one that is not found at all."""
SIDE_FLOOR = 0.02
"""Least probability of a side; a landmark network that is surer than this is mistaken as a whole, not by chance."""
SURE_LANDMARKS = 0.9
"""Score of landmarks of a hand that is there and in plain view."""
EXPLAINED_ERROR = 0.02
"""m, across the rays, about a finger's width: a hand farther from landmarks than this is not the one they are of."""
EXPLAINED_SHARE, CLEARLY_MORE = 0.7, 0.25
"""Share of the frames with sure landmarks in which a hand that was followed by depth has to explain them. Where it does
not, and one that ignores depth does in so much more of them, the depth is not of the hand."""
LANDMARK_SCALE = 0.04
"""m; landmark error at which the score has fallen to 1 / e."""
NO_LANDMARKS_SCORE = 0.6
"""Score of a frame in which the hand was followed by skin and outline alone."""
GAP_SCORE, GAP_DECAY = 0.5, 0.9
"""Score beside a frame that was seen, and its factor for every frame farther away."""


@dataclass(frozen=True)
class HandClipOptions:
    """How hands are followed through a window."""

    fit: HandFitOptions = field(default_factory=HandFitOptions)
    min_score: float = 0.5
    """Landmarks of hands with a lower score are predictions, not seen."""
    max_gap: int = 15
    """Frames for which a hand that is not seen is carried on before it counts as lost."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_score <= 1.0 or self.max_gap < 0:
            raise InputError(f"min_score: expected 0 to 1, and max_gap: expected >= 0, got {self}")


def initialise_hands(
    hand_models: Mapping[Side, HandModel],
    frames: Sequence[ObservedFrame],
    *,
    use_depth: bool = True,
    previous: Sequence[HandTrack] = (),
    options: HandClipOptions | None = None,
) -> list[HandTrack]:
    """One track per hand that was seen, in the order of their track ids.

    Args:
        hand_models: by side; hands of a side without a model are left out.
        frames: T of them, in time order.
        use_depth: False ignores the frames' depth.
        previous: tracks of the first frames of these, from the window before: the same hand keeps its side, size, shape
            and its answers there.
        options: how hands are followed.

    Raises:
        InputError: landmarks that are not finite, or depth or masks of another size than their image.
    """
    options = options or HandClipOptions()
    before = {track.track_id: track for track in previous}
    tracks = []
    ids = {hand.track_id for frame in frames for hand in frame.evidence.hands} | set(before)
    for track_id in sorted(ids):
        hands = [_hand_of(frame, track_id) for frame in frames]
        views = hand_views(frames, hands, use_depth, options.min_score)
        earlier = before.get(track_id)
        sides = _sides(hands) if earlier is None else [earlier.params.side]
        best: _Follower | None = None
        doubted: list[HandView | None] | None = None
        # Without depth a hand of the wrong side explains its landmarks as well: the vote decides.
        measured = any(view is not None and view.observation.has_depth for view in views)
        for side in sides if measured else sides[:1]:
            if side in hand_models and (best is None or best.cost > DOUBT_COST):
                follower = _Follower(hand_models[side], views, earlier, options)
                if best is None or follower.cost + _doubt(hands, side) < best.cost + _doubt(hands, best.side):
                    best = follower
        if measured and best is not None and best.explained < EXPLAINED_SHARE and sides[0] in hand_models:
            unmeasured = hand_views(frames, hands, False, options.min_score)
            other = _Follower(hand_models[sides[0]], unmeasured, earlier, options)
            if other.explained >= best.explained + CLEARLY_MORE:
                logger.info(
                    "hand %d is followed without depth, which contradicts its landmarks: with depth it explains them "
                    "in %.0f %% of the frames, without in %.0f %%",
                    *(track_id, 100 * best.explained, 100 * other.explained),
                )
                best, views, doubted = other, unmeasured, views
        followed = None if best is None else best.finished()
        if doubted is not None and followed is not None and earlier is None:
            followed = followed.scaled(doubted, options.fit.size_spread)
        if followed is not None and followed.found:
            track = followed.track(views, track_id, options)
            doubt = 0.0 if best is None else best.reader_doubt
            tracks.append(replace(track, without_depth=doubted is not None, reader_doubt=doubt))
    return tracks


def _hand_of(frame: ObservedFrame, track_id: int) -> HandEvidence | None:
    return next((hand for hand in frame.evidence.hands if hand.track_id == track_id), None)


def _sides(hands: Sequence[HandEvidence | None]) -> list[Side]:
    """The likelier side first, by vote, weighted with what the landmark network believes of each frame."""
    votes = {"right": 0.0, "left": 0.0, "unknown": 0.0}
    for hand in hands:
        if hand is not None:
            votes[hand.side] += hand.score * hand.side_score
    return ["left", "right"] if votes["left"] > votes["right"] else ["right", "left"]


def _doubt(hands: Sequence[HandEvidence | None], side: Side) -> float:
    """Mean cost of a side by what the landmark network believes of each frame."""
    chances = [
        hand.side_score if hand.side == side else 1.0 - hand.side_score
        for hand in hands
        if hand is not None and hand.side != "unknown"
    ]
    return float(-np.log(np.clip(chances, SIDE_FLOOR, 1.0)).mean()) if chances else 0.0


@dataclass(frozen=True)
class _Followed:
    """A hand of one side in the frames in which it was found."""

    skeleton: HandSkeleton
    betas: np.ndarray
    size: float
    found: dict[int, FrameFit]

    def scaled(self, views: Sequence[HandView | None], size_spread: float) -> _Followed:
        """As far as depth says that was ignored; the hand grows as much, so that its image stays.

        Args:
            views: with depth. size_spread: relative, of hands.
        """
        places = {row: fit.configuration for row, fit in self.found.items()}
        factor = distance_factor(self.skeleton, places, views, size_spread)
        found = {
            row: replace(fit, configuration=place._replace(wrist=factor * place.wrist, scale=factor * place.scale))
            for (row, fit), place in zip(self.found.items(), places.values(), strict=True)
        }
        return replace(self, size=factor * self.size, found=found)

    def track(self, views: Sequence[HandView | None], track_id: int, options: HandClipOptions) -> HandTrack:
        """All frames: those between are interpolated."""
        count, rows = len(views), np.array(sorted(self.found))
        configurations = [self._at(index, rows)._replace(scale=self.size) for index in range(count)]
        away = np.abs(np.arange(count)[:, None] - rows[None]).min(axis=1)
        scores = np.where(away <= options.max_gap, GAP_SCORE * GAP_DECAY**away, 0.0)
        for index in rows:
            scores[index] = self._score(self.found[int(index)], views[int(index)])
        return HandTrack(
            params_of(self.skeleton, configurations, self.betas), away == 0, scores, away > options.max_gap, track_id
        )

    def _at(self, index: int, rows: np.ndarray) -> HandConfiguration:
        before, after = rows[rows <= index], rows[rows >= index]
        first = self.found[int(before[-1] if len(before) else after[0])].configuration
        last = self.found[int(after[0] if len(after) else before[-1])].configuration
        span = int(after[0]) - int(before[-1]) if len(before) and len(after) else 0
        return between(first, last, (index - int(before[-1])) / span if span else 0.0)

    def _score(self, fit: FrameFit, view: HandView | None) -> float:
        if view is None or fit.choice < 0:
            return NO_LANDMARKS_SCORE
        error = landmark_error(self.skeleton, fit.configuration, view.choices[fit.choice])
        return float(np.clip(view.score * np.exp(-((error / LANDMARK_SCALE) ** 2)), 0.0, 1.0))


class _Follower:
    """One hand as a hand of one side: a first pass tells how well that goes, `finished` makes the best of it."""

    def __init__(
        self, model: HandModel, views: Sequence[HandView | None], before: HandTrack | None, options: HandClipOptions
    ) -> None:
        self.side: Side = model.side
        self._views = views
        self._betas = np.zeros(NUM_BETAS) if before is None else before.params.betas[0].double().cpu().numpy()
        self._skeleton = make_hand_skeleton(model, betas=self._betas)
        self._given: dict[int, HandConfiguration] = {}
        if before is not None:
            known = configurations_of(self._skeleton, before.params)
            self._given = {row: known[row] for row in range(min(len(known), len(views))) if not before.lost[row]}
        size = None if before is None else float(before.params.scale[0])
        measured = any(view is not None and view.observation.has_depth for view in views)
        reader = None if measured else load_landmark_reader()
        if reader is not None and model.side == "right" and reader.hand_fingerprint not in ("", model.fingerprint):
            logger.info(
                "the landmark reader was trained with another hand (%s) than this one (%s): it reads as well as they "
                "are alike",
                *(reader.hand_fingerprint[:12], model.fingerprint[:12]),
            )
        self._fitter = HandTrackFitter(self._skeleton, options.fit, size, reader)
        if not measured:
            self._fitter.learn_doubt(views, 0.0 if before is None else before.reader_doubt)
            self._fitter.learn_distance(views, self._given)
        self._found = self._fitter.follow(views, self._given)

    @property
    def reader_doubt(self) -> float:
        """Of this window, to be told to the next."""
        return self._fitter.doubt

    @property
    def cost(self) -> float:
        """Mean over the frames that show anything."""
        costs = [
            min(self._found[row].cost, UNFOUND_COST) if row in self._found else UNFOUND_COST
            for row, view in enumerate(self._views)
            if view is not None and not view.is_blind
        ]
        return float(np.mean(costs)) if costs else 0.0

    @property
    def explained(self) -> float:
        """Share of the frames with sure landmarks in which the hand has them; 1 where there are none."""
        near = [
            row in self._found
            and landmark_error(self._skeleton, self._found[row].configuration, view.choices[0]) < EXPLAINED_ERROR
            for row, view in enumerate(self._views)
            if view is not None and view.choices and view.score >= SURE_LANDMARKS and row not in self._given
        ]
        return float(np.mean(near)) if near else 1.0

    def finished(self) -> _Followed:
        """The size from all frames, backward as well, and every frame between its neighbours."""
        fitter = self._fitter
        if fitter.size is None:
            fitter.size = _size(self._found, self._views)
        found = _better(self._found, fitter.follow(self._views, self._given, backward=True))
        return _Followed(self._skeleton, self._betas, fitter.size, fitter.refine(self._views, found, self._given))


def _size(found: Mapping[int, FrameFit], views: Sequence[HandView | None]) -> float:
    """Of the frames with depth; without depth size and distance cannot be told apart."""
    sizes = [
        fit.configuration.scale
        for row, fit in found.items()
        if (view := views[row]) is not None and view.observation.has_depth
    ]
    return float(np.median(sizes)) if sizes else 1.0


def _better(first: Mapping[int, FrameFit], second: Mapping[int, FrameFit]) -> dict[int, FrameFit]:
    """The cheaper answer for each frame."""
    joined = dict(first)
    for row, fit in second.items():
        if row not in joined or fit.cost < joined[row].cost:
            joined[row] = fit
    return {row: replace(joined[row]) for row in sorted(joined)}
