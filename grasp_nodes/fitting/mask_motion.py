"""Whether the thing that masks show moves: by how much of it is outside of the place where it was.

What hides a thing at rest makes its masks smaller and moves their middles, but never puts them out of its place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_LOOK = 0.1
"""s before and after a frame whose masks are compared; outlines tremble by less than things move then."""
_RATE = 0.5
"""1/s; share of a thing that leaves its place per second while it moves: hands carry things faster."""
_SURE = 0.5
"""Share outside of its place at which a thing has left it, however long that took."""


def longest_rest(camera_moves: Sequence[bool]) -> np.ndarray:
    """(T,) bool, the longest run of frames before a camera at rest, in which motion in the images is one of things.

    None where that is at most half of the frames: too little to tell what moves from what was seen to rest.

    Args:
        camera_moves: of T frames.
    """
    moves = np.asarray(camera_moves, bool)
    borders = np.concatenate([[-1], np.flatnonzero(moves), [len(moves)]])
    longest = int(np.argmax(np.diff(borders)))
    result = np.zeros(len(moves), bool)
    result[borders[longest] + 1 : borders[longest + 1]] = True
    return result if 2 * np.count_nonzero(result) > len(moves) else np.zeros(len(moves), bool)


def left_place(masks: Sequence[np.ndarray]) -> float:
    """How much of a thing is outside of its place, its largest mask, in the fifth of the frames that has most there.

    Args:
        masks: (H, W) bool each, at least one, none empty.

    Returns:
        Share in [0, 1].
    """
    place = max(masks, key=np.count_nonzero)
    return float(np.percentile([_outside(mask, place) for mask in masks], 80))


def moving_frames(masks: Sequence[np.ndarray | None], times: np.ndarray) -> np.ndarray:
    """(T,) bool, frames about which a thing moves.

    Of the masks just before and after a frame, the smaller is outside of the larger, and one of both is outside of the
    largest of the clip: a thing that comes out from under one hand while another covers it does only the first, if the
    clip shows it whole once.

    Args:
        masks: T of (H, W) bool, None where nothing is seen. times: (T,), s, increasing.
    """
    result = np.zeros(len(masks), bool)
    seen = {t: mask for t, mask in enumerate(masks) if mask is not None and mask.any()}
    if len(seen) < 2:
        return result
    place = max(seen.values(), key=np.count_nonzero)
    away = {t: _outside(mask, place) for t, mask in seen.items()}
    for t in seen:
        # Neighbours count in any case: a slow camera has none within the time.
        near = [k for k in seen if abs(k - t) <= 1 or abs(times[k] - times[t]) <= _LOOK]
        first, last = near[0], near[-1]
        least = min(_RATE * float(times[last] - times[first]), _SURE)
        smaller, larger = sorted((seen[first], seen[last]), key=np.count_nonzero)
        result[t] = first < last and min(_outside(smaller, larger), max(away[first], away[last])) > least
    return result


def _outside(mask: np.ndarray, place: np.ndarray) -> float:
    return float(np.count_nonzero(mask & ~place)) / np.count_nonzero(mask)
