"""Messages between two processes: ours (raw CDR, zero copy) beside cyclonedds-python's own path (IdlStruct), same QoS.

Latency is from before the message object is made until the subscriber's callback has it, at 30 Hz; throughput is what
the subscriber received while the publisher sent as fast as it could. Loopback only, reliable, keep last 5.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.report import Row
from grasp_nodes import embedded

RATE_HZ = 30.0
SECONDS = 6.0
DEPTH = 5
TOPIC = "picture"
BASELINE = "cyclonedds-python IdlStruct"
_SETTLE_S = 0.5


@dataclass(frozen=True)
class _Payload:
    """What is sent: a picture of 640x480 pixels, or a cloud of 100,000 points of 16 bytes."""

    type_name: str
    size: int
    fields: dict[str, Any]


PAYLOADS = {
    "image": _Payload("Image", 640 * 480 * 3, {"width": 640, "height": 480, "step": 1920, "encoding": "rgb8"}),
    "cloud": _Payload(
        "PointCloud2", 1_600_000, {"width": 100_000, "height": 1, "point_step": 16, "row_step": 1_600_000}
    ),
}


def rows() -> list[Row]:
    """Median latencies, ms, and throughput, MB/s."""
    answer: list[Row] = []
    for payload in PAYLOADS:
        ours, theirs = (_measure(kind, payload, RATE_HZ) for kind in ("ours", "idl"))
        answer.append(Row.time(f"{payload}_p50_ms", ours["p50_ms"], "ms", BASELINE, theirs["p50_ms"]))
        answer.append(Row.time(f"{payload}_p95_ms", ours["p95_ms"], "ms", BASELINE, theirs["p95_ms"]))
        answer.append(Row.rate(f"{payload}_rate_hz", ours["rate_hz"], "Hz", BASELINE, theirs["rate_hz"]))
    ours, theirs = (_measure(kind, "image", 0.0) for kind in ("ours", "idl"))
    answer.append(Row.rate("image_throughput_mb_s", ours["mb_s"], "MB/s", BASELINE, theirs["mb_s"]))
    return answer


def _measure(kind: str, payload: str, rate_hz: float) -> dict[str, float]:
    """One publisher and one subscriber in processes of their own, on a domain of their own."""
    environment = {
        **os.environ,
        "GRASP_NODES_ROS": "embedded",
        "CYCLONEDDS_URI": embedded.loopback_uri(),
        "ROS_DOMAIN_ID": str(random.SystemRandom().randrange(1, 100)),
    }
    command = [sys.executable, "-m", "benchmarks.wire", kind, payload, "--rate", str(rate_hz)]
    with subprocess.Popen([*command, "--publish"], env=environment) as publisher:
        try:
            answer = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=60
            ).stdout
        finally:
            publisher.kill()
    return json.loads(answer)


class _Received:
    """Arrival times and latencies of what came, after a while to settle."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._begin = 0.0
        self._arrivals: list[float] = []
        self._latencies: list[float] = []

    def add(self, sent_ns: int) -> None:
        now = time.monotonic_ns()
        self._begin = self._begin or now * 1e-9
        if now * 1e-9 - self._begin > _SETTLE_S:
            self._arrivals.append(now * 1e-9)
            self._latencies.append((now - sent_ns) * 1e-6)

    @property
    def is_complete(self) -> bool:
        return self._begin > 0 and time.monotonic() - self._begin > _SETTLE_S + SECONDS

    def summary(self) -> dict[str, float]:
        rate = (len(self._arrivals) - 1) / (self._arrivals[-1] - self._arrivals[0])
        p50, p95 = np.percentile(self._latencies, [50, 95])
        return {"p50_ms": float(p50), "p95_ms": float(p95), "rate_hz": rate, "mb_s": rate * self._size / 1e6}


def _send(publish: Callable[[int], None], rate_hz: float) -> None:
    """Publish the current time until the process is killed."""
    due = time.monotonic()
    while True:
        publish(time.monotonic_ns())
        if rate_hz:
            due = max(due + 1 / rate_hz, time.monotonic() - 1 / rate_hz)
            time.sleep(max(0.0, due - time.monotonic()))


def _ours(payload: _Payload, is_publisher: bool, rate_hz: float) -> None:
    embedded.install({})
    import rclpy
    import sensor_msgs.msg
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node

    message_class = getattr(sensor_msgs.msg, payload.type_name)
    rclpy.init(args=[])
    node = Node("publisher" if is_publisher else "subscriber")
    if is_publisher:
        data = np.arange(payload.size, dtype=np.uint32).astype(np.uint8)
        publisher = node.create_publisher(message_class, TOPIC, DEPTH)

        def publish(now: int) -> None:
            message = message_class(data=data, **payload.fields)
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 1_000_000_000)
            publisher.publish(message)

        while not publisher.get_subscription_count():
            time.sleep(0.01)
        _send(publish, rate_hz)
    received = _Received(payload.size)

    def on_message(message: Any) -> None:
        received.add(message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec)

    node.create_subscription(message_class, TOPIC, on_message, DEPTH)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not received.is_complete:
        executor.spin_once(0.1)
    print(json.dumps(received.summary()), flush=True)
    rclpy.shutdown()


def _idl(payload: _Payload, is_publisher: bool, rate_hz: float) -> None:
    from dataclasses import make_dataclass

    from cyclonedds.core import Policy, Qos, ReadCondition, WaitSet
    from cyclonedds.domain import DomainParticipant
    from cyclonedds.idl import IdlStruct
    from cyclonedds.idl import types as idl
    from cyclonedds.pub import DataWriter
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic

    byte_sequence: Any = idl.sequence[idl.uint8]  # type: ignore[misc]
    kinds = {name: str if isinstance(value, str) else idl.int32 for name, value in payload.fields.items()}
    fields = [("stamp_ns", idl.int64), *kinds.items(), ("data", byte_sequence)]
    message_class: Any = make_dataclass("Picture", fields, bases=(IdlStruct,))
    participant = DomainParticipant(int(os.environ["ROS_DOMAIN_ID"]))
    qos = Qos(Policy.Reliability.Reliable(max_blocking_time=1_000_000_000), Policy.History.KeepLast(DEPTH))
    topic = Topic(participant, TOPIC, message_class)
    if is_publisher:
        data = bytes(np.arange(payload.size, dtype=np.uint32).astype(np.uint8))
        writer = DataWriter(participant, topic, qos)
        while not writer.get_matched_subscriptions():
            time.sleep(0.01)
        _send(lambda now: writer.write(message_class(stamp_ns=now, data=data, **payload.fields)), rate_hz)
    reader = DataReader(participant, topic, qos)
    waiting = WaitSet(participant)
    waiting.attach(ReadCondition(reader, 0xFFFF))
    received = _Received(payload.size)
    while not received.is_complete:
        waiting.wait(100_000_000)
        for message in reader.take(1):
            received.add(message.stamp_ns)
    print(json.dumps(received.summary()), flush=True)


def main() -> None:
    """Be one of the two processes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("ours", "idl"))
    parser.add_argument("payload", choices=PAYLOADS)
    parser.add_argument("--rate", type=float, help="Hz; 0 = as fast as possible")
    parser.add_argument("--publish", action="store_true")
    arguments = parser.parse_args()
    run = _ours if arguments.kind == "ours" else _idl
    run(PAYLOADS[arguments.payload], arguments.publish, arguments.rate)


if __name__ == "__main__":
    main()
