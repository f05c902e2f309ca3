"""The small things that node files import from rclpy: exceptions, quality of service, time, futures, logging."""

# ruff: noqa: N818 - the names of the exceptions are rclpy's

from __future__ import annotations

import inspect
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, ClassVar, NamedTuple

from grasp_nodes.embedded import NotSupportedByEmbeddedRuntime
from grasp_nodes.embedded.types import message_class


class ExternalShutdownException(Exception):
    """``rclpy.shutdown()`` or a signal ended the process's ROS while an executor was spinning."""


class NameValidationException(ValueError):
    """A name of a node, topic or service, or a namespace, that the ROS graph does not allow."""


class ParameterException(Exception):
    """A parameter was declared twice or not at all, or its value is of the wrong type or not allowed."""


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


class SignalHandlerOptions(Enum):
    """Of which signals ROS takes notice."""

    NO = ()
    SIGINT = (signal.SIGINT,)
    SIGTERM = (signal.SIGTERM,)
    ALL = (signal.SIGINT, signal.SIGTERM)


class QoSPolicyKind(IntEnum):
    """Names of policies in incompatibility events."""

    INVALID = 1
    DURABILITY = 2
    DEADLINE = 4
    LIVELINESS = 8
    RELIABILITY = 16


@dataclass(frozen=True, kw_only=True)
class QoSProfile:
    """A set of policies; depth counts messages."""

    depth: int
    history: HistoryPolicy = HistoryPolicy.KEEP_LAST
    reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE
    durability: DurabilityPolicy = DurabilityPolicy.VOLATILE

    def __post_init__(self) -> None:
        if isinstance(self.depth, bool) or not isinstance(self.depth, int) or self.depth < 0:
            raise TypeError(f"expected a QoSProfile or a depth in messages, got {self.depth!r}")
        if self.history == HistoryPolicy.KEEP_ALL:
            raise NotSupportedByEmbeddedRuntime("HistoryPolicy.KEEP_ALL", "use KEEP_LAST with a depth")


qos_profile_sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


class IncompatibleQoSInfo(NamedTuple):
    """What an ``incompatible_qos`` callback receives."""

    total_count: int
    total_count_change: int
    last_policy_kind: QoSPolicyKind


@dataclass(frozen=True, kw_only=True)
class PublisherEventCallbacks:
    """Callbacks of a publisher's or subscription's events; without one, an incompatible other side is logged."""

    incompatible_qos: Callable[[IncompatibleQoSInfo], None] | None = None


SubscriptionEventCallbacks = PublisherEventCallbacks


class Time(NamedTuple):
    """A point in time, ns since the clock's epoch."""

    nanoseconds: int

    def to_msg(self) -> Any:
        """As builtin_interfaces/Time."""
        seconds, nanoseconds = divmod(self.nanoseconds, 1_000_000_000)
        return message_class("builtin_interfaces/msg/Time")(sec=seconds, nanosec=nanoseconds)


class Clock:
    """Tells a node's time: the time of day, or simulated time."""

    def __init__(self) -> None:
        self.simulated_ns: int | None = None
        """Simulated time in ns, 0 while the first one is awaited; None: the clock follows the time of day."""

    def now(self) -> Time:
        """The current time."""
        return Time(time.time_ns() if self.simulated_ns is None else self.simulated_ns)

    def timer_ns(self) -> int:
        """Time for timers: simulated, else the steady time, which no change of the time of day disturbs."""
        return time.monotonic_ns() if self.simulated_ns is None else self.simulated_ns


def checked_callback(callback: Callable[..., object]) -> Callable[..., Any]:
    """The callback, refused if it is a coroutine function."""
    if inspect.iscoroutinefunction(callback):
        raise NotSupportedByEmbeddedRuntime(f"the coroutine callback {callback.__qualname__}", "use a plain function")
    return callback


class Timer:
    """Calls back at a fixed rate, by simulated time where the clock follows it."""

    def __init__(self, period_s: float, callback: Callable[[], object], clock: Clock) -> None:
        if not period_s >= 0:
            raise ValueError(f"a timer's period must not be negative, got {period_s} s")
        self._period_ns = int(period_s * 1e9)
        self._callback = checked_callback(callback)
        self._clock = clock
        self._next_ns: float = clock.timer_ns() + self._period_ns

    def seconds_until_ready(self) -> float:
        """Time [s] until it is due; infinite if cancelled or if only simulated time can bring it closer."""
        now = self._clock.timer_ns()
        if self._period_ns < self._next_ns - now < float("inf"):  # time jumped back
            self._next_ns = now + self._period_ns
        left = self._next_ns - now
        return float("inf") if left > 0 and self._clock.simulated_ns is not None else left * 1e-9

    def take(self) -> Callable[[], object] | None:
        """The callback, if it is due; periods that were missed are skipped, the phase is kept."""
        late = -self.seconds_until_ready() * 1e9
        if late < 0:
            return None
        self._next_ns += self._period_ns * (1 + late // self._period_ns) if self._period_ns else late
        return self._callback

    def cancel(self) -> None:
        """Do not call back any more."""
        self._next_ns = float("inf")


class Future:
    """The response to a request, once it is there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_done = False
        self._result: Any = None
        self._callbacks: list[Callable[[Future], object]] = []

    def done(self) -> bool:
        """Is it there?"""
        return self._is_done

    def result(self) -> Any:
        """The response, None before it is there."""
        return self._result

    def set_result(self, result: Any) -> None:
        """Deliver the response."""
        with self._lock:
            self._result, self._is_done = result, True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def add_done_callback(self, callback: Callable[[Future], object]) -> None:
        """Call back when it is there, at once if it is."""
        with self._lock:
            if not self._is_done:
                self._callbacks.append(callback)
                return
        callback(self)


LEVELS = {"debug": 10, "info": 20, "warn": 30, "error": 40, "fatal": 50}
_COLOURS = {"DEBUG": "\033[32m", "WARN": "\033[33m", "ERROR": "\033[31m", "FATAL": "\033[31m"}


class Logger:
    """Prints messages under a dotted name, in the format of rcl."""

    lowest = LEVELS["info"]
    """Least severe level that is printed, by every logger of the process."""
    _last_times: ClassVar[dict[tuple[str, str, int], float]] = {}

    def __init__(self, name: str) -> None:
        self.name = name

    def debug(self, message: object, **options: Any) -> bool:
        """Print at DEBUG; the options are ``throttle_duration_sec`` [s] and ``once``, per place in the code."""
        return self._log("DEBUG", message, **options)

    def info(self, message: object, **options: Any) -> bool:
        """Print at INFO; options as :meth:`debug`."""
        return self._log("INFO", message, **options)

    def warning(self, message: object, **options: Any) -> bool:
        """Print at WARN; options as :meth:`debug`."""
        return self._log("WARN", message, **options)

    warn = warning

    def error(self, message: object, **options: Any) -> bool:
        """Print at ERROR; options as :meth:`debug`."""
        return self._log("ERROR", message, **options)

    def fatal(self, message: object, **options: Any) -> bool:
        """Print at FATAL; options as :meth:`debug`."""
        return self._log("FATAL", message, **options)

    def _log(self, level: str, message: object, throttle_duration_sec: float = 0.0, once: bool = False) -> bool:
        if LEVELS[level.lower()] < Logger.lowest:
            return False
        if throttle_duration_sec or once:
            caller = sys._getframe(2)  # _log <- info <- the place that logs
            place = (self.name, caller.f_code.co_filename, caller.f_lineno)
            last, now = self._last_times.get(place), time.monotonic()
            if last is not None and (once or now - last < throttle_duration_sec):
                return False
            self._last_times[place] = now
        line = f"[{level}] [{time.time():.9f}] [{self.name}]: {message}"
        if sys.stderr.isatty() and level in _COLOURS:
            line = f"{_COLOURS[level]}{line}\033[0m"
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
        return True


def get_logger(name: str) -> Logger:
    """The logger of that name."""
    return Logger(name)
