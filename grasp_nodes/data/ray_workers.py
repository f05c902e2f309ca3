"""The workers of `workers.py` on a Ray cluster: any number of hosts, each with this package installed."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any

from grasp_nodes.data.workers import ONE_THREAD, Event, Task, WorkError, attempt, resolve
from grasp_nodes.errors import InputError, MissingDependencyError

LOCAL = "local"
"""Address that starts a cluster of this machine alone."""
_PER_CPU = 2
"""Tasks handed to the cluster per processor: the next one is there when one ends."""
_CONNECT_SECONDS = 10.0
_STARTS = 2
_REMEDY = (
    "start a cluster with 'ray start --head' and give the address that it prints, or give 'local'; for a cluster that "
    "asks for a token (Ray 2.59 and newer) set RAY_AUTH_MODE=token"
)
_LOCAL_STORE = 100_000_000  # bytes of shared memory; a task's answer has some ten kilobytes


class RayWorkers:
    """The job as Ray tasks, one processor and one thread each."""

    def __init__(self, job: str, address: str, count: int | None = None, gpus: float = 0.0, memory: int = 0) -> None:
        """Connect.

        Args:
            job: ``module:function``, importable on every host. address: ``local``, or a cluster's as ``ray.init`` takes
                it (``auto``, ``host:6379``, ``ray://host:10001``).
            count: tasks at once; None = as many as the cluster has processors.
            gpus: of a task, may be a part of one. memory: bytes of a task, 0 = not said. Ray starts a task where both
                are free.

        Raises:
            MissingDependencyError: no Ray. InputError: no cluster at that address, or one of another version.
            WorkError: a local one does not start.
        """
        # No word leaves the network that the user named.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(
                "several hosts work together through Ray: pip install 'grasp_nodes[scale]'"
            ) from error
        self._ray, self._count = ray, count
        if address == LOCAL:
            self._start_local()
        else:
            self._connect(address)
        needs: dict[str, Any] = {**({"num_gpus": gpus} if gpus else {}), **({"memory": memory} if memory else {})}
        self._remote = ray.remote(num_cpus=1, max_retries=0, **needs)(_attempt)
        self._job = job
        self._pending: dict[Any, Task] = {}

    def _connect(self, address: str) -> None:
        _check_reachable(address)
        try:
            self._init(address, ONE_THREAD)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise InputError(
                f"--ray {address}: no cluster of Ray {self._ray.__version__} can be used there ({_first_line(error)}); "
                f"{_REMEDY}"
            ) from error

    def _start_local(self) -> None:
        # On this machine the workers import what this process imports; other hosts have their own installation.
        folders = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        environment = {**ONE_THREAD, "PYTHONPATH": folders}
        for start in range(1, _STARTS + 1):
            try:
                self._init(
                    LOCAL, environment, num_cpus=self._count, include_dashboard=False, object_store_memory=_LOCAL_STORE
                )
                return
            except Exception as error:  # Ray raises this very class where its own parts start too slowly
                self._ray.shutdown()
                if start == _STARTS:
                    raise WorkError(
                        f"Ray {self._ray.__version__} does not start on this machine ({_first_line(error)}); is it "
                        "busy with something else? Without --ray the set is the same"
                    ) from error

    def _init(self, address: str, environment: dict[str, str], **more: Any) -> None:
        self._ray.init(
            address=address,
            runtime_env={"env_vars": environment},
            log_to_driver=False,
            logging_level=logging.ERROR,
            **more,
        )

    def room(self) -> int:
        """How many more tasks can be taken now; the cluster may grow."""
        if self._count is not None:
            return self._count - len(self._pending)
        processors = int(self._ray.cluster_resources().get("CPU", 1))
        return _PER_CPU * max(processors, 1) - len(self._pending)

    def submit(self, task: Task) -> None:
        """Hand the task to the cluster."""
        self._pending[self._remote.remote(self._job, task)] = task

    def wait(self, seconds: float) -> list[Event]:
        """What ended; waits for it no longer than so many seconds.

        Raises:
            WorkError: the cluster is lost.
        """
        try:
            ended, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=seconds)
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            raise WorkError(f"the Ray cluster is lost ({_first_line(error)})") from error
        return [self._event(reference) for reference in ended]

    def close(self) -> None:
        """Cancel what is being done, and leave the cluster (or end it, if it is our own)."""
        for reference in self._pending:
            with contextlib.suppress(self._ray.exceptions.RayError, ConnectionError, ValueError):
                self._ray.cancel(reference, force=True)
        self._pending.clear()
        self._ray.shutdown()

    def _event(self, reference: Any) -> Event:
        task = self._pending.pop(reference)
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            return Event(task, "error", message=str(error))
        except self._ray.exceptions.RayError as error:
            return Event(task, "died", message=f"its Ray worker was lost ({_first_line(error)})")


def _check_reachable(address: str) -> None:
    """Ray itself would try a dead address for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--ray {address}: nothing answers there ({error}); {_REMEDY}") from error


def _attempt(job: str, task: Task) -> Event:
    return attempt(resolve(job), task)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
