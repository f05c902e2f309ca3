"""Which of the things that were followed through a clip of a colour camera is the object.

Outlines alone leave much open: many a mesh can be turned to look like a box. What decides besides the overlap of
outline and mask: a hand moves the object, and while the two touch they are equally far away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from grasp_nodes.fitting.mask_motion import left_place, longest_rest
from grasp_nodes.fitting.object_clip import initialise_object
from grasp_nodes.fitting.tracks import ObjectTrack
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import HIDING, Evidence, ObjectEvidence, ObservedFrame

KEY_FRAMES = 7
"""Frames of a window on which each thing is tried."""
_ROTATIONS = 16
MOVES, AT_HAND, FIRST = 0.5, 0.15, 0.1
"""Score that a thing gains if it leaves its place, if it is at a hand, and if the segmenter thinks it the best."""
_MOVED = 0.5
"""Share of its pixels outside of its place from which a thing has left it."""
DISTANCE_LOSS, _DISTANCE_FREE, _DISTANCE_MOST = 1.0, 0.15, 0.5
"""What a thing loses per unit of the logarithm of its distance over that of the hand at it, beyond what hands vary.

No more than the last: half of an object looks smaller and thus farther away.
"""
_AT = 0.15
"""Share of the hand's size from its box within which a thing is at the hand."""


@dataclass(frozen=True)
class RatedThing:
    """A thing and why it may be the object; the parts of `score` add up to it."""

    track_id: int
    overlap: float
    moves: float
    at_hand: float
    distance: float
    first: float

    @property
    def score(self) -> float:
        """Larger is likelier."""
        return self.overlap + self.moves + self.at_hand - self.distance + self.first


def choose_thing(
    object_model: ObjectModel, frames: Sequence[ObservedFrame], palms: Sequence[np.ndarray] = (), *, seed: int = 0
) -> tuple[list[ObservedFrame], list[RatedThing]]:
    """The frames with only the likeliest thing as the object; everything else that was followed is in front or beside.

    Args:
        object_model: the object. frames: of one camera, in time order.
        palms: of each hand (T, 4, 4), camera frame, NaN where not known.
        seed: of the rotations that are tried.

    Returns:
        The frames, and the things, best first; frames with one thing or none are returned as they are.
    """
    things = _things(frames)
    if len(things) < 2:
        return list(frames), []
    rated = [_rate(object_model, frames, track_id, palms, place, seed) for place, track_id in enumerate(things)]
    rated.sort(key=lambda one: -one.score)
    return [_only(frame, rated[0].track_id, object_model.object_id) for frame in frames], rated


def _things(frames: Sequence[ObservedFrame]) -> list[int]:
    """Track ids of what has masks, the segmenter's favourites first."""
    totals: dict[int, float] = {}
    for frame in frames:
        for found in frame.evidence.objects:
            if found.mask is not None and found.mask.any() and found.object_id != HIDING:
                totals[found.track_id] = totals.get(found.track_id, 0.0) + found.score
    return sorted(totals, key=lambda track_id: -totals[track_id])


def _only(frame: ObservedFrame, track_id: int, object_id: str) -> ObservedFrame:
    objects = tuple(
        replace(found, object_id=object_id) for found in frame.evidence.objects if found.track_id == track_id
    )
    return replace(frame, evidence=replace(frame.evidence, objects=objects))


def _rate(
    object_model: ObjectModel,
    frames: Sequence[ObservedFrame],
    track_id: int,
    palms: Sequence[np.ndarray],
    place: int,
    seed: int,
) -> RatedThing:
    found = [_thing_of(frame.evidence, track_id) for frame in frames]
    with_mask = [t for t, one in enumerate(found) if one is not None]
    picks = [with_mask[i] for i in np.unique(np.linspace(0, len(with_mask) - 1, KEY_FRAMES).round().astype(int))]
    shown = [_only(frames[t], track_id, object_model.object_id) for t in picks]
    track = initialise_object(
        object_model, shown, seed=seed, candidates=_ROTATIONS, use_depth=False, least_explained=0.0
    )
    overlap = float(np.nanmean(track.iou)) if track.seen.any() else 0.0
    at_hand = np.array([one is not None and _is_at_hand(frame, one) for frame, one in zip(frames, found, strict=True)])
    # Before a moving camera all things leave their places.
    rests = longest_rest([frame.camera_moves for frame in frames])
    masks = [one.mask for one, still in zip(found, rests, strict=True) if still and one is not None]
    shapes = [mask for mask in masks if mask is not None]
    moves = min(left_place(shapes) / _MOVED, 1.0) if shapes else 0.0
    return RatedThing(
        track_id,
        overlap * (len(with_mask) / len(frames)) ** 0.5,
        MOVES * moves,
        AT_HAND * float(at_hand.mean()),
        DISTANCE_LOSS * _distance_mismatch(track, picks, at_hand, palms),
        FIRST if place == 0 else 0.0,
    )


def _thing_of(evidence: Evidence, track_id: int) -> ObjectEvidence | None:
    own = (one for one in evidence.objects if one.track_id == track_id)
    return next((one for one in own if one.mask is not None and one.mask.any()), None)


def _is_at_hand(frame: ObservedFrame, found: ObjectEvidence) -> bool:
    for hand in frame.evidence.hands:
        gap = np.maximum(np.maximum(found.box[:2] - hand.box[2:], hand.box[:2] - found.box[2:]), 0.0)
        if np.linalg.norm(gap) < _AT * np.linalg.norm(hand.box[2:] - hand.box[:2]):
            return True
    return False


def _distance_mismatch(
    track: ObjectTrack, picks: Sequence[int], at_hand: np.ndarray, palms: Sequence[np.ndarray]
) -> float:
    """How much farther or nearer than the hand at it the thing would be, as a logarithm; 0 where no hand is at it."""
    ratios = []
    for index, frame in enumerate(picks):
        distances = [palm[frame, 2, 3] for palm in palms if np.isfinite(palm[frame]).all()]
        if at_hand[frame] and track.seen[index] and distances:
            apart = np.abs(np.log(track.T_camera_object[index, 2, 3] / np.array(distances)))
            ratios.append(float(apart.min()))
    return float(np.clip(np.median(ratios) - _DISTANCE_FREE, 0.0, _DISTANCE_MOST)) if ratios else 0.0
