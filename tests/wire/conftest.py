"""Two processes over DDS: this one, and a peer that runs a node file of its own."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from grasp_nodes import embedded
from grasp_nodes.paths import share_dir

os.environ["GRASP_NODES_ROS"] = "embedded"
os.environ["CYCLONEDDS_URI"] = embedded.loopback_uri()

SHARE = share_dir()
embedded.install({"grasp_msgs": [SHARE / "msg", SHARE / "srv"]}, {"grasp_nodes": SHARE})
PEER = Path(__file__).with_name("peer.py")


class Peer:
    """A node in another process; it says what happens to it as lines of JSON."""

    def __init__(self, *arguments):
        command = [sys.executable, str(PEER), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said = queue.Queue()
        self.errors = []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.said.put(json.loads(line))

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors.append(line)

    def wait_for(self, what, seconds=20.0):
        """The next thing of that kind that the peer says."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                said = self.said.get(timeout=0.05)
            except queue.Empty:
                assert self.process.poll() is None, "".join(self.errors)
                continue
            if what in said:
                return said[what]
        raise AssertionError(f"the peer never said {what!r}: {''.join(self.errors)}")

    def wait_for_error(self, text, seconds=10.0):
        """The line on the peer's standard error that contains a text."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = [line for line in self.errors if text in line]
            if found:
                return found[0]
            time.sleep(0.02)
        raise AssertionError(f"no line with {text!r} in {''.join(self.errors)}")


@pytest.fixture
def start_peer():
    """Start peers; they are ended with the test."""
    peers = []

    def start(*arguments):
        peers.append(Peer(*arguments))
        peers[-1].wait_for("ready")
        return peers[-1]

    yield start
    for peer in peers:
        peer.process.kill()
        peer.process.wait()


@pytest.fixture
def node():
    """A node in this process, spun by a thread."""
    import rclpy
    from rclpy.executors import ExternalShutdownException
    from rclpy.node import Node

    rclpy.init(args=[])
    node = Node("tester", namespace="/wire")

    def spin():
        try:
            rclpy.spin(node)
        except ExternalShutdownException:
            return

    thread = threading.Thread(target=spin)
    thread.start()
    yield node
    rclpy.shutdown()
    thread.join()


@pytest.fixture
def eventually():
    """Wait until a condition holds, and say whether it did."""

    def wait(condition, seconds=10.0):
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.01)
        return condition()

    return wait
