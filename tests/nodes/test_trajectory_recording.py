"""A reconstructed clip as a bag: what another reader finds in it."""

from dataclasses import replace

import numpy as np
from grasp_msgs.msg import HandObjectState as HandObjectStateMessage
from rclpy.serialization import deserialize_message
from rosbags.highlevel import AnyReader

from grasp_nodes.contact.hand_states import hand_states
from grasp_nodes.contact.interaction import FitStatus, HandObjectState, ObjectState
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.nodes.conversions.states import from_state
from grasp_nodes.nodes.trajectory_recording import FIRST_STAMP, STATE, TOPICS, TRUTH, TrajectoryRecording

CAMERA = CameraModel(np.array([[50.0, 0, 7.5], [0, 50.0, 5.5], [0, 0, 1]]), 16, 12, frame_id="cam")


def written(folder, first):
    model = load_hand_model("right")
    hand = hand_states(HandParams.zeros(1), model)[0]
    recording = TrajectoryRecording(folder, [model], truth=True)
    states = []
    for row in range(3):
        found = ObjectState("mug", np.eye(4), score=0.5, mesh_resource="mug.obj")
        hands = (replace(hand, track_id=4, score=0.5),) if row != 1 else ()
        states.append(HandObjectState(first + row * 10**7, "cam", hands, (found,), status=FitStatus.OK))
        frame = Frame(states[-1].stamp, np.zeros((12, 16, 3), np.uint8), CAMERA)
        recording.write(frame, states[-1], states[-1] if row == 2 else None)
    assert not folder.exists()
    recording.close()
    return states


def read(folder):
    with AnyReader([folder]) as reader:
        types = {connection.topic: connection.msgtype for connection in reader.connections}
        messages = [(connection.topic, stamp, bytes(data)) for connection, stamp, data in reader.messages()]
    return types, messages


def test_states_come_back_under_the_stamps_of_the_clip(tmp_path):
    states = written(tmp_path / "bag", 10**18)
    types, messages = read(tmp_path / "bag")
    assert types == {**TOPICS, TRUTH: TOPICS[STATE]}
    back = [
        (stamp, from_state(deserialize_message(data, HandObjectStateMessage)))
        for topic, stamp, data in messages
        if topic == STATE
    ]
    assert [stamp for stamp, _ in back] == [state.stamp for state in states]
    for (_, ours), theirs in zip(back, states, strict=True):
        assert ours.stamp == theirs.stamp
        assert [hand.track_id for hand in ours.hands] == [hand.track_id for hand in theirs.hands]
        np.testing.assert_allclose(ours.objects[0].T_camera_object, theirs.objects[0].T_camera_object)
    assert sum(topic == TRUTH for topic, _, _ in messages) == 1


def test_a_clock_that_begins_at_zero_is_moved(tmp_path):
    written(tmp_path / "bag", 0)
    _, messages = read(tmp_path / "bag")
    stamps = [stamp for topic, stamp, _ in messages if topic == STATE]
    assert stamps == [FIRST_STAMP, FIRST_STAMP + 10**7, FIRST_STAMP + 2 * 10**7]
    first = deserialize_message(next(data for topic, _, data in messages if topic == STATE), HandObjectStateMessage)
    assert (first.header.stamp.sec, first.header.stamp.nanosec) == (1, 0)


def test_a_bag_that_is_given_up_leaves_nothing(tmp_path):
    recording = TrajectoryRecording(tmp_path / "bag", [])
    recording.discard()
    assert list(tmp_path.iterdir()) == []
    written(tmp_path / "bag", 5)
    recording.discard()
    assert (tmp_path / "bag").is_dir()
