"""Frames in which next to nothing of an object is seen, because the hand that holds it hides it.

A held object moves with the palm. From the last frame that shows it, and from the next one, it is carried along the
hand's way; the two agree if it was held all the time, and are blended. If they do not, it was not, and stays as it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from grasp_nodes.fitting.guided_following import GuidedFollower, GuidedMotion, Pose
from grasp_nodes.fitting.pose_solver import rotation_matrix, rotation_vector

_LEVER = 0.05
"""m; a turn of one rad counts as this much of a move."""
_WORSE = 0.05
"""Evidence by which the images may speak against the carried poses: shadows of sensors and of masks."""


def bridge_hidden(motion: GuidedMotion, follower: GuidedFollower, palms: Sequence[np.ndarray]) -> GuidedMotion:
    """A motion with its hidden frames carried by the hand whose way explains best where the object came out again.

    Args:
        motion: poses of all frames. follower: that looked for it. palms: of each hand (T, 4, 4), camera frame, NaN
            where not known.
    """
    shown = np.array([one is not None and one.is_enough for one in motion.sightings])
    rotations, centres = motion.rotations.copy(), motion.centres.copy()
    sightings = list(motion.sightings)
    for before, after in _gaps(shown):
        start, stop = _pose_of(motion, before), _pose_of(motion, after)
        best, least = None, _apart(start, stop)
        for palm in palms:
            if np.isfinite(palm[before : after + 1]).all():
                missed = _apart(_carried(palm, before, after, start), stop)
                if missed < least:
                    best, least = palm, missed
        if best is None:
            continue
        for frame in range(before + 1, after):
            share = (frame - before) / (after - before)
            pose = _blend(_carried(best, before, frame, start), _carried(best, after, frame, stop), share)
            seen, now = follower.look(frame, pose), sightings[frame]
            if seen is not None and (now is None or seen.evidence > now.evidence - _WORSE):
                rotations[frame], centres[frame] = pose
                sightings[frame] = seen
    return GuidedMotion(rotations, centres, sightings)


def _gaps(shown: np.ndarray) -> Iterator[tuple[int, int]]:
    """Last shown frame before and first one after each run of hidden frames that has both."""
    frames = np.flatnonzero(shown)
    for before, after in itertools.pairwise(frames):
        if after > before + 1:
            yield int(before), int(after)


def _pose_of(motion: GuidedMotion, frame: int) -> Pose:
    return motion.rotations[frame], motion.centres[frame]


def _carried(palm: np.ndarray, start: int, frame: int, pose: Pose) -> Pose:
    move = palm[frame] @ np.linalg.inv(palm[start])
    return move[:3, :3] @ pose[0], move[:3, :3] @ pose[1] + move[:3, 3]


def _apart(first: Pose, second: Pose) -> float:
    turn = np.linalg.norm(rotation_vector(second[0] @ first[0].T))
    return float(np.linalg.norm(second[1] - first[1]) + _LEVER * turn)


def _blend(first: Pose, second: Pose, share: float) -> Pose:
    turn = rotation_matrix(share * rotation_vector(second[0] @ first[0].T))
    return turn @ first[0], (1 - share) * first[1] + share * second[1]
