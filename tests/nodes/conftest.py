"""Message packages and rclpy for the tests of nodes: the embedded runtime, on this machine's loopback only."""

import os
import threading
import time

import pytest

from grasp_nodes import embedded
from grasp_nodes.paths import share_dir

os.environ.setdefault("GRASP_NODES_ROS", "embedded")
os.environ["CYCLONEDDS_URI"] = embedded.loopback_uri()

SHARE = share_dir()
embedded.install({"grasp_msgs": [SHARE / "msg", SHARE / "srv"]}, {"grasp_nodes": SHARE})

import rclpy  # noqa: E402 - only importable from here on
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402


class Bench:
    """Nodes under test and a tester node, all on one executor that spins in a thread of its own."""

    def __init__(self):
        self.executor = SingleThreadedExecutor()
        self.tester = Node("tester")
        self.executor.add_node(self.tester)
        self.nodes, self.publishers = [], {}
        self.statuses = {}
        self.tester.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self):
        while not self._stopping.is_set():
            self.executor.spin_once(timeout_sec=0.02)

    def _on_diagnostics(self, message):
        for status in message.status:
            self.statuses[status.name] = status

    def start(self, kind, **parameters):
        """A node with these parameters; diagnostics come often and silence is noticed soon."""
        parameters = {"diagnostics_period_s": 0.1, "silence_warn_s": 0.5, "threads": 1, **parameters}
        node = kind(parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()])
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def publisher(self, message_type, topic, latched=False):
        """A publisher that somebody listens to."""
        if topic not in self.publishers:
            qos = QoSProfile(
                depth=20,
                durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
            )
            self.publishers[topic] = self.tester.create_publisher(message_type, topic, qos)
            if not latched:
                self.wait(lambda: self.publishers[topic].get_subscription_count() > 0, f"a subscriber of {topic}")
        return self.publishers[topic]

    def publish(self, message, topic, latched=False):
        self.publisher(type(message), topic, latched).publish(message)

    def collect(self, message_type, topic, qos=50):
        """A list that fills with what arrives."""
        messages = []
        self.tester.create_subscription(message_type, topic, messages.append, qos)
        self.wait(lambda: self.tester.count_publishers(topic) > 0, f"a publisher of {topic}")
        return messages

    def call(self, service_type, name, **fields):
        client = self.tester.create_client(service_type, name)
        assert client.wait_for_service(timeout_sec=10)
        future = client.call_async(service_type.Request(**fields))
        self.wait(future.done, f"an answer of {name}")
        return future.result()

    def values(self, node):
        """Values of a node's last diagnostics."""
        status = self.statuses.get(f"/{node}")
        return {entry.key: entry.value for entry in status.values} if status else {}

    def dropped(self, node, cause):
        return int(self.values(node).get(f"dropped {cause}", 0))

    @staticmethod
    def wait(condition, what, timeout=60):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError(f"waited {timeout} s for {what}")

    def close(self):
        self._stopping.set()
        self._thread.join(5)
        for node in self.nodes:
            node.close()
            node.destroy_node()
        self.tester.destroy_node()


@pytest.fixture
def bench():
    rclpy.init(args=[])
    bench = Bench()
    yield bench
    bench.close()
    rclpy.try_shutdown()
