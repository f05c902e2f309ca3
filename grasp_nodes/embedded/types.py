"""ROS 2 interface types without ROS: message and service classes made from definitions, and their CDR form.

rosbags knows the standard message packages and writes and reads CDR; this module turns its definitions into classes
that behave like the ones rosidl generates: keyword constructor, settable and checked fields, constants, equality.
Where rclpy stores ``array.array`` or numpy, these classes always store a contiguous numpy array of the exact dtype,
and arrays of a received message are read-only views of the received bytes.
"""

from __future__ import annotations

import functools
import os
import re
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Nodetype
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.base import normalize_fieldname
from rosbags.typesys.store import Typestore

from grasp_nodes.embedded.errors import MalformedPayload, NotSupportedByEmbeddedRuntime

DEFAULT_DISTRO = "jazzy"

# rosbags knows messages only; these are the services that the runtime itself or ordinary nodes need.
STANDARD_SERVICES = {
    "std_srvs/srv/Empty": "---",
    "std_srvs/srv/SetBool": "bool data\n---\nbool success\nstring message",
    "std_srvs/srv/Trigger": "---\nbool success\nstring message",
    "rcl_interfaces/srv/DescribeParameters": "string[] names\n---\nParameterDescriptor[] descriptors",
    "rcl_interfaces/srv/GetParameterTypes": "string[] names\n---\nuint8[] types",
    "rcl_interfaces/srv/GetParameters": "string[] names\n---\nParameterValue[] values",
    "rcl_interfaces/srv/ListParameters": (
        "uint64 DEPTH_RECURSIVE=0\nstring[] prefixes\nuint64 depth\n---\nListParametersResult result"
    ),
    "rcl_interfaces/srv/SetParameters": "Parameter[] parameters\n---\nSetParametersResult[] results",
    "rcl_interfaces/srv/SetParametersAtomically": "Parameter[] parameters\n---\nSetParametersResult result",
}

_EMPTY_MEMBER = "structure_needs_at_least_one_member"
_INTEGER_BITS = {f"{sign}int{bits}": (sign, bits) for sign in ("", "u") for bits in (8, 16, 32, 64)}
_TYPE_STRINGS = {"bool": "boolean", "byte": "octet", "char": "uint8", "float32": "float", "float64": "double"}
_DTYPES = {"bool": "bool", "byte": "int8", "char": "uint8", "octet": "uint8"}  # as rosbags reads them


def distro() -> str:
    """Name of the ROS 2 distribution whose wire format is spoken: ``$ROS_DISTRO``, else jazzy."""
    return os.environ.get("ROS_DISTRO") or DEFAULT_DISTRO


@functools.cache
def store() -> Typestore:
    """The process's type store, with the standard packages and services."""
    member = getattr(Stores, f"ROS2_{distro().upper()}", Stores.LATEST)
    result = get_typestore(member)
    for name, text in STANDARD_SERVICES.items():
        _register_service(result, name, text)
    return result


def register_package(package: str, folders: Sequence[Path]) -> None:
    """Make the ``.msg`` and ``.srv`` files of some folders known as the types of a package.

    Args:
        package: name of the message package.
        folders: folders that hold the definition files; other files in them are ignored.

    Raises:
        ValueError: a definition uses something that the two runtimes would treat differently, or an unknown type.
    """
    for folder in folders:
        for path in sorted(folder.glob("*.msg")):
            text = path.read_text(encoding="utf-8")
            _refuse_defaults(path, text)
            store().register(get_types_from_msg(text, f"{package}/msg/{path.stem}"))
        for path in sorted(folder.glob("*.srv")):
            text = path.read_text(encoding="utf-8")
            _refuse_defaults(path, text)
            _register_service(store(), f"{package}/srv/{path.stem}", text)
    _check_references(package)


def packages() -> set[str]:
    """Names of all known message packages."""
    return {name.split("/", 1)[0] for name in store().fielddefs}


def has_type(name: str) -> bool:
    """Is ``package/msg/Name`` a known message, or ``package/srv/Name`` a known service?"""
    return name in store().fielddefs or f"{name}_Request" in store().fielddefs


def dds_type_name(name: str) -> str:
    """``sensor_msgs/msg/Image`` as DDS knows it: ``sensor_msgs::msg::dds_::Image_``."""
    package, kind, short = name.split("/")
    return f"{package}::{kind}::dds_::{short}_"


def type_hash(name: str) -> str:
    """The RIHS01 hash that ROS 2 (Iron and later) announces for a type."""
    return store().hash_rihs01(name)


def _refuse_defaults(path: Path, text: str) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split(None, 2)
        if len(words) == 3 and "=" not in line.split("#", 1)[0]:
            raise ValueError(
                f"{path}:{number}: field {words[1]!r} has a default value; only real ROS 2 would honour it"
            )


def _check_references(package: str) -> None:
    known = store().fielddefs
    for name, (_, fields) in known.items():
        for field, desc in fields if name.startswith(f"{package}/") else ():
            inner = desc[1][0] if desc[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE) else desc
            if inner[0] == Nodetype.NAME and inner[1] not in known:
                raise ValueError(f"{name}: field {field!r} has the unknown type {inner[1]!r}")


def _register_service(target: Typestore, name: str, text: str) -> None:
    package, _, short = name.split("/")
    request, _, response = re.sub(r"(?m)^---.*$", "---", text).partition("---")
    for half, body in (("Request", request), ("Response", response)):
        # Parsed as a message of the package, so that unqualified field types resolve to its messages.
        ((consts, fields),) = get_types_from_msg(body, f"{package}/msg/{short}_{half}").values()
        fields = fields or [(_EMPTY_MEMBER, (Nodetype.BASE, ("uint8", 0)))]
        target.register({f"{name}_{half}": (consts, fields)})


class Byte(bytes):
    """The value of a ``byte`` field: one byte, as in rclpy, that can also be packed as an integer."""

    def __index__(self) -> int:
        return int.from_bytes(self, sys.byteorder, signed=True)


@dataclass(frozen=True)
class Field:
    """One field of a message class."""

    type_string: str
    """The type as ``get_fields_and_field_types`` of rosidl writes it."""
    default: Callable[[], Any]
    convert: Callable[[Any], Any]
    """Checks a value and brings it to its stored form; raises TypeError or ValueError that name the field."""


class Message:
    """Base of all message classes."""

    __slots__ = ()
    __msgtype__: ClassVar[str]
    _fields: ClassVar[dict[str, Field]]
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, **values: Any) -> None:
        for name, field in self._fields.items():
            object.__setattr__(self, name, field.convert(values.pop(name)) if name in values else field.default())
        if values:
            raise TypeError(f"{self.__msgtype__} has no field {', '.join(sorted(values))}; it has {list(self._fields)}")

    def __setattr__(self, name: str, value: Any) -> None:
        field = self._fields.get(name)
        if field is None:
            raise AttributeError(f"{self.__msgtype__} has no field {name!r}; it has {list(self._fields)}")
        object.__setattr__(self, name, field.convert(value))

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(_equal(getattr(self, name), getattr(other, name)) for name in self._fields)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields if name != _EMPTY_MEMBER)
        return f"{self.__msgtype__.replace('/', '.')}({values})"

    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]:
        """Field names and their types as rosidl writes them."""
        return {name: field.type_string for name, field in cls._fields.items()}

    @classmethod
    def from_wire(cls, *values: Any) -> Message:
        """A message from deserialised values, which need no checks."""
        message = cls.__new__(cls)
        for name, value in zip(cls._fields, values):  # noqa: B905 - rosbags gives one value per field
            object.__setattr__(message, name, value)
        return message


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, np.ndarray):
        return bool(np.array_equal(ours, theirs))
    return bool(ours == theirs)


@functools.cache
def message_class(name: str) -> type[Message]:
    """The class of a message type.

    Args:
        name: ``package/msg/Name``, or ``package/srv/Name_Request``.

    Raises:
        KeyError: the type is not known.
    """
    constants, definitions = store().fielddefs[name]
    fields = {normalize_fieldname(field): _field(f"{name}.{field}", desc) for field, desc in definitions}
    body: dict[str, Any] = {"__slots__": tuple(fields), "__msgtype__": name, "_fields": fields}
    body["__module__"] = ".".join(name.split("/")[:2])
    for constant, base, value in constants:
        body[constant] = Byte([int(value)]) if base == "byte" else value
    cls = type(name.rsplit("/", 1)[-1], (Message,), body)
    store().types[name] = _wire_constructor(cls, definitions)  # type: ignore[assignment]
    store().cache.pop(name, None)
    return cls


def _wire_constructor(cls: type[Message], definitions: Sequence[tuple[str, Any]]) -> Callable[..., Message]:
    """What makes a message of deserialised values: ``from_wire``, after some values were brought to our form."""
    adapters: dict[int, Callable[[Any], Any]] = {}
    for index, (_, (kind, detail)) in enumerate(definitions):
        if kind == Nodetype.BASE and detail[0] in ("byte", "octet"):
            adapters[index] = _to_byte
        elif kind in (Nodetype.ARRAY, Nodetype.SEQUENCE) and detail[0][0] == Nodetype.BASE and "64" in detail[0][1][0]:
            adapters[index] = _aligned
    if not adapters:
        return cls.from_wire

    def construct(*values: Any) -> Message:
        return cls.from_wire(*(adapters[i](value) if i in adapters else value for i, value in enumerate(values)))

    return construct


def _to_byte(value: int) -> Byte:
    return Byte([value & 0xFF])


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    """The array at an address that fits its type: behind the 4-byte header, 8-byte numbers start off by four.

    Compiled code (numba, torch) is slow with such arrays, or refuses them.
    """
    if array.flags.aligned:
        return array
    array = array.copy()
    array.flags.writeable = False
    return array


class ServiceMeta(type):
    """Makes a service class print as its name."""

    def __repr__(cls) -> str:
        return f"<service {getattr(cls, '__srvtype__', cls.__name__)}>"


@functools.cache
def service_class(name: str) -> Any:
    """The class of a service type ``package/srv/Name``, with ``Request`` and ``Response`` inside it."""
    halves = {half: message_class(f"{name}_{half}") for half in ("Request", "Response")}
    return ServiceMeta(name.rsplit("/", 1)[-1], (), {"__srvtype__": name, **halves})


def _field(where: str, desc: Any) -> Field:
    kind, detail = desc
    if kind == Nodetype.BASE:
        return _scalar_field(where, *detail)
    if kind == Nodetype.NAME:
        nested = message_class(detail)
        return Field(_nested_string(detail), nested, functools.partial(_check_nested, where, nested))
    (inner_kind, inner), size = detail
    fixed = kind == Nodetype.ARRAY
    element = _field(where, (inner_kind, inner))
    bound = f", {size}" if size else ""
    type_string = f"{element.type_string}[{size}]" if fixed else f"sequence<{element.type_string}{bound}>"
    if inner_kind == Nodetype.BASE and inner[0] != "string":
        dtype = np.dtype(_DTYPES.get(inner[0], inner[0]))
        default = functools.partial(np.zeros, size if fixed else 0, dtype)
        return Field(type_string, default, functools.partial(_check_array, where, dtype, size, fixed))

    def default_list() -> list[Any]:
        return [element.default() for _ in range(size if fixed else 0)]

    return Field(type_string, default_list, functools.partial(_check_list, where, element.convert, size, fixed))


def _nested_string(name: str) -> str:
    package, _, short = name.split("/")
    return f"{package}/{short}"


def _scalar_field(where: str, base: str, bound: int) -> Field:
    type_string = _TYPE_STRINGS.get(base, base)
    if base == "string":
        check = functools.partial(_check_string, where, bound)
        return Field(f"string<{bound}>" if bound else "string", str, check)
    if base == "bool":
        return Field(type_string, bool, functools.partial(_check_bool, where))
    if base in ("byte", "octet"):
        return Field("octet", lambda: Byte(b"\0"), functools.partial(_check_byte, where))
    if base in ("float32", "float64"):
        return Field(type_string, float, functools.partial(_check_float, where, base))
    if base == "char" or base in _INTEGER_BITS:
        sign, bits = _INTEGER_BITS["uint8" if base == "char" else base]
        low, high = (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return Field(type_string, int, functools.partial(_check_integer, where, base, low, high))
    raise NotSupportedByEmbeddedRuntime(f"{where}: field type {base!r}", "use string, or a sized numeric type")


def _refusal(where: str, expected: str, value: object) -> TypeError:
    return TypeError(f"{where}: expected {expected}, got {value!r:.80} ({type(value).__name__})")


def _check_nested(where: str, nested: type[Message], value: Any) -> Any:
    if not isinstance(value, nested):
        raise _refusal(where, f"a {nested.__msgtype__}", value)
    return value


def _check_bool(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refusal(where, "a bool", value)
    return value


def _check_byte(where: str, value: Any) -> Byte:
    if not isinstance(value, (bytes, bytearray)) or len(value) != 1:
        raise _refusal(where, "bytes of length 1", value)
    return Byte(value)


def _check_string(where: str, bound: int, value: Any) -> str:
    if not isinstance(value, str):
        raise _refusal(where, "a str", value)
    if bound and len(value.encode()) > bound:
        raise ValueError(f"{where}: expected at most {bound} bytes of text, got {len(value.encode())}")
    return value


def _check_float(where: str, base: str, value: Any) -> float:
    # rclpy refuses int and numpy.float32 too: a node that passes here also runs there.
    if not isinstance(value, float):
        raise _refusal(where, f"a float for {base} (convert with float())", value)
    return float(value)


def _check_integer(where: str, base: str, low: int, high: int, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _refusal(where, f"an int for {base} (convert with int())", value)
    if not low <= value <= high:
        raise ValueError(f"{where}: {value} is outside the range {low}..{high} of {base}")
    return value


def _check_list(where: str, convert: Callable[[Any], Any], size: int, fixed: bool, value: Any) -> list[Any]:
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise _refusal(where, "a list", value)
    items = [convert(item) for item in value]
    _check_size(where, len(items), size, fixed)
    return items


def _check_size(where: str, count: int, size: int, fixed: bool) -> None:
    if (fixed and count != size) or (size and count > size):
        raise ValueError(f"{where}: expected {'exactly' if fixed else 'at most'} {size} elements, got {count}")


def _check_array(where: str, dtype: np.dtype[Any], size: int, fixed: bool, value: Any) -> NDArray[Any]:
    if isinstance(value, (bytes, bytearray, memoryview)):
        if dtype.itemsize != 1:
            raise _refusal(where, f"an array of {dtype} (raw bytes are taken for uint8[] only)", value)
        array = np.frombuffer(value, np.uint8).view(dtype)
    else:
        array = np.asarray(value)
        array = _to_dtype(where, dtype, array) if array.size or array.dtype == dtype else np.zeros(0, dtype)
    array = np.ascontiguousarray(array).reshape(-1)
    _check_size(where, array.size, size, fixed)
    return array


def _to_dtype(where: str, dtype: np.dtype[Any], array: NDArray[Any]) -> NDArray[Any]:
    """Convert without loss of meaning: integers must fit, floats never become integers."""
    if array.dtype == dtype:
        return array
    if array.dtype.kind in "iu" and dtype.kind in "iu":
        info = np.iinfo(dtype)
        if int(array.min()) < info.min or int(array.max()) > info.max:
            raise ValueError(f"{where}: values {array.min()}..{array.max()} do not fit {dtype}")
    elif not (array.dtype.kind in "iuf" and dtype.kind == "f"):
        raise TypeError(f"{where}: an array of {array.dtype} cannot become {dtype}")
    return array.astype(dtype)


def serialize(message: Message) -> bytearray:
    """CDR bytes (little endian, 4-byte header, padded to 4 bytes as DDS wants it) of a message."""
    msgdef = store().get_msgdef(message.__msgtype__)
    size = 4 + msgdef.getsize_cdr(0, message, store())
    buffer = bytearray((size + 3) & ~3)
    buffer[1] = 1
    msgdef.serialize_cdr_le(memoryview(buffer)[4:], 0, message, store())
    return buffer


def deserialize(data: memoryview | bytes, name: str) -> Any:
    """Read CDR bytes; arrays of the result are read-only views into them.

    Raises:
        MalformedPayload: the bytes are not one message of this type.
    """
    message_class(name)
    if len(data) < 4 or data[0] != 0 or data[1] > 1:
        raise MalformedPayload(f"{len(data)} bytes without a plain CDR header are not a {name}")
    msgdef = store().get_msgdef(name)
    read = msgdef.deserialize_cdr_le if data[1] else msgdef.deserialize_cdr_be
    try:
        message, end = read(memoryview(data)[4:].toreadonly(), 0, msgdef.cls, store())
    except (SerdeError, struct.error, ValueError, IndexError, OverflowError) as error:
        raise MalformedPayload(f"{len(data)} bytes are not a {name}: {error}") from error
    if not 0 <= len(data) - 4 - end <= 7:
        raise MalformedPayload(f"{len(data)} bytes are not a {name}, which ends after {end + 4}")
    return message
