"""Nodes in one process: publishers, subscriptions, services, timers, clocks, executors, logging."""

import os
import signal
import threading
import time

import pytest


@pytest.fixture
def node(ros):
    from rclpy.node import Node

    return Node("node", namespace="/test")


def test_messages_arrive_in_order_and_equal(node, spin_until):
    from grasp_msgs.msg import ContactMap

    got = []
    publisher = node.create_publisher(ContactMap, "map", 10)
    node.create_subscription(ContactMap, "/test/map", got.append, 10)
    sent = [ContactMap(contact=[0.1 * i], object_id=f"o{i}") for i in range(5)]
    for message in sent:
        publisher.publish(message)
    assert spin_until(lambda: len(got) == 5, node)
    assert got == sent
    assert (publisher.topic_name, publisher.get_subscription_count()) == ("/test/map", 1)
    assert [entry.topic_name for entry in node.subscriptions] == ["/test/map"]


def test_only_the_newest_is_kept_at_depth_one(node, spin_until):
    from std_msgs.msg import Int32

    got = []
    publisher = node.create_publisher(Int32, "n", 10)
    node.create_subscription(Int32, "n", lambda message: got.append(message.data), 1)
    for value in range(5):
        publisher.publish(Int32(data=value))
    assert spin_until(lambda: bool(got), node)
    assert got == [4]


def test_publishing_another_type_is_refused(node):
    from std_msgs.msg import Int32, String

    with pytest.raises(TypeError, match="/test/n: expected a std_msgs/msg/Int32, got String"):
        node.create_publisher(Int32, "n", 1).publish(String())
    with pytest.raises(ValueError, match=r"rt/test/n cannot be used with std_msgs/msg/String"):
        node.create_publisher(String, "n", 1)
    with pytest.raises(TypeError, match="message or service class"):
        node.create_publisher(int, "m", 1)


def test_a_malformed_message_is_counted_and_the_next_good_one_served(node, spin_until, capfd):
    from grasp_msgs.msg import ContactMap
    from rclpy.serialization import serialize_message

    got = []
    publisher = node.create_publisher(ContactMap, "map", 10)
    subscription = node.create_subscription(ContactMap, "map", got.append, 10)
    good = ContactMap(contact=[1.0])
    for payload in (b"\0\1\0\0\1\2\3\4", serialize_message(good)[:60], b"\7\7\7\7" + bytes(90)):
        publisher.publish(payload)
    publisher.publish(good)
    assert spin_until(lambda: bool(got), node)
    assert got == [good]
    assert subscription.dropped == 3
    assert capfd.readouterr().err.count("dropped a malformed message on /test/map") == 1  # throttled


def test_raw_subscriptions_receive_bytes(node, spin_until):
    from rclpy.serialization import deserialize_message
    from std_msgs.msg import Int32

    got = []
    node.create_subscription(Int32, "n", got.append, 1, raw=True)
    node.create_publisher(Int32, "n", 1).publish(Int32(data=7))
    assert spin_until(lambda: bool(got), node)
    assert isinstance(got[0], bytes)
    assert deserialize_message(got[0], Int32).data == 7


def test_received_numbers_are_aligned_for_compiled_code(node, spin_until):
    import numpy as np
    from sensor_msgs.msg import CameraInfo

    got = []
    node.create_subscription(CameraInfo, "info", got.append, 1)
    node.create_publisher(CameraInfo, "info", 1).publish(CameraInfo(k=np.arange(9.0), d=[0.5] * 5))
    assert spin_until(lambda: bool(got), node)
    assert got[0].k.flags.aligned
    assert got[0].d.flags.aligned
    assert got[0].k.tolist() == list(range(9))
    assert not got[0].k.flags.writeable


def test_received_memory_outlives_the_node(ros, spin_until):
    import gc

    import numpy as np
    from rclpy.node import Node
    from sensor_msgs.msg import Image

    node, got = Node("short"), []
    pixels = np.arange(640 * 480 * 3, dtype=np.uint32).astype(np.uint8)
    publisher = node.create_publisher(Image, "image", 1)
    node.create_subscription(Image, "image", got.append, 1)
    publisher.publish(Image(data=pixels))
    assert spin_until(lambda: bool(got), node)
    ros.shutdown()
    del node, publisher
    gc.collect()
    assert np.array_equal(got[0].data, pixels)


def test_services_answer_and_ignore_what_is_malformed(node, spin_until):
    from std_srvs.srv import SetBool

    from grasp_nodes.embedded import dds
    from grasp_nodes.embedded.process import process
    from grasp_nodes.embedded.vocabulary import QoSProfile

    def enable(request, response):
        response.success, response.message = request.data, "done"
        return response

    node.create_service(SetBool, "~/enable", enable)
    client = node.create_client(SetBool, "node/enable")
    assert client.wait_for_service(2.0)
    stranger = dds.Writer(
        process.participant(),
        "rq/test/node/enableRequest",
        "std_srvs/srv/SetBool_Request",
        QoSProfile(depth=10),
        "",
    )
    for payload in (b"\0\1\0\0\1\0\0\0", b"\0\1\0\0" + bytes(15) + b"\0", b"\0\1\0\0" + bytes(40)):
        stranger.write(bytearray(payload))
    futures = [client.call_async(SetBool.Request(data=bool(i % 2))) for i in range(4)]
    assert spin_until(lambda: all(future.done() for future in futures), node)
    assert [future.result().success for future in futures] == [False, True, False, True]
    assert futures[0].result().message == "done"


def test_an_absent_service_is_not_ready(node):
    from std_srvs.srv import Trigger

    client = node.create_client(Trigger, "nowhere")
    begin = time.monotonic()
    assert not client.wait_for_service(timeout_sec=0.1)
    assert time.monotonic() - begin < 1


def test_timers_keep_their_rate(node, spin_until):
    calls = []
    timer = node.create_timer(0.02, lambda: calls.append(time.monotonic()))
    begin = time.monotonic()
    assert spin_until(lambda: len(calls) >= 20, node)
    assert 0.35 < time.monotonic() - begin < 1.0
    timer.cancel()
    count = len(calls)
    assert not spin_until(lambda: len(calls) > count, node, seconds=0.1)


def test_simulated_time_drives_clock_and_timers(ros, spin_until):
    from rclpy.node import Node
    from rclpy.parameter import Parameter
    from rosgraph_msgs.msg import Clock

    from grasp_nodes.embedded.types import message_class

    node = Node("sim", parameter_overrides=[Parameter("use_sim_time", value=True)])
    source = Node("source")
    publisher = source.create_publisher(Clock, "/clock", 10)
    calls = []
    node.create_timer(1.0, lambda: calls.append(node.get_clock().now().nanoseconds))
    assert node.get_clock().now().nanoseconds == 0
    time_class = message_class("builtin_interfaces/msg/Time")

    def tick(seconds):
        publisher.publish(Clock(clock=time_class(sec=int(seconds), nanosec=int(seconds % 1 * 1e9))))
        return spin_until(lambda: node.get_clock().now().nanoseconds == int(seconds * 1e9), node)

    for seconds in (100.0, 100.5, 101.5, 102.0, 5.0, 5.5, 6.5):
        assert tick(seconds)
        spin_until(lambda: False, node, seconds=0.02)
    assert calls == [100_000_000_000, 101_500_000_000, 102_000_000_000, 6_500_000_000]
    assert abs(source.get_clock().now().nanoseconds - time.time_ns()) < 1e9
    (result,) = node.set_parameters([Parameter("use_sim_time", value=False)])
    assert "read-only" in result.reason


def test_a_time_becomes_a_message(node):
    now = node.get_clock().now()
    message = now.to_msg()
    assert message.sec * 1_000_000_000 + message.nanosec == now.nanoseconds
    assert 0 <= message.nanosec < 1_000_000_000


def test_worker_threads_can_publish(node, spin_until):
    from std_msgs.msg import Int32

    got, callers = [], set()

    def on_number(message):
        got.append(message.data)
        callers.add(threading.current_thread())

    node.create_subscription(Int32, "n", on_number, 1000)
    publisher = node.create_publisher(Int32, "n", 1000)

    def work(base):
        for i in range(100):
            publisher.publish(Int32(data=base + i))

    threads = [threading.Thread(target=work, args=(1000 * k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    assert spin_until(lambda: len(got) == 300, node)
    assert sorted(got) == sorted(base + i for base in (0, 1000, 2000) for i in range(100))
    assert callers == {threading.main_thread()}


def test_what_another_thread_creates_is_waited_for_at_once(node):
    from rclpy.executors import SingleThreadedExecutor

    executor, calls = SingleThreadedExecutor(), []
    executor.add_node(node)
    executor.spin_once(0)

    def create():
        time.sleep(0.02)
        node.create_timer(0.0, lambda: calls.append(time.monotonic()))

    begin = time.monotonic()
    threading.Thread(target=create).start()
    executor.spin_once(5)
    assert calls[0] - begin < 0.2  # below the quarter of a second after which a wait ends by itself
    executor.shutdown()


def test_a_wait_ends_in_time(node):
    from rclpy.executors import SingleThreadedExecutor

    executor = SingleThreadedExecutor()
    assert executor.add_node(node)
    assert not executor.add_node(node)
    begin = time.monotonic()
    executor.spin_once(0.4)
    assert 0.39 < time.monotonic() - begin < 1
    executor.shutdown()
    assert node.executor is None


def test_futures_call_back_once(node):
    from grasp_nodes.embedded.vocabulary import Future

    future, seen = Future(), []
    future.add_done_callback(lambda done: seen.append(("early", done.result())))
    assert (future.done(), future.result()) == (False, None)
    future.set_result(5)
    future.add_done_callback(lambda done: seen.append(("late", done.result())))
    assert seen == [("early", 5), ("late", 5)]


def test_an_error_in_a_callback_ends_the_spin(node):
    import rclpy

    def fail():
        raise ZeroDivisionError

    node.create_timer(0.0, fail)
    with pytest.raises(ZeroDivisionError):
        rclpy.spin(node)


def test_an_interrupt_while_the_binding_describes_an_endpoint_is_not_an_error(node):
    import rclpy
    from std_msgs.msg import Int32

    from grasp_nodes.embedded.process import process

    node.create_publisher(Int32, "n", 1)
    everything = process.participant()._all_publishers
    construct, described = everything._constructor, []

    def construct_interrupted(*arguments):
        described.append(arguments)
        if len(described) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return construct(*arguments)

    def ask():
        everything._constructor = construct_interrupted
        node.count_publishers("n")

    node.create_timer(0.0, ask)
    # The main thread's exception would come out of the binding as an error of the binding's own.
    with pytest.raises(KeyboardInterrupt):
        rclpy.spin(node)


def test_spin_ends_when_another_thread_shuts_down(node):
    import rclpy
    from rclpy.executors import ExternalShutdownException

    thread = threading.Timer(0.1, rclpy.shutdown)
    thread.start()
    begin = time.monotonic()
    with pytest.raises(ExternalShutdownException):
        rclpy.spin(node)
    assert time.monotonic() - begin < 1
    thread.join()
    assert not rclpy.ok()
    with pytest.raises(RuntimeError, match=r"without rclpy\.init"):
        rclpy.shutdown()


@pytest.mark.parametrize(
    ("option", "watched"),
    [("NO", ()), ("SIGINT", [signal.SIGINT]), ("SIGTERM", [signal.SIGTERM]), ("ALL", [signal.SIGINT, signal.SIGTERM])],
)
def test_only_the_signals_asked_for_are_watched(option, watched):
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions[option])
    changed = [number for number, handler in before.items() if signal.getsignal(number) is not handler]
    rclpy.shutdown()
    assert changed == list(watched)
    assert {number: signal.getsignal(number) for number in before} == before


def test_using_ros_before_init_and_after_destruction():
    import rclpy
    from rclpy.node import Node
    from std_msgs.msg import Int32

    with pytest.raises(RuntimeError, match=r"rclpy\.init"):
        Node("node")
    rclpy.init(args=[])
    try:
        with pytest.raises(RuntimeError, match="twice"):
            rclpy.init(args=[])
        node = Node("node")
        publisher = node.create_publisher(Int32, "n", 1)
        node.destroy_node()
        node.destroy_node()
        with pytest.raises(RuntimeError, match="destroyed"):
            publisher.publish(Int32())
    finally:
        rclpy.shutdown()


def test_incompatible_qos_is_reported_with_topic_policy_and_remedy(node, spin_until, capfd):
    from rclpy.event_handler import PublisherEventCallbacks
    from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, qos_profile_sensor_data
    from std_msgs.msg import Int32

    infos = []
    events = PublisherEventCallbacks(incompatible_qos=infos.append)
    publisher = node.create_publisher(Int32, "n", qos_profile_sensor_data, event_callbacks=events)
    node.create_subscription(Int32, "n", lambda _: None, 10)
    assert spin_until(lambda: bool(infos), node)
    assert infos[0].last_policy_kind == QoSPolicyKind.RELIABILITY
    spin_until(lambda: False, node, seconds=0.05)
    report = capfd.readouterr().err
    assert "/test/n: the QoS" in report
    assert "give both sides the same RELIABILITY" in report
    assert publisher.get_subscription_count() == 0
    node.create_publisher(Int32, "d", 1)
    node.create_subscription(Int32, "d", print, QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    spin_until(lambda: False, node, seconds=0.05)
    assert "the same DURABILITY" in capfd.readouterr().err


def test_late_subscribers_receive_what_was_latched(node, spin_until):
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from std_msgs.msg import Int32

    latched, got, missed = QoSProfile(depth=2, durability=DurabilityPolicy.TRANSIENT_LOCAL), [], []
    publisher = node.create_publisher(Int32, "n", latched)
    for value in range(4):
        publisher.publish(Int32(data=value))
    node.create_subscription(Int32, "n", lambda message: got.append(message.data), latched)
    node.create_subscription(Int32, "n", missed.append, 2)
    assert spin_until(lambda: len(got) == 2, node)
    assert got == [2, 3]
    assert missed == []


def test_the_graph_is_counted(ros, node):
    from rclpy.node import Node
    from std_msgs.msg import Int32

    other = Node("other", namespace="/test")
    node.create_publisher(Int32, "n", 1)
    other.create_publisher(Int32, "n", 1)
    assert (node.count_publishers("n"), other.count_publishers("/test/n"), node.count_publishers("m")) == (2, 2, 0)
    other.destroy_node()
    assert node.count_publishers("n") == 1


def test_loggers_print_as_rcl_does_and_throttle(capfd):
    import re

    from rclpy.logging import get_logger

    logger = get_logger("a.b")
    for i in range(3):
        often, throttled, once = (f"{word} {i}" for word in ("often", "throttled", "once"))
        logger.info(often)
        logger.warning(throttled, throttle_duration_sec=10)
        logger.error(once, once=True)
    logger.debug("hidden")
    lines = capfd.readouterr().err.splitlines()
    assert all(re.fullmatch(r"\[(INFO|WARN|ERROR)\] \[\d+\.\d{9}\] \[a\.b\]: .*", line) for line in lines)
    said = [line.partition(": ")[2] for line in lines]
    assert said == ["often 0", "throttled 0", "once 0", "often 1", "often 2"]


@pytest.mark.parametrize(
    ("use", "name"),
    [
        (lambda node: node.create_rate(1), "Node.create_rate"),
        (lambda node: node.create_guard_condition(print), "Node.create_guard_condition"),
        (lambda node: node.get_parameter_or("x"), "Node.get_parameter_or"),
        (lambda node: node.create_timer(1, coroutine), "coroutine"),
        (lambda node: node.create_timer(1, print, callback_group=1), "'callback_group' of create_timer"),
        (lambda node: keep_all(), "HistoryPolicy.KEEP_ALL"),
        (lambda node: type(node)("x", enable_rosout=True), "'enable_rosout' of Node"),
        (lambda node: node.create_publisher(number(), "n", 1, qos_overriding_options=1), "qos_overriding_options"),
        (lambda node: node.create_subscription(number(), "n", print, 1, callback_group=1), "callback_group"),
    ],
)
def test_what_is_missing_says_so(node, use, name):
    from grasp_nodes.embedded import NotSupportedByEmbeddedRuntime

    with pytest.raises(NotSupportedByEmbeddedRuntime, match=f"{name}.* is not supported by the embedded ROS runtime: "):
        use(node)


def keep_all():
    from rclpy.qos import HistoryPolicy, QoSProfile

    QoSProfile(depth=1, history=HistoryPolicy.KEEP_ALL)


def number():
    from std_msgs.msg import Int32

    return Int32


async def coroutine():
    """A callback that rclpy would await."""


def test_attributes_of_a_nodes_class_do_not_collide(ros, spin_until):
    from rclpy.node import Node
    from std_msgs.msg import Int32

    names = "announce arguments clock clients count events name namespace node parameters publishers remove store watch"

    def clash(self):
        raise AssertionError("a method of the node's class was called by the runtime")

    cls = type("Clashing", (Node,), {f"_{name}": clash for name in names.split()})
    node, got = cls("node"), []
    for name in names.split():
        setattr(node, f"_{name}", None)
    node.declare_parameter("rate", 1.0)
    node.create_subscription(Int32, "n", got.append, 1)
    node.create_publisher(Int32, "n", 1).publish(Int32(data=1))
    assert spin_until(lambda: bool(got), node)
    node.destroy_node()
