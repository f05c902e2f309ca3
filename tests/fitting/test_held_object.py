"""Objects that are not seen for a while and go with the hand that was seen to carry them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from grasp_nodes.fitting.held_object import bridge_unseen
from grasp_nodes.fitting.tracks import ObjectTrack

FRAMES = 24
HIDDEN = slice(9, 16)
CENTRE = np.array([0.03, -0.01, 0.02])


def wrist() -> np.ndarray:
    """(T, 4, 4): a swing to the side and back, turning."""
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    phase = np.linspace(0, np.pi, FRAMES)
    poses[:, :3, :3] = Rotation.from_rotvec(phase[:, None] * [0.1, 0.5, 0.2]).as_matrix()
    poses[:, :3, 3] = np.stack([0.25 * np.sin(phase), 0.05 * phase, 0.5 + 0.02 * np.cos(phase)], axis=1)
    return poses


def held() -> np.ndarray:
    """(T, 4, 4): rigid to the wrist."""
    grip = np.eye(4)
    grip[:3, :3] = Rotation.from_rotvec([0.4, -1.0, 0.3]).as_matrix()
    grip[:3, 3] = [0.02, 0.08, 0.03]
    return wrist() @ grip


def track_of(poses: np.ndarray, seen: np.ndarray) -> ObjectTrack:
    """Poses of the unseen frames are those on the straight way between their neighbours."""
    poses = poses.copy()
    places = [np.interp(np.arange(len(poses)), np.flatnonzero(seen), poses[seen, axis, 3]) for axis in range(3)]
    poses[:, :3, 3] = np.stack(places, axis=1)
    score = seen * 0.9
    return ObjectTrack("thing", poses, seen, score, np.where(seen, 0.9, np.nan), np.zeros(len(poses), bool))


def seen_frames() -> np.ndarray:
    seen = np.ones(FRAMES, bool)
    seen[HIDDEN] = False
    return seen


def misses(track: ObjectTrack, poses: np.ndarray) -> np.ndarray:
    """(T,) m, of the object's centre."""
    offset = track.T_camera_object - poses
    return np.linalg.norm(offset[:, :3, :3] @ CENTRE + offset[:, :3, 3], axis=1)


@pytest.mark.parametrize("drift", [0.0, 0.003])
def test_what_the_hand_carried_goes_on_with_it(drift):
    """Also where the hand's distance drifts against the object's: both ends are known."""
    poses, palm = held(), wrist()
    palm[:, 2, 3] += drift * np.arange(FRAMES)
    track = track_of(poses, seen_frames())
    assert misses(track, poses)[HIDDEN].max() > 0.02
    carried = bridge_unseen(track, [np.full((FRAMES, 4, 4), np.nan), palm], CENTRE)
    assert misses(carried, poses)[HIDDEN].max() < (1e-6 if drift == 0 else 0.006)
    seen = seen_frames()
    np.testing.assert_allclose(carried.T_camera_object[seen], track.T_camera_object[seen], atol=1e-12)


def test_what_rests_while_a_hand_passes_stays():
    poses = np.tile(held()[0], (FRAMES, 1, 1))
    track = track_of(poses, seen_frames())
    np.testing.assert_allclose(bridge_unseen(track, [wrist()], CENTRE).T_camera_object, poses, atol=1e-12)


def test_what_moves_otherwise_than_the_hand_is_not_carried():
    poses = held()
    poses[:, :3, 3] = poses[0, :3, 3] + np.linspace(0, 0.3, FRAMES)[:, None] * [-1.0, 0.2, 0.0]
    track = track_of(poses, seen_frames())
    np.testing.assert_allclose(bridge_unseen(track, [wrist()], CENTRE).T_camera_object, poses, atol=1e-12)


def test_a_hand_that_is_lost_in_between_carries_nothing():
    palm = wrist()
    palm[12] = np.nan
    track = track_of(held(), seen_frames())
    after = bridge_unseen(track, [palm], CENTRE).T_camera_object
    np.testing.assert_allclose(after, track.T_camera_object, atol=1e-12)


def test_frames_at_the_ends_are_left_alone():
    seen = np.ones(FRAMES, bool)
    seen[:4] = seen[-3:] = False
    track = track_of(held(), seen)
    np.testing.assert_allclose(
        bridge_unseen(track, [wrist()], CENTRE).T_camera_object, track.T_camera_object, atol=1e-12
    )
