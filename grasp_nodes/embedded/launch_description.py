"""What launch files import: the part of ``launch`` and ``launch_ros`` that describes what is to be started.

Descriptions are executed in order by :mod:`grasp_nodes.embedded.launch`. Anything that is not here is refused by name.
"""

from __future__ import annotations

import ast
import importlib.util
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from grasp_nodes.embedded.arguments import parse_value
from grasp_nodes.embedded.errors import LaunchError, NotSupportedByEmbeddedRuntime
from grasp_nodes.embedded.modules import get_package_share_directory, share_packages

if TYPE_CHECKING:
    from grasp_nodes.embedded.launch import Launcher

TRUE_WORDS, FALSE_WORDS = ("true", "1"), ("false", "0")


class LaunchContext:
    """What a launch file is evaluated with."""

    def __init__(self, arguments: Mapping[str, str], launcher: Launcher | None = None) -> None:
        self.launch_configurations = dict(arguments)
        self.environment = dict(os.environ)
        self.file_dirs: list[Path] = []
        self.launcher = launcher

    def perform_substitution(self, substitution: Substitution) -> str:
        """The text of a substitution."""
        return substitution.perform(self)

    def copy(self) -> LaunchContext:
        """A context of its own with the present values, for actions that run later."""
        twin = LaunchContext(self.launch_configurations, self.launcher)
        twin.environment, twin.file_dirs = dict(self.environment), list(self.file_dirs)
        return twin

    def running(self) -> Launcher:
        """The launcher; descriptions that are only looked at have none."""
        if self.launcher is None:
            raise LaunchError("nothing can be started while a launch file is only described")
        return self.launcher


class Substitution:
    """Text that is known when the launch file runs."""

    def perform(self, context: LaunchContext) -> str:
        """The text."""
        raise NotImplementedError


def to_text(value: Any, context: LaunchContext) -> str:
    """The text of a string, a substitution, or a sequence of those joined together."""
    if isinstance(value, Substitution):
        return value.perform(context)
    if isinstance(value, (list, tuple)):
        return "".join(to_text(item, context) for item in value)
    if isinstance(value, (str, Path)):
        return str(value)
    raise LaunchError(f"expected text or a substitution, got {value!r:.80}")


class TextSubstitution(Substitution):
    """Fixed text."""

    def __init__(self, *, text: str) -> None:
        self.text = text

    def perform(self, context: LaunchContext) -> str:  # noqa: ARG002 - the interface
        """The text."""
        return self.text


class LaunchConfiguration(Substitution):
    """The value of a launch argument."""

    def __init__(self, variable_name: Any, *, default: Any = None) -> None:
        self.variable_name = variable_name
        self.default = default

    def perform(self, context: LaunchContext) -> str:
        """The value, else the default.

        Raises:
            LaunchError: neither is there.
        """
        name = to_text(self.variable_name, context)
        if name in context.launch_configurations:
            return context.launch_configurations[name]
        if self.default is None:
            raise LaunchError(f"launch configuration {name!r} does not exist: declare it with DeclareLaunchArgument")
        return to_text(self.default, context)


class EnvironmentVariable(Substitution):
    """The value of an environment variable."""

    def __init__(self, name: Any, *, default_value: Any = None) -> None:
        self.name = name
        self.default_value = default_value

    def perform(self, context: LaunchContext) -> str:
        """The value, else the default.

        Raises:
            LaunchError: neither is there.
        """
        name = to_text(self.name, context)
        if name in context.environment:
            return context.environment[name]
        if self.default_value is None:
            raise LaunchError(f"environment variable {name} is not set")
        return to_text(self.default_value, context)


class PathJoinSubstitution(Substitution):
    """Path parts joined."""

    def __init__(self, substitutions: Iterable[Any]) -> None:
        self.substitutions = list(substitutions)

    def perform(self, context: LaunchContext) -> str:
        """The path."""
        return str(Path(*(to_text(part, context) for part in self.substitutions)))


class FindPackageShare(Substitution):
    """The folder with a package's launch and configuration files."""

    def __init__(self, package: Any) -> None:
        self.package = package

    def perform(self, context: LaunchContext) -> str:
        """The folder.

        Raises:
            LaunchError: the package is not here.
        """
        try:
            return get_package_share_directory(to_text(self.package, context))
        except KeyError as error:
            raise LaunchError(str(error.args[0])) from error


class ThisLaunchFileDir(Substitution):
    """The folder of the launch file."""

    def perform(self, context: LaunchContext) -> str:
        """The folder."""
        return str(context.file_dirs[-1])


_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}


class PythonExpression(Substitution):
    """Comparisons and ``and``/``or``/``not`` of literals; nothing else is evaluated, so no code can be smuggled in."""

    def __init__(self, expression: Any) -> None:
        self.expression = expression

    def perform(self, context: LaunchContext) -> str:
        """The value as text.

        Raises:
            LaunchError: it is not an expression, or its operands do not fit.
            NotSupportedByEmbeddedRuntime: it is more than comparisons of literals.
        """
        text = to_text(self.expression, context)
        try:
            return str(self._evaluate(ast.parse(text.strip(), mode="eval").body))
        except (SyntaxError, TypeError) as error:
            raise LaunchError(f"PythonExpression {text!r}: {error}") from error

    def _evaluate(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, (ast.List, ast.Tuple)):
            return [self._evaluate(item) for item in node.elts]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
            value = self._evaluate(node.operand)
            return not value if isinstance(node.op, ast.Not) else -value
        if isinstance(node, ast.BoolOp):
            values = [self._evaluate(item) for item in node.values]
            return all(values) if isinstance(node.op, ast.And) else any(values)
        if isinstance(node, ast.Compare) and all(type(op) in _COMPARISONS for op in node.ops):
            values = [self._evaluate(item) for item in (node.left, *node.comparators)]
            pairs = zip(node.ops, values, values[1:], strict=False)
            return all(_COMPARISONS[type(op)](left, right) for op, left, right in pairs)
        raise NotSupportedByEmbeddedRuntime(
            f"PythonExpression with {ast.unparse(node)!r}", "use literals, comparisons, and, or, not"
        )


class IfCondition:
    """Holds if the text is true."""

    expected = True

    def __init__(self, predicate_expression: Any) -> None:
        self.predicate_expression = predicate_expression

    def holds(self, context: LaunchContext) -> bool:
        """Does it?

        Raises:
            LaunchError: the text is neither true nor false.
        """
        text = to_text(self.predicate_expression, context).strip().lower()
        if text not in TRUE_WORDS + FALSE_WORDS:
            raise LaunchError(f"a condition must be one of {TRUE_WORDS + FALSE_WORDS}, got {text!r}")
        return (text in TRUE_WORDS) == self.expected


class UnlessCondition(IfCondition):
    """Holds if the text is false."""

    expected = False


class Action:
    """Something that a launch file does."""

    def __init__(self, *, condition: IfCondition | None = None, **unsupported: Any) -> None:
        for option in unsupported:
            raise NotSupportedByEmbeddedRuntime(f"the option {option!r} of {type(self).__name__}", "leave it out")
        self.condition = condition

    def visit(self, context: LaunchContext) -> None:
        """Do it, if its condition holds."""
        if self.condition is None or self.condition.holds(context):
            self.execute(context)

    def execute(self, context: LaunchContext) -> None:
        """Do it."""
        raise NotImplementedError

    def children(self, context: LaunchContext) -> Iterable[Any]:  # noqa: ARG002 - for those that have some
        """What else it may do, for the list of arguments."""
        return ()


def visit_all(actions: Iterable[Any], context: LaunchContext) -> None:
    """Do several actions in order."""
    for action in actions:
        if not isinstance(action, (Action, LaunchDescription)):
            raise NotSupportedByEmbeddedRuntime(f"{type(action).__name__} in a launch file", "use the known actions")
        action.visit(context)


class LaunchDescription:
    """A list of actions."""

    def __init__(self, initial_entities: Iterable[Any] | None = None) -> None:
        self.entities = list(initial_entities or ())

    def add_action(self, action: Any) -> None:
        """Append one."""
        self.entities.append(action)

    def visit(self, context: LaunchContext) -> None:
        """Do all."""
        visit_all(self.entities, context)

    def children(self, context: LaunchContext) -> Iterable[Any]:  # noqa: ARG002 - as an action
        """All."""
        return self.entities


class DeclareLaunchArgument(Action):
    """Gives a launch file an argument."""

    def __init__(
        self,
        name: str,
        *,
        default_value: Any = None,
        description: str = "",
        choices: Iterable[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.name = name
        self.default_value = default_value
        self.description = description
        self.choices = list(choices) if choices is not None else None

    def execute(self, context: LaunchContext) -> None:
        """Take the default if nothing was given, and check the value."""
        values = context.launch_configurations
        if self.name not in values:
            if self.default_value is None:
                raise LaunchError(f"launch argument {self.name!r} is required ({self.description}): {self.name}:=VALUE")
            values[self.name] = to_text(self.default_value, context)
        if self.choices is not None and values[self.name] not in self.choices:
            raise LaunchError(f"launch argument {self.name}:={values[self.name]!r}: valid choices are {self.choices}")


class SetEnvironmentVariable(Action):
    """Sets a variable for the processes that follow."""

    def __init__(self, name: Any, value: Any, **options: Any) -> None:
        super().__init__(**options)
        self.name = name
        self.value = value

    def execute(self, context: LaunchContext) -> None:
        """Set it."""
        context.environment[to_text(self.name, context)] = to_text(self.value, context)


class GroupAction(Action):
    """Several actions with a common condition; what they set is forgotten afterwards if ``scoped``."""

    def __init__(self, actions: Iterable[Any], *, scoped: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.actions = list(actions)
        self.scoped = scoped

    def execute(self, context: LaunchContext) -> None:
        """Do all."""
        visit_all(self.actions, context.copy() if self.scoped else context)

    def children(self, context: LaunchContext) -> Iterable[Any]:  # noqa: ARG002 - the interface
        """All."""
        return self.actions


class OpaqueFunction(Action):
    """A function that returns the actions to do."""

    def __init__(
        self,
        *,
        function: Callable[..., Iterable[Any] | None],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.call = lambda context: function(context, *args, **(kwargs or {}))

    def execute(self, context: LaunchContext) -> None:
        """Do what it returns."""
        visit_all(self.call(context) or (), context)


class PythonLaunchDescriptionSource:
    """The path of another launch file."""

    def __init__(self, location: Any) -> None:
        self.location = location


class IncludeLaunchDescription(Action):
    """Another launch file, with arguments."""

    def __init__(self, launch_description_source: Any, *, launch_arguments: Any = (), **options: Any) -> None:
        super().__init__(**options)
        source = launch_description_source
        self.location = source.location if isinstance(source, PythonLaunchDescriptionSource) else source
        self.launch_arguments = list(
            launch_arguments.items() if isinstance(launch_arguments, Mapping) else launch_arguments
        )

    def execute(self, context: LaunchContext) -> None:
        """Run the file."""
        path = Path(to_text(self.location, context))
        description = load_description(path)
        for name, value in self.launch_arguments:
            context.launch_configurations[to_text(name, context)] = to_text(value, context)
        context.file_dirs.append(path.resolve().parent)
        description.visit(context)
        context.file_dirs.pop()

    def children(self, context: LaunchContext) -> Iterable[Any]:
        """The file's actions, without the arguments that are given here."""
        given = {name for name, _ in self.launch_arguments if isinstance(name, str)}
        entities = load_description(Path(to_text(self.location, context))).entities
        return [item for item in entities if not (isinstance(item, DeclareLaunchArgument) and item.name in given)]


class LogInfo(Action):
    """Prints a message."""

    def __init__(self, *, msg: Any, **options: Any) -> None:
        super().__init__(**options)
        self.msg = msg

    def execute(self, context: LaunchContext) -> None:
        """Print it."""
        context.running().log("INFO", "launch.user", to_text(self.msg, context))


class Shutdown(Action):
    """Ends the launch."""

    def __init__(self, *, reason: Any = "reason not given", **options: Any) -> None:
        super().__init__(**options)
        self.reason = reason

    def execute(self, context: LaunchContext) -> None:
        """End it."""
        context.running().shutdown(to_text(self.reason, context))


class TimerAction(Action):
    """Does something after a time [s]."""

    def __init__(self, *, period: float, actions: Iterable[Any], **options: Any) -> None:
        super().__init__(**options)
        self.period = period
        self.actions = list(actions)

    def execute(self, context: LaunchContext) -> None:
        """Do it later."""
        later = context.copy()
        context.running().call_later(float(self.period), lambda: visit_all(self.actions, later))

    def children(self, context: LaunchContext) -> Iterable[Any]:  # noqa: ARG002 - the interface
        """What is done later."""
        return self.actions


class ExecuteProcess(Action):
    """Starts a process.

    ``output`` is ``screen`` or ``both``, or ``log``: then only the error stream is printed.
    """

    def __init__(
        self,
        *,
        cmd: Iterable[Any],
        name: Any = None,
        output: Any = "log",
        on_exit: Any = None,
        respawn: bool = False,
        respawn_delay: float = 0.0,
        additional_env: Mapping[Any, Any] | None = None,
        cwd: Any = None,
        emulate_tty: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if emulate_tty:
            raise NotSupportedByEmbeddedRuntime("the option 'emulate_tty'", "leave it out; output is not buffered")
        self.cmd = list(cmd)
        self.name = name
        self.output = output
        self.on_exit = on_exit if on_exit is None or isinstance(on_exit, (list, tuple)) else [on_exit]
        self.respawn = respawn
        self.respawn_delay = respawn_delay
        self.additional_env = dict(additional_env or {})
        self.cwd = cwd

    def command(self, context: LaunchContext) -> list[str]:
        """The command line."""
        return [to_text(part, context) for part in self.cmd]

    def label(self, command: Sequence[str], context: LaunchContext) -> str:
        """The name under which its output is printed."""
        return to_text(self.name, context) if self.name is not None else Path(command[0]).name

    def execute(self, context: LaunchContext) -> None:
        """Start it."""
        command = self.command(context)
        environment = dict(context.environment)
        environment |= {to_text(k, context): to_text(v, context) for k, v in self.additional_env.items()}
        context.running().start(self, self.label(command, context), command, environment, context.copy())


class ParameterValue:
    """A parameter's value with its type (``launch_ros.parameter_descriptions``)."""

    def __init__(self, value: Any, *, value_type: Any = None) -> None:
        self.value = value
        self.value_type = value_type

    def evaluate(self, context: LaunchContext) -> Any:
        """The value."""
        if self.value_type is None:
            return evaluate_parameter(self.value, context)
        if self.value_type is str:
            return to_text(self.value, context)
        value = evaluate_parameter(self.value, context)
        if self.value_type is float and type(value) is int:
            value = float(value)
        if self.value_type in (bool, int, float) and type(value) is not self.value_type:
            raise LaunchError(f"parameter value {value!r} is not of type {self.value_type.__name__}")
        return value


def evaluate_parameter(value: Any, context: LaunchContext) -> Any:
    """A parameter's value as launch_ros makes it: text is read as YAML, so ``"1"`` becomes a number."""
    if isinstance(value, ParameterValue):
        return value.evaluate(context)
    if isinstance(value, (bool, int, float)):
        return value
    is_list = isinstance(value, (list, tuple)) and not any(isinstance(item, Substitution) for item in value)
    if is_list:
        return [evaluate_parameter(item, context) for item in value]
    try:
        return parse_value(to_text(value, context))
    except ValueError as error:
        raise LaunchError(f"{error}; if it is meant as text, use ParameterValue(value, value_type=str)") from error


def _flatten(parameters: Mapping[Any, Any], context: LaunchContext, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        name = prefix + to_text(key, context)
        if isinstance(value, Mapping):
            flat |= _flatten(value, context, f"{name}.")
        else:
            flat[name] = evaluate_parameter(value, context)
    return flat


class Node(ExecuteProcess):
    """Starts a node of a package that travels with us, with parameters, remappings and a namespace."""

    def __init__(
        self,
        *,
        package: Any,
        executable: Any,
        name: Any = None,
        namespace: Any = None,
        exec_name: Any = None,
        parameters: Iterable[Any] | None = None,
        remappings: Iterable[tuple[Any, Any]] | None = None,
        arguments: Iterable[Any] | None = None,
        ros_arguments: Iterable[Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(cmd=(), name=exec_name, **options)
        self.package = package
        self.executable = executable
        self.node_name = name
        self.namespace = namespace
        self.parameters = list(parameters or ())
        self.remappings = list(remappings or ())
        self.arguments = list(arguments or ())
        self.ros_arguments = list(ros_arguments or ())

    def label(self, command: Sequence[str], context: LaunchContext) -> str:  # noqa: ARG002 - the interface
        """The executable's name."""
        return to_text(self.name if self.name is not None else self.executable, context)

    def command(self, context: LaunchContext) -> list[str]:
        """The command line with everything after ``--ros-args``."""
        package = to_text(self.package, context)
        if package not in share_packages():
            raise LaunchError(
                f"package {package!r} cannot be started without a ROS 2 installation (there is only "
                f"{share_packages()}): source one, or switch that part of the launch file off"
            )
        launcher = context.running()
        command = [*launcher.runner, to_text(self.executable, context)]
        command += [to_text(item, context) for item in self.arguments]
        command += ["--ros-args", *(to_text(item, context) for item in self.ros_arguments)]
        for rule, value in (("__node", self.node_name), ("__ns", self.namespace)):
            text = to_text(value, context) if value is not None else ""
            if text:
                command += ["-r", f"{rule}:={text if rule == '__node' else '/' + text.strip('/')}"]
        for source, target in self.remappings:
            command += ["-r", f"{to_text(source, context)}:={to_text(target, context)}"]
        for item in self.parameters:
            command += ["--params-file", self._parameter_file(item, context, launcher)]
        return command

    def _parameter_file(self, item: Any, context: LaunchContext, launcher: Launcher) -> str:
        if isinstance(item, Mapping):
            return str(launcher.write_file(yaml.safe_dump({"/**": {"ros__parameters": _flatten(item, context)}})))
        path = Path(to_text(item, context))
        if not path.is_file():
            raise LaunchError(f"parameter file {path} not found")
        return str(path)


class OnProcessExit:
    """Actions to do when a process has ended; any process without ``target_action``."""

    def __init__(self, *, target_action: ExecuteProcess | None = None, on_exit: Any) -> None:
        if callable(on_exit):
            raise NotSupportedByEmbeddedRuntime("OnProcessExit with a function", "give a list of actions")
        self.target_action = target_action
        self.actions = list(on_exit) if isinstance(on_exit, (list, tuple)) else [on_exit]


class RegisterEventHandler(Action):
    """Does something at an event."""

    def __init__(self, event_handler: Any, **options: Any) -> None:
        super().__init__(**options)
        if not isinstance(event_handler, OnProcessExit):
            raise NotSupportedByEmbeddedRuntime(type(event_handler).__name__, "use OnProcessExit")
        self.event_handler = event_handler

    def execute(self, context: LaunchContext) -> None:
        """Wait for the event."""
        context.running().on_process_exit(self.event_handler, context.copy())


def load_description(path: Path) -> LaunchDescription:
    """The description that a launch file generates.

    Raises:
        FileNotFoundError: there is no such file.
        LaunchError: it is not a Python launch file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"launch file {path} not found")
    spec = importlib.util.spec_from_file_location("launch_file", path)
    if spec is None or spec.loader is None or path.suffix != ".py":
        raise LaunchError(f"launch file {path}: only Python launch files (*.launch.py) can be run without ROS 2")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "generate_launch_description"):
        raise LaunchError(f"launch file {path} has no function generate_launch_description()")
    description = module.generate_launch_description()
    if not isinstance(description, LaunchDescription):
        raise LaunchError(f"launch file {path}: generate_launch_description() returned {type(description).__name__}")
    return description


_ACTIONS = (
    *(DeclareLaunchArgument, SetEnvironmentVariable, GroupAction, OpaqueFunction, IncludeLaunchDescription),
    *(ExecuteProcess, LogInfo, Shutdown, TimerAction, RegisterEventHandler),
)
_SUBSTITUTIONS = (
    *(LaunchConfiguration, TextSubstitution, PathJoinSubstitution, EnvironmentVariable),
    *(PythonExpression, ThisLaunchFileDir),
)
_SOURCES = dict.fromkeys(("PythonLaunchDescriptionSource", "AnyLaunchDescriptionSource"), PythonLaunchDescriptionSource)

# module -> what can be imported from it
MODULES: dict[str, dict[str, Any]] = {
    "launch": {"LaunchDescription": LaunchDescription, "LaunchContext": LaunchContext, "Substitution": Substitution},
    "launch.actions": {cls.__name__: cls for cls in _ACTIONS},
    "launch.conditions": {"IfCondition": IfCondition, "UnlessCondition": UnlessCondition},
    "launch.event_handlers": {"OnProcessExit": OnProcessExit},
    "launch.launch_context": {"LaunchContext": LaunchContext},
    "launch.launch_description": {"LaunchDescription": LaunchDescription},
    "launch.launch_description_sources": _SOURCES,
    "launch.substitutions": {cls.__name__: cls for cls in _SUBSTITUTIONS},
    "launch_ros": {},
    "launch_ros.actions": {"Node": Node},
    "launch_ros.parameter_descriptions": {"ParameterValue": ParameterValue},
    "launch_ros.substitutions": {"FindPackageShare": FindPackageShare},
}
