"""The modules that node files import: ``rclpy`` and its parts, message packages, ``ament_index_python``.

They are made by a finder at the start of ``sys.meta_path``: where this runtime was chosen, messages of a ROS
installation on the path (which its node class would refuse) must not come first.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from grasp_nodes.embedded import (
    clock,
    endpoints,
    errors,
    executor,
    logger,
    node,
    parameters,
    qos,
    types,
)
from grasp_nodes.embedded.context import Context, default_context, remove_ros_args
from grasp_nodes.embedded.errors import NotSupportedByEmbeddedRuntime

_global_executor: executor.SingleThreadedExecutor | None = None
_share: dict[str, Path] = {}


def init(*, args: Sequence[str] | None = None, context: Context | None = None) -> None:
    """Start ROS for this process; see :meth:`Context.init`."""
    (context or default_context).init(args)


def ok(*, context: Context | None = None) -> bool:
    """Started and not shut down?"""
    return (context or default_context).ok()


def shutdown(*, context: Context | None = None) -> None:
    """Stop ROS for this process."""
    _forget_global_executor()
    (context or default_context).shutdown()


def try_shutdown(*, context: Context | None = None) -> None:
    """Stop ROS for this process if that is not done yet."""
    _forget_global_executor()
    (context or default_context).try_shutdown()


def _forget_global_executor() -> None:
    global _global_executor
    _global_executor = None


def get_default_context() -> Context:
    """The process's context."""
    return default_context


def get_global_executor() -> executor.SingleThreadedExecutor:
    """The executor of :func:`spin` when none is given."""
    global _global_executor
    if _global_executor is None:
        _global_executor = executor.SingleThreadedExecutor()
    return _global_executor


def create_node(node_name: str, **options: Any) -> node.Node:
    """A plain node."""
    return node.Node(node_name, **options)


def spin(node: node.Node, executor: executor.Executor | None = None) -> None:
    """Run a node's callbacks until shutdown."""
    runner = executor or get_global_executor()
    try:
        runner.add_node(node)
        while runner.context.ok():
            runner.spin_once()
    finally:
        runner.remove_node(node)


def spin_once(node: node.Node, *, executor: executor.Executor | None = None, timeout_sec: float | None = None) -> None:
    """Run one callback of a node, waiting at most that long [s]."""
    runner = executor or get_global_executor()
    try:
        runner.add_node(node)
        runner.spin_once(timeout_sec)
    finally:
        runner.remove_node(node)


def spin_until_future_complete(
    node: node.Node,
    future: executor.Future,
    executor: executor.Executor | None = None,
    timeout_sec: float | None = None,
) -> None:
    """Run a node's callbacks until the future has ended or the time [s] is over."""
    runner = executor or get_global_executor()
    added = runner.add_node(node)
    try:
        runner.spin_until_future_complete(future, timeout_sec)
    finally:
        if added:
            runner.remove_node(node)


def serialize_message(message: types.Message) -> bytes:
    """The CDR bytes of a message."""
    return bytes(types.serialize(message))


def deserialize_message(data: bytes, message_type: type[types.Message]) -> Any:
    """The message in CDR bytes."""
    return types.deserialize(data, message_type.__msgtype__)


class PackageNotFoundError(KeyError):
    """No package of that name is known here."""


def get_package_share_directory(package: str) -> str:
    """The folder that holds a package's launch and configuration files.

    Raises:
        PackageNotFoundError: the package is not here.
    """
    if package not in _share:
        raise PackageNotFoundError(f"package {package!r} not found; without ROS 2 there is only {sorted(_share)}")
    return str(_share[package])


def add_share_directories(share: Mapping[str, Path]) -> None:
    """Make packages known to :func:`get_package_share_directory`."""
    _share.update(share)


def share_packages() -> list[str]:
    """Packages that are known to :func:`get_package_share_directory`."""
    return sorted(_share)


def _public(module: ModuleType, *names: str) -> dict[str, Any]:
    return {name: getattr(module, name) for name in names}


_RCLPY_ERRORS = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and value.__module__ == errors.__name__
}
_POLICIES = _public(
    qos, "ReliabilityPolicy", "DurabilityPolicy", "HistoryPolicy", "LivelinessPolicy", "QoSPolicyKind"
) | {f"QoS{name}": getattr(qos, name) for name in ("ReliabilityPolicy", "DurabilityPolicy", "HistoryPolicy")}
_EVENTS = _public(qos, "PublisherEventCallbacks", "SubscriptionEventCallbacks") | {
    "QoSRequestedIncompatibleQoSInfo": qos.IncompatibleQoSInfo,
    "QoSOfferedIncompatibleQoSInfo": qos.IncompatibleQoSInfo,
}

# module -> what can be imported from it
_MODULES: dict[str, dict[str, Any]] = {
    "rclpy": {
        f.__name__: f
        for f in (init, ok, shutdown, try_shutdown, spin, spin_once, spin_until_future_complete, create_node)
    }
    | {"get_default_context": get_default_context, "get_global_executor": get_global_executor}
    | {"Parameter": parameters.Parameter},
    "rclpy.callback_groups": _public(
        executor, "CallbackGroup", "MutuallyExclusiveCallbackGroup", "ReentrantCallbackGroup"
    ),
    "rclpy.client": {"Client": endpoints.Client},
    "rclpy.clock": _public(clock, "Clock", "ClockType", "ROSClock"),
    "rclpy.clock_type": {"ClockType": clock.ClockType},
    "rclpy.context": {"Context": Context},
    "rclpy.duration": {"Duration": clock.Duration},
    "rclpy.event_handler": _EVENTS,
    "rclpy.exceptions": _RCLPY_ERRORS,
    "rclpy.executors": _public(executor, "Executor", "SingleThreadedExecutor", "MultiThreadedExecutor")
    | _public(errors, "ExternalShutdownException", "ShutdownException", "TimeoutException"),
    "rclpy.guard_condition": {"GuardCondition": endpoints.GuardCondition},
    "rclpy.logging": _public(logger, "LoggingSeverity", "get_logger", "set_logger_level"),
    "rclpy.node": {"Node": node.Node},
    "rclpy.parameter": {"Parameter": parameters.Parameter, "parameter_value_to_python": parameters.value_from_msg},
    "rclpy.publisher": {"Publisher": endpoints.Publisher},
    "rclpy.qos": _POLICIES
    | _public(qos, "QoSProfile", "QoSPresetProfiles", "qos_profile_default", "qos_profile_system_default")
    | _public(qos, "qos_profile_sensor_data", "qos_profile_services_default", "qos_profile_parameters")
    | _public(qos, "qos_profile_parameter_events"),
    "rclpy.qos_event": _EVENTS,
    "rclpy.serialization": {"serialize_message": serialize_message, "deserialize_message": deserialize_message},
    "rclpy.service": {"Service": endpoints.Service},
    "rclpy.signals": {},
    "rclpy.subscription": {"Subscription": endpoints.Subscription},
    "rclpy.task": {"Future": executor.Future},
    "rclpy.time": {"Time": clock.Time},
    "rclpy.timer": {"Timer": endpoints.Timer},
    "rclpy.utilities": {
        "remove_ros_args": remove_ros_args,
        "ok": ok,
        "get_default_context": get_default_context,
        "try_shutdown": try_shutdown,
    },
    "ament_index_python": {"get_package_share_directory": get_package_share_directory},
    "ament_index_python.packages": {
        "get_package_share_directory": get_package_share_directory,
        "PackageNotFoundError": PackageNotFoundError,
    },
}


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and makes the modules of the embedded runtime.

    Args:
        packages: names of the message packages; collected beforehand, because a finder must not import anything.
    """

    def __init__(self, packages: set[str]) -> None:
        self._packages = packages

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, _target: object = None) -> Any:
        """The spec of one of our modules, or None.

        Raises:
            NotSupportedByEmbeddedRuntime: a part of rclpy that is not here.
            ModuleNotFoundError: messages of a ROS installation that is not in use.
        """
        top, _, rest = fullname.partition(".")
        if top in ("rclpy", "ament_index_python"):
            if fullname not in _MODULES:
                raise NotSupportedByEmbeddedRuntime(f"the module {fullname}")
        elif top not in self._packages or rest not in ("", "msg", "srv"):
            if rest and any(any(Path(folder).glob("*_s__rosidl_typesupport_*")) for folder in path or ()):
                raise ModuleNotFoundError(f"the embedded ROS runtime does not know {fullname}", name=fullname)
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin="embedded ROS runtime", is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Use Python's default."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill a module."""
        name = module.__name__
        if name in _MODULES:
            module.__dict__.update(_MODULES[name])
            module.__dict__["__getattr__"] = lambda attribute: _missing(name, attribute)
        elif "." in name:
            module.__dict__["__getattr__"] = lambda attribute: _interface(module, attribute)


def _missing(module: str, attribute: str) -> Any:
    if attribute.startswith("__") or f"{module}.{attribute}" in _MODULES:
        raise AttributeError(attribute)
    raise NotSupportedByEmbeddedRuntime(f"{module}.{attribute}")


def _interface(module: ModuleType, attribute: str) -> Any:
    """A message or service class, made at first use."""
    package, kind = module.__name__.split(".")
    name = f"{package}/{kind}/{attribute}"
    if not types.has_type(name):
        raise AttributeError(f"there is no {name}")
    is_service = kind == "srv" and name not in types.store().fielddefs
    found = types.service_class(name) if is_service else types.message_class(name)
    setattr(module, attribute, found)
    return found


def install_finder() -> None:
    """Put the finder, for all message packages that are known now, first on ``sys.meta_path``."""
    packages = types.packages()
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Finder)]
    sys.meta_path.insert(0, Finder(packages))
