"""The embedded ROS runtime: ordinary rclpy node files and launch files run without a ROS 2 installation.

It is a subset of ROS 2 with the same behaviour, not a mock: the same topic and type names, type hashes, QoS,
discovery, services, parameters and command-line arguments on the wire (Cyclone DDS), so embedded nodes and real ones
work together. What it does not support raises :class:`NotSupportedByEmbeddedRuntime` with the remedy. It knows
nothing of the package that it serves: the caller says which message definitions and folders there are.

This file decides which ROS is used and makes the modules that node and launch files import. Reading order of the
rest: ``types`` (messages and their bytes), ``dds`` (the wire), ``executor``, ``parameters``, ``node``, ``launch``.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

CHOICE_VARIABLE = "GRASP_NODES_ROS"

# What can be imported from where, and the file of ours that has it. Everything else of these packages is refused.
MODULES: dict[str, tuple[str, str]] = {
    "rclpy": ("process", "init ok shutdown try_shutdown spin"),
    "rclpy.event_handler": ("vocabulary", "PublisherEventCallbacks SubscriptionEventCallbacks"),
    "rclpy.exceptions": ("vocabulary", "NameValidationException ParameterException"),
    "rclpy.executors": ("process", "SingleThreadedExecutor ExternalShutdownException"),
    "rclpy.logging": ("vocabulary", "get_logger"),
    "rclpy.node": ("node", "Node"),
    "rclpy.parameter": ("parameters", "Parameter"),
    "rclpy.qos": (
        "vocabulary",
        "QoSProfile ReliabilityPolicy DurabilityPolicy HistoryPolicy QoSPolicyKind qos_profile_sensor_data",
    ),
    "rclpy.serialization": ("types", "serialize_message deserialize_message"),
    "rclpy.signals": ("vocabulary", "SignalHandlerOptions"),
    "launch": ("launch_files", "LaunchDescription LaunchContext"),
    "launch.actions": ("launch_files", "DeclareLaunchArgument OpaqueFunction SetEnvironmentVariable Shutdown"),
    "launch.conditions": ("launch_files", "IfCondition UnlessCondition"),
    "launch.substitutions": (
        "launch_files",
        "EnvironmentVariable LaunchConfiguration PathJoinSubstitution TextSubstitution",
    ),
    "launch_ros": ("launch_files", ""),
    "launch_ros.actions": ("launch_files", "Node"),
    "launch_ros.parameter_descriptions": ("launch_files", "ParameterValue"),
    "launch_ros.substitutions": ("launch_files", "FindPackageShare"),
}

_share: dict[str, Path] = {}


class NotSupportedByEmbeddedRuntime(NotImplementedError):  # noqa: N818 - its name says it all
    """A part of ROS 2 that the embedded runtime does not provide; the message names it and the remedy."""

    def __init__(self, what: str, remedy: str = "install ROS 2 and source it") -> None:
        super().__init__(f"{what} is not supported by the embedded ROS runtime: {remedy}")


class LaunchError(ValueError):
    """A launch file or its arguments cannot be used; the message says why."""


def is_installed() -> bool:
    """Do imports of ``rclpy`` reach the embedded runtime in this process?"""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


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
    """Make ``import rclpy``, ``launch`` and the message packages work, unless a real ROS 2 is there.

    Args:
        message_packages: for each message package of ours, the folders with its ``.msg`` and ``.srv`` files.
        share: for each package, the folder that holds its launch and configuration files.

    Returns:
        True if the embedded runtime serves the imports, False if the real one does.

    Raises:
        NotSupportedByEmbeddedRuntime: the package cyclonedds is missing.
        ImportError: a real rclpy was imported before.
    """
    if is_real_ros_available():
        return False
    if "rclpy" in sys.modules and not is_installed():
        raise ImportError(f"{CHOICE_VARIABLE}=embedded, but the real rclpy is imported already")
    if importlib.util.find_spec("cyclonedds") is None:
        raise NotSupportedByEmbeddedRuntime(
            "running without the package cyclonedds", "pip install 'grasp_nodes[embedded]', or install ROS 2"
        )
    from grasp_nodes.embedded import types

    for package, folders in message_packages.items():
        types.register_package(package, folders)
    _share.update(share or {})
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    sys.meta_path.insert(0, _Finder(types.packages()))
    return True


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and makes the modules of the embedded runtime.

    It stands at the start of ``sys.meta_path``: where this runtime was chosen, messages of a ROS installation on the
    path (which its nodes would refuse) must not come first. The names of the message packages are collected
    beforehand, because a finder must not import anything.
    """

    def __init__(self, message_packages: set[str]) -> None:
        self._message_packages = message_packages

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, _target: object = None) -> Any:
        top, _, rest = fullname.partition(".")
        if top in ("rclpy", "launch", "launch_ros"):
            if fullname not in MODULES:
                raise NotSupportedByEmbeddedRuntime(f"the module {fullname}")
        elif top not in self._message_packages or rest not in ("", "msg", "srv"):
            if rest and any(any(Path(folder).glob("*_s__rosidl_typesupport_*")) for folder in path or ()):
                raise ModuleNotFoundError(f"the embedded ROS runtime does not know {fullname}", name=fullname)
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin="embedded ROS runtime", is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Python's default module."""

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if name in MODULES:
            file, names = MODULES[name]
            source = importlib.import_module(f"{__name__}.{file}")
            module.__dict__.update({item: getattr(source, item) for item in names.split()})
            module.__dict__["__getattr__"] = lambda attribute: _refuse(name, attribute)
        elif "." in name:
            module.__dict__["__getattr__"] = lambda attribute: _interface(module, attribute)


def _refuse(module: str, attribute: str) -> Any:
    if attribute.startswith("__") or f"{module}.{attribute}" in MODULES:
        raise AttributeError(attribute)
    raise NotSupportedByEmbeddedRuntime(f"{module}.{attribute}")


def _interface(module: ModuleType, attribute: str) -> Any:
    """A message or service class, made at first use."""
    from grasp_nodes.embedded import types

    name = f"{module.__name__.replace('.', '/')}/{attribute}"
    if name in types.store().fielddefs:
        found: Any = types.message_class(name)
    elif f"{name}_Request" in types.store().fielddefs:
        found = types.service_class(name)
    else:
        raise AttributeError(f"there is no {name}")
    setattr(module, attribute, found)
    return found


def loopback_uri() -> str:
    """Value for ``CYCLONEDDS_URI`` that keeps all traffic on this machine, without multicast."""
    try:
        # Cyclone fails to start when it is asked for more than the kernel grants.
        buffer = min(4_000_000, int(Path("/proc/sys/net/core/rmem_max").read_text(encoding="ascii")))
    except OSError:
        buffer = 200_000
    return (
        '<CycloneDDS><Domain Id="any"><General><Interfaces><NetworkInterface name="lo" multicast="false"/></Interfaces>'
        "<AllowMulticast>false</AllowMulticast><MaxMessageSize>65500B</MaxMessageSize></General><Discovery>"
        "<ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>60</MaxAutoParticipantIndex>"
        '<Peers><Peer address="127.0.0.1"/></Peers></Discovery>'
        f'<Internal><SocketReceiveBufferSize min="{buffer}B"/></Internal></Domain></CycloneDDS>'
    )


def launch_file(path: Path | str, arguments: Mapping[str, str] | None = None, *, runner: Sequence[str]) -> int:
    """Run a ``*.launch.py`` file until all its processes have ended; :func:`install` comes first.

    Args:
        path: the file.
        arguments: launch arguments by name.
        runner: command that runs an executable of ours; the executable's name and arguments are appended.

    Returns:
        Exit code: 0 if every process ended well (or was ended by us and obeyed), else 1.

    Raises:
        FileNotFoundError: there is no such file.
        LaunchError: an argument is unknown, missing or not a valid choice, or the file is not usable.
        NotSupportedByEmbeddedRuntime: the file uses something that only a real ROS 2 can do.
    """
    from grasp_nodes.embedded import launch

    return launch.run_file(Path(path), dict(arguments or {}), list(runner), _share)


def show_arguments(path: Path | str) -> str:
    """The arguments of a launch file as ``ros2 launch --show-args`` prints them."""
    from grasp_nodes.embedded import launch

    return launch.show_arguments(Path(path), _share)
