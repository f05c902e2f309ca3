"""Evidence of other programs takes the place of ours, for its own image alone."""

import numpy as np
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObjectEvidence
from grasp_nodes.perception.given_evidence import GivenEvidence
from grasp_nodes.perception.perceiver import Perceiver

CAMERA = CameraModel(np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]), 64, 48)
STAMP = 2_000_000_000


def hand(score, track_id, mask=None):
    keypoints = np.linspace((20, 15), (40, 35), 21).astype(np.float32)
    return HandEvidence("right", score, 0.8, np.array([20, 15, 40, 35], np.float32), keypoints, None, mask, track_id)


def frame(stamp=STAMP):
    color = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return Frame(stamp, color, CAMERA, None)


def test_hands_and_objects_of_the_image_are_passed_on_best_first():
    box = np.array([0, 0, 5, 5], np.float32)
    objects = (ObjectEvidence("cup", 0.3, box), ObjectEvidence("mug", 0.7, box))
    given = GivenEvidence()
    assert not given.detect(frame())
    given.give(Evidence(STAMP + 1_000_000, CAMERA, (hand(0.6, 1), hand(0.9, 2)), objects))
    assert [found.track_id for found in given.detect(frame())] == [2, 1]
    assert [found.object_id for found in given.segment(frame(), ())] == ["mug", "cup"]
    assert not given.detect(frame(STAMP + 1_000_000_000))
    given.reset()
    assert not given.segment(frame(), ())


def test_a_given_mask_is_kept_and_a_missing_one_is_ours():
    mask = np.zeros((48, 64), bool)
    mask[1:4, 1:6] = True
    given = GivenEvidence()
    given.give(Evidence(STAMP, CAMERA, (hand(0.9, 1, mask), hand(0.8, 2))))
    with_mask, without = Perceiver(given).perceive(frame()).hands
    np.testing.assert_array_equal(with_mask.mask, mask)
    assert without.mask is not None
    assert without.mask.any()


def test_evidence_of_another_camera_is_refused():
    given = GivenEvidence()
    given.give(Evidence(STAMP, CameraModel(CAMERA.camera_k, 32, 24), (hand(0.9, 1),)))
    with pytest.raises(InputError, match="64x48, got 32x24"):
        given.detect(frame())
