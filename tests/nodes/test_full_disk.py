"""A disk that is full while a bag is recorded: recording ends, says so, and what was written before can be read."""

import errno
import os
import time

import numpy as np
import pytest
from grasp_msgs.msg import HandObjectState
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from grasp_nodes.nodes.bag_recording import BagRecording
from grasp_nodes.nodes.conversions.fields import to_header
from grasp_nodes.nodes.conversions.images import to_image
from grasp_nodes.nodes.recorder_node import RecorderNode

IMAGE = "camera/color/image_raw"
STATE = "hand_object/state"


class FullDisk:
    """A raw file whose disk takes so many bytes, and more once the reserve is given back."""

    def __init__(self, raw, room, folder):
        self.raw, self.room, self.folder = raw, room, folder

    def write(self, data):
        room = self.room if (self.folder / "reserve").exists() else self.room + 100_000
        left = room - self.raw.tell()
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.raw.write(data[:left])

    def __getattr__(self, name):
        return getattr(self.raw, name)


def image(index):
    rng = np.random.default_rng(index)
    picture = rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)
    return bytes(serialize_message(to_image(picture, "rgb8", 10**9 + index, "c")))


def read(folder):
    with AnyReader([folder]) as reader:
        return [bytes(data) for _, _, data in reader.messages()]


@pytest.mark.parametrize("room", [500_000, 1_500_000, 3_333_333])
def test_bag_of_a_full_disk_holds_what_was_written_before(tmp_path, room):
    bag = BagRecording(tmp_path / "bag", salvages=True)
    bag.add_topic(IMAGE, "sensor_msgs/msg/Image")
    bag._storage.bio._raw = FullDisk(bag._storage.bio._raw, room, tmp_path / "bag.partial")
    sent = []

    def fill():
        for index in range(1000):
            sent.append(image(index))
            bag.write(IMAGE, 10**9 + index, sent[-1])

    with pytest.raises(OSError, match="No space left"):
        fill()
    folder = bag.close()
    found = read(folder)
    assert len(found) == bag.messages
    assert found == sent[: len(found)]
    # At most the chunk that found no room is lost: a megabyte and the message that filled it.
    assert len(sent) - len(found) <= 2**20 // len(sent[0]) + 2
    with Reader(folder) as reader:
        assert reader.message_count == len(found)
    assert sorted(path.name for path in folder.iterdir()) == ["bag.mcap", "metadata.yaml"]


def test_last_messages_that_find_no_room_at_the_end_are_left_out(tmp_path):
    bag = BagRecording(tmp_path / "bag", salvages=True)
    bag.add_topic(IMAGE, "sensor_msgs/msg/Image")
    sent = [image(index) for index in range(21)]  # one chunk of a megabyte, and two messages more
    for index, data in enumerate(sent):
        bag.write(IMAGE, 10**9 + index, data)
    written = bag._storage.bio.tell()
    assert written > 2**20
    raw = bag._storage.bio._raw
    bag._storage.bio._raw = FullDisk(raw, written - 100_000 + 50_000, tmp_path / "none")
    found = read(bag.close())
    assert 0 < len(found) < len(sent)
    assert found == sent[: len(found)]


def test_bag_of_what_can_be_made_again_is_whole_or_not_there(tmp_path):
    bag = BagRecording(tmp_path / "bag")
    bag.add_topic(IMAGE, "sensor_msgs/msg/Image")
    for index in range(3):
        bag.write(IMAGE, 10**9 + index, image(index))
    bag._storage.bio._raw = FullDisk(bag._storage.bio._raw, -100_000, tmp_path / "none")
    with pytest.raises(OSError, match="No space left"):
        bag.close()
    bag.discard()
    assert list(tmp_path.iterdir()) == []


def test_recorder_stops_and_says_so_and_lives(bench, tmp_path, capfd):
    node = bench.start(RecorderNode, output=str(tmp_path / "bag"), topics=[IMAGE, STATE])
    raw = node._recording._storage.bio._raw
    node._recording._storage.bio._raw = FullDisk(raw, 1_200_000, tmp_path / "bag.partial")
    bench.publisher(Image, IMAGE)
    for index in range(45):
        bench.publish(to_image(np.zeros((120, 160, 3), np.uint8), "rgb8", 10**9 + index, "c"), IMAGE)
        time.sleep(0.005)
    bench.wait(lambda: not node.enabled, "the recorder to stop")
    assert "recording stopped: the bag cannot be written any more (No space left on device)" in "".join(
        capfd.readouterr()
    )
    assert len(read(tmp_path / "bag")) > 10
    assert "No space left" in node.facts["stopped"]
    assert not bench.call(Trigger, "/recorder_node/save_demo").success
    assert "exists already" in bench.call(Trigger, "/recorder_node/start").message


def test_recorder_stops_while_there_is_room_for_others(bench, tmp_path, monkeypatch, capfd):
    free = [10**12]
    monkeypatch.setattr(BagRecording, "free_bytes", lambda _: free[0])
    node = bench.start(RecorderNode, output=str(tmp_path / "bag"), topics=[STATE], min_free_mb=100.0)
    bench.publish(HandObjectState(header=to_header(10**9, "c")), STATE)
    bench.wait(lambda: node.statistics.inputs.get(STATE), "the state")
    free[0] = 99_000_000
    bench.wait(lambda: not node.enabled, "the recorder to stop")
    assert len(read(tmp_path / "bag")) == 1
    assert "99 MB are free, 100 MB have to stay so" in "".join(capfd.readouterr())
    refused = bench.call(Trigger, "/recorder_node/start")
    assert not refused.success
