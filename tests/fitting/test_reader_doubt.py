"""When a hand is read that its own sure landmarks contradict, the landmarks win."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from grasp_nodes.fitting.hand_fit import HandFitOptions
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints
from grasp_nodes.fitting.hand_observation import LANDMARK_ERROR
from grasp_nodes.fitting.hand_skeleton import make_hand_skeleton
from grasp_nodes.fitting.hand_track_fit import LANDMARK_REACH, HandTrackFitter
from grasp_nodes.fitting.landmark_reading import LandmarkReading
from grasp_nodes.fitting.posture_prior import PosturePrior
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
    return fitter._landmark_error(reader.read(SKELETON, None, None, 0.0))


WRONG = {"index_bend_0": 80, "index_bend_1": 90, "little_bend_0": 80, "little_bend_1": 90}


def test_a_reader_that_sure_landmarks_contradict_is_doubted():
    assert landmark_error(Reader(**WRONG), views(0.99, 0.995, 0.99)) == pytest.approx(LANDMARK_ERROR)


@pytest.mark.parametrize(
    ("reader", "scores"),
    [(Reader(), (0.99, 0.995, 0.99)), (Reader(**WRONG), (0.9, 0.9, 0.99)), (Reader(**WRONG), ())],
)
def test_a_reader_is_believed_that_agrees_or_that_only_doubtful_landmarks_contradict(reader, scores):
    assert landmark_error(reader, views(*scores)) == pytest.approx(LANDMARK_REACH * 0.1)
