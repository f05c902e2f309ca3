"""Parameters of a node as in ``rclpy``: where their values come from, declaration, ranges, callbacks, six services."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from grasp_nodes.embedded.types import message_class, service_class
from grasp_nodes.embedded.vocabulary import ParameterException, QoSProfile

if TYPE_CHECKING:
    from grasp_nodes.embedded.node import Node

_QOS = QoSProfile(depth=1000)


class _Loader(yaml.SafeLoader):
    """YAML as rcl reads it: ``1e-3`` is a number too."""


_Loader.yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_value(text: str) -> Any:
    """The value of a parameter as written on a command line.

    Raises:
        ValueError: not a scalar or a list of scalars of one type.
    """
    value = _load(f"parameter value {text!r}", text)
    return "" if value is None else _checked(f"parameter value {text!r}", value)


def _load(where: str, text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {error}") from error


def _checked(where: str, value: Any) -> Any:
    kinds = {type(item) for item in value} if isinstance(value, list) else {type(value)}
    if kinds == {int, float}:
        return [float(item) for item in value]
    if len(kinds) <= 1 and kinds <= {bool, int, float, str}:
        return value
    raise ValueError(f"{where}: expected a bool, number, text or a list of one of them, got {value!r:.80}")


def read_parameter_file(path: Path, node: str, namespace: str) -> dict[str, Any]:
    """The parameters that a YAML file gives to one node, nested names joined by dots.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a parameter file.
    """
    where = f"parameter file {path}"
    if not path.is_file():
        raise FileNotFoundError(f"{where} not found")
    content = _load(where, path.read_text(encoding="utf-8")) or {}
    exact: dict[str, Any] = {}
    wild: dict[str, Any] = {}
    for pattern, section in content.items() if isinstance(content, dict) else [("", content)]:
        if not isinstance(section, dict) or not isinstance(section.get("ros__parameters"), dict):
            raise ValueError(f"{where}: {pattern}: expected 'NODE: {{ros__parameters: {{NAME: VALUE}}}}'")
        if _matches(f"/{str(pattern).strip('/')}", f"{namespace.rstrip('/')}/{node}"):
            (wild if "*" in str(pattern) else exact).update(_flatten(where, section["ros__parameters"], ""))
    return wild | exact


def _matches(pattern: str, full_name: str) -> bool:
    regex = re.escape(pattern).replace(r"/\*\*", "(/[^/]+)*").replace(r"\*", "[^/]+")
    return re.fullmatch(regex, full_name) is not None


def _flatten(where: str, values: dict[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flatten(where, value, f"{name}.")
        elif value is not None:
            yield name, _checked(f"{where}: {name}", value)


class ParameterType(Enum):
    """Types of values, numbered as rcl_interfaces/ParameterType does (``Parameter.Type``)."""

    NOT_SET = 0
    BOOL = 1
    INTEGER = 2
    DOUBLE = 3
    STRING = 4
    BYTE_ARRAY = 5
    BOOL_ARRAY = 6
    INTEGER_ARRAY = 7
    DOUBLE_ARRAY = 8
    STRING_ARRAY = 9

    def fits(self, value: Any) -> bool:
        """Can a parameter of this type have the value? An empty list fits every type of list."""
        return type_of(value) == self or (value == [] and self.name.endswith("_ARRAY"))


_SCALARS = {
    bool: ParameterType.BOOL,
    int: ParameterType.INTEGER,
    float: ParameterType.DOUBLE,
    str: ParameterType.STRING,
}


def type_of(value: Any) -> ParameterType:
    """The type of a Python value.

    Raises:
        TypeError: a parameter cannot hold it.
    """
    if type(value) in _SCALARS:
        return _SCALARS[type(value)]
    if value in ([], ()):
        return ParameterType.BYTE_ARRAY  # as in rclpy
    kinds = {type(item) for item in value} if isinstance(value, (list, tuple)) else set()
    if len(kinds) == 1 and kinds <= _SCALARS.keys():
        return ParameterType[f"{_SCALARS[kinds.pop()].name}_ARRAY"]
    raise TypeError(f"a parameter is a bool, int, float, str or a list of one of them, not {value!r:.80}")


class Parameter:
    """A name and a typed value."""

    Type = ParameterType

    def __init__(self, name: str, type_: ParameterType | None = None, value: Any = None) -> None:
        self.name = name
        self.type_ = type_of(value) if type_ is None else type_
        self.value = value

    def get_parameter_value(self) -> Any:
        """As rcl_interfaces/ParameterValue."""
        value = list(self.value) if isinstance(self.value, tuple) else self.value
        return _rcl("ParameterValue")(type=self.type_.value, **{f"{self.type_.name.lower()}_value": value})

    def to_parameter_msg(self) -> Any:
        """As rcl_interfaces/Parameter."""
        return _rcl("Parameter")(name=self.name, value=self.get_parameter_value())

    @classmethod
    def from_parameter_msg(cls, message: Any) -> Parameter:
        """From rcl_interfaces/Parameter."""
        kind = ParameterType(message.value.type)
        value = getattr(message.value, f"{kind.name.lower()}_value", None)
        return cls(message.name, kind, value.tolist() if isinstance(value, np.ndarray) else value)


def _rcl(name: str) -> Any:
    return message_class(f"rcl_interfaces/msg/{name}")


def _range_complaint(parameter: Parameter, descriptor: Any) -> str:
    """Why the value is outside the descriptor's range, or nothing."""
    ranges = {ParameterType.DOUBLE: descriptor.floating_point_range, ParameterType.INTEGER: descriptor.integer_range}
    for limits in ranges.get(parameter.type_, []):
        if not limits.from_value <= parameter.value <= limits.to_value:
            allowed = f"{limits.from_value}..{limits.to_value}"
            return f"parameter {parameter.name!r}: {parameter.value} is outside the range {allowed}"
    return ""


class ParameterMixin:
    """The parameter half of ``rclpy.node.Node``."""

    def _embedded_init_parameters(self, overrides: dict[str, Any]) -> None:
        self.__parameters: dict[str, Parameter] = {}
        self.__descriptors: dict[str, Any] = {}
        self.__overrides = overrides
        self.__callbacks: list[Callable[[list[Parameter]], Any]] = []
        node: Node = self  # type: ignore[assignment]
        self.__node = node
        self.__events = node.create_publisher(_rcl("ParameterEvent"), "/parameter_events", _QOS)
        for handler in (
            *(self.__describe_parameters, self.__get_parameter_types, self.__get_parameters),
            *(self.__list_parameters, self.__set_parameters, self.__set_parameters_atomically),
        ):
            name = handler.__name__.lstrip("_")
            kind = "".join(word.capitalize() for word in name.split("_"))
            node.create_service(service_class(f"rcl_interfaces/srv/{kind}"), f"~/{name}", handler, qos_profile=_QOS)

    def declare_parameter(self, name: str, value: Any, descriptor: Any = None) -> Parameter:
        """Declare a parameter; its value is the override given from outside, else the given one.

        Args:
            name: its name.
            value: default value, which decides the type.
            descriptor: rcl_interfaces/ParameterDescriptor with description, range and flags.

        Raises:
            ParameterException: it was declared before, or its value has another type, is out of range, or was refused.
        """
        if name in self.__parameters:
            raise ParameterException(f"parameter {name!r} is already declared")
        kind = type_of(value)
        value = self.__overrides.get(name, value)
        if not kind.fits(value):
            hint = f" (write {value}.0)" if kind == ParameterType.DOUBLE and isinstance(value, int) else ""
            raise ParameterException(
                f"parameter {name!r} is a {kind.name}, but {value!r} was given, a {type_of(value).name}{hint}"
            )
        descriptor = _rcl("ParameterDescriptor")() if descriptor is None else copy.copy(descriptor)
        descriptor.name, descriptor.type = name, kind.value
        parameter = Parameter(name, kind, value)
        complaint = _range_complaint(parameter, descriptor) or self.__ask_callbacks([parameter])
        if complaint:
            raise ParameterException(complaint)
        self.__parameters[name], self.__descriptors[name] = parameter, descriptor
        self.__publish_event(new_parameters=[parameter.to_parameter_msg()])
        return parameter

    def get_parameter(self, name: str) -> Parameter:
        """A declared parameter.

        Raises:
            ParameterException: it is not.
        """
        if name not in self.__parameters:
            raise ParameterException(f"parameter {name!r} is not declared: there is {[*self.__parameters]}")
        return self.__parameters[name]

    def describe_parameter(self, name: str) -> Any:
        """The descriptor of a declared parameter."""
        return self.__descriptors[self.get_parameter(name).name]

    def set_parameters(self, parameters: Sequence[Parameter]) -> list[Any]:
        """Set parameters one by one; each result says whether it was accepted and why not."""
        return [self.set_parameters_atomically([parameter]) for parameter in parameters]

    def set_parameters_atomically(self, parameters: Sequence[Parameter]) -> Any:
        """Set all parameters or none.

        Raises:
            ParameterException: one is not declared.
        """
        complaints = [self.__complaint(parameter) for parameter in parameters]
        complaint = next(filter(None, complaints), "") or self.__ask_callbacks(list(parameters))
        if not complaint:
            for parameter in parameters:
                kind = self.__parameters[parameter.name].type_  # of an empty list, the value does not say it
                self.__parameters[parameter.name] = Parameter(parameter.name, kind, parameter.value)
            self.__publish_event(changed_parameters=[parameter.to_parameter_msg() for parameter in parameters])
        return _rcl("SetParametersResult")(successful=not complaint, reason=complaint)

    def __complaint(self, parameter: Parameter) -> str:
        kind, descriptor = self.get_parameter(parameter.name).type_, self.describe_parameter(parameter.name)
        if descriptor.read_only:
            return f"parameter {parameter.name!r} is read-only"
        if parameter.type_ != kind and not (parameter.value == [] and kind.fits([])):
            return f"parameter {parameter.name!r} is a {kind.name}, not a {parameter.type_.name}"
        return _range_complaint(parameter, descriptor)

    def __ask_callbacks(self, parameters: list[Parameter]) -> str:
        results = (callback(parameters) for callback in self.__callbacks)
        return next((result.reason or "refused by the node" for result in results if not result.successful), "")

    def __publish_event(self, **parameters: list[Any]) -> None:
        stamp, name = self.__node.get_clock().now().to_msg(), self.__node.get_fully_qualified_name()
        self.__events.publish(_rcl("ParameterEvent")(stamp=stamp, node=name, **parameters))

    def add_on_set_parameters_callback(self, callback: Callable[[list[Parameter]], Any]) -> None:
        """Let a callback accept or refuse values; it returns rcl_interfaces/SetParametersResult."""
        self.__callbacks.insert(0, callback)

    # The six services. rclpy answers a request for values with an unknown name by an empty list.

    def __describe_parameters(self, request: Any, response: Any) -> Any:
        response.descriptors = [self.__descriptors[name] for name in request.names if name in self.__descriptors]
        return response

    def __get_parameter_types(self, request: Any, response: Any) -> Any:
        response.types = [self.__parameters[name].type_.value for name in request.names if name in self.__parameters]
        return response

    def __get_parameters(self, request: Any, response: Any) -> Any:
        if all(name in self.__parameters for name in request.names):
            response.values = [self.__parameters[name].get_parameter_value() for name in request.names]
        return response

    def __list_parameters(self, request: Any, response: Any) -> Any:
        starts = tuple(f"{prefix}." for prefix in request.prefixes)
        response.result.names = [name for name in self.__parameters if not starts or f"{name}.".startswith(starts)]
        response.result.prefixes = sorted({name.rpartition(".")[0] for name in response.result.names} - {""})
        return response

    def __set_parameters(self, request: Any, response: Any) -> Any:
        response.results = [self.__set_from_wire([message]) for message in request.parameters]
        return response

    def __set_parameters_atomically(self, request: Any, response: Any) -> Any:
        response.result = self.__set_from_wire(request.parameters)
        return response

    def __set_from_wire(self, messages: Sequence[Any]) -> Any:
        try:
            return self.set_parameters_atomically([Parameter.from_parameter_msg(message) for message in messages])
        except (ParameterException, ValueError) as error:
            return _rcl("SetParametersResult")(successful=False, reason=str(error))
