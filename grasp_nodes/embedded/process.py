"""The process: its command line and names, ``rclpy.init`` and ``shutdown``, signals, and the executor.

The executor waits for everything that its nodes listen to and runs the callbacks in the thread that spins. A wait ends
after a quarter of a second at most, because Python's signal handlers run only between the calls into Cyclone; the loop
costs nothing measurable while nothing happens.
"""

from __future__ import annotations

import atexit
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from grasp_nodes.embedded import NotSupportedByEmbeddedRuntime, dds
from grasp_nodes.embedded.parameters import parse_value, read_parameter_file
from grasp_nodes.embedded.vocabulary import (
    LEVELS,
    ExternalShutdownException,
    Logger,
    NameValidationException,
    SignalHandlerOptions,
    Timer,
)

if TYPE_CHECKING:
    from grasp_nodes.embedded.node import Node

_LONGEST_WAIT_S = 0.25


@dataclass
class RosArguments:
    """What follows ``--ros-args`` on the command line."""

    remaps: list[tuple[str, str]] = field(default_factory=list)
    """(from, to); ``__node`` and ``__ns`` rename the node and its namespace."""
    parameters: dict[str, Any] = field(default_factory=dict)
    parameter_files: list[Path] = field(default_factory=list)
    log_level: str = "info"

    def special(self, key: str, default: str) -> str:
        """What ``__node`` or ``__ns`` was remapped to."""
        return next((target for source, target in self.remaps if source == key), default)

    def remap(self, full_name: str, node: str, namespace: str) -> str:
        """A topic or service name after the first rule that matches it."""
        for source, target in self.remaps:
            if not source.startswith("__") and full_name == expand_name(source, node, namespace):
                return expand_name(target, node, namespace)
        return full_name

    def overrides(self, node: str, namespace: str) -> dict[str, Any]:
        """Values that files and ``-p`` give to a node's parameters; the later win, ``-p`` last."""
        values: dict[str, Any] = {}
        for path in self.parameter_files:
            values |= read_parameter_file(path, node, namespace)
        return values | self.parameters


def parse_arguments(arguments: Sequence[str]) -> RosArguments:
    """Read a command line; what stands outside ``--ros-args ... --`` is the program's own.

    Raises:
        ValueError: an argument is malformed or unknown.
        NotSupportedByEmbeddedRuntime: a rule for one node of several.
    """
    result = RosArguments()
    words = iter(arguments)
    is_ours = False
    for word in words:
        if word in ("--ros-args", "--"):
            is_ours = word == "--ros-args"
        elif is_ours:
            if word not in ("-r", "--remap", "-p", "--param", "--params-file", "--log-level"):
                raise ValueError(
                    f"unknown argument {word!r} after --ros-args: known are -r, -p, --params-file, --log-level"
                )
            value = next(words, None)
            if value is None:
                raise ValueError(f"the argument {word} needs a value")
            _take_argument(result, word, value)
    return result


def _take_argument(result: RosArguments, flag: str, value: str) -> None:
    if flag == "--params-file":
        result.parameter_files.append(Path(value))
    elif flag == "--log-level":
        if value.lower() not in LEVELS:
            raise ValueError(f"unknown log level {value!r}: choose one of {', '.join(LEVELS)}")
        result.log_level = value.lower()
    else:
        name, separator, text = value.partition(":=")
        is_remap = flag in ("-r", "--remap")
        if not separator or not name or (is_remap and not text):
            raise ValueError(f"{flag} {value!r}: expected name:=value")
        if ":" in name:
            remedy = "leave out what stands before the colon"
            raise NotSupportedByEmbeddedRuntime(f"the rule for one node of several {value!r}", remedy)
        if is_remap:
            result.remaps.append((name, text))
        else:
            result.parameters[name] = parse_value(text)


def expand_name(name: str, node: str, namespace: str) -> str:
    """A name of the graph in full: ``~/x`` is below the node, ``x`` below its namespace.

    Raises:
        NameValidationException: the graph does not allow the name.
    """
    base = namespace.rstrip("/")
    full = name if name.startswith("/") else f"{base}/{name}"
    if name.startswith("~/"):
        full = f"{base}/{node}{name[1:]}"
    if not re.fullmatch(r"(/[A-Za-z_][A-Za-z0-9_]*)+", full):
        raise NameValidationException(f"name {full!r}: use letters, digits, '_' and '/', no part starting with a digit")
    return full


class _Process:
    """What ``rclpy.init`` starts and ``rclpy.shutdown`` ends."""

    def __init__(self) -> None:
        self.arguments = RosArguments()
        self.is_running = False
        self.nodes: list[Node] = []
        self.executors: list[SingleThreadedExecutor] = []
        self._participant: dds.Participant | None = None
        self._previous_handlers: dict[int, Any] = {}
        self._lock = threading.RLock()

    def start(self, arguments: Sequence[str], signals: SignalHandlerOptions) -> None:
        self.arguments = parse_arguments(arguments)
        Logger.lowest = LEVELS[self.arguments.log_level]
        self.is_running = True
        if threading.current_thread() is threading.main_thread():
            for number in signals.value:
                self._previous_handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.is_running = False
        for executor in self.executors:
            executor.wake()
        previous = self._previous_handlers.get(number)
        # SIGINT goes on to Python, which raises KeyboardInterrupt; SIGTERM ends the spinning only, as in rclpy.
        if callable(previous) and number == signal.SIGINT:
            previous(number, frame)

    def participant(self) -> dds.Participant:
        """The process's participant, created at first use."""
        with self._lock:
            if self._participant is None:
                if not self.is_running:
                    raise RuntimeError("rclpy.init() has not been called, or rclpy.shutdown() since")
                self._participant = dds.Participant()
            return self._participant

    def stop(self) -> bool:
        """End every spin, destroy the nodes and leave the wire; False if there was nothing to stop."""
        with self._lock:
            was_running = self.is_running or self._participant is not None
            self.is_running = False
            for executor in self.executors:
                executor.wake()
            for node in list(self.nodes):
                node.destroy_node()
            for executor in list(self.executors):
                executor.shutdown()
            if self._participant is not None:
                self._participant.close()
                self._participant = None
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._previous_handlers.items():
                signal.signal(number, handler)
            self._previous_handlers.clear()
        return was_running


process = _Process()
atexit.register(process.stop)


def init(*, args: Sequence[str] | None = None, signal_handler_options: SignalHandlerOptions | None = None) -> None:
    """Start ROS for this process: read the command line (``sys.argv`` if None) and watch signals.

    Args:
        signal_handler_options: which ones; None: SIGINT and SIGTERM.

    Raises:
        RuntimeError: already started.
    """
    if process.is_running:
        raise RuntimeError("rclpy.init() was called twice without rclpy.shutdown()")
    process.start(sys.argv[1:] if args is None else args, signal_handler_options or SignalHandlerOptions.ALL)


def ok() -> bool:
    """Started and not shut down?"""
    return process.is_running


def try_shutdown() -> None:
    """Stop ROS for this process if that is not done yet."""
    process.stop()


def shutdown() -> None:
    """Stop ROS for this process.

    Raises:
        RuntimeError: not started, or already stopped.
    """
    if not process.stop():
        raise RuntimeError("rclpy.shutdown() was called without rclpy.init(), or twice")


def spin(node: Node) -> None:
    """Run a node's callbacks until shutdown.

    Raises:
        ExternalShutdownException: another thread or a signal shut ROS down.
    """
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while process.is_running:
            executor.spin_once()
    finally:
        executor.shutdown()


class Waitable(Protocol):
    """Something that a wait set can wait for."""

    condition: int
    """DDS handle of the condition."""

    def take(self) -> Callable[[], object] | None:
        """Consume what is there and return the work to do, or None."""


class SingleThreadedExecutor:
    """Runs one callback at a time, in the thread that spins."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._ready: deque[Waitable | Timer] = deque()
        self._attached: list[Waitable] = []
        self._has_changed = True
        self._wait_set: dds.WaitSet | None = None

    def add_node(self, node: Node) -> bool:
        """Run a node's callbacks; False if it already is here."""
        if node in self._nodes:
            return False
        if node.executor is not None:
            node.executor.remove_node(node)
        self._nodes.append(node)
        node.executor = self
        if self not in process.executors:
            process.executors.append(self)
        self.entities_changed()
        return True

    def remove_node(self, node: Node) -> None:
        """Stop running a node's callbacks."""
        if node in self._nodes:
            self._nodes.remove(node)
            node.executor = None
            self.entities_changed()

    def wake(self) -> None:
        """End the current wait; may be called from any thread."""
        wait_set = self._wait_set
        if wait_set is not None:
            wait_set.wake()

    def entities_changed(self) -> None:
        """Look again at what there is to wait for; may be called from any thread."""
        self._has_changed = True
        self.wake()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Run one callback, waiting at most that long [s] for it; None waits for ever.

        Raises:
            ExternalShutdownException: ROS was shut down.
        """
        end = float("inf") if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        while True:
            if not process.is_running:
                raise ExternalShutdownException("ROS was shut down")
            while self._ready:
                work = self._ready.popleft().take()
                if work is not None:
                    work()
                    return
            self._collect(end - time.monotonic())
            if not self._ready and time.monotonic() >= end:
                return

    def shutdown(self) -> None:
        """Let the nodes go and give back what the wire lent."""
        for node in list(self._nodes):
            self.remove_node(node)
        wait_set, self._wait_set = self._wait_set, None
        self._ready.clear()
        if wait_set is not None:
            wait_set.close()
        if self in process.executors:
            process.executors.remove(self)

    def _collect(self, timeout_s: float) -> None:
        """Wait for what is ready and queue it."""
        wait_set = self._wait_set
        if wait_set is None:
            wait_set = self._wait_set = dds.WaitSet(process.participant())
            self._has_changed = True
        if self._has_changed:
            self._has_changed = False
            self._attached = [item for node in self._nodes for item in node.waitables]
            wait_set.watch([item.condition for item in self._attached])
        timers = [timer for node in self._nodes for timer in node.timers]
        places = wait_set.wait(min([timeout_s, _LONGEST_WAIT_S, *(timer.seconds_until_ready() for timer in timers)]))
        self._ready.extend(timer for timer in timers if timer.seconds_until_ready() <= 0)
        self._ready.extend(self._attached[place] for place in places)
