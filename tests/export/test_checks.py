"""Each fault that a recording may have is found, with its number and first place; a good one has none."""

from dataclasses import replace

import numpy as np
import pytest

from grasp_nodes.export.checks import ERROR, WARNING, CheckOptions, check_recording
from grasp_nodes.export.demonstration import JointTrack
from grasp_nodes.hand.anatomy import HandAnatomy
from grasp_nodes.hand.files import load_hand_model
from tests.export import demonstration_double as double

NOTHING = CheckOptions()


def found(recording, options=NOTHING):
    return [(one.severity, one.check, one.text) for one in check_recording(recording, options)]


def changed(recording, row, **fields):
    states = list(recording.states)
    states[row] = replace(states[row], **fields)
    return replace(recording, states=states)


def test_good_recording_has_no_faults():
    assert found(double.recording(30)) == []


def test_stamps_that_go_back_are_an_error():
    recording = double.recording(10)
    severity, check, text = found(changed(recording, 5, stamp=recording.states[3].stamp))[0]
    assert (severity, check) == (ERROR, "stamps")
    assert "1 stamps are not later than the one before, first frame 5" in text


def test_missing_frames_are_counted():
    recording = double.recording(30)
    gappy = replace(recording, states=recording.states[:10] + recording.states[13:20] + recording.states[21:])
    severity, check, text = found(gappy)[0]
    assert (severity, check) == (WARNING, "dropped")
    assert text.startswith("4 frames are missing at 30 Hz (13.3%), in 2 gaps, the longest 0.133 s")
    assert text.endswith("the first after frame 9")


def test_uneven_rate_is_told():
    recording = double.recording(30)
    late = changed(recording, 7, stamp=recording.states[7].stamp + 10_000_000)
    assert [(one[0], one[1]) for one in found(late)] == [(WARNING, "rate")]
    assert "2 of 29 periods differ by more than 20%" in found(late)[0][2]


@pytest.mark.parametrize("what", ["params", "keypoints", "pose", "contact", "quaternion"])
def test_numbers_that_are_not_usable_are_errors(what):
    recording = double.recording(10)
    state = recording.states[4]
    if what in ("params", "keypoints"):
        values = getattr(state.hands[0], what).copy()
        values.reshape(-1)[3] = np.nan
        bad = {"hands": (replace(state.hands[0], **{what: values}),)}
    elif what == "contact":
        bad = {"contact": {("right", "mug"): np.full(18, np.inf)}}
    else:
        pose = state.objects[0].pose.copy()
        pose[3:] = pose[3:] * 2 if what == "quaternion" else np.nan
        bad = {"objects": (replace(state.objects[0], pose=pose),)}
    faults = [one for one in found(changed(recording, 4, **bad)) if one[0] == ERROR]
    assert len(faults) == 1
    assert "in 1 of 10 frames, first frame 4" in faults[0][2]


def test_joint_beyond_its_limit_is_told():
    positions = np.zeros((20, 2))
    positions[12:14, 1] = 1.7
    track = JointTrack(("a", "b"), double.stamps_at(30, 20), positions)
    faults = found(replace(double.recording(20), joints=track), CheckOptions({"b": (-0.1, 1.6)}))
    assert faults == [
        (WARNING, "limits", "joints: b is outside of [-0.1, 1.6] in 2 of 20 messages (from 1.7 to 1.7), first 12")
    ]


def test_finger_that_bends_backwards_is_told():
    anatomy = HandAnatomy.of_model(load_hand_model("right"))
    recording = double.recording(5)
    flat = [replace(state, hands=(replace(state.hands[0], params=np.zeros(51)),)) for state in recording.states]
    options = CheckOptions(anatomies={"right": anatomy})
    assert found(replace(recording, states=flat), options) == []
    bent = np.zeros(51)
    bent[6:9] = [0, 0, np.pi / 2]
    bent[9:12] = [0, 0, -np.pi / 2]
    bad = changed(replace(recording, states=flat), 2, hands=(replace(recording.states[2].hands[0], params=bent),))
    assert [one[1] for one in found(bad, options)] == ["limits"]
    assert "in 1 of 5 frames" in found(bad, options)[0][2]


def test_hand_that_jumps_is_told():
    recording = double.recording(10)
    hand = recording.states[6].hands[0]
    far = changed(recording, 6, hands=(replace(hand, keypoints=hand.keypoints + 1.0),))
    assert [one[1] for one in found(far)] == ["jumps"]
    assert "faster than 5 m/s 2 times, first after frame 5" in found(far)[0][2]


def test_frames_without_a_picture_are_told():
    recording = double.recording(20)
    few = replace(recording, picture_stamps=recording.picture_stamps[:15])
    assert found(few) == [
        (WARNING, "pictures", "5 of 20 frames have no picture of their time; the nearest one is shown")
    ]


def test_hand_that_is_rarely_seen_a_second_one_and_a_guessed_focal_length_are_told():
    recording = double.recording(10)
    rare = replace(
        recording, states=[replace(state, hands=()) if row > 2 else state for row, state in enumerate(recording.states)]
    )
    assert [one[1] for one in found(rare)] == ["tracked"]
    left = double.hand_row(np.random.default_rng(0), "left")
    two = changed(recording, 3, hands=(*recording.states[3].hands, left))
    assert [one[1] for one in found(two)] == ["hands"]
    assert [one[1] for one in found(replace(recording, is_metric=False))] == ["metric"]
