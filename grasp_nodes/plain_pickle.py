"""Pickles of plain data (numbers, text, containers, numpy arrays), opened without running what they say.

A pickle is a program. Here every name that it may call stands for a class or function of this file that only keeps what
it is given; the arrays are made from that afterwards. Every other name is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np


class RefusedName(pickle.UnpicklingError):
    """The pickle names something outside the allow-list; the text is that name."""


class Keeper:
    """Stands for an object of a library: keeps its state, does nothing."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(Keeper):
    """numpy.ndarray: (version, shape, dtype, Fortran order, bytes or list of objects)."""


class _NdarrayName:
    """The name numpy.ndarray, good only as an argument of `_reconstruct`."""


class _ObjectName:
    """The name object, good only as an argument of `_reconstructor`."""


class _Dtype(Keeper):
    """numpy.dtype of numbers, booleans, strings or objects: (version, byte order, None, None, None, ...)."""

    def __init__(self, spec: Any, *_options: Any) -> None:
        self.spec = spec.decode("ascii") if isinstance(spec, bytes) else str(spec)
        kind, size = self.spec.lstrip("<>|=")[:1], self.spec.lstrip("<>|=")[1:]
        if kind not in tuple("biufSUO") or not (size.isdigit() or (kind, size) == ("O", "")):
            raise pickle.UnpicklingError(f"an array of dtype {self.spec!r}")

    def dtype(self) -> np.dtype[Any]:
        """The dtype that it stands for."""
        plain = np.dtype(self.spec)
        if self.state is None:
            return plain
        if any(part is not None for part in self.state[2:5]):
            raise pickle.UnpicklingError("an array of records")
        return plain.newbyteorder(self.state[1])


def _reconstruct(subtype: Any, _shape: Any, _kind: Any) -> _Array:
    """Start an array empty, as numpy does; its content follows as state."""
    if subtype is not _NdarrayName:
        raise pickle.UnpicklingError("an array of another class than numpy.ndarray")
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """An array of pickle protocol 5."""
    array = _Array()
    array.state = (1, shape, dtype, order == "F", bytes(data))
    return array


def _scalar(dtype: Any, data: Any) -> Any:
    return np.frombuffer(_as_bytes(data), dtype.dtype(), count=1)[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("text in another encoding than latin1")
    return text.encode("latin1")


def _as_bytes(data: Any) -> bytes:
    return _encode(data) if isinstance(data, str) else bytes(data)


def _reconstructor(kind: Any, base: Any, _state: Any) -> Keeper:
    """Start an object empty, as Python 2 does."""
    if base is not _ObjectName or not (isinstance(kind, type) and issubclass(kind, Keeper)):
        raise pickle.UnpicklingError("an object of an unknown class")
    return kind()


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _NdarrayName,
    ("numpy", "dtype"): _Dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    ("collections", "OrderedDict"): dict,
    **{(builtins, "set"): set for builtins in ("__builtin__", "builtins")},
    **{(builtins, "object"): _ObjectName for builtins in ("__builtin__", "builtins")},
    **{(module, "_reconstructor"): _reconstructor for module in ("copy_reg", "copyreg")},
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, extra: Callable[[str, str], type[Keeper] | None]) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")  # as Python 2 wrote its strings
        self._extra = extra

    def find_class(self, module: str, name: str) -> Any:
        found = self._extra(module, name) or _ALLOWED.get((module, name))
        if found is None:
            raise RefusedName(f"{module}.{name}")
        return found


def load_plain(
    content: bytes,
    extra: Callable[[str, str], type[Keeper] | None] = lambda _module, _name: None,
    unpack: Callable[[Keeper, Callable[[Any], Any]], Any] | None = None,
    object_arrays: bool = False,
) -> Any:
    """What a pickle holds: numbers, text, bytes, None, lists, tuples, dictionaries, sets and arrays.

    Args:
        content: the pickle, of Python 2 or 3.
        extra: further classes by module and name, as keepers; None for a name that it does not know.
        unpack: makes a value of such a keeper; its second argument turns what the keeper holds into plain data.
        object_arrays: arrays whose entries are themselves plain data are allowed.

    Raises:
        RefusedName: the pickle names something outside the allow-list.
        Exception: of any kind, for a damaged pickle: any exception can come from any of its instructions.
    """
    _check_memo(content)
    loaded = _Unpickler(content, extra).load()
    done: dict[int, Any] = {}  # a container that is named many times is made once

    def plain(value: Any) -> Any:
        if id(value) not in done:
            done[id(value)] = convert(value)
        return done[id(value)]

    def convert(value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, bytearray, np.generic)):
            return value
        if isinstance(value, dict):
            return {plain(key): plain(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return type(value)(plain(entry) for entry in value)
        if isinstance(value, _Array):
            return array(value)
        if isinstance(value, Keeper) and not isinstance(value, _Dtype) and unpack is not None:
            return unpack(value, plain)
        raise pickle.UnpicklingError(f"a {type(value).__name__.lstrip('_')} where data belongs")

    def array(keeper: _Array) -> np.ndarray:
        _, shape, dtype, fortran, data = keeper.state
        order: Any = "F" if fortran else "C"
        if not dtype.dtype().hasobject:
            return np.frombuffer(_as_bytes(data), dtype.dtype()).reshape(shape, order=order).copy()
        if not object_arrays:
            raise pickle.UnpicklingError("an array of Python objects")
        if not isinstance(data, list) or len(data) != math.prod(shape):
            raise pickle.UnpicklingError("an array of objects whose shape is not that of its content")
        flat = np.empty(len(data), object)
        for index, entry in enumerate(data):  # a slice assignment would unpack entries that are arrays
            flat[index] = plain(entry)
        return flat.reshape(shape, order=order)

    return plain(loaded)


def _check_memo(content: bytes) -> None:
    """Refuse memo numbers beyond the file's length: the unpickler would allocate a table of that many entries."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "LONG_BINPUT") and not (isinstance(argument, int) and argument <= len(content)):
            raise pickle.UnpicklingError(f"memo number {argument}")
