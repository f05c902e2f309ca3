"""A node's process: how Ctrl-C and SIGTERM end it, and when."""

import gc
import os
import signal
import time
from types import SimpleNamespace

import pytest
import rclpy

from grasp_nodes.cli import running
from grasp_nodes.nodes.node_base import GraspNode
from grasp_nodes.nodes.parameters import OutputParameters
from grasp_nodes.nodes.process import run_node


class Busy(GraspNode[OutputParameters]):
    """Notes what it comes to; its callback is sent signals while it works."""

    def __init__(self, steps, signals=()):
        super().__init__("busy", OutputParameters)
        self.steps, self.signals = steps, signals
        self.create_timer(0.0, self.work)

    def work(self):
        for number in self.signals:
            os.kill(os.getpid(), number)
        time.sleep(0.01)
        self.steps.append("worked")

    def close(self):
        self.steps.append("closed" if rclpy.ok() else "closed without ROS")
        return True


@pytest.fixture(autouse=True)
def unfrozen():
    """Give the collector back what the end of a process takes from it."""
    yield
    gc.unfreeze()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_callback_that_runs_and_ros_for_the_node(number):
    steps = []
    before = signal.getsignal(number)
    assert run_node(lambda: Busy(steps, [number]), []) == 0
    assert steps == ["worked", "closed"]
    assert not rclpy.ok()
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_does_not_wait_and_the_node_still_closes():
    steps = []
    assert run_node(lambda: Busy(steps, [signal.SIGINT, signal.SIGINT]), []) == 0
    assert steps == ["closed"]


def test_a_node_that_has_finished_ends_with_its_code():
    def factory():
        node = Busy([])
        node.exit_code = 1
        node.finished.set()
        return node

    assert run_node(factory, []) == 1


def test_ctrl_c_while_a_node_is_imported_is_not_lost(monkeypatch):
    steps = []

    def import_module(name):
        # As the imports of large extensions do, this one swallows the exception that Ctrl-C raises.
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            steps.append("swallowed")
        return SimpleNamespace(main=lambda: run_node(lambda: Busy(steps), []))

    monkeypatch.setattr(running.sys, "argv", [])
    monkeypatch.setattr(running.importlib, "import_module", import_module)
    assert running.run_node("report_node", []) == 0
    assert steps == ["closed"]
