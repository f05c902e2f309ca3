"""Which parts of a recording can be reconstructed: the rules of HOMan (Hasson et al. 2021) for clips in the wild."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grasp_nodes.perception.evidence import Evidence
from grasp_nodes.perception.hand_clip_landmarks import SEEN_SCORE

MIN_FRAMES = 20
"""A hand and an object must be followed together over more frames than this."""


@dataclass(frozen=True)
class UsablePart:
    """Frames start to stop - 1, in which one object and at least one hand are followed without a break.

    hand_tracks: ids of the hands that are followed throughout. object_track: id of the manipulated object.
    """

    start: int
    stop: int
    hand_tracks: tuple[int, ...]
    object_track: int

    def __len__(self) -> int:
        return self.stop - self.start


def usable_parts(evidence: Sequence[Evidence], min_frames: int = MIN_FRAMES, max_missed: int = 10) -> list[UsablePart]:
    """Parts of a recording in which a hand track and the object track both extend over enough consecutive frames.

    The manipulated object is the one whose track is the longest. A track goes on over frames in which its thing was
    missed, as the tracker that predicts it does.

    Args:
        evidence: of consecutive frames.
        min_frames: a part is longer than this.
        max_missed: frames without a detection after which a track has ended.

    Returns:
        In time order; they do not overlap.
    """
    hands: dict[int, list[int]] = {}
    objects: dict[int, list[int]] = {}
    for index, frame in enumerate(evidence):
        for hand in frame.hands:
            if hand.score >= SEEN_SCORE:
                hands.setdefault(hand.track_id, []).append(index)
        for found in frame.objects:
            if found.mask is not None or found.score >= SEEN_SCORE:
                objects.setdefault(found.track_id, []).append(index)
    runs = [(start, stop, name) for name, rows in objects.items() for start, stop in _runs(rows, max_missed)]
    if not runs:
        return []
    _, _, manipulated = max(runs, key=lambda run: (run[1] - run[0], -run[2]))
    parts: list[UsablePart] = []
    for start, stop in _runs(objects[manipulated], max_missed):
        followed = np.zeros((len(hands), stop), bool)
        for row, rows in enumerate(hands.values()):
            for first, last in _runs(rows, max_missed):
                if min(last, stop) - max(first, start) > min_frames:
                    followed[row, max(first, start) : min(last, stop)] = True
        for first, last in _runs(np.flatnonzero(followed.any(axis=0)).tolist(), 0):
            names = tuple(name for row, name in enumerate(hands) if followed[row, first:last].all())
            if last - first > min_frames:
                parts.append(UsablePart(first, last, names, manipulated))
    return parts


def _runs(rows: Sequence[int], max_missed: int) -> list[tuple[int, int]]:
    """First frame and the one after the last of every run of sorted frames without a longer gap."""
    if not len(rows):
        return []
    frames = np.asarray(rows)
    breaks = np.flatnonzero(np.diff(frames) > max_missed + 1)
    starts = np.concatenate([frames[:1], frames[breaks + 1]])
    stops = np.concatenate([frames[breaks], frames[-1:]]) + 1
    return [(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)]
