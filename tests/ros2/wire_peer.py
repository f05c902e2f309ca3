"""One side of the conversations in test_real_ros.py; run once on the embedded runtime and once on an installed ROS 2.

``python wire_peer.py OWN_NAME OTHER_NAME`` makes a node and then obeys lines of JSON on its input, ``["method",
{arguments}]``, answering each with a line of JSON. It ends when its input does. The file is the same on both sides, so
that it also proves that node code runs unchanged on both.
"""

import hashlib
import json
import math
import queue
import sys
import threading
import time

import numpy as np

from grasp_nodes.cli.runtime import prepare_runtime

RUNTIME = prepare_runtime()

import rclpy  # noqa: E402 - importable from here on
from grasp_msgs.msg import ContactMap, Evidence, HandObjectState  # noqa: E402
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor, SetParametersResult  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402

from grasp_nodes.nodes.conversions.fields import set_array  # noqa: E402

TYPES = {"image": Image, "contact_map": ContactMap, "state": HandObjectState, "evidence": Evidence}
PERIOD_S = 1 / 30
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def fill(message, random):
    """Fill every field of a message, nested ones too, with values that depend on the random generator alone."""
    for name, kind in message.get_fields_and_field_types().items():
        current = getattr(message, name)
        base, length = kind, None
        if kind.startswith("sequence<"):
            base, length = kind.removeprefix("sequence<").removesuffix(">"), int(random.integers(1, 5))
        elif kind.endswith("]"):
            base, length = kind[: kind.index("[")], len(current)
        if length is None:
            value = value_of(base, random)
            setattr(message, name, fill(current, random) if value is None else value)
        elif (value := value_of(base, random)) is None:
            setattr(message, name, [fill(class_of(message, base)(), random) for _ in range(length)])
        elif base == "string":
            setattr(message, name, [value_of(base, random) for _ in range(length)])
        else:
            set_array(message, name, np.array([value_of(base, random) for _ in range(length)]))
    return message


def value_of(base, random):
    """A value of a primitive type; None for a message."""
    if "/" in base:
        return None
    if base.startswith("string"):
        return "".join(random.choice(list("aZ09_ äß漢"), int(random.integers(0, 9))))
    if base in ("float", "double"):
        return float(np.float32(random.normal()))
    if base == "boolean":
        return bool(random.integers(2))
    info = np.iinfo(base)
    return int(random.integers(info.min, info.max, dtype=info.dtype, endpoint=True))


def class_of(message, base):
    """The class of a nested message type ``package/Name``."""
    package, name = base.split("/")
    return getattr(__import__(f"{package}.msg", fromlist=[name]), name)


def values_of(message):
    """All values of a message as plain Python, with NaN made comparable."""
    if hasattr(message, "get_fields_and_field_types"):
        return {name: values_of(getattr(message, name)) for name in message.get_fields_and_field_types()}
    if isinstance(message, (str, bool, int)):
        return message
    if isinstance(message, float):
        return "nan" if math.isnan(message) else message
    if isinstance(message, (list, tuple)):
        return [values_of(item) for item in message]
    return [values_of(item) for item in np.asarray(message).tolist()]


def digest(message):
    return hashlib.sha256(json.dumps(values_of(message), sort_keys=True).encode()).hexdigest()


def make(kind, random):
    """A message whose stamp counts; images are of 640x480, everything else is arbitrary."""
    message = fill(TYPES[kind](), random)
    if kind == "image":
        message.height, message.width, message.encoding, message.step = 480, 640, "rgb8", 1920
        set_array(message, "data", random.integers(0, 256, 480 * 640 * 3, dtype=np.uint8))
    return message


def messages(seed, count):
    """(kind, message) of so many messages of every kind."""
    random = np.random.default_rng(seed)
    return [(kind, make(kind, random)) for kind in TYPES for _ in range(count)]


class Peer(Node):
    """Publishes and serves under its own name, listens and asks under the other's."""

    def __init__(self, own, other):
        super().__init__(own)
        self.own, self.other = own, other
        self.events = {}
        self.received = {}
        self.latencies = []
        self.calls = []
        limits = [FloatingPointRange(from_value=0.0, to_value=2.0, step=0.0)]
        self.declare_parameter("gain", 0.5, ParameterDescriptor(description="A gain.", floating_point_range=limits))
        self.declare_parameter("fixed", 7, ParameterDescriptor(read_only=True))
        self.declare_parameter("names", ["a", "b"])
        self.add_on_set_parameters_callback(self.check)
        self.latched = self.create_publisher(String, f"{own}/latched", LATCHED)
        self.latched.publish(String(data=f"published before anybody listened, by {own}"))
        self.outputs = {kind: self.create_publisher(cls, f"{own}/{kind}", 10) for kind, cls in TYPES.items()}
        self.streams = self.create_publisher(Image, f"{own}/stream", 5)
        for kind, cls in TYPES.items():
            self.create_subscription(
                cls, f"{other}/{kind}", lambda message, kind=kind: self.on_message(kind, message), 10
            )
        self.create_subscription(Image, f"{other}/stream", self.on_stream, 5)
        self.create_service(SetBool, f"{own}/set_bool", self.on_set_bool)
        self.create_service(Trigger, f"{own}/trigger", self.on_trigger)
        unreliable = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.best_effort = self.create_publisher(
            String, f"{own}/best_effort", unreliable, event_callbacks=self.watch(PublisherEventCallbacks, "publisher")
        )
        self.create_subscription(
            String,
            f"{other}/best_effort",
            lambda message: self.on_message("best_effort", message),
            QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE),
            event_callbacks=self.watch(SubscriptionEventCallbacks, "subscription"),
        )

    def watch(self, callbacks, side):
        return callbacks(incompatible_qos=lambda event: self.events.__setitem__(side, int(event.last_policy_kind)))

    def check(self, parameters):
        bad = [parameter.name for parameter in parameters if parameter.name == "gain" and parameter.value == 1.25]
        return SetParametersResult(successful=not bad, reason="1.25 is never right" if bad else "")

    def on_message(self, kind, message):
        self.received.setdefault(kind, []).append(digest(message))

    def on_stream(self, message):
        sent = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        self.latencies.append((time.time_ns() - sent) / 1e6)

    def on_set_bool(self, request, response):
        self.calls.append(request.data)
        response.success, response.message = not request.data, f"{self.own} got {request.data}"
        return response

    def on_trigger(self, _request, response):
        self.calls.append("trigger")
        response.success, response.message = True, f"{self.own} was triggered"
        return response

    # -- what the test asks for

    def makes(self, seed, count):
        """Digests of the values and of the bytes of messages of every kind, which are not sent."""
        told = []
        for message in messages(seed, count):
            data = bytes(serialize_message(message[1]))
            # A writer may leave out the padding up to a multiple of four.
            told.append([digest(message[1]), hashlib.sha256(data + bytes(-len(data) % 4)).hexdigest()])
        return told

    def sends(self, seed, count):
        """Publish messages of every kind; returns digests of their values."""
        told = {kind: [] for kind in TYPES}
        for kind, message in messages(seed, count):
            self.outputs[kind].publish(message)
            told[kind].append(digest(message))
        return told

    def hears(self, count):
        """Wait until so many messages of every kind have come, and hand them out."""
        self.until(lambda: all(len(self.received.get(kind, ())) >= count for kind in TYPES))
        heard, self.received = self.received, {}
        return heard

    def matched(self):
        """Wait until all publishers that can be heard have a listener, and all services are there."""
        publishers = [*self.outputs.values(), self.streams]
        return self.until(lambda: all(publisher.get_subscription_count() for publisher in publishers))

    def streams_images(self, count):
        """Publish stamped images of 640x480 at 30 Hz."""
        message = make("image", np.random.default_rng(0))
        due = time.monotonic()
        for _ in range(count):
            message.header.stamp = self.get_clock().now().to_msg()
            self.streams.publish(message)
            due += PERIOD_S
            self.until(lambda: False, due - time.monotonic())
        return count

    def stream_latencies(self, count):
        self.until(lambda: len(self.latencies) >= count, 5)
        return self.latencies

    def joins_late(self):
        """Subscribe to what the other side published long ago."""
        heard = []
        self.create_subscription(String, f"{self.other}/latched", lambda message: heard.append(message.data), LATCHED)
        self.until(lambda: heard)
        return heard

    def calls_services(self):
        answers = []
        for kind, name, requests in (
            (SetBool, "set_bool", [SetBool.Request(data=True), SetBool.Request(data=False)]),
            (Trigger, "trigger", [Trigger.Request()]),
        ):
            client = self.create_client(kind, f"{self.other}/{name}")
            if not client.wait_for_service(timeout_sec=10):
                return f"no service {self.other}/{name}"
            for request in requests:
                future = client.call_async(request)
                self.until(future.done)
                answers.append([future.result().success, future.result().message])
        return answers

    def sets_parameter(self, name, value):
        """Set a parameter of the other node through its service."""
        client = self.create_client(SetParameters, f"{self.other}/set_parameters")
        if not client.wait_for_service(timeout_sec=10):
            return f"no parameter services of {self.other}"
        parameter = Parameter(name, value=value).to_parameter_msg()
        future = client.call_async(SetParameters.Request(parameters=[parameter]))
        self.until(future.done)
        return [[result.successful, result.reason] for result in future.result().results]

    def until_called(self, count):
        self.until(lambda: len(self.calls) >= count)
        return self.calls

    def incompatible(self):
        self.until(lambda: {"publisher", "subscription"} <= self.events.keys())
        return self.events

    def until(self, condition, seconds=10.0):
        """Spin until the condition holds; says whether it does."""
        end = time.monotonic() + seconds
        while not condition() and (left := end - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=min(left, 0.2))
        return bool(condition())


def tell(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main():
    rclpy.init(args=[])
    node = Peer(*sys.argv[1:3])
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    lines = queue.SimpleQueue()

    def read():
        for line in sys.stdin:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    tell(RUNTIME)
    while True:
        node.until(lambda: not lines.empty(), 3600)
        line = lines.get()
        if not line:
            break
        method, arguments = json.loads(line)
        tell(getattr(node, method)(**arguments))
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
