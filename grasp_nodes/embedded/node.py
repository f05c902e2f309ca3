"""The node: ``rclpy.node.Node`` and what it is made of, publishers, subscriptions, services, clients and timers."""

from __future__ import annotations

import random
import re
import struct
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from grasp_nodes.embedded import NotSupportedByEmbeddedRuntime, dds, types
from grasp_nodes.embedded.parameters import Parameter, ParameterMixin
from grasp_nodes.embedded.process import SingleThreadedExecutor, Waitable, expand_name, process
from grasp_nodes.embedded.vocabulary import (
    Clock,
    Future,
    IncompatibleQoSInfo,
    Logger,
    NameValidationException,
    PublisherEventCallbacks,
    QoSProfile,
    ReliabilityPolicy,
    SubscriptionEventCallbacks,
    Timer,
    checked_callback,
)

# What a node's class may ask rclpy's Node for begins with one of these.
_RCLPY_VERBS = re.compile("(add|count|create|declare|describe|destroy|get|has|remove|undeclare)_")
_COMPLAIN_EVERY_S = 5.0
_REQUEST_ID = struct.Struct("<Qq")
_CLIENT_MATCH_S = 0.5
_SERVICE_QOS = QoSProfile(depth=10)
_CLOCK_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class QoSEvent:
    """Waits for the other side's QoS to be found incompatible, and calls back, by default with a warning."""

    def __init__(
        self,
        endpoint: dds.Writer | dds.Reader,
        topic: str,
        node: Node,
        events: PublisherEventCallbacks | SubscriptionEventCallbacks | None,
    ) -> None:
        self._endpoint = endpoint
        self._topic = topic
        self._node = node
        self._callback = events.incompatible_qos if events and events.incompatible_qos else self._warn
        self.condition = endpoint.handle

    def take(self) -> Callable[[], object] | None:
        """The report of what was found since the last one."""
        info = self._endpoint.incompatible_qos()
        return None if info is None else lambda: self._callback(info)

    def _warn(self, info: IncompatibleQoSInfo) -> None:
        self._node.get_logger().warning(
            f"{self._topic}: the QoS of a node on the other side does not go with ours, so nothing passes: "
            f"give both sides the same {info.last_policy_kind.name}"
        )


class Publisher:
    """Sends messages on a topic."""

    def __init__(self, msg_type: Any, topic: str, qos: QoSProfile) -> None:
        self.msg_type = msg_type
        self.topic_name = topic
        self.endpoint = dds.Writer(process.participant(), f"rt{topic}", msg_type.__msgtype__, qos, "")

    def publish(self, message: Any) -> None:
        """Send a message (or its CDR bytes); may be called from any thread.

        Raises:
            TypeError: the message is of another type.
            RuntimeError: the node was destroyed.
        """
        if isinstance(message, (bytes, bytearray)):
            data = bytearray(message) + bytes(-len(message) % 4)
        elif isinstance(message, self.msg_type):
            data = types.serialize(message)
        else:
            raise TypeError(f"{self.topic_name}: expected a {self.msg_type.__msgtype__}, got {type(message).__name__}")
        self.endpoint.write(data)

    def get_subscription_count(self) -> int:
        """Number of subscriptions that receive from this publisher."""
        return self.endpoint.matched_count()


class Subscription:
    """Receives messages from a topic."""

    def __init__(
        self, msg_type: Any, topic: str, callback: Callable[[Any], object], qos: QoSProfile, node: Node, raw: bool
    ) -> None:
        self.msg_type = msg_type
        self.topic_name = topic
        self.dropped = 0
        """Payloads that were not messages of this type (an attribute that real rclpy does not have)."""
        self._callback = checked_callback(callback)
        self._raw = raw
        self._node = node
        self.endpoint = dds.Reader(process.participant(), f"rt{topic}", msg_type.__msgtype__, qos, "")
        self.condition = self.endpoint.condition

    def take(self) -> Callable[[], object] | None:
        """Take the next message; a malformed one is counted, reported and dropped."""
        sample = self.endpoint.take()
        if sample is None:
            return None
        try:
            message = bytes(sample.data) if self._raw else types.deserialize(sample.data, self.msg_type.__msgtype__)
        except types.MalformedPayload as error:
            self.dropped += 1
            self._node.get_logger().warning(
                f"dropped a malformed message on {self.topic_name} ({self.dropped} so far): {error}",
                throttle_duration_sec=_COMPLAIN_EVERY_S,
            )
            return None
        return lambda: self._callback(message)


class _ServiceEnd:
    """The two topics of a service. Payloads are a CDR header, the request's id (16 bytes) and the message."""

    def __init__(self, srv_type: Any, name: str, qos: QoSProfile, node: Node, role: str) -> None:
        self.srv_type = srv_type
        self.srv_name = name
        self._node = node
        incoming = (f"rq{name}Request", f"{srv_type.__srvtype__}_Request")
        outgoing = (f"rr{name}Reply", f"{srv_type.__srvtype__}_Response")
        if role == "clientid":
            incoming, outgoing = outgoing, incoming
        self._incoming_type = incoming[1]
        tag = f"{role}={'.'.join(f'{octet:02x}' for octet in uuid.uuid4().bytes)};"
        # The reader comes first, so that the other side knows it before it can be written to.
        self.reader = dds.Reader(process.participant(), *incoming, qos, tag)
        self.writer = dds.Writer(process.participant(), *outgoing, qos, tag)
        self.condition = self.reader.condition

    def _receive(self) -> tuple[dds.Sample, bytes, Any] | None:
        """The next (sample, request id, message); anything else that arrives is ignored, as rmw does."""
        sample = self.reader.take()
        if sample is None or len(sample.data) < 4 + _REQUEST_ID.size:
            return None
        try:
            body = bytes(sample.data[:4]) + bytes(sample.data[4 + _REQUEST_ID.size :])
            message = types.deserialize(body, self._incoming_type)
        except types.MalformedPayload as error:
            self._node.get_logger().debug(f"ignored a malformed payload for service {self.srv_name}: {error}")
            return None
        return sample, bytes(sample.data[4 : 4 + _REQUEST_ID.size]), message

    def _send(self, request_id: bytes, message: Any) -> None:
        data = types.serialize(message)
        self.writer.write(data[:4] + request_id + data[4:])


class Service(_ServiceEnd):
    """Answers requests."""

    def __init__(
        self, srv_type: Any, name: str, callback: Callable[[Any, Any], Any], qos: QoSProfile, node: Node
    ) -> None:
        super().__init__(srv_type, name, qos, node, "serviceid")
        self._callback = checked_callback(callback)

    def take(self) -> Callable[[], object] | None:
        """Take the next request."""
        received = self._receive()
        if received is None:
            return None
        sample, request_id, request = received
        return lambda: self._answer(sample.publication, request_id, request)

    def _answer(self, publication: int, request_id: bytes, request: Any) -> None:
        response = self._callback(request, self.srv_type.Response())
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


class Client(_ServiceEnd):
    """Sends requests."""

    def __init__(self, srv_type: Any, name: str, qos: QoSProfile, node: Node) -> None:
        super().__init__(srv_type, name, qos, node, "clientid")
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
        future = self._pending[request_id] = Future()
        self._send(request_id, request)
        return future

    def wait_for_service(self, timeout_sec: float = float("inf")) -> bool:
        """Wait until there is a service that we hear and that hears us, at most that long [s]."""
        end = time.monotonic() + timeout_sec
        while not (self.writer.matched_count() and self.reader.matched_count()):
            if not process.is_running or time.monotonic() >= end:
                return False
            time.sleep(0.01)
        return True


class Node(ParameterMixin):
    """A participant of the ROS graph with publishers, subscriptions, services, clients, timers and parameters.

    What is not rclpy's is private by name mangling, so that no attribute of a node's class can collide with it.
    """

    def __init__(
        self, node_name: str, *, namespace: str = "/", parameter_overrides: Sequence[Parameter] = (), **unsupported: Any
    ) -> None:
        _refuse("Node", unsupported)
        self.__participant = process.participant()
        self.__name = process.arguments.special("__node", node_name)
        self.__namespace = "/" + process.arguments.special("__ns", namespace).strip("/")
        if "/" in self.__name:
            raise NameValidationException(f"node name {self.__name!r}: a '/' belongs into the namespace")
        self.__full_name = expand_name(self.__name, "", self.__namespace)
        self.executor: SingleThreadedExecutor | None = None
        self.waitables: list[Waitable] = []
        self.timers: list[Timer] = []
        self.__endpoints: list[dds.Writer | dds.Reader] = []
        self.__clock = Clock()
        self.__is_announced = False
        process.nodes.append(self)
        overrides = process.arguments.overrides(self.__name, self.__namespace)
        overrides |= {parameter.name: parameter.value for parameter in parameter_overrides}
        self._embedded_init_parameters(overrides)
        read_only = types.message_class("rcl_interfaces/msg/ParameterDescriptor")(read_only=True)
        if self.declare_parameter("use_sim_time", False, read_only).value:
            self.__clock.simulated_ns = 0
            clock_message = types.message_class("rosgraph_msgs/msg/Clock")
            self.create_subscription(clock_message, "/clock", self.__on_clock, _CLOCK_QOS)
        self.__is_announced = True
        self.__announce()

    def __getattr__(self, name: str) -> Any:
        if _RCLPY_VERBS.match(name):
            raise NotSupportedByEmbeddedRuntime(f"Node.{name}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def get_name(self) -> str:
        """The node's name, remapped."""
        return self.__name

    def get_namespace(self) -> str:
        """The node's namespace, remapped."""
        return self.__namespace

    def get_fully_qualified_name(self) -> str:
        """Namespace and name."""
        return self.__full_name

    def get_logger(self) -> Logger:
        """The logger that prints under the node's name."""
        return Logger(self.__full_name[1:].replace("/", "."))

    def get_clock(self) -> Clock:
        """The node's clock, which follows ``/clock`` if use_sim_time is true."""
        return self.__clock

    def resolve_topic_name(self, topic: str) -> str:
        """A topic's or service's full name, remapped."""
        full = expand_name(topic, self.__name, self.__namespace)
        return process.arguments.remap(full, self.__name, self.__namespace)

    def create_publisher(
        self,
        msg_type: Any,
        topic: str,
        qos_profile: QoSProfile | int,
        *,
        event_callbacks: PublisherEventCallbacks | None = None,
        **unsupported: Any,
    ) -> Publisher:
        """Publish on a topic; the third argument is a profile or a depth."""
        _refuse("create_publisher", unsupported)
        full_name = self.resolve_topic_name(topic)
        publisher = Publisher(_interface(msg_type), full_name, _profile(qos_profile))
        self.__add([publisher.endpoint], QoSEvent(publisher.endpoint, full_name, self, event_callbacks))
        return publisher

    def create_subscription(
        self,
        msg_type: Any,
        topic: str,
        callback: Callable[[Any], object],
        qos_profile: QoSProfile | int,
        *,
        event_callbacks: SubscriptionEventCallbacks | None = None,
        raw: bool = False,
        **unsupported: Any,
    ) -> Subscription:
        """Call back with every message of a topic (with its CDR bytes if ``raw``)."""
        _refuse("create_subscription", unsupported)
        full_name = self.resolve_topic_name(topic)
        subscription = Subscription(_interface(msg_type), full_name, callback, _profile(qos_profile), self, raw)
        event = QoSEvent(subscription.endpoint, full_name, self, event_callbacks)
        self.__add([subscription.endpoint], subscription, event)
        return subscription

    def create_service(
        self,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        *,
        qos_profile: QoSProfile = _SERVICE_QOS,
        **unsupported: Any,
    ) -> Service:
        """Answer requests with ``callback(request, response) -> response``."""
        _refuse("create_service", unsupported)
        service = Service(_interface(srv_type), self.resolve_topic_name(srv_name), callback, qos_profile, self)
        self.__add([service.reader, service.writer], service)
        return service

    def create_client(self, srv_type: Any, srv_name: str, **unsupported: Any) -> Client:
        """Send requests to a service."""
        _refuse("create_client", unsupported)
        client = Client(_interface(srv_type), self.resolve_topic_name(srv_name), _SERVICE_QOS, self)
        self.__add([client.reader, client.writer], client)
        return client

    def create_timer(self, timer_period_sec: float, callback: Callable[[], object], **unsupported: Any) -> Timer:
        """Call back every period [s]."""
        _refuse("create_timer", unsupported)
        timer = Timer(timer_period_sec, callback, self.__clock)
        self.timers.append(timer)
        if self.executor is not None:
            self.executor.entities_changed()
        return timer

    def count_publishers(self, topic_name: str) -> int:
        """Number of publishers of a topic in the whole graph."""
        return self.__participant.count_publishers(f"rt{self.resolve_topic_name(topic_name)}")

    @property
    def subscriptions(self) -> list[Subscription]:
        """The node's subscriptions."""
        return [item for item in self.waitables if isinstance(item, Subscription)]

    def destroy_node(self) -> None:
        """Leave the graph; everything of the node is destroyed with it."""
        if self not in process.nodes:
            return
        process.nodes.remove(self)
        if self.executor is not None:
            self.executor.remove_node(self)
        self.waitables, self.timers = [], []
        self.__participant.withdraw(self)
        for endpoint in self.__endpoints:
            endpoint.close()

    def __add(self, endpoints: list[dds.Writer | dds.Reader], *waitables: Waitable) -> None:
        self.__endpoints += endpoints
        self.waitables += waitables
        self.__announce()

    def __announce(self) -> None:
        """Tell the graph what the node consists of, and the executor what there is to wait for."""
        if self.executor is not None:
            self.executor.entities_changed()
        if self.__is_announced:  # once for all that is created before
            self.__participant.announce(self, self.__namespace, self.__name, self.__endpoints)

    def __on_clock(self, message: Any) -> None:
        self.__clock.simulated_ns = message.clock.sec * 1_000_000_000 + message.clock.nanosec


def _refuse(where: str, options: dict[str, Any]) -> None:
    for name in options:
        raise NotSupportedByEmbeddedRuntime(f"the option {name!r} of {where}", "leave it out, or install ROS 2")


def _interface(interface: Any) -> Any:
    """The message or service class, refused if it is something else."""
    if isinstance(interface, type) and (issubclass(interface, types.Message) or hasattr(interface, "__srvtype__")):
        return interface
    raise TypeError(f"expected a message or service class of the embedded runtime, got {interface!r}")


def _profile(qos: QoSProfile | int) -> QoSProfile:
    return qos if isinstance(qos, QoSProfile) else QoSProfile(depth=qos)
