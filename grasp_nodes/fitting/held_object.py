"""Frames in which next to nothing of an object is seen, because the hand that holds it hides it.

A held object moves with the palm. From the last frame that shows it, and from the next one, it is carried along the
hand's way; the two agree if it was held all the time, and are blended. If they do not, it was not, and stays as it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from grasp_nodes.fitting.guided_following import GuidedFollower, GuidedMotion, Pose
from grasp_nodes.fitting.pose_solver import rotation_matrix, rotation_vector
from grasp_nodes.fitting.tracks import ObjectTrack

_LEVER = 0.05
"""m; a turn of one rad counts as this much of a move."""
_WORSE = 0.05
"""Evidence by which the images may speak against the carried poses: shadows of sensors and of masks."""
_LOOK = 5
"""Frames before and after a gap that tell whether the hand carried the object there."""
_MOVED = 0.01
"""m; a hand that moved less carried nothing that could be told from rest."""
_FOLLOWED = 0.5
"""Share of the object's way that may be left unexplained by the hand's; colour misjudges the distance of both."""


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
            pose = _carried_between(best, (before, after), frame, (start, stop))
            seen, now = follower.look(frame, pose), sightings[frame]
            if seen is not None and (now is None or seen.evidence > now.evidence - _WORSE):
                rotations[frame], centres[frame] = pose
                sightings[frame] = seen
    return GuidedMotion(rotations, centres, sightings)


def bridge_unseen(track: ObjectTrack, palms: Sequence[np.ndarray], centre: np.ndarray) -> ObjectTrack:
    """A track with its unseen frames carried by the hand that was seen to carry the object before or after them.

    Without depth there is nothing to hold the carried poses against, so the hand must have been seen to carry it: its
    way explains the object's in the frames next to the gap. Its distance drifts; the blend of both ends takes that out.

    Args:
        track: of T frames. palms: of each hand (T, 4, 4), camera frame, NaN where not known.
        centre: (3,), m, of the object, in its own frame.
    """
    rotations = track.T_camera_object[:, :3, :3].copy()
    centres = rotations @ centre + track.T_camera_object[:, :3, 3]
    shown = np.asarray(track.seen, bool) & ~np.asarray(track.lost, bool)
    for before, after in _gaps(shown):
        start, stop = (rotations[before], centres[before]), (rotations[after], centres[after])
        best, least = None, _FOLLOWED
        for palm in palms:
            if np.isfinite(palm[before : after + 1]).all():
                left = min(_left_over(palm, centres, shown, end, side) for end, side in ((before, -1), (after, 1)))
                if left < least:
                    best, least = palm, left
        if best is None:
            continue
        for frame in range(before + 1, after):
            rotations[frame], centres[frame] = _carried_between(best, (before, after), frame, (start, stop))
    poses = track.T_camera_object.copy()
    poses[:, :3, :3], poses[:, :3, 3] = rotations, centres - rotations @ centre
    return replace(track, T_camera_object=poses)


def _carried_between(palm: np.ndarray, ends: tuple[int, int], frame: int, poses: tuple[Pose, Pose]) -> Pose:
    """The pose in a frame of a gap: carried by the hand from both ends, each the more the nearer it is."""
    (before, after), (start, stop) = ends, poses
    share = (frame - before) / (after - before)
    return _blend(_carried(palm, before, frame, start), _carried(palm, after, frame, stop), share)


def _left_over(palm: np.ndarray, centres: np.ndarray, shown: np.ndarray, end: int, side: int) -> float:
    """Share of the object's way to one end of a gap that the hand's way does not explain; inf where neither moved.

    Args:
        palm: (T, 4, 4). centres: (T, 3), m. shown: (T,) bool. end: shown frame next to the gap.
        side: -1 looks at the frames before it, 1 at those after it.
    """
    frames = [k for k in range(end + side, end + side * (_LOOK + 1), side) if 0 <= k < len(shown) and shown[k]]
    if not frames or not np.isfinite(palm[[frames[-1], end]]).all():
        return np.inf
    far = frames[-1]
    _, moved = _carried(palm, far, end, (np.eye(3), centres[far]))
    way = float(np.linalg.norm(centres[end] - centres[far]))
    if min(way, float(np.linalg.norm(moved - centres[far]))) < _MOVED:
        return np.inf
    return float(np.linalg.norm(moved - centres[end])) / way


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
