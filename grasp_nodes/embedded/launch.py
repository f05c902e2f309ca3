"""Runs launch files without ROS 2: starts the processes they describe, prints as ``ros2 launch`` does, and ends them.

Every process has its own process group and is ended by SIGINT, then SIGTERM, then SIGKILL. One thread (the caller's)
does all the deciding; small threads only pass on lines and exit codes.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from grasp_nodes.embedded import LaunchError
from grasp_nodes.embedded.launch_files import (
    DeclareLaunchArgument,
    LaunchContext,
    LaunchDescription,
    Node,
    execute_all,
    load_description,
    to_text,
)

ESCALATION = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
PATIENCE_S = 5.0
_ENDED_BY_US = {0, -signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM}
_LAST_LINES_S = 1.0


def log(severity: str, name: str, text: str) -> None:
    """Print a line as ``ros2 launch`` does."""
    sys.stdout.write(f"[{severity}] [{name}]: {text}\n")
    sys.stdout.flush()


@dataclass
class _Process:
    name: str
    popen: subprocess.Popen[str]
    command: list[str]
    at_exit: Callable[[], None]


class Launcher:
    """The processes of one launch.

    Args:
        runner: command that runs an executable of ours.
        scratch: folder that lives as long as the launch.
    """

    def __init__(self, runner: Sequence[str], scratch: Path) -> None:
        self.runner = runner
        self.has_failed = False
        self._scratch = scratch
        self._processes: list[_Process] = []
        self._started = 0
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stage = -1  # index into ESCALATION; -1 while running
        self._deadline = float("inf")

    def write_file(self, text: str) -> str:
        """Path of a file with that text; it lives as long as the launch."""
        path = self._scratch / f"launch_params_{len(list(self._scratch.iterdir()))}.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    def start(self, node: Node, command: list[str], context: LaunchContext) -> None:
        """Start a node's process and pass on what it prints."""
        if self._stage >= 0:
            return
        self._started += 1
        name = f"{node.executable}-{self._started}"
        environment = {"PYTHONUNBUFFERED": "1", **context.environment}
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
        try:
            popen = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
        except OSError as error:
            raise LaunchError(f"cannot start {name} ({' '.join(command)}): {error}") from error
        process = _Process(name, popen, command, lambda: execute_all(node.on_exit, context))
        self._processes.append(process)
        log("INFO", name, f"process started with pid [{popen.pid}]")
        pumps = [
            threading.Thread(target=_pump, args=(name, popen.stdout, sys.stdout if node.is_shown else None)),
            threading.Thread(target=_pump, args=(name, popen.stderr, sys.stderr)),
        ]
        for thread in (*pumps, threading.Thread(target=self._await_exit, args=(process, pumps))):
            thread.daemon = True
            thread.start()

    def _await_exit(self, process: _Process, pumps: list[threading.Thread]) -> None:
        process.popen.wait()
        for pump in pumps:  # a grandchild may keep the pipe open for ever
            pump.join(_LAST_LINES_S)
        self._events.put(lambda: self._on_exit(process))

    def _on_exit(self, process: _Process) -> None:
        self._processes.remove(process)
        code, pid = process.popen.returncode, process.popen.pid
        if code == 0:
            log("INFO", process.name, f"process has finished cleanly [pid {pid}]")
        else:
            command = " ".join(process.command)
            log("ERROR", process.name, f"process has died [pid {pid}, exit code {code}, cmd '{command}'].")
        if self._stage >= 0:
            self.has_failed |= code not in _ENDED_BY_US
        else:
            self.has_failed |= code != 0
            process.at_exit()

    def shutdown(self, reason: str) -> None:
        """Begin to end everything."""
        if self._stage < 0:
            log("INFO", "launch", f"shutting down: {reason}")
            self._escalate()

    def _escalate(self) -> None:
        """Send the next stronger signal to what still runs."""
        self._stage = min(self._stage + 1, len(ESCALATION) - 1)
        self._deadline = time.monotonic() + PATIENCE_S
        number = ESCALATION[self._stage]
        for process in self._processes:
            level = "INFO" if number == signal.SIGINT else "ERROR"
            log(level, process.name, f"sending signal '{number.name}' to process[{process.name}]")
            self.has_failed |= number == signal.SIGKILL
            self._signal(process, number)

    def _signal(self, process: _Process, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.popen.pid, number)

    def _on_signal(self, number: int) -> None:
        if self._stage >= 0:
            self._escalate()  # the user presses Ctrl-C again
        else:
            log("WARNING", "launch", f"user interrupted with {signal.Signals(number).name}")
            self.shutdown(signal.Signals(number).name)

    def run(self, begin: Callable[[], None]) -> None:
        """Begin, and work in the main thread until every process has ended; SIGINT and SIGTERM become events."""

        def enqueue(number: int, _frame: object) -> None:
            self._events.put(lambda: self._on_signal(number))

        previous = {number: signal.signal(number, enqueue) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            begin()
            while self._processes:
                try:
                    self._events.get(timeout=max(0.0, min(self._deadline - time.monotonic(), 3600.0)))()
                except queue.Empty:
                    if time.monotonic() >= self._deadline:
                        self._escalate()
        finally:
            for process in self._processes:  # only after an error
                self._signal(process, signal.SIGKILL)
            for number, handler in previous.items():
                signal.signal(number, handler)


def _pump(name: str, source: IO[str], target: IO[str] | None) -> None:
    for line in source:
        if target is not None:
            target.write(f"[{name}] {line.rstrip()}\n")
            target.flush()


def _declared(description: LaunchDescription) -> list[DeclareLaunchArgument]:
    return [action for action in description.entities if isinstance(action, DeclareLaunchArgument)]


def show_arguments(path: Path, share: Mapping[str, Path]) -> str:
    """The arguments of a launch file; see :func:`grasp_nodes.embedded.show_arguments`."""
    context = LaunchContext({}, share, Launcher((), path.parent))
    lines = ["Arguments (pass arguments as '<name>:=<value>'):"]
    for item in _declared(load_description(path)):
        choices = f" Valid choices are: {item.choices}" if item.choices is not None else ""
        lines += ["", f"    '{item.name}':", f"        {item.description}{choices}"]
        if item.default_value is not None:
            lines.append(f"        (default: {to_text(item.default_value, context)!r})")
    return "\n".join(lines)


def run_file(path: Path, arguments: dict[str, str], runner: list[str], share: Mapping[str, Path]) -> int:
    """Run a launch file until all its processes have ended; see :func:`grasp_nodes.embedded.launch_file`."""
    description = load_description(path)
    known = sorted(item.name for item in _declared(description))
    unknown = sorted(arguments.keys() - set(known))
    if unknown:
        raise LaunchError(f"unknown launch argument {', '.join(unknown)}; {path.name} knows: {', '.join(known)}")
    with tempfile.TemporaryDirectory(prefix="launch_") as scratch:
        launcher = Launcher(runner, Path(scratch))
        context = LaunchContext(arguments, share, launcher)
        launcher.run(lambda: execute_all(description.entities, context))
    return 1 if launcher.has_failed else 0
