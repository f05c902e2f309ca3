"""One node as a process: ROS is started, the node made, spun until it has finished or is told to stop, and closed."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions

from grasp_nodes.errors import GraspNodesError
from grasp_nodes.interrupts import Interrupts, interrupts_noted
from grasp_nodes.nodes.node_base import GraspNode

_LOOK_S = 0.2
"""s after which an idle node looks whether it is to stop."""


def run_node(factory: Callable[[], GraspNode[Any]], args: list[str] | None = None) -> int:
    """Start ROS, make the node, spin until it has finished or is told to stop, and clean up.

    Ctrl-C and SIGTERM end the spinning after the callback that runs, which can look at `GraspNode.asked_to_stop`; a
    second one, after half a second, breaks off the callback; nothing breaks off the making and the closing of the node.
    ROS stays up until it has closed.

    Returns:
        Exit code: 0 done or stopped, 1 failed, 2 bad arguments or parameters.
    """
    with interrupts_noted() as interrupts:
        code = 0 if interrupts() else _run(factory, args, interrupts)
    # The collector's last rounds over torch's objects would take most of the time that the process needs to end.
    gc.freeze()
    return code


def _run(factory: Callable[[], GraspNode[Any]], args: list[str] | None, interrupts: Interrupts) -> int:
    try:
        # Of arguments that it does not understand the installed rclpy says RuntimeError, the embedded one ValueError.
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except (RuntimeError, ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    try:
        node = factory()
    except (GraspNodesError, ParameterException, NameValidationException, ValueError, OSError) as error:
        get_logger("grasp_nodes").fatal(str(error))
        rclpy.try_shutdown()
        return 2
    node.asked_to_stop = interrupts
    try:
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        interrupts.are_urgent = True
        while rclpy.ok() and not node.finished.is_set() and not interrupts():
            executor.spin_once(timeout_sec=_LOOK_S)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        interrupts.are_urgent = False
        has_ended = node.close()
        node.destroy_node()
        rclpy.try_shutdown()
    if not has_ended:
        # A thread deep inside a numerical library: the interpreter would wait for it or crash while it unloads.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(node.exit_code)
    return node.exit_code
