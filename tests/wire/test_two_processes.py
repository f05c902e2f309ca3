"""What two operating-system processes exchange over DDS."""

import hashlib
import signal
import struct
import time

import numpy as np
import pytest

pytestmark = pytest.mark.processes


def test_images_arrive_bit_for_bit(node, start_peer, eventually):
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import Image

    publisher = node.create_publisher(Image, "image", QoSProfile(depth=5))
    peer = start_peer()
    assert eventually(lambda: publisher.get_subscription_count() == 1)
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    message = Image(width=640, height=480, step=1920, encoding="rgb8", data=pixels.reshape(-1))
    message.header.stamp.sec, message.header.stamp.nanosec = 12, 345
    publisher.publish(message)
    seen = peer.wait_for("image")
    assert seen == {"sha256": hashlib.sha256(pixels.tobytes()).hexdigest(), "size": [640, 480], "stamp": [12, 345]}


def test_our_messages_come_back_equal(node, start_peer, eventually):
    from grasp_msgs.msg import ContactMap

    got = []
    publisher = node.create_publisher(ContactMap, "contact", 10)
    node.create_subscription(ContactMap, "echo", got.append, 10)
    start_peer()
    assert eventually(lambda: publisher.get_subscription_count() == 1 and node.count_publishers("echo") == 1)
    distances = np.linspace(-0.01, 0.1, 778, dtype=np.float32)
    message = ContactMap(object_id="mug", hand_signed_distance=distances, region=np.arange(17), elasticity=[np.nan])
    message.header.frame_id = "object"
    publisher.publish(message)
    assert eventually(lambda: bool(got))
    assert np.isnan(got[0].elasticity[0])
    message.elasticity, got[0].elasticity = [], []
    assert got[0] == message


def test_services_answer_in_both_directions(node, start_peer, eventually):
    from std_srvs.srv import SetBool

    def enable(request, response):
        response.success, response.message = request.data, "tester"
        return response

    node.create_service(SetBool, "~/enable", enable)
    peer = start_peer()
    client = node.create_client(SetBool, "peer/enable")
    assert client.wait_for_service(10)
    for data in (False, True):
        future = client.call_async(SetBool.Request(data=data))
        assert eventually(future.done)
        assert (future.result().success, future.result().message) == (data, "peer")
        time.sleep(0.1)
    assert peer.wait_for("reply") in ([True, "tester"], [False, "tester"])


def test_a_first_request_of_a_new_client_is_answered(node, start_peer, eventually):
    from std_srvs.srv import SetBool

    start_peer()
    for _ in range(8):
        client = node.create_client(SetBool, "peer/enable")
        assert client.wait_for_service(10)
        future = client.call_async(SetBool.Request(data=True))
        assert eventually(future.done, seconds=3)


def ask(node, eventually, service, **fields):
    import importlib

    kind = getattr(importlib.import_module("rcl_interfaces.srv"), service)
    topic = "".join(f"_{c.lower()}" if c.isupper() else c for c in service)[1:]
    client = node.create_client(kind, f"/wire/peer/{topic}")
    assert client.wait_for_service(10)
    future = client.call_async(kind.Request(**fields))
    assert eventually(future.done)
    return future.result()


def test_parameters_are_served(node, start_peer, eventually):
    from rcl_interfaces.msg import Parameter as Message
    from rclpy.parameter import Parameter

    start_peer("--ros-args", "-p", "rate:=2.5")

    def values():
        answer = ask(node, eventually, "GetParameters", names=["rate", "model", "hand.sides"])
        return [Parameter.from_parameter_msg(Message(value=value)).value for value in answer.values]

    assert values() == [2.5, "open", ["left", "right"]]
    assert ask(node, eventually, "GetParameters", names=["rate", "nothing"]).values == []
    kinds = ask(node, eventually, "GetParameterTypes", names=["rate", "model", "hand.sides"]).types
    assert kinds.tolist() == [3, 4, 9]
    listed = ask(node, eventually, "ListParameters").result
    assert {"rate", "model", "hand.sides", "use_sim_time"} <= set(listed.names)
    assert listed.prefixes == ["hand"]
    assert ask(node, eventually, "ListParameters", prefixes=["hand"]).result.names == ["hand.sides"]
    described = ask(node, eventually, "DescribeParameters", names=["rate", "model"]).descriptors
    assert (described[0].description, described[0].floating_point_range[0].to_value) == ("Hz", 10.0)
    assert described[1].read_only
    new = [Parameter(name, value=value).to_parameter_msg() for name, value in (("rate", 4.0), ("model", "x"))]
    results = ask(node, eventually, "SetParameters", parameters=[*new, Parameter("no", value=1).to_parameter_msg()])
    assert [result.successful for result in results.results] == [True, False, False]
    assert "read-only" in results.results[1].reason
    assert "'no' is not declared" in results.results[2].reason
    bad = [Parameter("rate", value=5.0).to_parameter_msg(), Parameter("rate", value=50.0).to_parameter_msg()]
    result = ask(node, eventually, "SetParametersAtomically", parameters=bad).result
    assert (result.successful, "outside the range" in result.reason) == (False, True)
    assert values()[0] == 4.0


def test_a_late_joiner_gets_the_latched_message(node, start_peer, eventually):
    from grasp_msgs.msg import ContactMap
    from rclpy.qos import DurabilityPolicy, QoSProfile

    start_peer()
    got = []
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(ContactMap, "latched", got.append, latched)
    assert eventually(lambda: bool(got))
    assert [message.object_id for message in got] == ["latched"]


def test_both_sides_report_a_qos_mismatch(node, start_peer, capfd, eventually):
    from grasp_msgs.msg import ContactMap

    peer = start_peer()
    got = []
    node.create_subscription(ContactMap, "best_effort", got.append, 10)
    line = peer.wait_for_error("does not go with ours")
    assert "[WARN]" in line
    assert "/wire/best_effort: the QoS" in line
    assert "give both sides the same RELIABILITY" in line
    heard = []
    assert eventually(lambda: heard.append(capfd.readouterr().err) or "/wire/best_effort: the QoS" in "".join(heard))
    assert got == []


def test_damaged_payloads_are_counted_and_good_ones_served(node, start_peer, eventually):
    from grasp_msgs.msg import ContactMap
    from rclpy.serialization import serialize_message

    publisher = node.create_publisher(ContactMap, "contact", 100)
    peer = start_peer()
    assert eventually(lambda: publisher.get_subscription_count() == 1)
    good = serialize_message(ContactMap(object_id="good", contact=np.ones(100)))
    rng = np.random.default_rng(1)
    for _ in range(20):
        publisher.publish(good[: int(rng.integers(5, len(good) - 8))])
    publisher.publish(b"\0\1\0\0" + struct.pack("<iII", 0, 0, 2**32 - 1) + bytes(64))
    publisher.publish(b"\0\3\0\0" + good[4:])
    publisher.publish(good)
    assert peer.wait_for("contact") == "good"
    assert "dropped a malformed message on /wire/contact" in peer.wait_for_error("malformed")
    publisher.publish(good)
    said = peer.said.get(timeout=5)
    assert said == {"contact": "good", "dropped": 22}


def test_remaps_namespaces_and_discovery(node, start_peer, eventually):
    from grasp_msgs.msg import ContactMap

    from grasp_nodes.embedded import types

    info_class = types.message_class("rmw_dds_common/msg/ParticipantEntitiesInfo")
    start_peer("--ros-args", "-r", "__ns:=/left", "-r", "__node:=other", "-r", "echo:=/shared/x")
    assert eventually(lambda: node.count_publishers("/shared/x") == 1)
    assert node.count_publishers("/left/latched") == 1
    client = node.create_client(__import__("std_srvs.srv").srv.SetBool, "/left/other/enable")
    assert client.wait_for_service(10)
    publisher = node.create_publisher(ContactMap, "/left/contact", 1)
    assert eventually(lambda: publisher.get_subscription_count() == 1)
    # 2 subscriptions, 4 publishers (with /parameter_events), both topics of 7 services (6 for parameters) and 1 client
    assert read_graph(node, info_class, eventually)["/left/other"] == (2 + 8, 4 + 8)


def read_graph(node, info_class, eventually):
    """(subscriptions, publications) per node of the graph, as any ROS 2 tool finds them."""
    from grasp_nodes.embedded import dds, types
    from grasp_nodes.embedded.process import process
    from grasp_nodes.embedded.vocabulary import DurabilityPolicy, QoSProfile

    profile = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    reader = dds.Reader(process.participant(), "ros_discovery_info", info_class.__msgtype__, profile, "")
    found = {}

    def look():
        while (sample := reader.take()) is not None:
            for entry in types.deserialize(sample.data, info_class.__msgtype__).node_entities_info_seq:
                name = f"{entry.node_namespace.rstrip('/')}/{entry.node_name}"
                found[name] = (len(entry.reader_gid_seq), len(entry.writer_gid_seq))
        return {"/left/other", "/wire/tester"} <= found.keys()

    assert eventually(look)
    reader.close()
    return found


@pytest.mark.parametrize(
    ("number", "end"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "ExternalShutdownException")]
)
def test_signals_end_a_node_quickly_and_cleanly(start_peer, number, end):
    peer = start_peer()
    time.sleep(0.3)
    begin = time.monotonic()
    peer.process.send_signal(number)
    assert peer.wait_for("end") == end
    assert peer.process.wait(5) == 0
    assert time.monotonic() - begin < 2
    assert peer.errors == []


def test_an_idle_node_costs_nothing(start_peer):
    import psutil

    peer = start_peer()
    process = psutil.Process(peer.process.pid)
    time.sleep(0.5)
    before = process.cpu_times()
    time.sleep(2)
    after = process.cpu_times()
    assert (after.user + after.system) - (before.user + before.system) <= 0.06
