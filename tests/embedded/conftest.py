"""The embedded runtime on this machine's loopback, one fresh context per test."""

import os
from pathlib import Path

import pytest

from grasp_nodes import embedded
from grasp_nodes.paths import share_dir

os.environ["GRASP_NODES_ROS"] = "embedded"
os.environ["CYCLONEDDS_URI"] = embedded.loopback_uri()

SHARE = share_dir()
embedded.install({"grasp_msgs": [SHARE / "msg", SHARE / "srv"]}, {"grasp_nodes": SHARE})


@pytest.fixture
def ros():
    """rclpy, started without arguments, and stopped afterwards."""
    import rclpy

    rclpy.init(args=[])
    yield rclpy
    rclpy.try_shutdown()


@pytest.fixture
def spin_until():
    """Spin some nodes until a condition holds; says whether it did."""
    import time

    from rclpy.executors import SingleThreadedExecutor

    def spin(condition, *nodes, seconds=5.0):
        executor = SingleThreadedExecutor()
        for node in nodes:
            executor.add_node(node)
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            executor.spin_once(0.05)
        for node in nodes:
            executor.remove_node(node)
        executor.shutdown()
        return condition()

    return spin


@pytest.fixture
def parameter_file(tmp_path):
    """Write a parameter file."""

    def write(text: str) -> Path:
        path = tmp_path / "parameters.yaml"
        path.write_text(text)
        return path

    return write
