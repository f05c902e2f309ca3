"""The hands of a window of a clip: detections joined to tracks, a closer look where they are missing or doubtful.

Frames before and after say where a missed hand must be; several crops are read there, and a reading is believed if it
is like those of its neighbours and of the track's side. What stays without landmarks is predicted, with a score below
`SEEN_SCORE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.box_smoother import smooth_boxes
from grasp_nodes.perception.box_tracker import BoxTrackerOptions
from grasp_nodes.perception.boxes import box_iou, box_of_points
from grasp_nodes.perception.evidence import HandEvidence, HandLandmarker
from grasp_nodes.perception.hand_landmarks import BOX_MARGIN, PIXEL_CENTER, SAME_PLACE_IOU, Landmarks
from grasp_nodes.perception.landmark_search import (
    DOUBT_CROPS,
    SURE_CROPS,
    Reading,
    RegionLandmarker,
    read_crops,
)
from grasp_nodes.perception.region import Region, region_of_landmarks

SEEN_SCORE = 0.5
"""Hands with a lower score are predicted."""
PREDICTED_SCORE = 0.4
SURE_PRESENCE, SURE_SIDE = 0.85, 0.8
"""A detection that reaches both needs no closer look."""
CLEAR_SIDE = 0.8
"""Share of the votes from which a track's side is believed more than a single frame's."""
PALM_THRESHOLD = 0.3
UNDETECTED_TRACK = 0
"""Id of a hand that the landmarker never reported; its own ids begin at 1."""
JUMP = 0.25
"""Mean way of the landmarks from frame to frame that is expected at most, as a share of the region's size."""
GROWTH = 0.5
"""Logarithm of the growth of the region that is expected at most."""
LOOK_BACK = 3
"""Frames without the hand after which the backward pass does not look for it any more."""
STRAY = 0.4
"""Way from the middle of two neighbours that agree, beyond which landmarks are wrong."""


Side = Literal["right", "left"]


@dataclass(frozen=True)
class ClipHandOptions:
    """How hands are followed through a clip."""

    max_hands: int = 2
    """Hands that can be in a frame."""
    sides: tuple[Side, ...] = ()
    """Sides of the hands that can be in a frame; empty = not known. Detections of another side are dropped."""
    close_look: bool = True
    """Whether missing and doubtful hands are looked at again."""
    min_presence: float = 0.2
    """Lowest presence score of a look that counts as a choice."""
    max_alternatives: int = 4
    """Readings of one image that are kept beside the best one."""
    max_missed: int = 15
    """Frames for which a hand that is not found is predicted."""

    def __post_init__(self) -> None:
        for name, low in (("max_hands", 1), ("max_alternatives", 0), ("max_missed", 0)):
            if getattr(self, name) < low:
                raise InputError(f"{name}: expected at least {low}, got {getattr(self, name)}")
        if not 0.0 < self.min_presence < 1.0:
            raise InputError(f"min_presence: expected a number between 0 and 1, got {self.min_presence}")


def consistent_hands(hands: Sequence[HandEvidence], options: ClipHandOptions) -> list[HandEvidence]:
    """The detections of one frame that do not contradict what is known of the clip, best first.

    Dropped are hands of a side that cannot be there, the worse of two hands of one side where each side is there once,
    and hands beyond the number that can be there.
    """
    kept: list[HandEvidence] = []
    free = list(options.sides)
    for hand in sorted(hands, key=lambda hand: -hand.score):
        if options.sides and hand.side != "unknown":
            if hand.side not in free:
                continue
            free.remove(hand.side)
        kept.append(hand)
    return kept[: options.max_hands]


@dataclass
class _Track:
    """Detections by frame, and what earlier windows left: votes for right, votes in all, the last hand."""

    track_id: int
    seen: dict[int, HandEvidence]
    right: float = 0.0
    votes: float = 0.0
    last: HandEvidence | None = None
    missed: int = 0


class ClipHands:
    """Follows hands through consecutive windows of one clip."""

    def __init__(self, landmarker: HandLandmarker, options: ClipHandOptions | None = None) -> None:
        """Take a landmarker; one that can be pointed at places (`RegionLandmarker`) is pointed at missed hands."""
        self.options = options or ClipHandOptions()
        self._landmarker = landmarker
        self._pointed = landmarker if self.options.close_look and isinstance(landmarker, RegionLandmarker) else None
        self.reset()

    def reset(self) -> None:
        """Forget the clip."""
        self._landmarker.reset()
        self._known: list[_Track] = []
        self._joined: dict[int, int] = {}

    def follow(self, frames: Sequence[Frame]) -> list[list[HandEvidence]]:
        """Hands of each frame of the next window, without masks, best first."""
        detections = [self._detect(frame) for frame in frames]
        tracks = self._tracks(detections)
        if not tracks and self._pointed is not None:
            # Palms that the landmarker thinks too faint are all there is to begin with.
            tracks = [_Track(UNDETECTED_TRACK, {})]
        found: list[list[HandEvidence]] = [[] for _ in frames]
        for track in tracks:
            hands = self._complete(frames, track)
            for index, hand in hands.items():
                found[index].append(hand)
            self._remember(track, hands, len(frames))
        self._known = [track for track in tracks if track.last is not None and track.missed <= self.options.max_missed]
        return [_apart(hands)[: self.options.max_hands] for hands in found]

    def _detect(self, frame: Frame) -> list[HandEvidence]:
        """Detections that can be; where none can, the places of the others, which a closer look may read rightly."""
        hands = self._landmarker.detect(frame)
        kept = consistent_hands(hands, self.options)
        if kept or self._pointed is None:
            return kept
        places = [replace(hand, side="unknown", score=min(hand.score, PREDICTED_SCORE)) for hand in hands]
        return consistent_hands(places, self.options)

    # -- tracks

    def _tracks(self, detections: Sequence[Sequence[HandEvidence]]) -> list[_Track]:
        """Detections by track, joined with those that went on from earlier windows and after gaps."""
        tracks = {track.track_id: replace(track, seen={}) for track in self._known}
        for index, hands in enumerate(detections):
            for hand in hands:
                name = self._joined.get(hand.track_id, hand.track_id)
                tracks.setdefault(name, _Track(name, {})).seen.setdefault(index, hand)
        kept: list[_Track] = []
        for track in sorted(tracks.values(), key=lambda track: min(track.seen, default=-1)):
            earlier = next((other for other in kept if self._continues(other, track)), None)
            if earlier is None:
                kept.append(track)
            else:
                self._joined[track.track_id] = earlier.track_id
                earlier.seen.update(track.seen)
        return kept

    def _continues(self, first: _Track, second: _Track) -> bool:
        """Whether the second track is the first hand, found again."""
        if not second.seen or set(first.seen) & set(second.seen):
            return False
        if self.options.max_hands == 1:
            return True
        start = min(second.seen)
        before = [index for index in first.seen if index < start]
        last = first.seen[max(before)] if before else first.last
        if last is None:
            return False
        gap = start - (max(before) if before else -1)
        here = second.seen[start]
        size = float(max((last.box[2:] - last.box[:2]).max(), (here.box[2:] - here.box[:2]).max()))
        way = float(np.linalg.norm((last.box[:2] + last.box[2:] - here.box[:2] - here.box[2:]) / 2))
        return way < size * (0.5 + 0.1 * gap)

    def _remember(self, track: _Track, hands: Mapping[int, HandEvidence], count: int) -> None:
        seen = [index for index, hand in hands.items() if hand.score >= SEEN_SCORE]
        for index in seen:
            hand = hands[index]
            right = hand.side_score if hand.side == "right" else 1.0 - hand.side_score
            track.right += hand.score * (right if hand.side != "unknown" else 0.5)
            track.votes += hand.score
        if seen:
            track.last, track.missed = hands[max(seen)], count - 1 - max(seen)
        else:
            track.missed += count
        track.seen = {}

    def _right(self, track: _Track) -> float:
        """Share of the votes for a right hand."""
        right, votes = track.right, track.votes
        for hand in track.seen.values():
            share = {"right": hand.side_score, "left": 1.0 - hand.side_score, "unknown": 0.5}[hand.side]
            right, votes = right + hand.score * share, votes + hand.score
        if len(set(self.options.sides)) == 1:
            return 1.0 if self.options.sides[0] == "right" else 0.0
        return right / votes if votes > 0 else 0.5

    # -- one track

    def _complete(self, frames: Sequence[Frame], track: _Track) -> dict[int, HandEvidence]:
        """The hand in all frames in which it was seen or can be predicted."""
        if self._pointed is None:
            voted: Side = "right" if self._right(track) >= 0.5 else "left"
            named = {
                index: hand if hand.side == "unknown" else replace(hand, side=voted, track_id=track.track_id)
                for index, hand in track.seen.items()
            }
            return self._predicted(len(frames), track, named, {})
        right = self._right(track)
        hands: dict[int, HandEvidence] = {}
        choices: dict[int, list[Reading]] = {}
        count = len(frames)
        near, gap = track.last, track.missed
        for turn, index in enumerate([*range(count), *range(count - 2, -1, -1)]):
            if turn == count:
                near, gap = hands.get(count - 1), 0
            gap += 1
            if index in hands:
                near, gap = hands[index], 0
                continue
            if turn >= count and (near is None or gap > LOOK_BACK):
                continue
            regions, crops = self._places(frames[index], track.seen.get(index), near, right)
            if not regions:
                continue
            seen = track.seen.get(index)
            first = [_as_look(seen)] if seen is not None and seen.score >= self.options.min_presence else []
            readings = read_crops(self._pointed, frames[index].color, regions, crops, self.options.min_presence, first)
            known = {id(reading) for reading in choices.get(index, [])}
            choices[index] = [*choices.get(index, []), *(r for r in readings if id(r) not in known)]
            best = self._best(readings, near, gap, right)
            if best is not None:
                hands[index] = self._evidence(track, best, right)
                near, gap = hands[index], 0
        hands = _without_strays(hands)
        if not track.seen and not track.votes and len(set(self.options.sides)) != 1:
            right = _right_of([reading for index in hands for reading in choices[index]])
            side: Side = "right" if right >= 0.5 else "left"
            hands = {
                index: replace(hand, side=side, side_score=max(right, 1.0 - right)) for index, hand in hands.items()
            }
        hands = {index: self._with_choices(hand, choices[index], right) for index, hand in hands.items()}
        return self._predicted(len(frames), track, hands, choices)

    def _places(
        self, frame: Frame, seen: HandEvidence | None, near: HandEvidence | None, right: float
    ) -> tuple[list[Region], Sequence[tuple[float, float, bool]]]:
        """Where to look, and how closely."""
        assert self._pointed is not None
        if seen is not None:
            share = {"right": right, "left": 1.0 - right, "unknown": 0.5}[seen.side]
            sure = seen.score >= SURE_PRESENCE and min(seen.side_score, share) >= SURE_SIDE
            return [_region(seen)], (SURE_CROPS if sure else DOUBT_CROPS)
        regions = [_region(near)] if near is not None else []
        for palm in self._pointed.palms(frame.color, PALM_THRESHOLD)[: self.options.max_hands]:
            if near is None or np.hypot(*np.subtract(palm.center, regions[0].center)) < regions[0].size:
                regions.append(palm)
        return regions, DOUBT_CROPS

    def _best(self, readings: Sequence[Reading], near: HandEvidence | None, gap: int, right: float) -> Reading | None:
        """The reading that can be believed, None if there is none; gap: frames since the hand was near there."""
        best, best_score = None, 0.0
        clear = max(right, 1.0 - right) >= CLEAR_SIDE
        for reading in readings:
            found = reading.landmarks
            side = found.right if right >= 0.5 else 1.0 - found.right
            if found.presence < SEEN_SCORE or (clear and side < 0.35):
                continue
            score = reading.score * (side if clear else 1.0)
            if near is not None:
                way = np.linalg.norm(found.points - PIXEL_CENTER - near.keypoints, axis=1).mean()
                size = _region(near).size
                growth = np.log(region_of_landmarks(found.points).size / size)
                score *= float(np.exp(-((way / (JUMP * size * np.sqrt(gap))) ** 2) - (growth / GROWTH) ** 2))
            if score > best_score:
                best, best_score = reading, score
        return best if best_score > 0.05 else None

    def _evidence(self, track: _Track, reading: Reading, right: float) -> HandEvidence:
        keypoints = (reading.landmarks.points - PIXEL_CENTER).astype(np.float32)
        return HandEvidence(
            side="right" if right >= 0.5 else "left",
            score=reading.landmarks.presence,
            side_score=max(right, 1.0 - right),
            box=box_of_points(keypoints, BOX_MARGIN),
            keypoints=keypoints,
            keypoints_3d=reading.landmarks.points_3d.astype(np.float32),
            track_id=track.track_id,
        )

    def _with_choices(self, hand: HandEvidence, readings: Sequence[Reading], right: float) -> HandEvidence:
        """The hand with what else its image allows."""
        others = [(reading.landmarks.points - PIXEL_CENTER).astype(np.float32) for reading in readings]
        size = _region(hand).size
        ranked = sorted(
            (
                (
                    -reading.score
                    * (0.5 + (reading.landmarks.right if right >= 0.5 else 1.0 - reading.landmarks.right)),
                    k,
                )
                for k, reading in enumerate(readings)
            ),
        )
        kept: list[np.ndarray] = []
        for _, k in ranked:
            apart = [hand.keypoints, *kept] if hand.score >= SEEN_SCORE else kept
            if all(np.linalg.norm(others[k] - other, axis=1).mean() > 0.05 * size for other in apart):
                kept.append(others[k])
        return replace(hand, alternatives=tuple(kept[: self.options.max_alternatives]))

    def _predicted(
        self, count: int, track: _Track, hands: Mapping[int, HandEvidence], choices: Mapping[int, list[Reading]]
    ) -> dict[int, HandEvidence]:
        """The same, with boxes and keypoints where they were not seen, from the frames around."""
        if not hands and track.last is None:
            return {}
        boxes = [hands[index].box if index in hands else None for index in range(count)]
        room = 0
        if track.last is not None and track.missed <= self.options.max_missed:
            room = track.missed + 1
            boxes = [track.last.box, *([None] * track.missed), *boxes]
        smooth = smooth_boxes(boxes, BoxTrackerOptions(max_missed=max(self.options.max_missed, 1)))[room:]
        right = self._right(track)
        found = dict(hands)
        for index, box in enumerate(smooth):
            if index in found or box is None:
                continue
            near = min(hands, key=lambda other: abs(other - index), default=None)
            source = track.last if near is None else hands[near]
            assert source is not None
            away = index + room if near is None else abs(near - index)
            hand = replace(
                source,
                side="right" if right >= 0.5 else "left",
                score=PREDICTED_SCORE * 0.95**away,
                side_score=max(right, 1.0 - right),
                box=box,
                keypoints=_moved(source, box),
                mask=None,
                track_id=track.track_id,
                alternatives=(),
            )
            found[index] = self._with_choices(hand, choices.get(index, []), right)
        return found


def _region(hand: HandEvidence) -> Region:
    return region_of_landmarks(hand.keypoints.astype(np.float64) + PIXEL_CENTER)


def _right_of(readings: Sequence[Reading]) -> float:
    """Share of a right hand in these readings, weighted by their scores; one half where there are none."""
    weights = [reading.score for reading in readings]
    shares = [reading.landmarks.right for reading in readings]
    return float(np.average(shares, weights=weights)) if sum(weights) > 0 else 0.5


def _as_look(hand: HandEvidence) -> Landmarks:
    """A detection as one look among others."""
    points = hand.keypoints.astype(np.float64) + PIXEL_CENTER
    points_3d = np.zeros((len(points), 3)) if hand.keypoints_3d is None else hand.keypoints_3d.astype(np.float64)
    right = {"right": hand.side_score, "left": 1.0 - hand.side_score, "unknown": 0.5}[hand.side]
    return Landmarks(points, points_3d, hand.score, right)


def _moved(hand: HandEvidence, box: np.ndarray) -> np.ndarray:
    """(21, 2) float32: its keypoints as the box moved and grew."""
    growth = (box[2:] - box[:2]) / np.maximum(hand.box[2:] - hand.box[:2], 1.0)
    return ((hand.keypoints - hand.box[:2]) * growth + box[:2]).astype(np.float32)


def _without_strays(hands: Mapping[int, HandEvidence]) -> dict[int, HandEvidence]:
    """Landmarks far from the middle of two neighbours that agree are wrong."""
    kept = dict(hands)
    for index in sorted(hands):
        before, after = hands.get(index - 1), hands.get(index + 1)
        if before is None or after is None or (index - 1) not in kept:
            continue
        size = _region(before).size
        middle = (before.keypoints + after.keypoints) / 2
        agree = np.linalg.norm(before.keypoints - after.keypoints, axis=1).mean() < STRAY * size
        if agree and np.linalg.norm(hands[index].keypoints - middle, axis=1).mean() > STRAY * size:
            del kept[index]
    return kept


def _apart(hands: Sequence[HandEvidence]) -> list[HandEvidence]:
    """Best first, without a second track of the same hand."""
    kept: list[HandEvidence] = []
    for hand in sorted(hands, key=lambda hand: -hand.score):
        if not kept or box_iou(hand.box, np.stack([other.box for other in kept])).max() < SAME_PLACE_IOU + 0.2:
            kept.append(hand)
    return kept
