"""Reads the pickles in which MANO is published, without running what they say and without chumpy.

A pickle is a program. This one may name numpy arrays, scipy sparse matrices and the two chumpy classes of MANO's
files; each name stands for a class of this file that only keeps its state, and the arrays are made from those states
afterwards. Every other name is refused.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from grasp_nodes.errors import InputError

_LARGEST_FILE = 50_000_000  # bytes; MANO's files have 4 MB
_LARGEST_ARRAY = 50_000_000  # entries


class _Refused(pickle.UnpicklingError):
    """The pickle names something outside the allow-list."""


class _Keeper:
    """Stands for an object of a library: keeps its state, does nothing."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Keeper):
    """numpy.ndarray: (version, shape, dtype, Fortran order, bytes)."""


class _ChumpyCh(_Keeper):
    """chumpy.ch.Ch: an array `x`."""


class _ChumpySelect(_Keeper):
    """chumpy.reordering.Select: entries `idxs` of the raveled array `a`, in shape `preferred_shape`."""


class _SparseCsc(_Keeper):
    """scipy.sparse.csc_matrix."""


class _SparseCsr(_Keeper):
    """scipy.sparse.csr_matrix."""


class _SparseCoo(_Keeper):
    """scipy.sparse.coo_matrix."""


class _NdarrayName:
    """The name numpy.ndarray, good only as an argument of `_reconstruct`."""


class _ObjectName:
    """The name object, good only as an argument of `_reconstructor`."""


class _Dtype(_Keeper):
    """numpy.dtype of numbers, booleans or strings: (version, byte order, None, None, None, ...)."""

    def __init__(self, spec: Any, *_options: Any) -> None:
        self.spec = spec.decode("ascii") if isinstance(spec, bytes) else str(spec)
        if self.spec.lstrip("<>|=")[:1] not in tuple("biufSU") or not self.spec.lstrip("<>|=")[1:].isdigit():
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


def _reconstructor(kind: Any, base: Any, _state: Any) -> _Keeper:
    """Start an object empty, as Python 2 does."""
    if base is not _ObjectName or not (isinstance(kind, type) and issubclass(kind, _Keeper)):
        raise pickle.UnpicklingError("an object of an unknown class")
    return kind()


_SPARSE: dict[str, type[_Keeper]] = {"csc_matrix": _SparseCsc, "csr_matrix": _SparseCsr, "coo_matrix": _SparseCoo}

_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _NdarrayName,
    ("numpy", "dtype"): _Dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    ("chumpy.ch", "Ch"): _ChumpyCh,
    ("chumpy.reordering", "Select"): _ChumpySelect,
    **{(builtins, "set"): set for builtins in ("__builtin__", "builtins")},
    **{(builtins, "object"): _ObjectName for builtins in ("__builtin__", "builtins")},
    **{(module, "_reconstructor"): _reconstructor for module in ("copy_reg", "copyreg")},
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "scipy.sparse" or module.startswith("scipy.sparse."):
            if name in _SPARSE:
                return _SPARSE[name]
        elif (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise _Refused(f"{module}.{name}")


def read_mano_pickle(path: Path) -> dict[str, Any]:
    """Entries of a MANO .pkl as plain arrays.

    Args:
        path: the file; of Python 2 or 3, with or without chumpy objects.

    Returns:
        Entries by name; arrays, strings and numbers.

    Raises:
        InputError: the file asks for something outside the allow-list (the message names it), or is no MANO pickle.
    """
    if path.stat().st_size > _LARGEST_FILE:
        raise InputError(f"{path}: {path.stat().st_size} bytes are too many for a hand model")
    content = path.read_bytes()
    try:
        _check_memo(content)
        data = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        if not isinstance(data, dict):
            raise pickle.UnpicklingError(f"it holds a {type(data).__name__} instead of a dictionary")
        return {str(name): _plain(value) for name, value in data.items()}
    except _Refused as error:
        raise InputError(
            f"{path}: refused, the pickle asks for {error}, which no MANO file contains. It may run code of its "
            "author: do not open it with other tools; download the model again from https://mano.is.tue.mpg.de"
        ) from error
    except Exception as error:  # a damaged pickle can raise any exception from any opcode
        raise InputError(f"{path}: not a readable MANO pickle ({type(error).__name__}: {error})") from error


def _check_memo(content: bytes) -> None:
    """Refuse memo numbers beyond the file's length: the unpickler would allocate a table of that many entries."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "LONG_BINPUT") and not (isinstance(argument, int) and argument <= len(content)):
            raise pickle.UnpicklingError(f"memo number {argument}")


def _plain(value: Any) -> Any:
    """What a keeper stands for, as an array."""
    if isinstance(value, _Array):
        _, shape, dtype, fortran, data = value.state
        flat = np.frombuffer(_as_bytes(data), dtype.dtype())
        return flat.reshape(shape, order="F" if fortran else "C").copy()
    if isinstance(value, _ChumpyCh):
        return np.asarray(_plain(value.state["x"]))
    if isinstance(value, _ChumpySelect):
        source, chosen = np.asarray(_plain(value.state["a"])), np.asarray(_plain(value.state["idxs"]))
        return source.ravel()[chosen].reshape(value.state["preferred_shape"])
    if isinstance(value, (_SparseCsc, _SparseCsr, _SparseCoo)):
        return _dense(value)
    return value


def _dense(keeper: _Keeper) -> np.ndarray:
    state = keeper.state
    shape = tuple(int(n) for n in (state["_shape"] if "_shape" in state else state["shape"]))
    if len(shape) != 2 or shape[0] * shape[1] > _LARGEST_ARRAY:
        raise pickle.UnpicklingError(f"a sparse matrix of shape {shape}")
    data = _plain(state["data"])
    if isinstance(keeper, _SparseCoo):
        row, column = state["coords"] if "coords" in state else (state["row"], state["col"])
        return scipy.sparse.coo_matrix((data, (_plain(row), _plain(column))), shape=shape).toarray()
    kind = scipy.sparse.csc_matrix if isinstance(keeper, _SparseCsc) else scipy.sparse.csr_matrix
    matrix = kind((data, _plain(state["indices"]), _plain(state["indptr"])), shape=shape)
    matrix.check_format(full_check=True)  # indices out of range would be read out of bounds
    return matrix.toarray()
