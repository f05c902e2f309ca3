"""``grasp-nodes run``: one node in this process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from grasp_nodes.cli.runtime import prepare_runtime
from grasp_nodes.errors import InputError
from grasp_nodes.interrupts import interrupts_noted
from grasp_nodes.paths import PACKAGE_DIR

SUFFIX = "_node"


def node_names() -> list[str]:
    """Names of the nodes that travel with the package."""
    return sorted(path.stem for path in (PACKAGE_DIR / "nodes").glob(f"*{SUFFIX}.py"))


def run_node(name: str, arguments: Sequence[str]) -> int:
    """Run a node until it ends.

    Args:
        name: with or without the ending ``_node``.
        arguments: what the node is given, ``--ros-args`` and so on.

    Returns:
        Its exit code.

    Raises:
        InputError: there is no node of that name.
    """
    module = name if name.endswith(SUFFIX) else f"{name}{SUFFIX}"
    if module not in node_names():
        raise InputError(f"there is no node {name!r}; expected one of: {', '.join(node_names())}")
    prepare_runtime()
    # rclpy and the embedded runtime read the process's arguments, as under ros2 run.
    sys.argv = [module, *arguments]
    # Imports of large extensions swallow a KeyboardInterrupt, or die of it: Ctrl-C is heeded when they are done.
    with interrupts_noted():
        return int(import_module(f"grasp_nodes.nodes.{module}").main() or 0)
