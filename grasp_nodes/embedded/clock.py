"""Time, durations and clocks as ``rclpy.time``, ``rclpy.duration`` and ``rclpy.clock`` present them."""

from __future__ import annotations

import time
from enum import IntEnum
from functools import total_ordering
from typing import Any

from grasp_nodes.embedded.types import message_class

_NS = 1_000_000_000


class ClockType(IntEnum):
    """Kinds of clocks; ROS_TIME follows ``/clock`` when the parameter use_sim_time is true."""

    ROS_TIME = 1
    SYSTEM_TIME = 2
    STEADY_TIME = 3


@total_ordering
class Duration:
    """A span of time."""

    def __init__(self, *, seconds: float = 0, nanoseconds: int = 0) -> None:
        self.nanoseconds = int(seconds * _NS) + int(nanoseconds)

    def __eq__(self, other: object) -> bool:
        return self.nanoseconds == other.nanoseconds if isinstance(other, Duration) else NotImplemented

    def __lt__(self, other: Duration) -> bool:
        return self.nanoseconds < other.nanoseconds if isinstance(other, Duration) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.nanoseconds)

    def __repr__(self) -> str:
        return f"Duration(nanoseconds={self.nanoseconds})"

    def to_msg(self) -> Any:
        """As builtin_interfaces/Duration."""
        seconds, nanoseconds = divmod(self.nanoseconds, _NS)
        return message_class("builtin_interfaces/msg/Duration")(sec=seconds, nanosec=nanoseconds)

    @classmethod
    def from_msg(cls, message: Any) -> Duration:
        """From builtin_interfaces/Duration."""
        return cls(seconds=message.sec, nanoseconds=message.nanosec)


@total_ordering
class Time:
    """A point in time of one kind of clock."""

    def __init__(
        self, *, seconds: float = 0, nanoseconds: int = 0, clock_type: ClockType = ClockType.SYSTEM_TIME
    ) -> None:
        if seconds < 0 or nanoseconds < 0:
            raise ValueError(f"a Time cannot be negative: {seconds} s, {nanoseconds} ns")
        self.nanoseconds = int(seconds * _NS) + int(nanoseconds)
        self.clock_type = clock_type

    def seconds_nanoseconds(self) -> tuple[int, int]:
        """Whole seconds and the remaining nanoseconds."""
        return divmod(self.nanoseconds, _NS)

    def _check(self, other: Time) -> None:
        if self.clock_type != other.clock_type:
            raise TypeError(f"times of different clocks: {self.clock_type.name} and {other.clock_type.name}")

    def __add__(self, other: object) -> Time:
        if not isinstance(other, Duration):
            return NotImplemented
        return Time(nanoseconds=self.nanoseconds + other.nanoseconds, clock_type=self.clock_type)

    __radd__ = __add__

    def __sub__(self, other: object) -> Any:
        if isinstance(other, Duration):
            return Time(nanoseconds=self.nanoseconds - other.nanoseconds, clock_type=self.clock_type)
        if not isinstance(other, Time):
            return NotImplemented
        self._check(other)
        return Duration(nanoseconds=self.nanoseconds - other.nanoseconds)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Time):
            return NotImplemented
        self._check(other)
        return self.nanoseconds == other.nanoseconds

    def __lt__(self, other: Time) -> bool:
        if not isinstance(other, Time):
            return NotImplemented
        self._check(other)
        return self.nanoseconds < other.nanoseconds

    def __hash__(self) -> int:
        return hash((self.nanoseconds, self.clock_type))

    def __repr__(self) -> str:
        return f"Time(nanoseconds={self.nanoseconds}, clock_type={self.clock_type.name})"

    def to_msg(self) -> Any:
        """As builtin_interfaces/Time."""
        seconds, nanoseconds = self.seconds_nanoseconds()
        return message_class("builtin_interfaces/msg/Time")(sec=seconds, nanosec=nanoseconds)

    @classmethod
    def from_msg(cls, message: Any, clock_type: ClockType = ClockType.ROS_TIME) -> Time:
        """From builtin_interfaces/Time."""
        return cls(nanoseconds=message.sec * _NS + message.nanosec, clock_type=clock_type)


class Clock:
    """Tells the time of one kind."""

    def __init__(self, *, clock_type: ClockType = ClockType.SYSTEM_TIME) -> None:
        self.clock_type = clock_type
        self._simulated_ns: int | None = None

    def now(self) -> Time:
        """The current time; zero while simulated time is awaited."""
        if self._simulated_ns is not None:
            nanoseconds = self._simulated_ns
        else:
            nanoseconds = time.monotonic_ns() if self.clock_type == ClockType.STEADY_TIME else time.time_ns()
        return Time(nanoseconds=nanoseconds, clock_type=self.clock_type)

    @property
    def ros_time_is_active(self) -> bool:
        """Does the clock follow simulated time?"""
        return self._simulated_ns is not None

    def timer_ns(self) -> int:
        """Time for timers: simulated time, else the steady time, which no change of the system's clock disturbs."""
        return time.monotonic_ns() if self._simulated_ns is None else self._simulated_ns

    def simulate(self, nanoseconds: int | None) -> None:
        """Set simulated time, or return to the system's time with None."""
        self._simulated_ns = nanoseconds


class ROSClock(Clock):
    """A clock that can follow simulated time."""

    def __init__(self) -> None:
        super().__init__(clock_type=ClockType.ROS_TIME)
