"""Which ROS 2 this process uses: the installed one, or the runtime that travels with the package."""

from __future__ import annotations

import importlib.util
import os
from typing import Literal

from grasp_nodes.errors import InputError, MissingDependencyError
from grasp_nodes.paths import share_dir

VARIABLE = "GRASP_NODES_ROS"

Runtime = Literal["real", "embedded"]


def chosen_runtime() -> Runtime:
    """The installed ROS 2 where `rclpy` can be imported, else the embedded runtime; $GRASP_NODES_ROS decides.

    Raises:
        InputError: the variable is neither real nor embedded.
        MissingDependencyError: it says real, and there is no rclpy.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "real", "embedded"):
        raise InputError(f"{VARIABLE}: expected real or embedded, got {wanted!r}")
    if wanted == "embedded":
        return "embedded"
    if importlib.util.find_spec("rclpy") is not None:
        return "real"
    if wanted == "real":
        raise MissingDependencyError(
            f"{VARIABLE}=real, but rclpy cannot be imported: source the ROS 2 installation "
            "(source /opt/ros/$ROS_DISTRO/setup.bash) in this shell, with the same Python version"
        )
    return "embedded"


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
        from grasp_nodes import embedded

        share = share_dir()
        embedded.install(message_packages={"grasp_msgs": [share / "msg", share / "srv"]}, share={"grasp_nodes": share})
    return runtime
