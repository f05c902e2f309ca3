"""source_node with a made-up recording: pace, stamps, truth, status, end, failure."""

import time

import numpy as np
import pytest
from grasp_msgs.msg import HandObjectState
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import String
from std_srvs.srv import SetBool

from grasp_nodes.contact.interaction import FitStatus
from grasp_nodes.contact.interaction import HandObjectState as State
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.nodes import source_node
from grasp_nodes.nodes.conversions.clouds import cloud_to_points
from grasp_nodes.nodes.conversions.fields import from_time, to_header
from grasp_nodes.nodes.conversions.images import image_to_depth, image_to_rgb
from grasp_nodes.nodes.node_base import LATCHED
from grasp_nodes.nodes.source_node import SourceNode
from grasp_nodes.nodes.source_status import from_message

CAMERA = CameraModel(np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]), 64, 48)
STEP = 50_000_000


class MadeUp:
    """Frames whose red channel is their number."""

    camera, fps, is_live = CAMERA, 20.0, False
    object_spec, object_id, object_scale = "sphere:0.04", "sphere", 1.0

    def __init__(self, frames=4, first=0, has_depth=True, has_truth=True):
        self.frames, self.first_stamp = frames, first
        self.has_depth, self.has_truth = has_depth, has_truth

    def __len__(self):
        return self.frames

    def __iter__(self):
        for index in range(self.frames):
            color = np.full((48, 64, 3), index, np.uint8)
            depth = np.full((48, 64), 1 + index, np.float32) if self.has_depth else None
            yield Frame(self.first_stamp + index * STEP, color, CAMERA, depth)

    def close(self):
        self.closed = True

    def truth(self, stamp):
        return State(stamp, CAMERA.frame_id, status=FitStatus.OK, status_text="truth")


@pytest.fixture
def play(bench, monkeypatch):
    monkeypatch.setattr(source_node, "SETTLE_S", 0.3)
    monkeypatch.setattr(source_node, "LINGER_S", 0.2)
    monkeypatch.setattr(source_node, "REALTIME_WAIT_S", 0.3)

    def start(source, **parameters):
        monkeypatch.setattr(SourceNode, "_open", lambda _: source)
        return bench.start(SourceNode, **parameters)

    return start


def listen(bench):
    images, infos = [], []
    bench.tester.create_subscription(Image, "camera/color/image_raw", images.append, 50)
    bench.tester.create_subscription(CameraInfo, "camera/color/camera_info", infos.append, 50)
    return images, infos


def answer(bench, stamp):
    bench.publish(HandObjectState(header=to_header(stamp, "c")), "hand_object/state")


def statuses(bench):
    messages = []
    bench.tester.create_subscription(String, "source/status", messages.append, LATCHED)
    return messages


def test_answered_pace_keeps_to_two_frames_in_flight_and_ends(bench, play):
    images, infos = listen(bench)
    told = statuses(bench)
    node = play(MadeUp(5), pace="answered", in_flight=2)
    bench.publisher(HandObjectState, "hand_object/state")
    bench.wait(lambda: len(images) == 2, "two frames")
    assert not node.finished.wait(0.3)
    assert len(images) == 2, "a third frame was sent before any answer"
    done = 0
    while done < 5:
        bench.wait(lambda done=done: len(images) > done, "the next frame")
        answer(bench, from_time(images[done].header.stamp))
        done += 1
    assert node.finished.wait(10)
    assert [image_to_rgb(image)[0, 0, 0] for image in images] == [0, 1, 2, 3, 4]
    assert [from_time(image.header.stamp) for image in images] == [from_time(info.header.stamp) for info in infos]
    last = from_message(told[-1])
    assert (last.finished, last.frames_total, last.frames_sent, last.object) == (True, 5, 5, "sphere:0.04")
    assert node.exit_code == 0


def test_stamps_are_never_zero_and_keep_their_spacing(bench, play):
    images, _ = listen(bench)
    play(MadeUp(3, first=0), pace="realtime", rate=200.0)
    bench.wait(lambda: len(images) == 3, "three frames")
    stamps = [from_time(image.header.stamp) for image in images]
    assert stamps[0] > 0
    assert np.diff(stamps).tolist() == [STEP, STEP]


def test_recorded_stamps_are_kept(bench, play):
    images, _ = listen(bench)
    play(MadeUp(2, first=1_771_445_425_254_058_053), pace="realtime", rate=200.0)
    bench.wait(lambda: len(images) == 2, "two frames")
    assert from_time(images[0].header.stamp) == 1_771_445_425_254_058_053


def test_restamped_frames_carry_the_time_of_sending(bench, play):
    images, _ = listen(bench)
    truths = []
    bench.tester.create_subscription(HandObjectState, "truth/state", truths.append, 50)
    before = time.time_ns()
    play(MadeUp(2), pace="realtime", rate=200.0, restamp=True)
    bench.wait(lambda: len(images) == len(truths) == 2, "two frames with truth")
    stamps = [from_time(image.header.stamp) for image in images]
    assert before <= stamps[0] < stamps[1] <= time.time_ns()
    assert [from_time(truth.header.stamp) for truth in truths] == stamps


def test_disabled_source_waits(bench, play):
    images, _ = listen(bench)
    node = play(MadeUp(3), pace="realtime", rate=200.0, autostart=False)
    assert not node.finished.wait(0.8)
    assert not images
    assert bench.call(SetBool, "/source_node/enable", data=True).success
    bench.wait(lambda: len(images) == 3, "the frames")


def test_depth_truth_and_points_belong_to_the_image(bench, play):
    images, _ = listen(bench)
    depths, truths, points = [], [], []
    bench.tester.create_subscription(Image, "camera/depth/image_raw", depths.append, 50)
    bench.tester.create_subscription(HandObjectState, "truth/state", truths.append, 50)
    bench.tester.create_subscription(PointCloud2, "camera/depth/points", points.append, 50)
    play(MadeUp(2, first=7 * STEP), pace="answered", in_flight=1, answer_timeout_s=0.5, start_timeout_s=2.0)
    bench.publisher(HandObjectState, "hand_object/state")
    bench.wait(lambda: len(images) == 2, "two frames", timeout=20)
    bench.wait(lambda: len(depths) == len(truths) == len(points) == 2, "depth, truth and points")
    stamps = [from_time(image.header.stamp) for image in images]
    for messages in (depths, truths, points):
        assert [from_time(message.header.stamp) for message in messages] == stamps
    assert image_to_depth(depths[1])[0, 0] == 2
    assert truths[0].status_text == "truth"
    np.testing.assert_allclose(cloud_to_points(points[1])[:, 2], 2)


def test_unanswered_frames_are_lost_and_counted(bench, play, capfd):
    images, _ = listen(bench)
    node = play(MadeUp(3), pace="answered", in_flight=1, answer_timeout_s=0.2, start_timeout_s=0.4)
    bench.publisher(HandObjectState, "hand_object/state")
    assert node.finished.wait(20)
    assert len(images) == 3
    assert node.statistics.drops["unanswered frame"] == 3
    assert "no answer in time to the frame" in "".join(capfd.readouterr())


def test_loop_goes_on_with_rising_stamps(bench, play):
    images, _ = listen(bench)
    told = statuses(bench)
    node = play(MadeUp(3), pace="realtime", rate=100.0, loop=True)
    bench.wait(lambda: len(images) >= 8, "more than two passes")
    node.close()
    stamps = [from_time(image.header.stamp) for image in images]
    assert all(np.diff(stamps) > 0)
    assert max(from_message(message).loops for message in told) >= 2
    assert not any(from_message(message).finished for message in told)


def test_source_that_cannot_be_opened_says_so_and_fails(bench, play, monkeypatch, capfd):
    told = statuses(bench)

    def fail(_):
        raise InputError("clip /nowhere: no such folder")

    monkeypatch.setattr(SourceNode, "_open", fail)
    node = bench.start(SourceNode)
    assert node.finished.wait(10)
    assert node.exit_code == 1
    assert "clip /nowhere: no such folder" in "".join(capfd.readouterr())
    bench.wait(lambda: told and from_message(told[-1]).error == "clip /nowhere: no such folder", "the status")
    assert from_message(told[-1]).finished


@pytest.mark.parametrize("text", ["", "[]", '{"frames_total": 3}', '{"source": 3}', '{"source": "x", "seed": "0"}'])
def test_status_that_is_none_is_refused(bench, text):
    with pytest.raises(InputError):
        from_message(String(data=text))


def test_a_second_source_on_the_topic_is_warned_of(bench, play, capfd):
    bench.tester.create_publisher(Image, "camera/color/image_raw", 1)
    play(MadeUp(2), pace="realtime", autostart=False)
    text = []

    def said():
        text.append("".join(capfd.readouterr()))
        return "".join(text).count("1 more publishes /camera/color/image_raw")

    bench.wait(said, "the warning")
    assert "ROS_DOMAIN_ID or namespace" in "".join(text)


def test_scale_of_the_users_object_is_told(bench, play):
    told = statuses(bench)
    play(MadeUp(1), pace="realtime", object="mug.obj", object_scale=0.001)
    bench.wait(lambda: told and from_message(told[-1]).object, "the status with the object")
    assert from_message(told[-1]).object_scale == 0.001
