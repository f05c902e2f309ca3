"""Reads the pickles in which MANO is published, without running what they say and without chumpy.

Beside plain arrays this one may name scipy sparse matrices and the two chumpy classes of MANO's files; see
`plain_pickle` for how that is safe.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from grasp_nodes.errors import InputError
from grasp_nodes.plain_pickle import Keeper, RefusedName, load_plain

_LARGEST_FILE = 50_000_000  # bytes; MANO's files have 4 MB
_LARGEST_ARRAY = 50_000_000  # entries


class _ChumpyCh(Keeper):
    """chumpy.ch.Ch: an array `x`."""


class _ChumpySelect(Keeper):
    """chumpy.reordering.Select: entries `idxs` of the raveled array `a`, in shape `preferred_shape`."""


class _SparseCsc(Keeper):
    """scipy.sparse.csc_matrix."""


class _SparseCsr(Keeper):
    """scipy.sparse.csr_matrix."""


class _SparseCoo(Keeper):
    """scipy.sparse.coo_matrix."""


_SPARSE: dict[str, type[Keeper]] = {"csc_matrix": _SparseCsc, "csr_matrix": _SparseCsr, "coo_matrix": _SparseCoo}
_CHUMPY: dict[tuple[str, str], type[Keeper]] = {
    ("chumpy.ch", "Ch"): _ChumpyCh,
    ("chumpy.reordering", "Select"): _ChumpySelect,
}


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
    try:
        data = load_plain(path.read_bytes(), _find, _unpack)
        if not isinstance(data, dict):
            raise pickle.UnpicklingError(f"it holds a {type(data).__name__} instead of a dictionary")
        return {str(name): value for name, value in data.items()}
    except RefusedName as error:
        raise InputError(
            f"{path}: refused, the pickle asks for {error}, which no MANO file contains. It may run code of its "
            "author: do not open it with other tools; download the model again from https://mano.is.tue.mpg.de"
        ) from error
    except Exception as error:  # a damaged pickle can raise any exception from any opcode
        raise InputError(f"{path}: not a readable MANO pickle ({type(error).__name__}: {error})") from error


def _find(module: str, name: str) -> type[Keeper] | None:
    if module == "scipy.sparse" or module.startswith("scipy.sparse."):
        return _SPARSE.get(name)
    return _CHUMPY.get((module, name))


def _unpack(keeper: Keeper, plain: Callable[[Any], Any]) -> np.ndarray:
    """What a keeper stands for, as an array."""
    state = keeper.state
    if isinstance(keeper, _ChumpyCh):
        return np.asarray(plain(state["x"]))
    if isinstance(keeper, _ChumpySelect):
        source, chosen = np.asarray(plain(state["a"])), np.asarray(plain(state["idxs"]))
        return source.ravel()[chosen].reshape(state["preferred_shape"])
    return _dense(keeper, plain)


def _dense(keeper: Keeper, plain: Callable[[Any], Any]) -> np.ndarray:
    state = keeper.state
    shape = tuple(int(n) for n in (state["_shape"] if "_shape" in state else state["shape"]))
    if len(shape) != 2 or shape[0] * shape[1] > _LARGEST_ARRAY:
        raise pickle.UnpicklingError(f"a sparse matrix of shape {shape}")
    data = plain(state["data"])
    if isinstance(keeper, _SparseCoo):
        row, column = state["coords"] if "coords" in state else (state["row"], state["col"])
        return scipy.sparse.coo_matrix((data, (plain(row), plain(column))), shape=shape).toarray()
    kind = scipy.sparse.csc_matrix if isinstance(keeper, _SparseCsc) else scipy.sparse.csr_matrix
    matrix = kind((data, plain(state["indices"]), plain(state["indptr"])), shape=shape)
    matrix.check_format(full_check=True)  # indices out of range would be read out of bounds
    return matrix.toarray()
