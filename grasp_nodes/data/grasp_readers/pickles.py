"""The pickles that data sets are published in, read as plain data and never obeyed.

Many data sets keep dictionaries in object arrays (.npz and .npy written with ``allow_pickle``), or in .pkl files.
All of them are programs to whoever opens them the usual way; here only numbers, text, containers and arrays come out.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from grasp_nodes.data.grasp_readers.tensor_pickles import tensor_class, unpack_tensor
from grasp_nodes.errors import InputError
from grasp_nodes.npz import read_archive
from grasp_nodes.plain_pickle import RefusedName, load_plain

LARGEST_FILE = 4_000_000_000
"""bytes, unpacked, of one file; the largest published one, GrabNet's training set, has less than 1 GB."""

Result = TypeVar("Result")


def read_pickle(path: Path, what: str = "pickle") -> Any:
    """What a .pkl holds, tensors of torch as arrays.

    Args:
        path: the file, of Python 2 or 3. what: it is meant to be, for messages.

    Raises:
        InputError: it asks for anything but plain data (the message names it), is damaged, or is too large.
    """
    return _guarded(path, what, lambda: load_plain(_content(path, what), tensor_class, unpack_tensor, True))


def read_object_npy(path: Path, what: str = ".npy file") -> Any:
    """What a .npy holds, written with or without ``allow_pickle``; of an array without axes its one entry.

    Args and errors as for `read_pickle`.
    """
    return _guarded(path, what, lambda: _member(_content(path, what)))


def read_object_npz(path: Path, what: str = ".npz file", only: Container[str] | None = None) -> dict[str, Any]:
    """The members of a .npz, written with or without ``allow_pickle``; of an array without axes its one entry.

    Args:
        path, what: as for `read_pickle`. only: the members to read; None = all.

    Raises:
        InputError: as for `read_pickle`.
    """

    def member(content: bytes) -> Any:
        return _guarded(path, what, lambda: _member(content))

    return read_archive(path, member, what, LARGEST_FILE, only)


def field_of(data: Any, name: str, path: Path, *inner: str) -> Any:
    """An entry of nested dictionaries.

    Raises:
        InputError: it is not there; the message names file and field, and the fields that are there.
    """
    taken: list[str] = []
    for key in (name, *inner):
        if not isinstance(data, dict) or key not in data:
            there = ", ".join(map(str, list(data)[:20])) if isinstance(data, dict) else f"a {type(data).__name__}"
            raise InputError(f"{path}: expected the field {'.'.join([*taken, key])}; found {there}")
        data = data[key]
        taken.append(key)
    return data


def numbers_of(data: Any, shape: tuple[int | None, ...], path: Path, name: str, *inner: str) -> np.ndarray:
    """An entry of nested dictionaries as an array of float64.

    Args:
        data: the file's content. shape: expected; None = any length. path, name, inner: as for `field_of`.

    Raises:
        InputError: it is not there, is no array of numbers, or has another shape.
    """
    value = np.asarray(field_of(data, name, path, *inner))
    full = ".".join([name, *inner])
    if value.dtype.kind not in "biuf":
        raise InputError(f"{path}: {full}: expected numbers, got dtype {value.dtype}")
    if value.ndim != len(shape) or any(w not in (None, g) for w, g in zip(shape, value.shape, strict=True)):
        wanted = ", ".join("N" if length is None else str(length) for length in shape)
        raise InputError(f"{path}: {full}: expected shape ({wanted}), got {value.shape}")
    return value.astype(np.float64)


def row_of(data: Any, length: int, path: Path, name: str, *inner: str) -> np.ndarray:
    """An entry of nested dictionaries as so many numbers, however its axes are nested.

    Raises:
        InputError: it is not there, is no array of numbers, or has another length.
    """
    value = np.asarray(field_of(data, name, path, *inner))
    if value.dtype.kind not in "biuf" or value.size != length:
        full = ".".join([name, *inner])
        raise InputError(f"{path}: {full}: expected {length} numbers, got shape {value.shape}, dtype {value.dtype}")
    return value.astype(np.float64).ravel()


def _guarded(path: Path, what: str, load: Callable[[], Result]) -> Result:
    try:
        return load()
    except InputError:
        raise
    except (RefusedName, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path}: refused, this {what} holds {error} where only numbers, text, lists, dictionaries and arrays "
            "belong. Opened with other tools it may run code of its author: download it again from the data set's "
            "home page"
        ) from error
    except Exception as error:  # a damaged pickle can raise any exception from any of its instructions
        raise InputError(f"{path}: not a readable {what} ({type(error).__name__}: {error})") from error


def _content(path: Path, what: str) -> bytes:
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise InputError(f"{path}: {size} bytes are too many for a {what}, {LARGEST_FILE} are allowed")
    return path.read_bytes()


def _member(content: bytes) -> Any:
    """The array of a .npy's bytes; of one without axes its entry."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version > (2, 0):  # only records with exotic field names need a later one
        raise pickle.UnpicklingError("an array of records")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.hasobject:
        array = load_plain(stream.read(), object_arrays=True)
        if not isinstance(array, np.ndarray) or array.shape != shape:
            raise pickle.UnpicklingError(f"something else than the array of shape {shape} that it announces")
    else:
        array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return array.item() if array.dtype.hasobject and array.ndim == 0 else array[()]
