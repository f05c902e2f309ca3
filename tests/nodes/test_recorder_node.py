"""recorder_node: the bag can be read by another reader, is whole when the node ends, and is never half there."""

import json
import time

import numpy as np
import pytest
from grasp_msgs.msg import HandObjectState
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

from grasp_nodes.errors import InputError
from grasp_nodes.nodes.conversions.fields import to_header
from grasp_nodes.nodes.conversions.images import to_image
from grasp_nodes.nodes.recorder_node import RecorderNode, parse_topic

IMAGE, STATE = "camera/color/image_raw", "hand_object/state"
PICTURE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def send(bench, count):
    for index in range(count):
        bench.publish(to_image(PICTURE, "rgb8", 10**9 + index, "c"), IMAGE)
        bench.publish(HandObjectState(header=to_header(10**9 + index, "c"), status_text=f"state {index}"), STATE)


def recorded(bench, node, count):
    bench.wait(lambda: node.statistics.inputs.get(STATE) and node.statistics.inputs[STATE].total >= count, "the states")
    bench.wait(lambda: node.statistics.inputs[IMAGE].total >= count, "the images")


def test_bag_holds_what_was_sent_with_its_definitions(bench, tmp_path):
    folder = tmp_path / "bags" / "one"
    node = bench.start(RecorderNode, output=str(folder), topics=[IMAGE, STATE])
    send(bench, 3)
    recorded(bench, node, 3)
    assert not folder.exists(), "the bag appears when it is whole"
    node.close()
    with AnyReader([folder]) as reader:
        # No type is given to the reader: the definitions are in the file.
        read = [
            (connection.topic, reader.deserialize(data, connection.msgtype))
            for connection, _, data in reader.messages()
        ]
    images = [message for topic, message in read if topic == f"/{IMAGE}"]
    states = [message for topic, message in read if topic == f"/{STATE}"]
    np.testing.assert_array_equal(images[0].data, PICTURE.reshape(-1))
    assert [message.status_text for message in states] == ["state 0", "state 1", "state 2"]
    assert [message.header.stamp.nanosec for message in states] == [0, 1, 2]
    with Reader(folder) as reader:
        assert reader.message_count == 6
    assert not list(tmp_path.rglob("*.partial*"))


def test_start_and_stop_services(bench, tmp_path):
    folder = tmp_path / "two"
    node = bench.start(RecorderNode, output=str(folder), topics=[IMAGE, STATE], autostart=False)
    bench.publisher(Image, IMAGE)
    bench.publisher(HandObjectState, STATE)
    send(bench, 1)
    recorded(bench, node, 1)
    assert bench.call(Trigger, "/recorder_node/start").success
    send(bench, 2)
    recorded(bench, node, 3)
    answer = bench.call(Trigger, "/recorder_node/stop")
    assert answer.success
    assert answer.message == f"wrote 4 messages to {folder}"
    again = bench.call(Trigger, "/recorder_node/start")
    assert not again.success
    assert "exists already" in again.message


def test_enabling_a_recorder_whose_bag_exists_is_refused_and_the_node_lives(bench, tmp_path):
    node = bench.start(RecorderNode, output=str(tmp_path / "bag"), topics=[STATE])
    assert bench.call(SetBool, "/recorder_node/enable", data=False).success
    assert (tmp_path / "bag").is_dir()
    answer = bench.call(SetBool, "/recorder_node/enable", data=True)
    assert not answer.success
    assert "exists already" in answer.message
    assert not node.enabled
    assert bench.call(Trigger, "/recorder_node/stop").message == "not recording"


def test_stopped_recorder_does_not_complain_of_silence(bench, tmp_path, capfd):
    bench.start(RecorderNode, output=str(tmp_path / "bag"), topics=[STATE])
    assert bench.call(Trigger, "/recorder_node/stop").success
    bench.wait(
        lambda: "/recorder_node" in bench.statuses and bench.statuses["/recorder_node"].message == "disabled",
        "the state",
    )
    capfd.readouterr()
    time.sleep(1.2)  # silence is noticed after half a second and looked for twice a second
    assert "nothing useful" not in "".join(capfd.readouterr())


def test_what_was_cut_off_is_kept(bench, tmp_path):
    left = tmp_path / "bag.partial"
    left.mkdir()
    (left / "bag.partial.mcap").write_text("precious")
    with pytest.raises(InputError, match=r"bag\.partial.*cut off"):
        bench.start(RecorderNode, output=str(tmp_path / "bag"), topics=[STATE])
    assert (left / "bag.partial.mcap").read_text() == "precious"


def test_existing_folder_is_not_touched(bench, tmp_path):
    folder = tmp_path / "three"
    folder.mkdir()
    (folder / "precious").write_text("keep")
    with pytest.raises(InputError, match="exists already"):
        bench.start(RecorderNode, output=str(folder), topics=[STATE])
    assert (folder / "precious").read_text() == "keep"


@pytest.mark.parametrize(
    ("entry", "reason"), [("no_topic", "no_topic:package/msg/Type"), ("x:Image", "topic:package/msg/Type")]
)
def test_topic_without_type_is_refused_with_the_remedy(entry, reason):
    with pytest.raises(InputError, match=reason):
        parse_topic(entry)


def test_topic_of_another_package_is_recorded_by_its_type():
    assert parse_topic("joint_states:sensor_msgs/msg/JointState") == ("joint_states", "sensor_msgs/msg/JointState")


def total(node):
    return node.statistics.inputs[STATE].total if STATE in node.statistics.inputs else 0


def test_every_demonstration_is_a_bag_of_its_own_with_its_task(bench, tmp_path):
    folder = tmp_path / "mug"
    node = bench.start(RecorderNode, output=str(folder), topics=[STATE], task="lift the mug")
    bench.publisher(HandObjectState, STATE)
    for number, count in enumerate((2, 3)):
        for index in range(count):
            bench.publish(HandObjectState(header=to_header(10**9 + index, "c"), status_text=f"{number}"), STATE)
        bench.wait(lambda expected=(2, 5)[number]: total(node) >= expected, "the states")
        answer = bench.call(Trigger, "/recorder_node/save_demo")
        assert answer.success
        assert f"wrote {count} messages to {folder}_demo_00{number}" in answer.message
        assert "recording 1 topics" in answer.message
    node.close()
    for number, count in enumerate((2, 3)):
        demo = tmp_path / f"mug_demo_00{number}"
        with AnyReader([demo]) as reader:
            texts = [
                reader.deserialize(data, connection.msgtype).status_text for connection, _, data in reader.messages()
            ]
        assert texts == [f"{number}"] * count
        described = json.loads((demo / "demo.json").read_text())
        assert described["task"] == "lift the mug"
        assert described["messages"] == count
    assert folder.is_dir(), "what came after the last demonstration"


def test_all_stands_for_every_topic_of_the_package(bench, tmp_path):
    node = bench.start(RecorderNode, output=str(tmp_path / "bag"), topics=["all", "more:std_msgs/msg/String"])
    node.close()
    with Reader(tmp_path / "bag") as reader:
        assert {connection.topic for connection in reader.connections} >= {
            "/robot/joint_states",
            "/markers",
            "/more",
            "/tf",
        }
