"""Processes of a graph on a DDS domain of its own, and a node that counts what passes. For `robustness`."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from grasp_nodes import embedded
from grasp_nodes.paths import share_dir

PATIENCE_S = 300.0
"""How long anything is waited for: nodes compile their numerical code at their first run."""


def isolated(domain: int | None = None) -> dict[str, str]:
    """Environment of a graph that nothing else on this machine or network joins."""
    number = random.SystemRandom().randrange(1, 200) if domain is None else domain
    settings = {"GRASP_NODES_ROS": "embedded", "CYCLONEDDS_URI": embedded.loopback_uri(), "ROS_DOMAIN_ID": str(number)}
    return {**os.environ, **settings, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def wait_for(is_so: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> float:
    """Seconds until something is so.

    Raises:
        TimeoutError: it did not become so.
    """
    begin = time.monotonic()
    while not is_so():
        if time.monotonic() - begin > seconds:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.02)
    return time.monotonic() - begin


class Processes:
    """Nodes as processes; all are ended at the end."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.running: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, command: list[str]) -> subprocess.Popen[str]:
        """Start a process under a name."""
        process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.running[name] = process
        return process

    def node(self, name: str, *arguments: str, namespace: str = "") -> subprocess.Popen[str]:
        """Start one of the package's nodes with ``name:=value`` parameters."""
        parameters = [word for argument in arguments for word in ("-p", argument)]
        placed = ["-r", f"__ns:={namespace}"] if namespace else []
        command = [sys.executable, "-m", "grasp_nodes", "run", name, "--ros-args", *placed, *parameters]
        return self.start(f"{namespace}/{name}" if namespace else name, command)

    def kill(self, name: str) -> None:
        """Kill -9."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def all_alive(self) -> bool:
        """Whether none has ended."""
        return all(process.poll() is None for process in self.running.values())

    def memory_mb(self) -> dict[str, float]:
        """Resident memory by name."""
        import psutil

        return {name: psutil.Process(one.pid).memory_info().rss / 1e6 for name, one in self.running.items()}

    def close(self) -> None:
        """End all: SIGINT, and SIGKILL for those that do not obey."""
        for process in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        for process in self.running.values():
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Monitor:
    """A node that counts messages. It is made once in a process, whose environment says the domain."""

    def __init__(self, topics: dict[str, tuple[str, str]]) -> None:
        """Subscribe; topics: name -> package and message."""
        import importlib

        share = share_dir()
        embedded.install({"grasp_msgs": [share / "msg", share / "srv"]}, {"grasp_nodes": share})
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node

        rclpy.init(args=[])
        self.node = Node("monitor")
        self.counts: Counter[str] = Counter()
        self._publishers: dict[str, Any] = {}
        for topic, (package, name) in topics.items():
            kind = getattr(importlib.import_module(f"{package}.msg"), name)
            self.node.create_subscription(kind, topic, self._counter(topic), 200, raw=True)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _counter(self, topic: str) -> Callable[[Any], None]:
        def count(_: Any) -> None:
            self.counts[topic] += 1

        return count

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(0.05)

    def next_of(self, topic: str, seconds: float = PATIENCE_S) -> float:
        """Seconds until another message comes."""
        before = self.counts[topic]
        return wait_for(lambda: self.counts[topic] > before, f"a message on {topic}", seconds)

    def listeners(self, topic: str, package: str, name: str) -> int:
        """How many subscribers a topic has, this monitor's own among them."""
        import importlib

        if topic not in self._publishers:
            kind = getattr(importlib.import_module(f"{package}.msg"), name)
            self._publishers[topic] = self.node.create_publisher(kind, topic, 1)
        return int(self._publishers[topic].get_subscription_count())

    def call(self, service: str, kind: Any, seconds: float = 30.0) -> Any:
        """Answer of a service without arguments."""
        client = self.node.create_client(kind, service)
        wait_for(lambda: client.wait_for_service(0), f"service {service}", seconds)
        future = client.call_async(kind.Request())
        wait_for(future.done, f"an answer of {service}", seconds)
        return future.result()

    def close(self) -> None:
        """Leave the graph."""
        self._stop.set()
        self._thread.join()


@contextlib.contextmanager
def graph(topics: dict[str, tuple[str, str]]) -> Iterator[tuple[Processes, Monitor]]:
    """Processes and a monitor on this process's domain."""
    processes, monitor = Processes(dict(os.environ)), Monitor(topics)
    try:
        yield processes, monitor
    finally:
        processes.close()
        monitor.close()
