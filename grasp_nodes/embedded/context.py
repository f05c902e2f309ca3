"""The process's state: started or not, its arguments, its participant, and the signals that end it."""

from __future__ import annotations

import atexit
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from grasp_nodes.embedded import dds
from grasp_nodes.embedded.arguments import RosArguments, parse_arguments, split_arguments
from grasp_nodes.embedded.errors import NotInitializedException
from grasp_nodes.embedded.logger import set_logger_level

if TYPE_CHECKING:
    from grasp_nodes.embedded.executor import Executor
    from grasp_nodes.embedded.node import Node


class Context:
    """What ``rclpy.init`` starts and ``rclpy.shutdown`` ends; there is one per process."""

    def __init__(self) -> None:
        self.arguments = RosArguments()
        self.nodes: list[Node] = []
        self._ok = False
        self._participant: dds.Participant | None = None
        self._executors: list[Executor] = []
        self._on_shutdown: list[Callable[[], None]] = []
        self._previous_handlers: dict[int, Any] = {}
        self._lock = threading.RLock()

    def ok(self) -> bool:
        """Started and not shut down?"""
        return self._ok

    def init(self, args: Sequence[str] | None = None) -> None:
        """Start: read the command line (``sys.argv`` without arguments) and watch SIGINT and SIGTERM.

        Raises:
            RuntimeError: already started.
        """
        if self._ok:
            raise RuntimeError("rclpy.init() was called twice without rclpy.shutdown()")
        self.arguments = parse_arguments(sys.argv[1:] if args is None else args)
        for name, level in self.arguments.log_levels:
            set_logger_level(name, level)
        self._ok = True
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous_handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._ok = False
        for executor in self._executors:
            executor.wake()
        previous = self._previous_handlers.get(number)
        # SIGINT goes on to Python, which raises KeyboardInterrupt; SIGTERM ends the spinning only, as in rclpy
        if callable(previous) and number == signal.SIGINT:
            previous(number, frame)

    def participant(self) -> dds.Participant:
        """The process's participant, created at first use.

        Raises:
            NotInitializedException: not started.
        """
        with self._lock:
            if self._participant is None:
                if not self._ok:
                    raise NotInitializedException
                self._participant = dds.Participant()
            return self._participant

    def add_executor(self, executor: Executor) -> None:
        """Wake this executor at shutdown."""
        if executor not in self._executors:
            self._executors.append(executor)

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Call back at shutdown."""
        self._on_shutdown.append(callback)

    def try_shutdown(self) -> None:
        """Stop: end every spin, destroy the nodes and leave the wire; does nothing if that is done."""
        with self._lock:
            self._ok = False
            callbacks, self._on_shutdown = self._on_shutdown, []
            for callback in callbacks:
                callback()
            for executor in self._executors:
                executor.wake()
            for node in list(self.nodes):
                node.destroy_node()
            executors, self._executors = self._executors, []
            for executor in executors:
                executor.close_handles()
            if self._participant is not None:
                self._participant.close()
                self._participant = None
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._previous_handlers.items():
                signal.signal(number, handler)
            self._previous_handlers.clear()

    def shutdown(self) -> None:
        """Stop.

        Raises:
            RuntimeError: not started, or already stopped.
        """
        if not self._ok and self._participant is None:
            raise RuntimeError("rclpy.shutdown() was called without rclpy.init(), or twice")
        self.try_shutdown()


default_context = Context()
atexit.register(default_context.try_shutdown)


def remove_ros_args(args: Sequence[str] | None = None) -> list[str]:
    """A command line (``sys.argv`` without arguments) without its ROS part."""
    return split_arguments(sys.argv if args is None else args)[1]
