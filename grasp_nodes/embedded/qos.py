"""Quality of service as ``rclpy.qos`` and ``rclpy.event_handler`` present it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

from grasp_nodes.embedded.errors import NotSupportedByEmbeddedRuntime


class ReliabilityPolicy(IntEnum):
    """Are lost messages sent again?"""

    SYSTEM_DEFAULT = 0
    RELIABLE = 1
    BEST_EFFORT = 2


class DurabilityPolicy(IntEnum):
    """Does a late subscriber receive earlier messages?"""

    SYSTEM_DEFAULT = 0
    TRANSIENT_LOCAL = 1
    VOLATILE = 2


class HistoryPolicy(IntEnum):
    """How many messages are kept?"""

    SYSTEM_DEFAULT = 0
    KEEP_LAST = 1
    KEEP_ALL = 2


class LivelinessPolicy(IntEnum):
    """Who asserts that a publisher is alive? Only the automatic kinds are supported."""

    SYSTEM_DEFAULT = 0
    AUTOMATIC = 1


class QoSPolicyKind(IntEnum):
    """Names of policies in incompatibility events."""

    INVALID = 1
    DURABILITY = 2
    DEADLINE = 4
    LIVELINESS = 8
    RELIABILITY = 16
    HISTORY = 32
    LIFESPAN = 64


@dataclass
class QoSProfile:
    """A set of policies; depth counts messages."""

    depth: int = 10
    history: HistoryPolicy = HistoryPolicy.KEEP_LAST
    reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE
    durability: DurabilityPolicy = DurabilityPolicy.VOLATILE
    liveliness: LivelinessPolicy = LivelinessPolicy.SYSTEM_DEFAULT
    deadline: Any = None
    lifespan: Any = None
    liveliness_lease_duration: Any = None
    avoid_ros_namespace_conventions: bool = False

    def __init__(self, **policies: Any) -> None:
        unknown = policies.keys() - self.__dataclass_fields__.keys()
        if unknown:
            raise TypeError(f"unknown QoS policies {sorted(unknown)}; known are {sorted(self.__dataclass_fields__)}")
        for name in ("deadline", "lifespan", "liveliness_lease_duration"):
            if getattr(policies.get(name), "nanoseconds", 0):
                raise NotSupportedByEmbeddedRuntime(f"QoS policy {name}", "leave it out")
        if policies.get("avoid_ros_namespace_conventions"):
            raise NotSupportedByEmbeddedRuntime("QoS avoid_ros_namespace_conventions", "leave it out")
        if "depth" not in policies and policies.get("history", HistoryPolicy.KEEP_LAST) == HistoryPolicy.KEEP_LAST:
            raise TypeError("QoSProfile: history KEEP_LAST needs a depth")
        for name, value in policies.items():
            setattr(self, name, value)
        self.history = HistoryPolicy(self.history)
        self.reliability = ReliabilityPolicy(self.reliability)
        self.durability = DurabilityPolicy(self.durability)
        if not isinstance(self.depth, int) or self.depth < 0:
            raise ValueError(f"QoSProfile: depth is a number of messages, not {self.depth!r}")

    @property
    def is_reliable(self) -> bool:
        """Reliable, as the default is."""
        return self.reliability != ReliabilityPolicy.BEST_EFFORT

    @property
    def is_transient_local(self) -> bool:
        """Late subscribers receive earlier messages."""
        return self.durability == DurabilityPolicy.TRANSIENT_LOCAL

    @property
    def keeps_all(self) -> bool:
        """Nothing is overwritten before it is delivered."""
        return self.history == HistoryPolicy.KEEP_ALL


qos_profile_default = QoSProfile(depth=10)
qos_profile_system_default = QoSProfile(depth=10)
qos_profile_sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
qos_profile_services_default = QoSProfile(depth=10)
qos_profile_parameters = QoSProfile(depth=1000)
qos_profile_parameter_events = QoSProfile(depth=1000)
qos_profile_clock = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class QoSPresetProfiles(Enum):
    """The predefined profiles under one name."""

    DEFAULT = qos_profile_default
    SYSTEM_DEFAULT = qos_profile_system_default
    SENSOR_DATA = qos_profile_sensor_data
    SERVICES_DEFAULT = qos_profile_services_default
    PARAMETERS = qos_profile_parameters
    PARAMETER_EVENTS = qos_profile_parameter_events


def to_profile(qos: QoSProfile | int) -> QoSProfile:
    """A profile, or the default one with the given depth."""
    if isinstance(qos, QoSProfile):
        return qos
    if isinstance(qos, bool) or not isinstance(qos, int):
        raise TypeError(f"expected a QoSProfile or a depth, got {qos!r}")
    return QoSProfile(depth=qos)


@dataclass(frozen=True)
class IncompatibleQoSInfo:
    """What an ``incompatible_qos`` callback receives."""

    total_count: int
    total_count_change: int
    last_policy_kind: QoSPolicyKind


class _EventCallbacks:
    def __init__(
        self,
        *,
        incompatible_qos: Callable[[IncompatibleQoSInfo], None] | None = None,
        use_default_callbacks: bool = True,
        **others: Any,
    ) -> None:
        for name, callback in others.items():
            if callback is not None:
                raise NotSupportedByEmbeddedRuntime(
                    f"the event callback {name!r}", "only incompatible_qos is available"
                )
        self.incompatible_qos = incompatible_qos
        self.use_default_callbacks = use_default_callbacks


class PublisherEventCallbacks(_EventCallbacks):
    """Callbacks of a publisher's events."""


class SubscriptionEventCallbacks(_EventCallbacks):
    """Callbacks of a subscription's events."""


def remedy_for(policy: QoSPolicyKind, topic: str) -> str:
    """What a user can do about an incompatible policy."""
    if policy == QoSPolicyKind.RELIABILITY:
        return f"publish {topic} as RELIABLE, or subscribe to it as BEST_EFFORT"
    if policy == QoSPolicyKind.DURABILITY:
        return f"publish {topic} as TRANSIENT_LOCAL, or subscribe to it as VOLATILE"
    return f"give the publisher and the subscription of {topic} the same {policy.name} policy"
