"""What every node does: parameters, guarded inputs, counted outputs, diagnostics, silence warning, services, end."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from std_srvs.srv import SetBool, Trigger

from grasp_nodes.errors import GraspNodesError, InputError
from grasp_nodes.nodes.conversions.fields import from_time
from grasp_nodes.nodes.parameters import NodeParameters, OutputParameters, build, check_value, default_of
from grasp_nodes.nodes.statistics import Statistics

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:
    # ROS 2 Humble has them under another name.
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

P = TypeVar("P", bound=NodeParameters)

QOS_POLICIES = {2: "durability", 4: "deadline", 8: "liveliness", 16: "reliability", 32: "history", 64: "lifespan"}
"""Names of rmw_qos_policy_kind_t."""
REPEAT_S = 5.0
"""s between two messages about the same fault."""
HARDWARE_ID = "grasp_nodes"
"""What marks the diagnostics of this package's nodes."""


def latched(depth: int) -> QoSProfile:
    """For what is published seldom and wanted by everybody who comes later: the last `depth` messages are kept."""
    return QoSProfile(
        depth=depth,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


LATCHED = latched(1)
RELIABLE = QoSProfile(depth=50, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
"""For small messages of which none may be missed."""


def qos_profile(reliability: str, depth: int) -> QoSProfile:
    """Keep-last volatile profile of a reliability named as in the parameters."""
    policy = ReliabilityPolicy.RELIABLE if reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=policy)


def _never() -> bool:
    return False


class GraspNode(Node, Generic[P]):
    """Base of the nodes of this package.

    A sub-class makes its inputs with `subscribe`, its outputs with `advertise`, and overrides `silence_reason`,
    `on_reset` and, where it has something to load, `describe`.

    Args:
        name: name of the node, unless remapped.
        kind: its parameters.
        node_options: further arguments of `rclpy.node.Node`.
    """

    def __init__(self, name: str, kind: type[P], **node_options: Any) -> None:
        super().__init__(name, **node_options)
        self._kind = kind
        self.settings: P = self._declare(kind)
        limit_threads(self.settings.threads)
        self.statistics = Statistics()
        self.enabled = self.settings.autostart
        self.finished = threading.Event()
        self.exit_code = 0
        self.asked_to_stop = _never
        """Whether the process is to end: for callbacks that take long."""
        self.facts: dict[str, str] = {}
        """Names and values shown on /diagnostics: model file and hash, device."""
        self._reported: dict[tuple[str, str], tuple[float, int]] = {}
        self._report_lock = threading.Lock()
        self._last_stamps: dict[str, int] = {}
        self._useful_at = time.monotonic()
        self._useful_reason = ""
        self._silent = False
        self._failure = ""
        self._inputs: list[tuple[str, Any]] = []
        self._malformed: dict[str, int] = {}
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._input_qos = qos_profile(self.settings.input_reliability, self.settings.input_depth)
        self._output_qos = RELIABLE
        if isinstance(self.settings, OutputParameters):
            self._output_qos = qos_profile(self.settings.output_reliability, self.settings.output_depth)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_timer(self.settings.diagnostics_period_s, self._publish_diagnostics)
        self.create_timer(0.5, self._check_silence)

    # -- for sub-classes to override

    def silence_reason(self) -> str:
        """Why nothing useful was published lately; one sentence."""
        return "nothing arrived"

    def on_reset(self, stamp: int | None = None) -> None:
        """Forget everything that was followed over time.

        Args:
            stamp: ns; stamps jumped back to it. None: the user asked for the reset.
        """

    def on_enabled(self) -> None:
        """Called after the node was enabled or disabled.

        Raises:
            GraspNodesError: it cannot work now: it is disabled again, and who enabled it is told.
        """

    def close(self) -> bool:
        """Stop threads and finish files, before the node is destroyed; returns whether all threads have ended."""
        return True

    # -- inputs and outputs

    def subscribe(
        self,
        message_type: Any,
        topic: str,
        callback: Callable[[Any], None],
        qos: QoSProfile | None = None,
        while_disabled: bool = False,
        raw: bool = False,
    ) -> Any:
        """A subscription whose callback may raise `InputError`: the message is then reported, counted and dropped.

        Args:
            qos: the parameters' input profile if None.
            while_disabled: call back also while the node is disabled.
            raw: call back with the serialised bytes.
        """

        def guarded(message: Any) -> None:
            self.statistics.received(topic)
            if not self.enabled and not while_disabled:
                return
            self.guard(topic, callback, message)

        events = SubscriptionEventCallbacks(incompatible_qos=self._incompatible(topic, "publisher offers", "input"))
        subscription = self.create_subscription(
            message_type, topic, guarded, qos or self._input_qos, event_callbacks=events, raw=raw
        )
        self._inputs.append((topic, subscription))
        return subscription

    def advertise(self, message_type: Any, topic: str, qos: QoSProfile | None = None) -> Any:
        """A publisher; the parameters' output profile if `qos` is None."""
        events = PublisherEventCallbacks(incompatible_qos=self._incompatible(topic, "subscriber asks for", "output"))
        return self.create_publisher(message_type, topic, qos or self._output_qos, event_callbacks=events)

    def publish(self, publisher: Any, topic: str, message: Any) -> None:
        """Publish and count."""
        publisher.publish(message)
        self.statistics.published(topic)

    def guard(self, topic: str, work: Callable[..., None], *arguments: Any) -> None:
        """Run the handling of one message so that a bad one costs only itself."""
        try:
            work(*arguments)
        except GraspNodesError as error:
            self.drop(topic, f"bad {topic}", str(error))
        except Exception as error:  # noqa: BLE001 - one message, whatever is in it, must not end the node
            self.drop(topic, f"failed {topic}", f"{type(error).__name__}: {error}")

    # -- faults

    def drop(self, topic: str, cause: str, explanation: str) -> None:
        """Count a message that is not used, and say so: at once the first time, then at most every few seconds."""
        self.statistics.dropped(cause)
        self.warn_sometimes(f"{topic}: {explanation}: dropped", (topic, cause))

    def warn_sometimes(self, text: str, key: tuple[str, str]) -> None:
        """Log a warning unless one with the same key was logged lately; says how many were kept back."""
        now = time.monotonic()
        with self._report_lock:
            last, kept_back = self._reported.get(key, (-REPEAT_S, 0))
            if now - last < REPEAT_S:
                self._reported[key] = (last, kept_back + 1)
                return
            self._reported[key] = (now, 0)
        self.get_logger().warning(text + (f" ({kept_back} more like it since)" if kept_back else ""))

    def fail(self, error: Exception) -> None:
        """End the node with one message and exit code 1: it cannot do its work."""
        explanation = str(error) if isinstance(error, GraspNodesError) else f"{type(error).__name__}: {error}"
        self._failure = explanation
        self.exit_code = 1
        self.get_logger().fatal(explanation)
        self.finished.set()

    @staticmethod
    def stamp_of(header: Any) -> int:
        """Stamp of a message in ns.

        Raises:
            InputError: the stamp is zero or is not a time.
        """
        stamp = from_time(header.stamp)
        if stamp == 0:
            raise InputError("header.stamp is 0: the publisher must stamp its messages")
        return stamp

    def checked_stamp(self, topic: str, header: Any) -> int:
        """Stamp of a message in ns; a stamp that is before the last one of its topic resets the node.

        Raises:
            InputError: the stamp is zero, is not a time, or repeats the last one.
        """
        stamp = self.stamp_of(header)
        last = self._last_stamps.get(topic)
        if last == stamp:
            raise InputError(f"header.stamp {stamp / 1e9:.6f} s came twice")
        if last is not None and stamp < last:
            self.statistics.dropped("stamp jumped back")
            self.warn_sometimes(
                f"{topic}: stamps jumped back by {(last - stamp) / 1e9:.3f} s: what was followed is forgotten",
                (topic, "stamp jumped back"),
            )
            self._last_stamps.clear()
            self.on_reset(stamp)
        self._last_stamps[topic] = stamp
        return stamp

    # -- state

    def reset(self) -> None:
        """Forget stamps and, through `on_reset`, all that was followed."""
        self._last_stamps.clear()
        self.on_reset()

    def set_enabled(self, enabled: bool) -> None:
        """Work or do not; the watch over silence begins anew."""
        self.enabled = enabled
        self._useful_at, self._silent = time.monotonic(), False

    def useful(self, reason_if_not: str = "") -> None:
        """Tell the silence watch that an output was published.

        Args:
            reason_if_not: why the output says nothing useful (no hand found); empty if it does.
        """
        self._useful_reason = reason_if_not
        if reason_if_not:
            return
        self._useful_at = time.monotonic()
        if self._silent:
            self._silent = False
            self.get_logger().info("useful output again")

    def publishers_of(self, topic: str) -> int:
        """How many publishers the graph has on a topic of this node."""
        return int(self.count_publishers(topic))

    # -- private

    def _incompatible(self, topic: str, who: str, direction: str) -> Callable[[Any], None]:
        """Handler of an event that says that two QoS profiles do not go together."""

        def report(event: Any) -> None:
            self.statistics.dropped(f"incompatible QoS {topic}")
            policy = QOS_POLICIES.get(int(event.last_policy_kind), "policy")
            remedy = f"set this node's {direction}_reliability, or the other side's QoS"
            if policy == "durability":
                remedy = "the publisher has to be transient local"
            self.warn_sometimes(
                f"{topic}: a {who} a {policy} that does not go with this node's, so nothing passes: {remedy} "
                f"('ros2 topic info -v {topic}' shows both)",
                (topic, "qos"),
            )

        return report

    def _declare(self, kind: type[P]) -> P:
        values = {}
        for entry in dataclasses.fields(kind):
            default = default_of(entry)
            declared = self.declare_parameter(entry.name, default, descriptor_of(entry, default))
            values[entry.name] = declared.value
        return build(kind, values)

    def _on_set_parameters(self, changes: list[Any]) -> SetParametersResult:
        fields = {entry.name: entry for entry in dataclasses.fields(self._kind)}
        accepted = {}
        for change in changes:
            if change.name not in fields:
                continue
            try:
                accepted[change.name] = check_value(self._kind, change.name, change.value)
            except InputError as error:
                return SetParametersResult(successful=False, reason=str(error))
            if fields[change.name].metadata["read_only"]:
                reason = f"parameter {change.name!r} is read at the start: restart the node with -p {change.name}:=..."
                return SetParametersResult(successful=False, reason=reason)
        self.settings = dataclasses.replace(self.settings, **accepted)
        return SetParametersResult(successful=True, reason="")

    def _on_enable(self, request: Any, response: Any) -> Any:
        self.set_enabled(bool(request.data))
        if not self.enabled:
            self.reset()
        try:
            self.on_enabled()
        except GraspNodesError as error:
            self.enabled = False
            response.success, response.message = False, str(error)
            self.get_logger().warning(f"not enabled: {error}")
            return response
        response.success, response.message = True, "enabled" if self.enabled else "disabled"
        self.get_logger().info(response.message)
        return response

    def _on_reset(self, _request: Any, response: Any) -> Any:
        self.reset()
        response.success, response.message = True, "everything that was followed is forgotten"
        self.get_logger().info(f"reset: {response.message}")
        return response

    def _check_silence(self) -> None:
        quiet = time.monotonic() - self._useful_at
        if not self.enabled or self._silent or quiet < self.settings.silence_warn_s:
            return
        self._silent = True
        self.get_logger().warning(f"nothing useful for {quiet:.0f} s: {self._why_silent()}")

    def _why_silent(self) -> str:
        return self._useful_reason or self.silence_reason()

    def _count_malformed(self) -> None:
        """Take over what the transport could not decode, where it counts that."""
        for topic, subscription in self._inputs:
            count = int(getattr(subscription, "dropped", 0))
            for _ in range(count - self._malformed.get(topic, 0)):
                self.statistics.dropped(f"malformed {topic}")
            self._malformed[topic] = count

    def _publish_diagnostics(self) -> None:
        self._count_malformed()
        level, text = DiagnosticStatus.OK, "working"
        if self._failure:
            level, text = DiagnosticStatus.ERROR, self._failure
        elif not self.enabled:
            text = "disabled"
        elif self._silent:
            level, text = DiagnosticStatus.WARN, self._why_silent()
        elif self._useful_reason:
            text = self._useful_reason
        values = {**self.facts, **self.statistics.values()}
        status = DiagnosticStatus(
            level=level,
            name=self.get_fully_qualified_name(),
            message=text,
            hardware_id=HARDWARE_ID,
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def descriptor_of(entry: dataclasses.Field[Any], default: Any) -> ParameterDescriptor:
    """ROS description of a parameter: text, range, choices, read-only."""
    metadata = entry.metadata
    descriptor = ParameterDescriptor(
        name=entry.name, description=metadata["description"], read_only=bool(metadata["read_only"])
    )
    if metadata["choices"]:
        descriptor.additional_constraints = "one of: " + ", ".join(metadata["choices"])
    if metadata["minimum"] is None or isinstance(default, bool):
        return descriptor
    if isinstance(default, int):
        descriptor.integer_range = [
            IntegerRange(from_value=int(metadata["minimum"]), to_value=int(metadata["maximum"]), step=0)
        ]
    else:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(metadata["minimum"]), to_value=float(metadata["maximum"]), step=0.0)
        ]
    return descriptor


def limit_threads(threads: int) -> None:
    """Keep numerical libraries that are imported later to a number of threads.

    Several pools of busy-waiting threads on few cores slow each other down tenfold.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
