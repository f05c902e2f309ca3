"""Tensors of torch inside ordinary pickles, taken out as arrays without torch and without obeying the pickle.

Such a tensor names ``torch._utils._rebuild_tensor_v2`` with a storage, sizes and strides; the storage names
``torch.storage._load_from_bytes`` with the bytes of torch's file format before 1.6: five pickles, of which the fourth
names the type, then the number of entries and the entries. Of those pickles nothing is executed.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from grasp_nodes.plain_pickle import Keeper

_TYPES = {
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch HalfStorage": "<f2",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
    "torch BoolStorage": "?",
}
_PICKLES_OF_A_STORAGE = 5  # magic number, version, machine, the storage, its key


class _Storage(Keeper):
    """What ``torch.storage._load_from_bytes`` is called with."""

    def __init__(self, content: Any) -> None:
        self.content = content


class _Tensor(Keeper):
    """What ``torch._utils._rebuild_tensor_v2`` is called with."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_gradient: Any) -> None:
        self.parts = (storage, offset, size, stride)


def tensor_class(module: str, name: str) -> type[Keeper] | None:
    """The stand-in of a name of torch's; the argument `extra` of `load_plain`."""
    return {("torch._utils", "_rebuild_tensor_v2"): _Tensor, ("torch.storage", "_load_from_bytes"): _Storage}.get(
        (module, name)
    )


def unpack_tensor(keeper: Keeper, plain: Callable[[Any], Any]) -> np.ndarray:
    """The array of a tensor; the argument `unpack` of `load_plain`.

    Raises:
        pickle.UnpicklingError: it is not a tensor, or one that reaches beyond its storage.
    """
    if not isinstance(keeper, _Tensor) or not isinstance(keeper.parts[0], _Storage):
        raise pickle.UnpicklingError("a part of a tensor where a tensor belongs")
    _, offset, size, stride = (keeper.parts[0], *map(plain, keeper.parts[1:]))
    entries = _entries(plain(keeper.parts[0].content))
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(type(one) is int and one >= 0 for one in numbers):
        raise pickle.UnpicklingError("a tensor without proper sizes")
    if 0 in size:
        return np.zeros(size, entries.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= len(entries) or math.prod(size) > len(entries):  # steps of 0 could ask for any amount of memory
        raise pickle.UnpicklingError("a tensor that reaches beyond its storage")
    steps = [step * entries.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(entries[offset:], size, steps, writeable=False).copy()


def _entries(content: Any) -> np.ndarray:
    """The entries of a storage in torch's old file format."""
    if not isinstance(content, bytes):
        raise pickle.UnpicklingError("a storage that is not bytes")
    stream, names = io.BytesIO(content), []
    for _ in range(_PICKLES_OF_A_STORAGE):
        names += [argument for opcode, argument, _ in pickletools.genops(stream) if opcode.name == "GLOBAL"]
    if len(names) != 1 or names[0] not in _TYPES:
        raise pickle.UnpicklingError(f"a storage of {', '.join(map(str, names)) or 'no type'}")
    dtype = np.dtype(_TYPES[names[0]])
    count = int.from_bytes(stream.read(8), "little")
    data = stream.read()
    if len(data) != count * dtype.itemsize:
        raise pickle.UnpicklingError(f"a storage of {len(data)} bytes that announces {count} entries of {dtype}")
    return np.frombuffer(data, dtype)
