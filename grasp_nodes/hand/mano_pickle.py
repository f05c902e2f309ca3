"""Reads the pickles in which MANO is published, without running what they say and without chumpy.

A pickle is a program. Here it may build numpy arrays, scipy sparse matrices and the two chumpy classes that MANO's
files contain, each made by code of this file; every other name is refused.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from grasp_nodes.errors import InputError

_LARGEST_FILE = 200_000_000  # bytes; MANO's files have 4 MB
_LARGEST_ARRAY = 50_000_000  # entries


class _Refused(pickle.UnpicklingError):
    """The pickle names something outside the allow-list."""


class _Stub:
    """Stands for an object of a library: keeps its state, does nothing."""

    state: dict[str, Any]

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError(f"the state of {type(self).__name__} is not a dictionary")
        self.state = state


class _ChumpyCh(_Stub):
    """chumpy.ch.Ch: an array `x`."""


class _ChumpySelect(_Stub):
    """chumpy.reordering.Select: entries `idxs` of the raveled array `a`, in shape `preferred_shape`."""


class _SparseCsc(_Stub):
    """scipy.sparse.csc_matrix."""


class _SparseCsr(_Stub):
    """scipy.sparse.csr_matrix."""


class _SparseCoo(_Stub):
    """scipy.sparse.coo_matrix."""


class _NdarrayName:
    """The name numpy.ndarray, good only as an argument of `_reconstruct`."""


class _ObjectName:
    """The name object, good only as an argument of `_reconstructor`."""


def _reconstruct(subtype: object, shape: object, _kind: object) -> np.ndarray:
    """Start an array empty as numpy does; its content follows as state, which numpy checks against its own size."""
    if subtype is not _NdarrayName or shape != (0,):
        raise pickle.UnpicklingError("an array that does not start empty")
    return np.ndarray((0,), "b")


def _dtype(spec: object, *_options: object) -> np.dtype[Any]:
    """A plain dtype: numbers, booleans, strings and objects (whose entries come through this unpickler too)."""
    text = spec.decode("ascii") if isinstance(spec, bytes) else spec
    if not isinstance(text, str) or text.lstrip("<>|=")[:1] not in tuple("biufcOSUV") or "," in text:
        raise pickle.UnpicklingError(f"dtype {spec!r}")
    return np.dtype(text).newbyteorder("=") if text[0] in "<>=" else np.dtype(text, copy=True)


def _scalar(dtype: object, data: object) -> object:
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError("a scalar without a plain dtype")
    return np.frombuffer(_as_bytes(data), dtype, count=1)[0]


def _encode(text: object, encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("text in another encoding than latin1")
    return text.encode("latin1")


def _as_bytes(data: object) -> bytes:
    return data if isinstance(data, bytes) else _encode(data)


def _reconstructor(kind: object, base: object, _state: object) -> _Stub:
    """Python 2's empty start of an object of a class."""
    if base is not _ObjectName or not (isinstance(kind, type) and issubclass(kind, _Stub)):
        raise pickle.UnpicklingError("an object of an unknown class")
    return kind()


_SPARSE: dict[str, type[_Stub]] = {"csc_matrix": _SparseCsc, "csr_matrix": _SparseCsr, "coo_matrix": _SparseCoo}

_ALLOWED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "ndarray"): _NdarrayName,
    ("numpy", "dtype"): _dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
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
        path: the file; Python 2 or 3, with or without chumpy objects.

    Returns:
        Entries by name; arrays, strings and numbers.

    Raises:
        InputError: the file asks for something outside the allow-list (the message names it), or is no MANO pickle.
    """
    if path.stat().st_size > _LARGEST_FILE:
        raise InputError(f"{path}: {path.stat().st_size} bytes are too many for a hand model")
    try:
        data = _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
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


def _plain(value: Any) -> Any:
    """What a stub stands for, as an array."""
    if isinstance(value, _ChumpyCh):
        return np.asarray(value.state["x"])
    if isinstance(value, _ChumpySelect):
        source, chosen = np.asarray(_plain(value.state["a"])), np.asarray(value.state["idxs"])
        return source.ravel()[chosen].reshape(value.state["preferred_shape"])
    if isinstance(value, (_SparseCsc, _SparseCsr, _SparseCoo)):
        return _dense(value)
    return value


def _dense(stub: _Stub) -> np.ndarray:
    state = stub.state
    shape = tuple(int(n) for n in (state["_shape"] if "_shape" in state else state["shape"]))
    if len(shape) != 2 or shape[0] * shape[1] > _LARGEST_ARRAY:
        raise pickle.UnpicklingError(f"a sparse matrix of shape {shape}")
    if isinstance(stub, _SparseCoo):
        coordinates = state["coords"] if "coords" in state else (state["row"], state["col"])
        return scipy.sparse.coo_matrix((state["data"], coordinates), shape=shape).toarray()
    kind = scipy.sparse.csc_matrix if isinstance(stub, _SparseCsc) else scipy.sparse.csr_matrix
    matrix = kind((state["data"], state["indices"], state["indptr"]), shape=shape)
    matrix.check_format(full_check=True)  # indices out of range would be read out of bounds
    return matrix.toarray()
