"""What a node is made of: publishers, subscriptions, services, clients, timers and guard conditions."""

from __future__ import annotations

import random
import struct
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from grasp_nodes.embedded import dds, types
from grasp_nodes.embedded.clock import Clock
from grasp_nodes.embedded.errors import MalformedPayload, NotSupportedByEmbeddedRuntime
from grasp_nodes.embedded.executor import CallbackGroup, Future, check_callback
from grasp_nodes.embedded.qos import (
    IncompatibleQoSInfo,
    PublisherEventCallbacks,
    QoSProfile,
    SubscriptionEventCallbacks,
    remedy_for,
)

if TYPE_CHECKING:
    from grasp_nodes.embedded.node import Node

_COMPLAIN_EVERY_S = 5.0
_REQUEST_ID = struct.Struct("<Qq")
_CLIENT_MATCH_S = 0.5


class QoSEvent:
    """Waits for the other side's QoS to be found incompatible, and reports it."""

    def __init__(
        self, endpoint: dds.Writer | dds.Reader, callback: Callable[[IncompatibleQoSInfo], None], group: CallbackGroup
    ) -> None:
        self._endpoint = endpoint
        self._callback = callback
        self.condition = endpoint.handle
        self.callback_group = group

    def take(self) -> Callable[[], object] | None:
        """The report of what was found since the last one."""
        info = self._endpoint.incompatible_qos()
        return None if info is None else lambda: self._callback(info)


def watch_qos(
    node: Node,
    endpoint: dds.Writer | dds.Reader,
    topic: str,
    events: PublisherEventCallbacks | SubscriptionEventCallbacks | None,
    group: CallbackGroup,
) -> QoSEvent | None:
    """The event that calls the user's callback, or by default logs a warning with the remedy."""
    callback = events.incompatible_qos if events is not None else None
    if callback is None and (events is None or events.use_default_callbacks):
        theirs, verb = ("subscription", "requesting") if isinstance(endpoint, dds.Writer) else ("publisher", "offering")
        lost = "sent to it" if isinstance(endpoint, dds.Writer) else "received from it"

        def callback(info: IncompatibleQoSInfo) -> None:
            policy = info.last_policy_kind
            node.get_logger().warning(
                f"New {theirs} discovered on topic '{topic}', {verb} incompatible QoS. No messages will be {lost}. "
                f"Last incompatible policy: {policy.name}. Remedy: {remedy_for(policy, topic)}"
            )

    return QoSEvent(endpoint, callback, group) if callback is not None else None


class Publisher:
    """Sends messages on a topic."""

    def __init__(self, node: Node, msg_type: Any, topic: str, qos: QoSProfile) -> None:
        self.msg_type = msg_type
        self.topic = self.topic_name = topic
        self.qos_profile = qos
        self._node = node
        self.endpoint = dds.Writer(node.context.participant(), f"rt{topic}", msg_type.__msgtype__, qos, "")

    def publish(self, message: Any) -> None:
        """Send a message (or its CDR bytes); may be called from any thread.

        Raises:
            TypeError: the message is of another type.
            InvalidHandle: the publisher was destroyed.
        """
        if isinstance(message, (bytes, bytearray)):
            data = bytearray(message) + bytes(-len(message) % 4)
        elif isinstance(message, self.msg_type):
            data = types.serialize(message)
        else:
            raise TypeError(f"{self.topic}: expected a {self.msg_type.__msgtype__}, got {type(message).__name__}")
        if not self.endpoint.write(data):
            self._node.get_logger().warning(
                f"{self.topic}: a subscriber that keeps all messages is too slow; a message was not sent",
                throttle_duration_sec=_COMPLAIN_EVERY_S,
            )

    def get_subscription_count(self) -> int:
        """Number of subscriptions that receive from this publisher."""
        return self.endpoint.matched_count()

    def destroy(self) -> None:
        """Leave the topic."""
        self._node.destroy_publisher(self)


class Subscription:
    """Receives messages from a topic."""

    def __init__(
        self,
        node: Node,
        msg_type: Any,
        topic: str,
        callback: Callable[[Any], object],
        qos: QoSProfile,
        group: CallbackGroup,
        raw: bool,
    ) -> None:
        self.msg_type = msg_type
        self.topic = self.topic_name = topic
        self.callback = check_callback(callback)
        self.qos_profile = qos
        self.callback_group = group
        self.raw = raw
        self.dropped = 0
        """Payloads that were not messages of this type (an attribute that real rclpy does not have)."""
        self._node = node
        self.endpoint = dds.Reader(node.context.participant(), f"rt{topic}", msg_type.__msgtype__, qos, "")
        self.condition = self.endpoint.condition

    def take(self) -> Callable[[], object] | None:
        """Take the next message; a malformed one is counted, reported and dropped."""
        sample = self.endpoint.take()
        if sample is None:
            return None
        if self.raw:
            data = bytes(sample.data)
            return lambda: self.callback(data)
        try:
            message = types.deserialize(sample.data, self.msg_type.__msgtype__)
        except MalformedPayload as error:
            self.dropped += 1
            self._node.get_logger().warning(
                f"dropped a malformed message on {self.topic} ({self.dropped} so far): {error}",
                throttle_duration_sec=_COMPLAIN_EVERY_S,
            )
            return None
        return lambda: self.callback(message)

    def get_publisher_count(self) -> int:
        """Number of publishers that this subscription listens to."""
        return self.endpoint.matched_count()

    def destroy(self) -> None:
        """Leave the topic."""
        self._node.destroy_subscription(self)


class _ServiceEnd:
    """The two topics of a service. Payloads are a CDR header, the request's id (16 bytes) and the message."""

    def __init__(
        self, node: Node, srv_type: Any, name: str, qos: QoSProfile, group: CallbackGroup, *, is_server: bool
    ) -> None:
        self.srv_type = srv_type
        self.srv_name = self.service_name = name
        self.callback_group = group
        self._node = node
        requests, replies = (
            (f"rq{name}Request", f"{srv_type.__srvtype__}_Request"),
            (
                f"rr{name}Reply",
                f"{srv_type.__srvtype__}_Response",
            ),
        )
        incoming, outgoing = (requests, replies) if is_server else (replies, requests)
        role = "serviceid" if is_server else "clientid"
        tag = f"{role}={'.'.join(f'{octet:02x}' for octet in uuid.uuid4().bytes)};"
        self._incoming_type = incoming[1]
        # The reader comes first, so that the other side knows it before it can be written to.
        self.reader = dds.Reader(node.context.participant(), *incoming, qos, tag)
        self.writer = dds.Writer(node.context.participant(), *outgoing, qos, tag)
        self.condition = self.reader.condition

    def _receive(self) -> tuple[dds.Sample, bytes, Any] | None:
        """The next (sample, request id, message); anything else that arrives is ignored, as rmw does."""
        sample = self.reader.take()
        if sample is None or len(sample.data) < 4 + _REQUEST_ID.size:
            return None
        try:
            body = bytes(sample.data[:4]) + bytes(sample.data[4 + _REQUEST_ID.size :])
            message = types.deserialize(body, self._incoming_type)
        except MalformedPayload as error:
            self._node.get_logger().debug(f"ignored a malformed payload for service {self.srv_name}: {error}")
            return None
        return sample, bytes(sample.data[4 : 4 + _REQUEST_ID.size]), message

    def _send(self, request_id: bytes, message: Any) -> None:
        data = types.serialize(message)
        self.writer.write(data[:4] + request_id + data[4:])


class Service(_ServiceEnd):
    """Answers requests."""

    def __init__(
        self,
        node: Node,
        srv_type: Any,
        name: str,
        callback: Callable[[Any, Any], Any],
        qos: QoSProfile,
        group: CallbackGroup,
    ) -> None:
        super().__init__(node, srv_type, name, qos, group, is_server=True)
        self.callback = check_callback(callback)

    def take(self) -> Callable[[], object] | None:
        """Take the next request."""
        received = self._receive()
        if received is None:
            return None
        sample, request_id, request = received
        return lambda: self._answer(sample.publication, request_id, request)

    def _answer(self, publication: int, request_id: bytes, request: Any) -> None:
        response = self.callback(request, self.srv_type.Response())
        if not isinstance(response, self.srv_type.Response):
            raise TypeError(f"the callback of service {self.srv_name} returned {response!r:.80}, not a Response")
        self._await_client(publication)
        self._send(request_id, response)

    def _await_client(self, publication: int) -> None:
        """The client's reader may be discovered after its first request; replies are not kept for it."""
        client = next((part for part in self.reader.writer_user_data(publication).split(";") if "clientid" in part), "")
        end = time.monotonic() + _CLIENT_MATCH_S
        while client and not any(client in data for data in self.writer.matched_user_data()):
            if time.monotonic() > end:
                return
            time.sleep(0.002)

    def destroy(self) -> None:
        """Stop answering."""
        self._node.destroy_service(self)


class Client(_ServiceEnd):
    """Sends requests."""

    def __init__(self, node: Node, srv_type: Any, name: str, qos: QoSProfile, group: CallbackGroup) -> None:
        super().__init__(node, srv_type, name, qos, group, is_server=False)
        self._guid = random.SystemRandom().getrandbits(64)
        self._sequence = 0
        self._pending: dict[bytes, Future] = {}

    def take(self) -> Callable[[], object] | None:
        """Take the next reply that is ours."""
        received = self._receive()
        future = self._pending.pop(received[1], None) if received is not None else None
        if received is None or future is None:
            return None
        response = received[2]
        return lambda: future.set_result(response)

    def call_async(self, request: Any) -> Future:
        """Send a request; the future ends with the response."""
        if not isinstance(request, self.srv_type.Request):
            raise TypeError(f"service {self.srv_name}: expected a {self.srv_type.__srvtype__} request, got {request!r}")
        self._sequence += 1
        request_id = _REQUEST_ID.pack(self._guid, self._sequence)
        future = Future()
        self._pending[request_id] = future
        future.add_done_callback(lambda _: self._pending.pop(request_id, None))
        self._send(request_id, request)
        return future

    def call(self, _request: Any, timeout_sec: float | None = None) -> None:  # noqa: ARG002 - rclpy's signature
        """Not supported: in a callback it would wait for itself."""
        raise NotSupportedByEmbeddedRuntime("Client.call", "use call_async and add_done_callback")

    def remove_pending_request(self, future: Future) -> None:
        """Do not wait for a response any more."""
        self._pending = {key: value for key, value in self._pending.items() if value is not future}

    def service_is_ready(self) -> bool:
        """Is there a service that hears us and that we hear?"""
        return self.writer.matched_count() > 0 and self.reader.matched_count() > 0

    def wait_for_service(self, timeout_sec: float | None = None) -> bool:
        """Wait until the service is ready, at most that long [s]; None waits until shutdown."""
        end = None if timeout_sec is None else time.monotonic() + timeout_sec
        while self._node.context.ok() and not self.service_is_ready():
            if end is not None and time.monotonic() >= end:
                return False
            time.sleep(0.01)
        return self.service_is_ready()

    def destroy(self) -> None:
        """Leave the service."""
        self._node.destroy_client(self)


class Timer:
    """Calls back at a fixed rate, by simulated time where the clock follows it."""

    def __init__(
        self, node: Node, period_s: float, callback: Callable[[], object], group: CallbackGroup, clock: Clock
    ) -> None:
        if not period_s >= 0:
            raise ValueError(f"a timer's period must not be negative, got {period_s} s")
        self.timer_period_ns = int(period_s * 1e9)
        self.callback = check_callback(callback)
        self.callback_group = group
        self._node = node
        self._clock = clock
        self._cancelled = False
        self._next_ns = clock.timer_ns() + self.timer_period_ns

    def seconds_until_ready(self) -> float:
        """Time [s] until it is due; infinite if cancelled or if only simulated time can bring it closer."""
        if self._cancelled:
            return float("inf")
        left = self._next_ns - self._clock.timer_ns()
        if left > self.timer_period_ns:  # time jumped back
            self.reset()
            left = self.timer_period_ns
        return float("inf") if left > 0 and self._clock.ros_time_is_active else left * 1e-9

    def take(self) -> Callable[[], object] | None:
        """The callback, if it is due."""
        if self.seconds_until_ready() > 0:
            return None
        now = self._clock.timer_ns()
        self._next_ns += self.timer_period_ns
        if self._next_ns < now and self.timer_period_ns:  # periods were missed: keep the phase, skip them
            self._next_ns = now + self.timer_period_ns - (now - self._next_ns) % self.timer_period_ns
        elif not self.timer_period_ns:
            self._next_ns = now
        return self.callback

    def is_ready(self) -> bool:
        """Is it due?"""
        return self.seconds_until_ready() <= 0

    def is_canceled(self) -> bool:
        """Was it cancelled?"""
        return self._cancelled

    def cancel(self) -> None:
        """Do not call back until reset."""
        self._cancelled = True

    def reset(self) -> None:
        """Start a full period now."""
        self._cancelled = False
        self._next_ns = self._clock.timer_ns() + self.timer_period_ns
        if self._node.executor is not None:
            self._node.executor.wake()

    def time_until_next_call(self) -> int:
        """Nanoseconds until it is due."""
        return self._next_ns - self._clock.timer_ns()

    def destroy(self) -> None:
        """End for good."""
        self._node.destroy_timer(self)


class GuardCondition:
    """Lets another thread have a callback run in the executor."""

    def __init__(self, node: Node, callback: Callable[[], object], group: CallbackGroup) -> None:
        self.callback = check_callback(callback)
        self.callback_group = group
        self._guard = dds.Guard(node.context.participant())
        self.condition = self._guard.handle

    def trigger(self) -> None:
        """Have the callback run; may be called from any thread."""
        self._guard.set()

    def take(self) -> Callable[[], object] | None:
        """The callback, if it was triggered."""
        return self.callback if self._guard.take() else None

    def close(self) -> None:
        """Delete the condition."""
        self._guard.close()
