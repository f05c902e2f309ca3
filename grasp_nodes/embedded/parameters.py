"""Parameters of a node: declaration, overrides, ranges, callbacks, services and events, as in ``rclpy``."""

from __future__ import annotations

import array
import copy
import math
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from grasp_nodes.embedded.errors import (
    InvalidParameterException,
    InvalidParameterTypeException,
    InvalidParameterValueException,
    NotSupportedByEmbeddedRuntime,
    ParameterAlreadyDeclaredException,
    ParameterImmutableException,
    ParameterNotDeclaredException,
    ParameterUninitializedException,
)
from grasp_nodes.embedded.qos import qos_profile_parameter_events, qos_profile_parameters
from grasp_nodes.embedded.types import message_class, service_class

if TYPE_CHECKING:
    from grasp_nodes.embedded.node import Node

SIM_TIME = "use_sim_time"


def _rcl(name: str) -> Any:
    return message_class(f"rcl_interfaces/msg/{name}")


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

    @classmethod
    def from_parameter_value(cls, value: Any) -> ParameterType:
        """The type of a Python value.

        Raises:
            TypeError: a parameter cannot hold it.
        """
        if value is None:
            return cls.NOT_SET
        scalar = _SCALAR_TYPES.get(type(value))
        if scalar is not None:
            return scalar
        if isinstance(value, (list, tuple, array.array)):
            kinds = {type(item) for item in value}
            if not kinds:
                return cls.BYTE_ARRAY  # as in rclpy; an empty list takes the declared type where there is one
            if len(kinds) == 1 and (kind := kinds.pop()) in _ARRAY_TYPES:
                return _ARRAY_TYPES[kind]
        raise TypeError(f"a parameter is a bool, int, float, str or a list of one of them, not {value!r:.80}")

    def check(self, value: Any) -> bool:
        """Is the value of this type?"""
        is_empty_list = isinstance(value, (list, tuple, array.array)) and not len(value)
        return ParameterType.from_parameter_value(value) == self or (is_empty_list and self.name.endswith("_ARRAY"))


_SCALAR_TYPES = {
    bool: ParameterType.BOOL,
    int: ParameterType.INTEGER,
    float: ParameterType.DOUBLE,
    str: ParameterType.STRING,
}
_ARRAY_TYPES = {
    bytes: ParameterType.BYTE_ARRAY,
    bool: ParameterType.BOOL_ARRAY,
    int: ParameterType.INTEGER_ARRAY,
    float: ParameterType.DOUBLE_ARRAY,
    str: ParameterType.STRING_ARRAY,
}
_VALUE_FIELDS = {kind: f"{kind.name.lower()}_value" for kind in ParameterType if kind != ParameterType.NOT_SET}


def value_from_msg(message: Any) -> Any:
    """The Python value in a rcl_interfaces/ParameterValue."""
    kind = ParameterType(message.type)
    if kind == ParameterType.NOT_SET:
        return None
    value = getattr(message, _VALUE_FIELDS[kind])
    if kind == ParameterType.BYTE_ARRAY:
        return [bytes([item & 0xFF]) for item in value.tolist()]
    return value.tolist() if isinstance(value, np.ndarray) else value


class Parameter:
    """A name and a typed value."""

    Type = ParameterType

    def __init__(self, name: str, type_: ParameterType | None = None, value: Any = None) -> None:
        self.name = name
        self.type_ = ParameterType.from_parameter_value(value) if type_ is None else type_
        self.value = value
        if not self.type_.check(value):
            raise ValueError(f"parameter {name!r}: {value!r:.80} is not a {self.type_.name}")

    def __repr__(self) -> str:
        return f"Parameter(name={self.name!r}, type_={self.type_.name}, value={self.value!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parameter) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def get_parameter_value(self) -> Any:
        """As rcl_interfaces/ParameterValue."""
        message = _rcl("ParameterValue")(type=self.type_.value)
        if self.type_ == ParameterType.BYTE_ARRAY:
            message.byte_array_value = b"".join(self.value)
        elif self.type_ != ParameterType.NOT_SET:
            value = list(self.value) if self.type_.name.endswith("_ARRAY") else self.value
            setattr(message, _VALUE_FIELDS[self.type_], value)
        return message

    def to_parameter_msg(self) -> Any:
        """As rcl_interfaces/Parameter."""
        return _rcl("Parameter")(name=self.name, value=self.get_parameter_value())

    @classmethod
    def from_parameter_msg(cls, message: Any) -> Parameter:
        """From rcl_interfaces/Parameter."""
        return cls(message.name, ParameterType(message.value.type), value_from_msg(message.value))


def _range_complaint(parameter: Parameter, descriptor: Any) -> str:
    """Why the value is outside the descriptor's range, or nothing."""
    ranges = {ParameterType.DOUBLE: descriptor.floating_point_range, ParameterType.INTEGER: descriptor.integer_range}
    for limits in ranges.get(parameter.type_, []):
        low, high, step, value = limits.from_value, limits.to_value, limits.step, parameter.value
        if not low <= value <= high:
            return f"{value} is outside the range {low}..{high}"
        steps = (value - low) / step if step else 0
        if value != high and not math.isclose(steps, round(steps), abs_tol=1e-6):
            return f"{value} is not {low} plus a multiple of {step}"
    return ""


class ParameterMixin:
    """The parameter half of ``rclpy.node.Node``."""

    def _embedded_init_parameters(
        self, overrides: dict[str, Any], allow_undeclared: bool, declare_overrides: bool
    ) -> None:
        self.__parameters: dict[str, Parameter] = {}
        self.__descriptors: dict[str, Any] = {}
        self.__parameter_overrides = overrides
        self.__allow_undeclared = allow_undeclared
        self.__on_set: list[Callable[[list[Parameter]], Any]] = []
        self.__post_set: list[Callable[[list[Parameter]], None]] = []
        self.__event_publisher = self.__node().create_publisher(
            _rcl("ParameterEvent"), "/parameter_events", qos_profile_parameter_events
        )
        if declare_overrides:
            for name, value in overrides.items():
                if name != SIM_TIME:
                    self.declare_parameter(name, value)

    def __node(self) -> Node:
        return self  # type: ignore[return-value]

    def declare_parameter(
        self, name: str, value: Any = None, descriptor: Any = None, ignore_override: bool = False
    ) -> Parameter:
        """Declare a parameter; its value is the override given from outside, else the given one.

        Args:
            name: its name.
            value: default value, or a ``Parameter.Type`` for one without a default.
            descriptor: rcl_interfaces/ParameterDescriptor with description, range and flags.
            ignore_override: take the given value in any case.

        Raises:
            ParameterAlreadyDeclaredException: declared before.
            InvalidParameterTypeException: the override is of another type.
            InvalidParameterValueException: the value is out of range or a callback refused it.
        """
        if not name or name != name.strip("."):
            raise InvalidParameterException(f"parameter name {name!r} is not allowed")
        if name in self.__parameters:
            raise ParameterAlreadyDeclaredException(f"parameter {name!r} is already declared")
        descriptor = _rcl("ParameterDescriptor")() if descriptor is None else copy.copy(descriptor)
        kind = value if isinstance(value, ParameterType) else ParameterType.from_parameter_value(value)
        if kind == ParameterType.NOT_SET and not descriptor.dynamic_typing:
            raise ValueError(f"parameter {name!r} needs a default value, a type, or a descriptor with dynamic_typing")
        value = None if isinstance(value, ParameterType) else value
        if not ignore_override and name in self.__parameter_overrides:
            value = self.__parameter_overrides[name]
            if not descriptor.dynamic_typing and not kind.check(value):
                hint = f" (write {value}.0)" if kind == ParameterType.DOUBLE and isinstance(value, int) else ""
                raise InvalidParameterTypeException(
                    f"parameter {name!r} is a {kind.name}, but {value!r} was given, "
                    f"a {ParameterType.from_parameter_value(value).name}{hint}"
                )
        descriptor.name, descriptor.type = name, kind.value
        parameter = Parameter(name, kind if value is not None else ParameterType.NOT_SET, value)
        if descriptor.dynamic_typing:
            parameter = Parameter(name, value=value)
        complaint = _range_complaint(parameter, descriptor) or self.__ask_callbacks([parameter])
        if complaint:
            raise InvalidParameterValueException(f"parameter {name!r}: {complaint}")
        self.__descriptors[name] = descriptor
        self.__store([parameter])
        return parameter

    def declare_parameters(
        self, namespace: str, parameters: Iterable[tuple[Any, ...]], ignore_override: bool = False
    ) -> list[Parameter]:
        """Declare several ``(name, value, descriptor)``, named below a namespace; see :meth:`declare_parameter`."""
        prefix = f"{namespace}." if namespace else ""
        complete = ((*given, None, None)[:3] for given in parameters)
        return [self.declare_parameter(prefix + name, value, info, ignore_override) for name, value, info in complete]

    def undeclare_parameter(self, name: str) -> None:
        """Forget a parameter."""
        if self.describe_parameter(name).read_only:
            raise ParameterImmutableException(f"parameter {name!r} is read-only")
        removed = self.__parameters.pop(name)
        del self.__descriptors[name]
        self.__publish_event(deleted=[removed])

    def has_parameter(self, name: str) -> bool:
        """Is it declared?"""
        return name in self.__parameters

    def get_parameter(self, name: str) -> Parameter:
        """A declared parameter.

        Raises:
            ParameterNotDeclaredException: it is not.
            ParameterUninitializedException: it was declared by type and has no value yet.
        """
        parameter = self.__parameters.get(name)
        if parameter is None:
            if self.__allow_undeclared:
                return Parameter(name)
            raise ParameterNotDeclaredException(
                f"parameter {name!r} is not declared; there is {list(self.__parameters)}"
            )
        if parameter.value is None and not self.__descriptors[name].dynamic_typing:
            raise ParameterUninitializedException(f"parameter {name!r} has no value; give one with -p {name}:=VALUE")
        return parameter

    def get_parameter_or(self, name: str, alternative: Parameter | None = None) -> Parameter:
        """A declared parameter that has a value, else the alternative."""
        parameter = self.__parameters.get(name)
        if parameter is None or parameter.value is None:
            return Parameter(name) if alternative is None else alternative
        return parameter

    def get_parameters(self, names: Iterable[str]) -> list[Parameter]:
        """Several declared parameters."""
        return [self.get_parameter(name) for name in names]

    def get_parameters_by_prefix(self, prefix: str) -> dict[str, Parameter]:
        """The parameters below a dotted prefix, by the rest of their names."""
        start = f"{prefix}." if prefix else ""
        return {name[len(start) :]: item for name, item in self.__parameters.items() if name.startswith(start)}

    def describe_parameter(self, name: str) -> Any:
        """The descriptor of a declared parameter."""
        if name not in self.__descriptors:
            raise ParameterNotDeclaredException(f"parameter {name!r} is not declared")
        return self.__descriptors[name]

    def describe_parameters(self, names: Iterable[str]) -> list[Any]:
        """The descriptors of declared parameters."""
        return [self.describe_parameter(name) for name in names]

    def set_parameters(self, parameters: Sequence[Parameter]) -> list[Any]:
        """Set parameters one by one; each result says whether it was accepted and why not."""
        return [self.set_parameters_atomically([parameter]) for parameter in parameters]

    def set_parameters_atomically(self, parameters: Sequence[Parameter]) -> Any:
        """Set all parameters or none.

        Raises:
            ParameterNotDeclaredException: one is not declared.
        """
        for parameter in parameters:
            if parameter.name not in self.__parameters:
                if not self.__allow_undeclared:
                    raise ParameterNotDeclaredException(f"parameter {parameter.name!r} is not declared")
                self.declare_parameter(
                    parameter.name, parameter.value, _rcl("ParameterDescriptor")(dynamic_typing=True)
                )
        complaint = next(filter(None, map(self.__complaint, parameters)), "") or self.__ask_callbacks(list(parameters))
        if not complaint:
            self.__store(parameters)
        return _rcl("SetParametersResult")(successful=not complaint, reason=complaint)

    def __complaint(self, parameter: Parameter) -> str:
        descriptor = self.__descriptors[parameter.name]
        if descriptor.read_only:
            return f"parameter {parameter.name!r} is read-only"
        if not descriptor.dynamic_typing and not ParameterType(descriptor.type).check(parameter.value):
            expected = ParameterType(descriptor.type).name
            return f"parameter {parameter.name!r} is a {expected}, not a {parameter.type_.name}"
        complaint = _range_complaint(parameter, descriptor)
        return f"parameter {parameter.name!r}: {complaint}" if complaint else ""

    def __ask_callbacks(self, parameters: list[Parameter]) -> str:
        for callback in self.__on_set:
            result = callback(parameters)
            if not result.successful:
                return str(result.reason) or "refused by the node"
        return ""

    def __store(self, parameters: Sequence[Parameter]) -> None:
        new = [parameter for parameter in parameters if parameter.name not in self.__parameters]
        changed = [parameter for parameter in parameters if parameter.name in self.__parameters]
        self.__parameters.update({parameter.name: parameter for parameter in parameters})
        for callback in self.__post_set:
            callback(list(parameters))
        self.__publish_event(new=new, changed=changed)

    def __publish_event(
        self, new: Sequence[Parameter] = (), changed: Sequence[Parameter] = (), deleted: Sequence[Parameter] = ()
    ) -> None:
        node = self.__node()
        event = _rcl("ParameterEvent")(stamp=node.get_clock().now().to_msg(), node=node.get_fully_qualified_name())
        event.new_parameters = [parameter.to_parameter_msg() for parameter in new]
        event.changed_parameters = [parameter.to_parameter_msg() for parameter in changed]
        event.deleted_parameters = [parameter.to_parameter_msg() for parameter in deleted]
        self.__event_publisher.publish(event)

    def add_on_set_parameters_callback(self, callback: Callable[[list[Parameter]], Any]) -> None:
        """Let a callback accept or refuse values; it returns rcl_interfaces/SetParametersResult."""
        self.__on_set.insert(0, callback)

    def remove_on_set_parameters_callback(self, callback: Callable[[list[Parameter]], Any]) -> None:
        """Take such a callback away."""
        self.__on_set.remove(callback)

    def add_post_set_parameters_callback(self, callback: Callable[[list[Parameter]], None]) -> None:
        """Call back after values were accepted."""
        self.__post_set.insert(0, callback)

    def remove_post_set_parameters_callback(self, callback: Callable[[list[Parameter]], None]) -> None:
        """Take such a callback away."""
        self.__post_set.remove(callback)

    def add_pre_set_parameters_callback(self, _callback: object) -> None:
        """Not supported."""
        raise NotSupportedByEmbeddedRuntime("add_pre_set_parameters_callback", "use add_on_set_parameters_callback")

    def _embedded_create_parameter_services(self) -> None:
        handlers: dict[str, Callable[[Any, Any], Any]] = {
            "DescribeParameters": self.__serve_describe,
            "GetParameterTypes": self.__serve_types,
            "GetParameters": self.__serve_get,
            "ListParameters": self.__serve_list,
            "SetParameters": self.__serve_set,
            "SetParametersAtomically": self.__serve_set_atomically,
        }
        for name, handler in handlers.items():
            topic = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)[1:]
            kind = service_class(f"rcl_interfaces/srv/{name}")
            self.__node().create_service(kind, f"~/{topic}", handler, qos_profile=qos_profile_parameters)

    def __serve_describe(self, request: Any, response: Any) -> Any:
        response.descriptors = [self.__descriptors[name] for name in request.names if name in self.__descriptors]
        return response

    def __serve_types(self, request: Any, response: Any) -> Any:
        found = [self.get_parameter_or(name).type_.value for name in request.names if name in self.__parameters]
        response.types = found
        return response

    def __serve_get(self, request: Any, response: Any) -> Any:
        known = all(name in self.__parameters for name in request.names)
        # rclpy answers a request with an unknown name by an empty list
        response.values = [self.__parameters[name].get_parameter_value() for name in request.names] if known else []
        return response

    def __serve_list(self, request: Any, response: Any) -> Any:
        depth = request.depth or math.inf
        for name in self.__parameters:
            starts = [prefix for prefix in request.prefixes if name == prefix or name.startswith(f"{prefix}.")]
            levels = min((name.count(".") - prefix.count(".") for prefix in starts), default=name.count(".") + 1)
            if (starts or not request.prefixes) and levels <= depth:
                response.result.names.append(name)
        prefixes = {name.rpartition(".")[0] for name in response.result.names} - {""}
        response.result.prefixes = sorted(prefixes)
        return response

    def __serve_set(self, request: Any, response: Any) -> Any:
        response.results = [self.__set_from_wire([message]) for message in request.parameters]
        return response

    def __serve_set_atomically(self, request: Any, response: Any) -> Any:
        response.result = self.__set_from_wire(request.parameters)
        return response

    def __set_from_wire(self, messages: Sequence[Any]) -> Any:
        try:
            return self.set_parameters_atomically([Parameter.from_parameter_msg(message) for message in messages])
        except (ParameterNotDeclaredException, TypeError, ValueError) as error:
            return _rcl("SetParametersResult")(successful=False, reason=str(error))
