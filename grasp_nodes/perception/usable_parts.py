"""Which parts of a recording can be reconstructed: the rule of HOMan for clips in the wild.

Hasson et al., "Towards unconstrained joint hand-object reconstruction from RGB videos", 3DV 2021, section 4.2.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

MIN_FRAMES = 20
"""A hand and an object must be followed together over more frames than this."""
MAX_MISSED = 10
"""Frames without a sight over which a track goes on, as it does in a tracker that predicts what it does not see."""

HandName = TypeVar("HandName", bound=Hashable)
ObjectName = TypeVar("ObjectName", bound=Hashable)


@dataclass(frozen=True)
class UsablePart(Generic[HandName, ObjectName]):
    """Frames start to stop - 1, in every one of which the object and some hand are followed.

    hands: those that are followed throughout; none where one takes over from another. manipulated: the object.
    """

    start: int
    stop: int
    hands: tuple[HandName, ...]
    manipulated: ObjectName

    def __len__(self) -> int:
        return self.stop - self.start


def usable_parts(
    hands: Mapping[HandName, Sequence[int]],
    objects: Mapping[ObjectName, Sequence[int]],
    max_missed: int = MAX_MISSED,
    min_frames: int = MIN_FRAMES,
) -> list[UsablePart[HandName, ObjectName]]:
    """Parts of a recording in which a hand track and the object track both extend over enough consecutive frames.

    The manipulated object is the one whose track is the longest, the first of them where several are.

    Args:
        hands, objects: the frames, increasing, in which each was seen.
        max_missed: frames without a sight after which a track has ended.
        min_frames: a part is longer than this.

    Returns:
        In time order; they do not overlap.
    """
    runs = [(stop - start, name) for name, rows in objects.items() for start, stop in _runs(rows, max_missed)]
    if not runs:
        return []
    manipulated = max(runs, key=lambda run: run[0])[1]
    parts: list[UsablePart[HandName, ObjectName]] = []
    for start, stop in _runs(objects[manipulated], max_missed):
        followed = np.zeros((len(hands), stop), bool)
        for row, rows in enumerate(hands.values()):
            for first, last in _runs(rows, max_missed):
                if min(last, stop) - max(first, start) > min_frames:
                    followed[row, max(first, start) : min(last, stop)] = True
        for first, last in _runs(np.flatnonzero(followed.any(axis=0)).tolist(), 0):
            names = tuple(name for row, name in enumerate(hands) if followed[row, first:last].all())
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
