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
_TYPE_STRINGS = {"bool": "boolean", "byte": "octet", "char": "uint8", "float32": "float", "float64": "double"}
_DTYPES = {"bool": "bool", "byte": "int8", "char": "uint8", "octet": "uint8"}  # as rosbags reads them


class MalformedPayload(ValueError):  # noqa: N818 - what it is
    """Bytes from the wire that are not a message of the expected type."""


def distro() -> str:
    """Name of the ROS 2 distribution whose wire format is spoken."""
    return os.environ.get("ROS_DISTRO") or "jazzy"


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

    Definitions must not have default values, because rosbags would ignore them.
    """
    for folder in folders:
        for path in sorted(folder.glob("*.msg")):
            store().register(get_types_from_msg(path.read_text(encoding="utf-8"), f"{package}/msg/{path.stem}"))
        for path in sorted(folder.glob("*.srv")):
            _register_service(store(), f"{package}/srv/{path.stem}", path.read_text(encoding="utf-8"))


def packages() -> set[str]:
    """Names of all known message packages."""
    return {name.split("/", 1)[0] for name in store().fielddefs}


def dds_type_name(name: str) -> str:
    """``sensor_msgs/msg/Image`` as DDS knows it: ``sensor_msgs::msg::dds_::Image_``."""
    package, kind, short = name.split("/")
    return f"{package}::{kind}::dds_::{short}_"


def type_hash(name: str) -> str:
    """The RIHS01 hash that ROS 2 (Iron and later) announces for a type."""
    return store().hash_rihs01(name)


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


@functools.cache
def service_class(name: str) -> Any:
    """The class of a service type ``package/srv/Name``, with ``Request`` and ``Response`` inside it."""
    halves = {half: message_class(f"{name}_{half}") for half in ("Request", "Response")}
    return type(name.rsplit("/", 1)[-1], (), {"__srvtype__": name, **halves})


def _field(where: str, desc: Any) -> Field:
    kind, detail = desc
    if kind == Nodetype.BASE:
        return _scalar_field(where, *detail)
    if kind == Nodetype.NAME:
        nested = message_class(detail)
        return Field(detail.replace("/msg/", "/"), nested, functools.partial(_check_nested, where, nested))
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


def _scalar_field(where: str, base: str, bound: int) -> Field:
    type_string = _TYPE_STRINGS.get(base, base)
    if base in ("byte", "octet"):
        return Field(type_string, lambda: Byte(b"\0"), functools.partial(_check_byte, where))
    kind = {"string": str, "bool": bool, "float32": float, "float64": float}.get(base, int)
    type_string += f"<{bound}>" if bound else ""
    limits = np.iinfo(_DTYPES.get(base, base)) if kind is int else None
    return Field(type_string, kind, functools.partial(_check_scalar, where, base, kind, limits))


def _refusal(where: str, expected: str, value: object) -> TypeError:
    return TypeError(f"{where}: expected {expected}, got {value!r:.80} ({type(value).__name__})")


def _check_scalar(where: str, base: str, kind: type, limits: Any, value: Any) -> Any:
    # rclpy refuses an int or a numpy.float32 for a float too: a node that passes here also runs there.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _refusal(where, f"a {kind.__name__} for {base} (convert with {kind.__name__}())", value)
    if limits is not None and not limits.min <= value <= limits.max:
        raise ValueError(f"{where}: {value} is outside the range {limits.min}..{limits.max} of {base}")
    return kind(value)


def _check_byte(where: str, value: Any) -> Byte:
    if not isinstance(value, (bytes, bytearray)) or len(value) != 1:
        raise _refusal(where, "bytes of length 1", value)
    return Byte(value)


def _check_nested(where: str, nested: type[Message], value: Any) -> Any:
    if not isinstance(value, nested):
        raise _refusal(where, f"a {nested.__msgtype__}", value)
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


def serialize_message(message: Message) -> bytes:
    """The CDR bytes of a message, as ``rclpy.serialization`` gives them."""
    return bytes(serialize(message))


def deserialize_message(data: bytes, message_type: type[Message]) -> Any:
    """The message in CDR bytes."""
    return deserialize(data, message_type.__msgtype__)
