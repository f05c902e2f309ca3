"""The embedded ROS runtime: ordinary rclpy node files and launch files run without a ROS 2 installation.

It is a subset of ROS 2 with the same behaviour, not a mock: the same topic and type names, type hashes, QoS,
discovery, services, parameters and command-line arguments on the wire (Cyclone DDS), so embedded nodes and real ones
work together. What it does not support raises :class:`NotSupportedByEmbeddedRuntime` with the remedy. It knows
nothing of the package that it serves: the caller says which message definitions and folders there are.

Reading order: ``types`` (messages and their bytes), ``dds`` (the wire), ``endpoints`` and ``node`` (what a node is made
of), ``executor`` and ``context`` (what runs it), ``parameters``, ``modules`` (what node files import), ``launch``.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from grasp_nodes.embedded.errors import LaunchError, NotSupportedByEmbeddedRuntime

__all__ = [
    "LaunchError",
    "NotSupportedByEmbeddedRuntime",
    "install",
    "is_installed",
    "is_real_ros_available",
    "launch_file",
    "loopback_uri",
    "show_arguments",
]

CHOICE_VARIABLE = "GRASP_NODES_ROS"


def is_installed() -> bool:
    """Do imports of ``rclpy`` reach the embedded runtime in this process?"""
    return any(type(finder).__module__ == f"{__name__}.modules" for finder in sys.meta_path)


def is_real_ros_available() -> bool:
    """Is the real rclpy to be used? ``$GRASP_NODES_ROS`` (real or embedded) decides, else whether it can be imported.

    Raises:
        ValueError: the variable says something else.
        ImportError: it says real, and there is no rclpy.
    """
    choice = os.environ.get(CHOICE_VARIABLE, "")
    if choice not in ("", "real", "embedded"):
        raise ValueError(f"{CHOICE_VARIABLE}={choice!r}: expected 'real' or 'embedded', or leave it unset")
    if choice == "embedded":
        return False
    found = not is_installed() and importlib.util.find_spec("rclpy") is not None
    if choice == "real" and not found:
        raise ImportError(f"{CHOICE_VARIABLE}=real, but rclpy cannot be imported: source a ROS 2 installation first")
    return found


def install(message_packages: Mapping[str, Sequence[Path]], share: Mapping[str, Path] | None = None) -> bool:
    """Make ``import rclpy`` and the message packages work, unless a real ROS 2 is there.

    Args:
        message_packages: for each message package of ours, the folders with its ``.msg`` and ``.srv`` files.
        share: for each package, the folder that holds its launch and configuration files.

    Returns:
        True if the embedded runtime serves the imports, False if the real one does.

    Raises:
        NotSupportedByEmbeddedRuntime: the package cyclonedds is missing.
        ValueError: a message definition is not usable.
    """
    if is_real_ros_available():
        return False
    if os.environ.get(CHOICE_VARIABLE) == "embedded" and "rclpy" in sys.modules and not is_installed():
        raise ImportError(f"{CHOICE_VARIABLE}=embedded, but the real rclpy is imported already")
    from grasp_nodes.embedded import modules, types

    for package, folders in message_packages.items():
        types.register_package(package, folders)
    modules.add_share_directories(share or {})
    modules.install_finder()
    return True


def loopback_uri() -> str:
    """Value for ``CYCLONEDDS_URI`` that keeps all traffic on this machine, without multicast."""
    from grasp_nodes.embedded import dds

    return dds.loopback_uri()


def launch_file(path: Path | str, arguments: Mapping[str, str] | None = None, *, runner: Sequence[str]) -> int:
    """Run a ``*.launch.py`` file until all its processes have ended; see :mod:`grasp_nodes.embedded.launch`.

    Args:
        path: the file.
        arguments: launch arguments by name.
        runner: command that runs an executable of ours; the executable's name and arguments are appended.

    Returns:
        Exit code: 0 if every process ended well, else 1.
    """
    from grasp_nodes.embedded import launch

    return launch.launch_file(Path(path), dict(arguments or {}), list(runner))


def show_arguments(path: Path | str) -> str:
    """The arguments of a launch file as ``ros2 launch --show-args`` prints them."""
    from grasp_nodes.embedded import launch

    return launch.show_arguments(Path(path))
