"""A node's process: how Ctrl-C and SIGTERM end it, and when."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import rclpy

from grasp_nodes.cli import running
from grasp_nodes.errors import InputError
from grasp_nodes.nodes.node_base import GraspNode
from grasp_nodes.nodes.parameters import OutputParameters
from grasp_nodes.nodes.process import run_node

SIGNALS = [signal.SIGINT, signal.SIGTERM]


def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)
        time.sleep(0.01)


class Noting(GraspNode[OutputParameters]):
    """Notes what it comes to. signals: it is sent while its callback works; late: while it closes."""

    def __init__(self, steps, signals=None, late=()):
        super().__init__("noting", OutputParameters)
        self.steps, self.signals, self.late = steps, signals, late
        if signals is not None:
            self.create_timer(0.0, self.work)

    def work(self):
        send(*self.signals)
        self.steps.append("worked")

    def close(self):
        send(*self.late)
        self.steps.append("closed" if rclpy.ok() else "closed without ROS")
        return True


@pytest.fixture(autouse=True)
def unfrozen():
    """Give the collector back what the end of a process takes from it."""
    yield
    gc.unfreeze()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_waits_for_the_callback_that_runs_and_ros_for_the_node(number):
    steps = []
    before = signal.getsignal(number)
    assert run_node(lambda: Noting(steps, [number]), []) == 0
    assert steps == ["worked", "closed"]
    assert not rclpy.ok()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", SIGNALS)
def test_an_idle_node_ends(number):
    steps, ends = [], []

    def send_when_idle(node):
        while node.executor is None:
            time.sleep(0.01)
        time.sleep(0.1)
        ends.append(time.monotonic())
        send(number)

    def factory():
        node = Noting(steps)
        threading.Thread(target=send_when_idle, args=[node]).start()
        return node

    assert run_node(factory, []) == 0
    assert time.monotonic() - ends[0] < 5
    assert steps == ["closed"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_wish_breaks_the_callback_off_and_the_node_still_closes(second):
    steps = []
    assert run_node(lambda: Noting(steps, [signal.SIGINT, second]), []) == 0
    assert steps == ["closed"]


@pytest.mark.usefixtures("impatient")
def test_nothing_breaks_the_closing_off():
    steps = []
    assert run_node(lambda: Noting(steps, [signal.SIGINT], SIGNALS * 2), []) == 0
    assert steps == ["worked", "closed"]
    assert not rclpy.ok()


@pytest.mark.usefixtures("impatient")
def test_a_node_that_is_being_made_is_made_and_closed():
    steps = []

    def factory():
        send(*SIGNALS)
        return Noting(steps)

    assert run_node(factory, []) == 0
    assert steps == ["closed"]


def test_a_node_that_has_finished_ends_with_its_code():
    def factory():
        node = Noting([])
        node.exit_code = 1
        node.finished.set()
        return node

    assert run_node(factory, []) == 1


def test_a_node_that_cannot_be_made_says_why(capfd):
    def factory():
        raise InputError("no such thing")

    assert run_node(factory, []) == 2
    assert "no such thing" in capfd.readouterr().err
    assert not rclpy.ok()


def test_ctrl_c_while_a_node_is_imported_is_not_lost(monkeypatch):
    steps = []

    def import_swallowing(name):
        # As the imports of large extensions do, this one swallows the exception that Ctrl-C raises.
        try:
            send(signal.SIGINT)
        except KeyboardInterrupt:
            steps.append("swallowed")
        steps.append(name)
        return SimpleNamespace(main=lambda: run_node(lambda: Noting(steps), []))

    monkeypatch.setattr(running.sys, "argv", [])
    monkeypatch.setattr(running, "import_module", import_swallowing)
    assert running.run_node("report_node", []) == 0
    assert steps == ["grasp_nodes.nodes.report_node"]


@pytest.mark.processes
@pytest.mark.parametrize("number", SIGNALS)
def test_a_process_ends_cleanly(number):
    command = [sys.executable, "-m", "grasp_nodes", "run", "report_node"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        first = process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(number)
        rest, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, first + rest
    assert "Traceback" not in first + rest
