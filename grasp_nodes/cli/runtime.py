"""Which ROS 2 this process uses: the installed one, or the runtime that travels with the package."""

from __future__ import annotations

import importlib.util
import sys
from typing import Literal

from grasp_nodes import embedded
from grasp_nodes.errors import InputError, MissingDependencyError
from grasp_nodes.paths import share_dir

Runtime = Literal["real", "embedded"]

NODE_RUNNER = (sys.executable, "-m", "grasp_nodes", "run")
"""Command that the embedded launcher puts before a node's name and arguments."""


def chosen_runtime() -> Runtime:
    """The installed ROS 2 where `rclpy` can be imported, else the embedded runtime; $GRASP_NODES_ROS decides.

    Raises:
        InputError: the variable is neither real nor embedded.
        MissingDependencyError: it says real, and there is no rclpy.
    """
    try:
        return "real" if embedded.is_real_ros_available() else "embedded"
    except ValueError as error:
        raise InputError(str(error)) from error
    except ImportError as error:
        raise MissingDependencyError(str(error)) from error


def prepare_runtime() -> Runtime:
    """Make `rclpy`, the message packages and `launch` importable in this process.

    Raises:
        InputError: as `chosen_runtime`.
        MissingDependencyError: neither ROS 2 nor Cyclone DDS is installed.
    """
    runtime = chosen_runtime()
    if runtime == "embedded":
        if importlib.util.find_spec("cyclonedds") is None:
            raise MissingDependencyError(
                "nodes need a ROS 2 installation or the embedded runtime: run  pip install 'grasp_nodes[embedded]'"
            )
        share = share_dir()
        folders = [share / "msg", share / "srv"]
        embedded.install(message_packages={"grasp_msgs": folders}, share={"grasp_nodes": share})
    return runtime
