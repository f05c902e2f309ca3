"""Work in other processes: named tasks, whose workers may be killed at any time, done each exactly once.

A job is a function that can be imported wherever the workers are, named ``module:function``; it takes a task's
arguments and returns bytes. `WorkerProcesses` runs it on this machine; anything else that is `Workers` will do.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, Protocol

from grasp_nodes.errors import GraspNodesError, InputError

ONE_THREAD = {
    **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")},
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""Environment of a worker: the processes are the parallelism, threads within them would only quarrel."""
MOST_ERRORS = 2
"""Attempts that may end in an exception: what is wrong with the task itself stays wrong."""
MOST_DEATHS = 3
"""Attempts whose worker may die: killed by somebody, or by the task itself."""
LOOK_SECONDS = 0.5
"""How long the workers are waited for before progress is told."""
_TRACEBACK_LINES = 6
_GRACE_SECONDS = 2.0

_log = logging.getLogger(__name__)


class WorkError(GraspNodesError):
    """Long work that could not go on; the message says what is kept and how to resume."""


@contextlib.contextmanager
def writing_below(folder: Path) -> Iterator[None]:
    """A disk that is full or gone, or a folder of others, is one message that says how to go on.

    Raises:
        WorkError: something cannot be written.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "Make room there, then run" if full else "Mend that, or name another folder with -o; then run"
        raise WorkError(
            f"{folder}: cannot be written ({error.strerror or error}); what is finished is kept. {remedy} the "
            "same command again: it goes on from here"
        ) from error


@dataclass(frozen=True)
class Task:
    """name: unique. arguments: of the job, picklable."""

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Event:
    """What became of one attempt. content: the job's bytes if it is done. message: what went wrong, else."""

    task: Task
    state: Literal["done", "error", "died"]
    content: bytes = b""
    message: str = ""


class Workers(Protocol):
    """Whoever runs the job."""

    def room(self) -> int:
        """How many more tasks can be taken now."""

    def submit(self, task: Task) -> None:
        """Start a task, or queue it."""

    def wait(self, seconds: float) -> list[Event]:
        """What ended; waits for it no longer than so many seconds.

        Raises:
            WorkError: there can be no more workers.
        """

    def close(self) -> None:
        """End at once, whatever is being done."""


def run_tasks(
    tasks: Sequence[Task],
    workers: Workers,
    keep: Callable[[Task, bytes], None],
    look: Callable[[], None],
    missed: Callable[[Event], None] | None = None,
) -> dict[str, str]:
    """Run every task until its bytes are kept, or it failed too often.

    Args:
        tasks: in the order in which they are started. workers: run them.
        keep: is given each task's bytes exactly once, in this thread. look: is called about twice a second.
        missed: is told of each attempt that came to nothing, before another one.

    Returns:
        What went wrong, by the name of the task, for those that failed.

    Raises:
        WorkError: from the workers. Whatever `keep` and `look` raise.
    """
    waiting, errors, deaths = (
        deque(tasks),
        dict.fromkeys((task.name for task in tasks), 0),
        {task.name: 0 for task in tasks},
    )
    failed: dict[str, str] = {}
    open_tasks = len(tasks)
    while open_tasks:
        while waiting and workers.room() > 0:
            workers.submit(waiting.popleft())
        for event in workers.wait(LOOK_SECONDS):
            name = event.task.name
            if event.state == "done":
                keep(event.task, event.content)
                open_tasks -= 1
                continue
            counts, most = (errors, MOST_ERRORS) if event.state == "error" else (deaths, MOST_DEATHS)
            counts[name] += 1
            if missed is not None:
                missed(event)
            again = counts[name] < most
            _log.warning("%s: %s (%s)", name, event.message.splitlines()[-1], "tried again" if again else "given up")
            if again:
                waiting.append(event.task)
            else:
                failed[name] = event.message
                open_tasks -= 1
        look()
    return failed


def resolve(target: str) -> Any:
    """What ``module:name`` names.

    Raises:
        InputError: it is not of that form, or cannot be imported.
    """
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{target!r}: expected module:function that can be imported ({error})") from error


def attempt(job: Callable[..., bytes], task: Task) -> Event:
    """Run a task in this process; an exception becomes an event."""
    try:
        return Event(task, "done", job(*task.arguments))
    except Exception as error:  # noqa: BLE001  whatever is wrong with one task, the others go on
        lines = "".join(traceback.format_exception(error)).splitlines()
        return Event(task, "error", message="\n".join(lines[-_TRACEBACK_LINES:]))


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    ready: bool = False
    tasks: list[Task] = field(default_factory=list)


class WorkerProcesses:
    """Processes of this machine, one thread each, started when there is work for them."""

    def __init__(self, job: str, count: int) -> None:
        self._job, self._count = job, count
        self._workers: list[_Worker] = []
        self._stillborn = 0

    def room(self) -> int:
        """How many more tasks can be taken now."""
        return self._count - sum(bool(worker.tasks) for worker in self._workers)

    def submit(self, task: Task) -> None:
        """Give the task to a process that has none."""
        worker = next((worker for worker in self._workers if not worker.tasks), None) or self._start()
        worker.tasks.append(task)
        # One that died since then is found by `wait`.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.connection.send(task)

    def wait(self, seconds: float) -> list[Event]:
        """What ended; waits for it no longer than so many seconds.

        Raises:
            WorkError: the processes end before they can do anything.
        """
        ended = wait([worker.connection for worker in self._workers], seconds)
        return [
            event for worker in list(self._workers) if worker.connection in ended for event in self._receive(worker)
        ]

    def close(self) -> None:
        """End the processes at once."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_GRACE_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()
        self._workers.clear()

    def pids(self) -> list[int]:
        """Of the processes that run now."""
        return [worker.process.pid or 0 for worker in self._workers]

    def _start(self) -> _Worker:
        ours, theirs = multiprocessing.Pipe()
        # It would start with the first process, and let interrupts through again.
        resource_tracker.ensure_running()
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=(self._job, theirs), daemon=True)
        with _environment(ONE_THREAD), _interrupts_held():
            process.start()
        theirs.close()  # or the end of the process would never show
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]

    def _receive(self, worker: _Worker) -> Iterator[Event]:
        try:
            said = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._bury(worker)
            return
        if isinstance(said, str):
            if said:
                raise WorkError(f"the worker processes cannot start: {said}")
            worker.ready, self._stillborn = True, 0
            return
        worker.tasks.clear()
        yield said

    def _bury(self, worker: _Worker) -> Iterator[Event]:
        worker.process.join(_GRACE_SECONDS)
        worker.connection.close()
        self._workers.remove(worker)
        code = worker.process.exitcode
        reason = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= MOST_DEATHS:
                raise WorkError(f"the worker processes end before they can work ({reason}); is there enough memory?")
        for task in worker.tasks:
            yield Event(task, "died", message=f"its process ended ({reason})")


def _serve(job: str, connection: Connection) -> None:
    """Life of a worker process: says "" when it is ready, then answers every task with an event."""
    try:
        function = resolve(job)
    except InputError as error:
        connection.send(str(error))
        return
    # Whoever started it has gone when the pipe is closed.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send("")
        while True:
            connection.send(attempt(function, connection.recv()))


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """A process that is started meanwhile never sees Ctrl-C: whoever started it ends it. Ours comes a little later."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
