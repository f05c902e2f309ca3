"""What launch files import: the part of ``launch`` and ``launch_ros`` that our launch files need.

Descriptions are executed in order by :mod:`grasp_nodes.embedded.launch`; what is not here is refused by name.
"""

# ruff: noqa: N802 - the names are those of launch

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from grasp_nodes.embedded import LaunchError, NotSupportedByEmbeddedRuntime
from grasp_nodes.embedded.parameters import parse_value

if TYPE_CHECKING:
    from grasp_nodes.embedded.launch import Launcher

_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class LaunchContext:
    """What a launch file is evaluated with."""

    def __init__(self, arguments: Mapping[str, str], share: Mapping[str, Path], launcher: Launcher) -> None:
        self.launch_configurations = dict(arguments)
        self.environment = dict(os.environ)
        self.share = share
        self.launcher = launcher


@dataclass(frozen=True)
class Substitution:
    """Text that is known when the launch file runs; LaunchError where there is none."""

    perform: Callable[[LaunchContext], str]


def to_text(value: Any, context: LaunchContext) -> str:
    """The text of a string, a substitution, or a sequence of those joined together."""
    if isinstance(value, Substitution):
        return value.perform(context)
    if isinstance(value, (list, tuple)):
        return "".join(to_text(item, context) for item in value)
    if isinstance(value, (str, Path)):
        return str(value)
    raise LaunchError(f"expected text or a substitution, got {value!r:.80}")


def TextSubstitution(*, text: str) -> Substitution:
    """Fixed text."""
    return Substitution(lambda _context: text)


def LaunchConfiguration(variable_name: str) -> Substitution:
    """The value of a launch argument."""

    def perform(context: LaunchContext) -> str:
        if variable_name not in context.launch_configurations:
            raise LaunchError(f"launch configuration {variable_name!r} does not exist: declare it as an argument")
        return context.launch_configurations[variable_name]

    return Substitution(perform)


def EnvironmentVariable(name: str, *, default_value: str | None = None) -> Substitution:
    """The value of an environment variable, else the default."""

    def perform(context: LaunchContext) -> str:
        value = context.environment.get(name, default_value)
        if value is None:
            raise LaunchError(f"environment variable {name} is not set")
        return value

    return Substitution(perform)


def PathJoinSubstitution(substitutions: Iterable[Any]) -> Substitution:
    """Path parts joined."""
    parts = list(substitutions)
    return Substitution(lambda context: str(Path(*(to_text(part, context) for part in parts))))


def FindPackageShare(package: str) -> Substitution:
    """The folder with a package's launch and configuration files."""

    def perform(context: LaunchContext) -> str:
        if package not in context.share:
            raise LaunchError(f"package {package!r} not found: without ROS 2 there is only {[*context.share]}")
        return str(context.share[package])

    return Substitution(perform)


Condition = Callable[["LaunchContext"], bool]


def IfCondition(predicate_expression: Any) -> Condition:
    """Holds if the text is true."""

    def holds(context: LaunchContext) -> bool:
        text = to_text(predicate_expression, context).strip().lower()
        if text not in _TRUTH:
            raise LaunchError(f"a condition must be one of {', '.join(_TRUTH)}, got {text!r}")
        return _TRUTH[text]

    return holds


def UnlessCondition(predicate_expression: Any) -> Condition:
    """Holds if the text is false."""
    holds = IfCondition(predicate_expression)
    return lambda context: not holds(context)


class Action:
    """Something that a launch file does."""

    def __init__(
        self, execute: Callable[[LaunchContext], None], *, condition: Condition | None = None, **unsupported: Any
    ) -> None:
        for option in unsupported:
            raise NotSupportedByEmbeddedRuntime(f"the option {option!r} of an action in a launch file")
        self.execute = execute
        self.condition = condition


def execute_all(actions: Iterable[Any], context: LaunchContext) -> None:
    """Do those actions in order whose condition holds."""
    for action in actions:
        if not isinstance(action, Action):
            raise NotSupportedByEmbeddedRuntime(f"{type(action).__name__} in a launch file")
        if action.condition is None or action.condition(context):
            action.execute(context)


class LaunchDescription:
    """A list of actions."""

    def __init__(self, initial_entities: Iterable[Any] = ()) -> None:
        self.entities = list(initial_entities)


class DeclareLaunchArgument(Action):
    """Gives a launch file an argument."""

    def __init__(
        self,
        name: str,
        *,
        default_value: Any = None,
        description: str = "no description given",
        choices: Iterable[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(self._execute, **options)
        self.name = name
        self.default_value = default_value
        self.description = description
        self.choices = list(choices) if choices is not None else None

    def _execute(self, context: LaunchContext) -> None:
        """Take the default if nothing was given, and check the value."""
        values = context.launch_configurations
        if self.name not in values:
            if self.default_value is None:
                raise LaunchError(
                    f"launch argument {self.name!r} is required ({self.description}): give {self.name}:=VALUE"
                )
            values[self.name] = to_text(self.default_value, context)
        if self.choices is not None and values[self.name] not in self.choices:
            raise LaunchError(f"launch argument {self.name}:={values[self.name]!r}: valid choices are {self.choices}")


def SetEnvironmentVariable(name: str, value: Any, **options: Any) -> Action:
    """Sets a variable for the processes that follow."""

    def execute(context: LaunchContext) -> None:
        context.environment[name] = to_text(value, context)

    return Action(execute, **options)


def OpaqueFunction(*, function: Callable[[LaunchContext], Iterable[Any] | None], **options: Any) -> Action:
    """A function that returns the actions to do."""
    return Action(lambda context: execute_all(function(context) or (), context), **options)


def Shutdown(*, reason: str = "reason not given", **options: Any) -> Action:
    """Ends the launch."""
    return Action(lambda context: context.launcher.shutdown(reason), **options)


@dataclass(frozen=True)
class ParameterValue:
    """A parameter's value with its type (``launch_ros.parameter_descriptions``)."""

    value: Any
    value_type: type


def evaluate_parameter(value: Any, context: LaunchContext) -> Any:
    """A parameter's value as launch_ros makes it: text is read as YAML, so ``"1"`` becomes a number."""
    if isinstance(value, ParameterValue):
        if value.value_type is str:
            return to_text(value.value, context)
        found = evaluate_parameter(value.value, context)
        if type(found) is not value.value_type:
            raise LaunchError(f"parameter value {found!r} is not of type {value.value_type.__name__}")
        return found
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)) and not any(isinstance(item, Substitution) for item in value):
        return [evaluate_parameter(item, context) for item in value]
    try:
        return parse_value(to_text(value, context))
    except ValueError as error:
        raise LaunchError(f"{error}; if it is meant as text, use ParameterValue(value, value_type=str)") from error


class Node(Action):
    """Starts a node of a package that travels with us.

    Its output is printed where ``output`` is ``screen``; else only what it writes to the error stream.
    """

    def __init__(
        self,
        *,
        package: str,
        executable: str,
        name: Any = "",
        namespace: Any = "",
        parameters: Iterable[Any] = (),
        remappings: Iterable[tuple[Any, Any]] = (),
        arguments: Iterable[Any] = (),
        ros_arguments: Iterable[Any] = (),
        output: str = "log",
        on_exit: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(self._execute, **options)
        self.package, self.executable = package, executable
        self.renames = {"__node": name, "__ns": namespace}
        self.parameters = list(parameters)
        self.remappings = list(remappings)
        self.arguments, self.ros_arguments = list(arguments), list(ros_arguments)
        self.is_shown = output == "screen"
        self.on_exit = on_exit if isinstance(on_exit, (list, tuple)) else [on_exit] if on_exit else []

    def _execute(self, context: LaunchContext) -> None:
        if self.package not in context.share:
            raise LaunchError(
                f"package {self.package!r} cannot be started without a ROS 2 installation (there is only "
                f"{[*context.share]}): install ROS 2, or switch that part of the launch file off"
            )
        command = [*context.launcher.runner, self.executable, *(to_text(item, context) for item in self.arguments)]
        command += ["--ros-args", *(to_text(item, context) for item in self.ros_arguments)]
        renames = {rule: to_text(value, context) for rule, value in self.renames.items()}
        for rule, target in renames.items():
            if target:
                command += ["-r", f"{rule}:={target if rule == '__node' else '/' + target.strip('/')}"]
        for source, target in self.remappings:
            command += ["-r", f"{to_text(source, context)}:={to_text(target, context)}"]
        for item in self.parameters:
            command += ["--params-file", self._parameter_file(item, context)]
        context.launcher.start(self, command, context)

    def _parameter_file(self, item: Any, context: LaunchContext) -> str:
        if isinstance(item, Mapping):
            values = {to_text(name, context): evaluate_parameter(value, context) for name, value in item.items()}
            return context.launcher.write_file(yaml.safe_dump({"/**": {"ros__parameters": values}}))
        path = to_text(item, context)
        if not Path(path).is_file():
            raise LaunchError(f"parameter file {path} not found")
        return path


def load_description(path: Path) -> LaunchDescription:
    """The description that a launch file generates.

    Raises:
        FileNotFoundError: there is no such file.
        LaunchError: it is not a Python launch file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"launch file {path} not found")
    spec = importlib.util.spec_from_file_location("launch_file", path)
    if spec is None or spec.loader is None:
        raise LaunchError(f"launch file {path}: only Python launch files (*.launch.py) can be run without ROS 2")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "generate_launch_description"):
        raise LaunchError(f"launch file {path} has no function generate_launch_description()")
    description = module.generate_launch_description()
    if not isinstance(description, LaunchDescription):
        raise LaunchError(f"launch file {path}: generate_launch_description() returned {type(description).__name__}")
    return description
