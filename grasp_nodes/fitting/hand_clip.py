"""The hands of a window of a clip, each followed through all of its frames: where joint fits start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.hand_configuration import between, params_of
from grasp_nodes.fitting.hand_fit import HandFitOptions, HandFitter
from grasp_nodes.fitting.hand_kinematics import HandConfiguration
from grasp_nodes.fitting.hand_search import UnexplainedHandError
from grasp_nodes.fitting.tracks import HandTrack
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.perception.evidence import HandEvidence, ObservedFrame


@dataclass(frozen=True)
class HandClipOptions:
    """How hands are followed through a window."""

    fit: HandFitOptions = field(default_factory=HandFitOptions)
    min_score: float = 0.5
    """Landmarks of hands with a lower score were not seen."""
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
    previous: Sequence[HandTrack] = (),  # noqa: ARG001
    options: HandClipOptions | None = None,
) -> list[HandTrack]:
    """One track per hand that was seen, in the order of their track ids.

    Args:
        hand_models: by side; hands of a side without a model are left out.
        frames: T of them, in time order.
        use_depth: False ignores the frames' depth.
        previous: tracks of the frames right before these; a hand that goes on keeps its size and shape.
        options: how hands are followed.
    """
    options = options or HandClipOptions()
    tracks = []
    for track_id in sorted({hand.track_id for frame in frames for hand in frame.evidence.hands}):
        seen = [_hand_of(frame, track_id) for frame in frames]
        side = _side(seen)
        if side not in hand_models:
            continue
        track = _follow(hand_models[side], frames, seen, track_id, use_depth, options)
        if track is not None:
            tracks.append(track)
    return tracks


def _hand_of(frame: ObservedFrame, track_id: int) -> HandEvidence | None:
    return next((hand for hand in frame.evidence.hands if hand.track_id == track_id), None)


def _side(seen: Sequence[HandEvidence | None]) -> Side:
    """By vote, weighted with what the landmark network believes of each frame."""
    votes = {"right": 0.0, "left": 0.0, "unknown": 0.0}
    for hand in seen:
        if hand is not None:
            votes[hand.side] += hand.score * hand.side_score
    return "left" if votes["left"] > votes["right"] else "right"


def _follow(
    model: HandModel,
    frames: Sequence[ObservedFrame],
    seen: Sequence[HandEvidence | None],
    track_id: int,
    use_depth: bool,
    options: HandClipOptions,
) -> HandTrack | None:
    fitter = HandFitter(model, options.fit)
    found: dict[int, HandConfiguration] = {}
    scores = np.zeros(len(frames))
    for index, (frame, hand) in enumerate(zip(frames, seen, strict=True)):
        if hand is None or hand.score < options.min_score:
            continue
        evidence = frame.evidence
        try:
            fit = fitter.update(evidence.camera, hand, frame.depth if use_depth else None, evidence.stamp)
        except UnexplainedHandError:
            continue
        found[index], scores[index] = fit.configuration, fit.score
    if not found:
        return None
    scale = float(np.median([configuration.scale for configuration in found.values()]))
    rows = np.array(sorted(found))
    configurations = []
    for index in range(len(frames)):
        before, after = rows[rows <= index], rows[rows >= index]
        first = found[int(before[-1] if len(before) else after[0])]
        last = found[int(after[0] if len(after) else before[-1])]
        span = (int(after[0]) - int(before[-1])) if len(before) and len(after) else 0
        share = (index - int(before[-1])) / span if span else 0.0
        configurations.append(between(first, last, share)._replace(scale=scale))
    away = np.abs(np.arange(len(frames))[:, None] - rows[None]).min(axis=1)
    observed = away == 0
    scores = np.where(observed, scores, 0.5 * 0.9**away * (away <= options.max_gap))
    return HandTrack(params_of(fitter.skeleton, configurations), observed, scores, away > options.max_gap, track_id)
