"""When a hand is read that its own sure landmarks contradict, the landmarks win."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from grasp_nodes.fitting.hand_fit import HandFitOptions
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints
from grasp_nodes.fitting.hand_observation import BEFORE, HandObservation, landmark_terms, with_relief
from grasp_nodes.fitting.hand_skeleton import make_hand_skeleton
from grasp_nodes.fitting.hand_solver import no_planes, solve_hand
from grasp_nodes.fitting.hand_track_fit import HandTrackFitter
from grasp_nodes.fitting.hand_views import HandView
from grasp_nodes.fitting.landmark_reading import LandmarkReading
from grasp_nodes.fitting.posture_prior import PosturePrior
from grasp_nodes.fitting.reader_doubt import (
    FAMILIAR,
    FAMILIAR_AGAIN,
    FOREIGN,
    FOREIGN_LANDMARK_ERROR,
    LANDMARK_REACH,
    doubt_of_window,
    read_landmark_error,
)
from grasp_nodes.hand.files import load_hand_model

SKELETON = make_hand_skeleton(load_hand_model("right"))
HAND = HandConfiguration(
    Rotation.from_euler("zx", [-90, 90], degrees=True).as_matrix(),
    np.array([0.0, 0.0, 0.6]),
    SKELETON.angles((15, 20, 12), (8, 10, 12, -15, 0)),
    1.0,
)
POINTS = pose_keypoints(SKELETON, HAND, landmarks=True)


class Reader:
    """Reads the same hand from whatever is seen."""

    def __init__(self, **bends):
        posture = PosturePrior(HAND.angles + SKELETON.dofs.values(**bends), np.eye(len(HAND.angles)))
        self._reading = LandmarkReading(HAND.rotation, 0.1, HAND.wrist, 0.05, posture, -40.0)

    def read(self, skeleton, rays, relative, score):
        return self._reading


def views(*scores):
    seen = SimpleNamespace(rays=POINTS[:, :2] / POINTS[:, 2:], relative=None)
    observation = SimpleNamespace(has_depth=False)
    # Each its own choice, as readings are kept by it.
    return [
        SimpleNamespace(choices=(SimpleNamespace(**vars(seen)),), observation=observation, score=score)
        for score in scores
    ]


def landmark_error(reader, seen):
    fitter = HandTrackFitter(SKELETON, HandFitOptions(), 1.0, reader)
    fitter.learn_doubt(seen)
    return read_landmark_error(reader.read(SKELETON, None, None, 0.0), fitter.doubt)


WRONG = {"index_bend_0": 80, "index_bend_1": 90, "little_bend_0": 80, "little_bend_1": 90}


def test_a_reader_that_sure_landmarks_contradict_is_doubted():
    assert landmark_error(Reader(**WRONG), views(0.99, 0.995, 0.99)) == pytest.approx(FOREIGN_LANDMARK_ERROR)


@pytest.mark.parametrize(
    ("reader", "scores"),
    [(Reader(), (0.99, 0.995, 0.99)), (Reader(**WRONG), (0.9, 0.9, 0.99)), (Reader(**WRONG), ())],
)
def test_a_reader_is_believed_that_agrees_or_that_only_doubtful_landmarks_contradict(reader, scores):
    assert landmark_error(reader, views(*scores)) == pytest.approx(LANDMARK_REACH * 0.1)


def test_doubt_outlasts_windows_that_are_not_clear():
    between, clear = 0.5 * (FAMILIAR_AGAIN + FAMILIAR), 0.5 * FAMILIAR_AGAIN
    first = doubt_of_window([2 * FOREIGN] * 5)
    assert first == 1.0
    assert doubt_of_window([between] * 5) == 0.0
    assert doubt_of_window([between] * 5, first) == 1.0
    assert doubt_of_window([0.0] * 5, first) == 1.0  # no landmarks that are sure
    assert doubt_of_window([], first) == 1.0
    assert doubt_of_window([clear] * 5, first) == 0.0
    # Frames without sure landmarks are not familiar: the three that are sure lie at 0.5.
    assert doubt_of_window([0.0, 0.0, 0.9 * FAMILIAR_AGAIN, between, between], first) == 1.0
    assert doubt_of_window([0.0, 0.0, clear, clear, clear], first) == 0.0


def flat_hand_with_short_fingers():
    """Landmarks of a flat hand, seen from the front, whose fingers are shorter than the model's; and its relief."""
    flat = HAND._replace(angles=SKELETON.angles((3, 3, 2), (3, 3, 3, 0, 0)))
    points = pose_keypoints(SKELETON, flat, landmarks=True)
    moved = points.copy()
    for k in range(5, 21):
        if k % 4 != 1:
            moved[k] = moved[BEFORE[k]] + 0.78 * (points[k] - points[BEFORE[k]])
    return np.ascontiguousarray(moved[:, :2] / moved[:, 2:]), moved - moved.mean(axis=0)


def test_a_flat_hand_whose_fingers_look_short_is_not_bent_where_the_reader_is_doubted():
    rays, relative = flat_hand_with_short_fingers()
    seen = HandObservation(rays, np.zeros(21), np.zeros((0, 3)), np.ones(21, bool), relative)
    fitter = HandTrackFitter(SKELETON, HandFitOptions(), 1.0, Reader(index_bend_0=60, middle_bend_0=60))
    fitter.doubt = 1.0
    found = fitter.follow([HandView(0.0, seen, (seen,), 0.99, None)], {})[0].configuration
    bends = [k for k, name in enumerate(SKELETON.dofs.names) if "_bend_0" in name and "thumb" not in name]
    assert np.rad2deg(np.abs(found.angles[bends])).max() < 20
    depth = pose_keypoints(SKELETON, found, landmarks=True)[:, 2]
    assert np.sqrt(np.mean((depth - depth.mean() - relative[:, 2]) ** 2)) < 0.01


def test_the_relief_tells_towards_and_away_and_no_distance():
    """Of a stiff hand, without its rays."""
    place = np.array([0.0, 0.0, 3.0])
    away, towards = (
        HAND._replace(rotation=Rotation.from_euler("x", lean, degrees=True).as_matrix() @ HAND.rotation, wrist=place)
        for lean in (35, -35)
    )
    points = pose_keypoints(SKELETON, away, landmarks=True)
    seen = HandObservation(np.zeros((21, 2)), np.zeros(21), np.zeros((0, 3)), np.ones(21, bool))
    prior = HandTrackFitter(SKELETON, HandFitOptions(), 1.0)._no_motion(towards, False)
    prior = prior._replace(angles=np.full(SKELETON.num_dofs, 1e3), posture=HAND.angles)
    terms = landmark_terms(SKELETON, seen, 3.0)._replace(ray_weights=np.zeros(21))
    terms = with_relief(SKELETON, terms, 0.4 * points, 1.0, 1.0)
    np.testing.assert_allclose(terms.relief, points[:, 2] - points[:, 2].mean(), atol=1e-3)
    found = solve_hand(SKELETON, towards, terms, no_planes(), prior, 60).configuration
    depth = pose_keypoints(SKELETON, found, landmarks=True)[:, 2]
    np.testing.assert_allclose(depth - depth.mean(), terms.relief, atol=2e-3)
    np.testing.assert_allclose(found.wrist, place, atol=1e-3)
