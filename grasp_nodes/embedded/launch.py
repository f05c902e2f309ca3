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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from grasp_nodes.embedded.errors import LaunchError, NotSupportedByEmbeddedRuntime
from grasp_nodes.embedded.launch_description import (
    MODULES,
    DeclareLaunchArgument,
    ExecuteProcess,
    LaunchContext,
    OnProcessExit,
    load_description,
    to_text,
    visit_all,
)

ESCALATION = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
PATIENCE_S = 5.0
_ENDED_BY_US = {0, -signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM}
_LAST_LINES_S = 1.0


@dataclass
class _Process:
    action: ExecuteProcess
    name: str
    command: list[str]
    environment: dict[str, str]
    context: LaunchContext
    popen: subprocess.Popen[str]


class Launcher:
    """The processes of one launch."""

    def __init__(self, runner: Sequence[str], scratch: Path) -> None:
        self.runner = list(runner)
        self.failed = False
        self._scratch = scratch
        self._processes: list[_Process] = []
        self._started = 0
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._handlers: list[tuple[OnProcessExit, LaunchContext]] = []
        self._stage = -1  # index into ESCALATION; -1 while running

    @property
    def is_ending(self) -> bool:
        """Has shutdown begun?"""
        return self._stage >= 0

    def log(self, severity: str, name: str, text: str) -> None:
        """Print a line as ``ros2 launch`` does."""
        sys.stdout.write(f"[{severity}] [{name}]: {text}\n")
        sys.stdout.flush()

    def write_file(self, text: str) -> Path:
        """A file that lives as long as the launch."""
        path = self._scratch / f"launch_params_{len(list(self._scratch.iterdir()))}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    def call_later(self, delay_s: float, work: Callable[[], None]) -> None:
        """Do something after a time [s], unless the launch ends before."""
        self._timers.append((time.monotonic() + delay_s, work))

    def on_process_exit(self, handler: OnProcessExit, context: LaunchContext) -> None:
        """Do a handler's actions when its process ends."""
        self._handlers.append((handler, context))

    def start(
        self,
        action: ExecuteProcess,
        label: str,
        command: list[str],
        environment: dict[str, str],
        context: LaunchContext,
    ) -> None:
        """Start a process and pass on what it prints."""
        if self.is_ending:
            return
        self._started += 1
        name = f"{label}-{self._started}"
        try:
            popen = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env={"PYTHONUNBUFFERED": "1", **environment},
                cwd=to_text(action.cwd, context) if action.cwd is not None else None,
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchError(f"cannot start {name} ({' '.join(command)}): {error}") from error
        process = _Process(action, name, command, environment, context, popen)
        self._processes.append(process)
        self.log("INFO", name, f"process started with pid [{popen.pid}]")
        is_shown = to_text(action.output, context) in ("screen", "both")
        assert popen.stdout is not None
        assert popen.stderr is not None
        pumps = [
            threading.Thread(target=self._pump, args=(name, popen.stdout, sys.stdout, is_shown), daemon=True),
            threading.Thread(target=self._pump, args=(name, popen.stderr, sys.stderr, True), daemon=True),
        ]
        threading.Thread(target=self._await_exit, args=(process, pumps), daemon=True).start()

    def _pump(self, name: str, source: IO[str], target: IO[str], is_shown: bool) -> None:
        for line in source:
            if is_shown:
                target.write(f"[{name}] {line.rstrip()}\n")
                target.flush()

    def _await_exit(self, process: _Process, pumps: list[threading.Thread]) -> None:
        for pump in pumps:
            pump.start()
        process.popen.wait()
        for pump in pumps:  # a grandchild may keep the pipe open for ever
            pump.join(_LAST_LINES_S)
        self._events.put(lambda: self._on_exit(process))

    def _on_exit(self, process: _Process) -> None:
        self._processes.remove(process)
        code, pid = process.popen.returncode, process.popen.pid
        if code == 0:
            self.log("INFO", process.name, f"process has finished cleanly [pid {pid}]")
        else:
            command = " ".join(process.command)
            self.log("ERROR", process.name, f"process has died [pid {pid}, exit code {code}, cmd '{command}'].")
        if self.is_ending:
            self.failed |= code not in _ENDED_BY_US
            return
        self.failed |= code != 0
        if process.action.on_exit:
            visit_all(process.action.on_exit, process.context)
        for handler, context in self._handlers:
            if handler.target_action in (None, process.action):
                visit_all(handler.actions, context)
        if process.action.respawn and not self.is_ending:
            label = process.name.rpartition("-")[0]
            again = (process.action, label, process.command, process.environment, process.context)
            self.call_later(process.action.respawn_delay, lambda: self.start(*again))

    def shutdown(self, reason: str) -> None:
        """Begin to end everything."""
        if not self.is_ending:
            self.log("INFO", "launch", f"shutting down: {reason}")
            self._timers.clear()
            self._escalate(0)

    def _escalate(self, stage: int) -> None:
        """Send the next stronger signal to what still runs."""
        if stage <= self._stage or stage >= len(ESCALATION):
            return
        self._stage = stage
        number = ESCALATION[stage]
        for process in self._processes:
            level = "INFO" if stage == 0 else "ERROR"
            self.log(level, process.name, f"sending signal '{number.name}' to process[{process.name}]")
            self.failed |= number == signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.popen.pid, number)
        self._timers.append((time.monotonic() + PATIENCE_S, lambda: self._escalate(stage + 1)))

    def _on_signal(self, number: int) -> None:
        if self.is_ending:
            self._escalate(self._stage + 1)  # the user presses Ctrl-C again
        else:
            self.log("WARNING", "launch", f"user interrupted with {signal.Signals(number).name}")
            self.shutdown(signal.Signals(number).name)

    def run(self) -> None:
        """Work until every process has ended and no timer is pending."""
        with self._signals():
            while self._processes or (self._timers and not self.is_ending):
                due = min((when for when, _ in self._timers), default=time.monotonic() + 3600)
                with contextlib.suppress(queue.Empty):
                    self._events.get(timeout=max(0.0, due - time.monotonic()))()
                ready = [timer for timer in self._timers if timer[0] <= time.monotonic()]
                self._timers = [timer for timer in self._timers if timer not in ready]
                for _, work in ready:
                    work()

    def kill_all(self) -> None:
        """Leave nothing behind after an error."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.popen.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM become events."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)

        def enqueue(number: int, _frame: object) -> None:
            self._events.put(lambda: self._on_signal(number))

        previous = {number: signal.signal(number, enqueue) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _launch_modules() -> Iterator[None]:
    """``launch`` and ``launch_ros`` as modules, in place of anything else of these names (a folder, say)."""

    def is_ours(name: str) -> bool:
        return name.partition(".")[0] in ("launch", "launch_ros")

    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if is_ours(name)}
    for name, contents in MODULES.items():
        module = sys.modules[name] = ModuleType(name)
        module.__dict__.update(
            contents, __path__=[], __getattr__=lambda attribute, name=name: _missing(name, attribute)
        )
    try:
        yield
    finally:
        for name in [name for name in sys.modules if is_ours(name)]:
            del sys.modules[name]
        sys.modules.update(hidden)


def _missing(module: str, attribute: str) -> Any:
    if attribute.startswith("__"):
        raise AttributeError(attribute)
    raise NotSupportedByEmbeddedRuntime(f"{module}.{attribute}", "use what the documentation of launch files lists")


def _declared(entity: Any, context: LaunchContext) -> Iterator[DeclareLaunchArgument]:
    """The arguments that a description declares, includes and untaken branches too."""
    for child in entity.children(context):
        if isinstance(child, DeclareLaunchArgument):
            if child.default_value is not None and child.name not in context.launch_configurations:
                context.launch_configurations[child.name] = to_text(child.default_value, context)
            yield child
        else:
            yield from _declared(child, context)


def _describe_context(path: Path, arguments: Mapping[str, str]) -> LaunchContext:
    context = LaunchContext(arguments)
    context.file_dirs.append(path.resolve().parent)
    return context


def show_arguments(path: Path) -> str:
    """The arguments of a launch file as ``ros2 launch --show-args`` prints them."""
    with _launch_modules():
        context = _describe_context(path, {})
        found = {item.name: item for item in _declared(load_description(path), context)}
        lines = ["Arguments (pass arguments as '<name>:=<value>'):"]
        for item in found.values():
            choices = f" Valid choices are: {item.choices}" if item.choices is not None else ""
            lines += ["", f"    '{item.name}':", f"        {item.description or 'no description given'}{choices}"]
            if item.default_value is not None:
                lines.append(f"        (default: {to_text(item.default_value, context)!r})")
    return "\n".join(lines if found else [*lines, "", "  No arguments."])


def launch_file(path: Path, arguments: dict[str, str], runner: list[str]) -> int:
    """Run a launch file until all its processes have ended.

    Args:
        path: the file.
        arguments: launch arguments by name.
        runner: command that runs an executable of ours; the executable's name and its arguments are appended.

    Returns:
        0 if every process ended well (or was ended by us and obeyed), else 1.

    Raises:
        FileNotFoundError: there is no such file.
        LaunchError: an argument is unknown, missing or not a valid choice, or the file is not usable.
        NotSupportedByEmbeddedRuntime: the file uses something that only a real ROS 2 can do.
    """
    with _launch_modules(), tempfile.TemporaryDirectory(prefix="launch_") as scratch:
        description = load_description(path)
        known = sorted({item.name for item in _declared(description, _describe_context(path, arguments))})
        unknown = sorted(arguments.keys() - set(known))
        if unknown:
            raise LaunchError(f"unknown launch argument {', '.join(unknown)}; {path.name} knows: {', '.join(known)}")
        launcher = Launcher(runner, Path(scratch))
        context = LaunchContext(arguments, launcher)
        context.file_dirs.append(path.resolve().parent)
        try:
            description.visit(context)
            launcher.run()
        except BaseException:
            launcher.kill_all()
            raise
        return 1 if launcher.failed else 0
