"""Retargeting frame by frame: what is recovered, what is kept, what is never left."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grasp_nodes.errors import InputError
from grasp_nodes.hand.keypoints import FINGERS
from grasp_nodes.retargeting.retargeter import MODES, Retargeter, RetargetSettings
from tests.retargeting.human_doubles import human_like, some_pose, state_of

MIDDLE = 0.35
"""Of each joint's range from its lower limit: fingers are bent and do not touch."""


def bent(hand, rng):
    kinematics = hand.kinematics
    share = MIDDLE + 0.1 * rng.uniform(-1, 1, kinematics.num_driven)
    return kinematics.lower + share * (kinematics.upper - kinematics.lower)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_robots_own_fingertips_are_recovered(side, generic, generic_left):
    hand, rng = {"right": generic, "left": generic_left}[side], np.random.default_rng(5)
    retargeter = Retargeter(hand, RetargetSettings("position", smoothing=0.0))
    for _ in range(3):
        driven, T = bent(hand, rng), some_pose(rng)
        retargeter.reset()
        found = retargeter.update(human_like(hand, driven, T), 1, "camera")
        tips = hand.fingertips(hand.kinematics.reduce(found.positions), found.T_frame_base)
        assert np.linalg.norm(tips - hand.fingertips(driven, T), axis=1).max() < 1.5e-3
        assert found.frame_id == "camera"
        assert found.stamp == 1


@pytest.mark.parametrize("mode", ["vector", "dexpilot"])
def test_vectors_are_recovered_wherever_the_hand_is(generic, mode):
    rng = np.random.default_rng(6)
    driven = bent(generic, rng)
    retargeter = Retargeter(generic, RetargetSettings(mode, smoothing=0.0, scale=1.0))
    found = []
    for _ in range(2):
        T = some_pose(rng)
        retargeter.reset()
        state = retargeter.update(human_like(generic, driven, T))
        found.append(state.positions)
        np.testing.assert_allclose(state.T_frame_base[:3, 3], T[:3, 3], atol=0.01)
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)
    tips = [generic.fingertips(generic.kinematics.reduce(found[0])), generic.fingertips(driven)]
    assert np.linalg.norm(tips[0] - tips[1], axis=1).max() < 8e-3


def test_followers_follow(generic):
    found = Retargeter(generic, RetargetSettings("position")).update(
        human_like(generic, bent(generic, np.random.default_rng(7)), np.eye(4))
    )
    values = dict(zip(generic.kinematics.joint_names, found.positions, strict=True))
    for finger in FINGERS[1:]:
        assert values[f"{finger}_follow"] == pytest.approx(0.7 * values[f"{finger}_curl"])


def test_a_pinch_stays_one(generic):
    rng = np.random.default_rng(8)
    human = human_like(generic, bent(generic, rng), np.eye(4))
    keypoints = human.keypoints.copy()
    keypoints[4] = keypoints[8] + [0.0, 0.0, -0.004]
    gaps = {}
    for mode in ("vector", "dexpilot"):
        found = Retargeter(generic, RetargetSettings(mode, smoothing=0.0)).update(state_of(keypoints))
        tips = generic.fingertips(generic.kinematics.reduce(found.positions))
        gaps[mode] = np.linalg.norm(tips[0] - tips[1])
    assert gaps["dexpilot"] < gaps["vector"] + 1e-6
    assert gaps["dexpilot"] < 0.02


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31 - 1), mode=st.sampled_from(MODES))
def test_limits_of_position_and_velocity_hold_for_any_input(generic, seed, mode):
    rng, kinematics, step = np.random.default_rng(seed), generic.kinematics, 0.02
    retargeter = Retargeter(generic, RetargetSettings(mode))
    before = None
    for frame in range(3):
        human = human_like(generic, bent(generic, rng), np.eye(4))
        noisy = state_of(human.keypoints + rng.normal(scale=0.03, size=(21, 3)))
        found = retargeter.update(noisy, int(1e9 + frame * step * 1e9))
        driven = kinematics.reduce(found.positions)
        assert np.isfinite(found.positions).all()
        assert (driven >= kinematics.lower - 1e-9).all()
        assert (driven <= kinematics.upper + 1e-9).all()
        if before is not None:
            assert (np.abs(driven - before) <= step * kinematics.velocity + 1e-6).all()
        before = driven


def test_an_object_that_comes_into_view_moves_nothing(generic):
    rng = np.random.default_rng(10)
    human = human_like(generic, bent(generic, rng), some_pose(rng))
    retargeter = Retargeter(generic, RetargetSettings("position"))
    first = retargeter.update(human, 10**9)
    for k, T in enumerate((some_pose(rng), None, some_pose(rng))):
        found = retargeter.update(human, 10**9 + (k + 1) * 33_000_000, "", T)
        np.testing.assert_allclose(found.T_frame_base[:3, 3], first.T_frame_base[:3, 3], atol=2e-3)


def test_a_hand_that_comes_back_elsewhere_begins_anew(generic):
    rng = np.random.default_rng(11)
    driven, T = bent(generic, rng), some_pose(rng)
    retargeter, fresh = Retargeter(generic), Retargeter(generic)
    retargeter.update(human_like(generic, generic.open_joints, np.eye(4)), 10**9)
    found = retargeter.update(human_like(generic, driven, T), 10**9 + 33_000_000)
    np.testing.assert_array_equal(found.positions, fresh.update(human_like(generic, driven, T), 1).positions)


def test_smoothing_quiets_a_trembling_hand(generic):
    rng = np.random.default_rng(9)
    human = human_like(generic, bent(generic, rng), np.eye(4)).keypoints
    noise = rng.normal(scale=0.003, size=(12, 21, 3))
    moved = {}
    for smoothing in (0.0, 2.0):
        follower = Retargeter(generic, RetargetSettings("vector", smoothing=smoothing, velocity_limits=False))
        found = np.array([follower.update(state_of(human + one), 10**9 + k).positions for k, one in enumerate(noise)])
        moved[smoothing] = np.abs(np.diff(found[2:], axis=0)).mean()
    assert moved[2.0] < 0.7 * moved[0.0]


def test_hands_that_cannot_be_followed_are_refused(generic):
    retargeter = Retargeter(generic)
    keypoints = human_like(generic, generic.rest, np.eye(4)).keypoints
    with pytest.raises(InputError, match="left one"):
        retargeter.update(state_of(keypoints, "left"))
    keypoints[3, 1] = np.nan
    with pytest.raises(InputError, match="NaN"):
        retargeter.update(state_of(keypoints))
    for options in ({"mode": "magic"}, {"wrist": "loose"}, {"smoothing": -1.0}, {"squeeze": 0.5}):
        with pytest.raises(InputError, match="retargeting"):
            RetargetSettings(**options)
