"""Degrees of freedom of the fingers, seen on the posed open hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from grasp_nodes.data.finger_bends import FingerBends, mirror_pose
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import FINGERS
from grasp_nodes.hand.parameters import HandParams

MODEL = load_hand_model("right", OPEN_HAND_FILE, torch.float64)


def keypoints(pose=None):
    params = HandParams.zeros(1, dtype=torch.float64)
    if pose is not None:
        params = replace(params, hand_pose=torch.from_numpy(pose[None]))
    return MODEL(params).keypoints[0].numpy()


REST = keypoints()
BENDS = FingerBends.of_right_hand(REST)


@pytest.mark.parametrize("finger", FINGERS[1:])
def test_positive_bends_move_the_tip_to_the_palm_by_the_angle(finger):
    first = 1 + 4 * FINGERS.index(finger)
    for k in range(3):
        moved = keypoints(BENDS.pose(BENDS.values(**{f"{finger}_bend_{k}": 30.0})))
        before, after = REST[first + k + 1] - REST[first + k], moved[first + k + 1] - moved[first + k]
        cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
        assert np.rad2deg(np.arccos(cosine)) == pytest.approx(30.0, abs=1.5)
        assert after[1] < before[1] - 0.005  # the palm looks along -y
        untouched = [i for i in range(21) if not first + k < i <= first + 3]
        assert np.allclose(moved[untouched], REST[untouched])


def test_opposed_thumb_comes_in_front_of_the_palm():
    moved = keypoints(BENDS.pose(BENDS.values(thumb_spread=-50.0)))
    assert moved[4, 1] < REST[4, 1] - 0.02
    assert np.allclose(moved[5:], REST[5:])


def test_spread_moves_fingers_sideways_only():
    moved = keypoints(BENDS.pose(BENDS.values(index_spread=10.0)))
    shift = moved[8] - REST[8]
    assert abs(shift[1]) < 0.2 * np.linalg.norm(shift)
    assert np.linalg.norm(shift) > 0.01


def test_poses_are_linear_and_names_are_checked():
    assert np.allclose(BENDS.pose(2 * BENDS.high), 2 * BENDS.pose(BENDS.high))
    assert (BENDS.low < 0).all()
    assert (BENDS.high > 0).all()
    with pytest.raises(InputError, match="tail_bend_0 not known"):
        BENDS.values(tail_bend_0=3.0)


def test_mirrored_pose_is_the_mirrored_hand():
    pose = BENDS.pose(BENDS.uniform((30.0, 40.0, 20.0), (10.0, 20.0, 30.0, -20.0, 5.0)))
    left = load_hand_model("left", OPEN_HAND_FILE, torch.float64)
    params = replace(HandParams.zeros(1, "left", torch.float64), hand_pose=torch.from_numpy(mirror_pose(pose)[None]))
    assert np.allclose(left(params).keypoints[0].numpy(), keypoints(pose) * [-1, 1, 1], atol=1e-7)
