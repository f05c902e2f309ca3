"""Constant rate out of what was recorded: which frame stands at which tick, and what is done where there is none."""

from dataclasses import replace

import numpy as np
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.export.demonstration import ACTION, HAND, OBJECT, STATE, TRACKED, JointTrack, Recording
from grasp_nodes.export.sampling import SamplingOptions, nearest, sample
from tests.export import demonstration_double as double


def test_frames_of_a_steady_camera_are_taken_as_they_are():
    recording = double.recording(40, rate=29.97)
    found = sample(recording, "task", SamplingOptions())
    assert found.demonstration.fps == 30
    np.testing.assert_array_equal(found.demonstration.stamps, [state.stamp for state in recording.states])
    assert found.repeated == 0
    np.testing.assert_array_equal(found.demonstration.picture_rows, np.arange(40))


def test_missing_frames_are_the_last_one_again():
    recording = double.recording(12)
    keep = [0, 1, 2, 6, 7, 8, 9, 10, 11]
    gappy = replace(recording, states=[recording.states[row] for row in keep])
    found = sample(gappy, "task", SamplingOptions())
    shown = [[state.stamp for state in recording.states].index(stamp) for stamp in found.demonstration.stamps]
    assert shown == [0, 1, 2, 2, 2, 2, 6, 7, 8, 9, 10, 11]
    assert found.repeated == 3
    tracked = found.demonstration.columns[TRACKED].values
    np.testing.assert_array_equal(tracked[:, 0], [1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1])


def test_lower_rate_takes_the_nearest_frames():
    found = sample(double.recording(31), "task", SamplingOptions(fps=10)).demonstration
    assert len(found) == 11
    np.testing.assert_array_equal(found.picture_rows, np.arange(0, 31, 3))
    images = list(found.images())
    np.testing.assert_array_equal(images[4], double.picture(12))


def test_pictures_go_with_the_state_that_answers_them():
    recording = double.recording(12)
    half = replace(recording, states=recording.states[::2])
    found = sample(half, "task", SamplingOptions()).demonstration
    assert found.fps == 15
    np.testing.assert_array_equal(found.picture_rows, np.arange(0, 12, 2))


def test_hand_that_is_not_seen_stays_where_it_was_and_ends_are_cut():
    recording = double.recording(10)
    states = [replace(state, hands=()) if row in (0, 4, 5, 9) else state for row, state in enumerate(recording.states)]
    found = sample(replace(recording, states=states), "task", SamplingOptions())
    state = found.demonstration.columns[STATE].values
    assert len(state) == 8
    np.testing.assert_array_equal(state[3], state[2])
    np.testing.assert_array_equal(state[4], state[2])
    np.testing.assert_allclose(state[5], states[6].hands[0].params, rtol=1e-6)
    assert found.unseen == 2
    held = [replace(one, is_held=True) for one in recording.states]
    assert (
        sample(replace(recording, states=held), "task", SamplingOptions()).demonstration.columns[TRACKED].values.sum()
        == 0
    )


def test_action_is_the_next_state_and_the_last_its_own():
    columns = sample(double.recording(6), "task", SamplingOptions()).demonstration.columns
    np.testing.assert_array_equal(columns[ACTION].values[:-1], columns[STATE].values[1:])
    np.testing.assert_array_equal(columns[ACTION].values[-1], columns[STATE].values[-1])


def test_quaternions_do_not_change_their_sign_from_frame_to_frame():
    recording = double.recording(20)
    turn = np.array([0.0, 0.6, 0.0, 0.8])
    states = []
    for row, state in enumerate(recording.states):
        pose = np.concatenate([np.zeros(3), turn * (-1) ** row])
        states.append(replace(state, objects=(replace(state.objects[0], pose=pose),)))
    pose = sample(replace(recording, states=states), "t", SamplingOptions()).demonstration.columns[OBJECT].values
    np.testing.assert_allclose(pose[:, 3:], np.tile(turn, (20, 1)), rtol=1e-6)


def test_joints_of_a_robot_are_the_state_and_interpolated_in_time():
    recording = double.recording(10)
    stamps = double.stamps_at(100, 40)
    seconds = (stamps - double.START) / 1e9
    joints = JointTrack(("a", "b"), stamps, np.stack([2 * seconds, 1 - seconds], axis=1))
    commands = JointTrack(("a", "b"), stamps, np.stack([3 * seconds, seconds], axis=1))
    found = sample(replace(recording, joints=joints, commands=commands), "task", SamplingOptions()).demonstration
    times = (found.stamps - double.START) / 1e9
    np.testing.assert_allclose(found.columns[STATE].values, np.stack([2 * times, 1 - times], axis=1), atol=1e-6)
    np.testing.assert_allclose(found.columns[ACTION].values, np.stack([3 * times, times], axis=1), atol=1e-6)
    assert found.columns[STATE].names == ("a", "b")
    np.testing.assert_allclose(found.columns[HAND].values[3], recording.states[3].hands[0].params, rtol=1e-6)
    hand = sample(replace(recording, joints=joints), "task", SamplingOptions(state="hand")).demonstration
    assert hand.columns[STATE].values.shape == (10, 51)


def test_robot_alone_is_a_demonstration():
    stamps = double.stamps_at(50, 20)
    alone = Recording("r", "r", (), JointTrack(("a",), stamps, np.arange(20.0)[:, None]))
    found = sample(alone, "task", SamplingOptions()).demonstration
    assert found.fps == 50
    np.testing.assert_allclose(found.columns[STATE].values[:, 0], np.arange(20.0))
    assert set(found.columns) == {STATE, ACTION}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"states": [double.state_row(double.START, 0)]}, "expected two frames or more, got 1"),
        ({"states": [replace(double.state_row(s, 0), hands=()) for s in double.stamps_at(30, 4)]}, "no hand was found"),
    ],
)
def test_nothing_to_show_is_refused(change, reason):
    with pytest.raises(InputError, match=reason):
        sample(replace(double.recording(3), **change), "task", SamplingOptions())


def test_nearest_agrees_with_looking_at_all():
    rng = np.random.default_rng(0)
    for count in (1, 2, 50):
        stamps, wanted = np.sort(rng.integers(0, 1000, count)), rng.integers(-100, 1100, 200)
        found = stamps[nearest(stamps, wanted)]
        np.testing.assert_array_equal(np.abs(found - wanted), np.abs(stamps - wanted[:, None]).min(axis=1))
