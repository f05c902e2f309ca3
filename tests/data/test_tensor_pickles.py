from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_nodes.data.grasp_readers.pickles import read_pickle
from grasp_nodes.data.grasp_readers.tensor_pickles import tensor_class, unpack_tensor
from grasp_nodes.errors import InputError
from grasp_nodes.plain_pickle import load_plain

TYPES = [torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]


def load(content: bytes) -> Any:
    return load_plain(content, tensor_class, unpack_tensor)


@settings(deadline=None)
@given(
    st.sampled_from(TYPES),
    st.lists(st.integers(0, 4), max_size=3),
    st.permutations([0, 1, 2]),
    st.integers(0, 3),
    st.sampled_from([2, 3, 4, 5]),
)
def test_tensors_come_out_as_torch_sees_them(
    dtype: torch.dtype, shape: list[int], order: list[int], skip: int, protocol: int
) -> None:
    size = int(np.prod(shape))
    whole = torch.arange(size + skip).to(dtype)[skip:].reshape(shape)
    tensor = whole.permute([axis for axis in order if axis < len(shape)])  # a view with strides of its own
    array = load(pickle.dumps({"it": [tensor]}, protocol=protocol))["it"][0]
    assert array.dtype == tensor.numpy().dtype
    np.testing.assert_array_equal(array, tensor.numpy())


def test_booleans_and_two_views_of_one_storage() -> None:
    base = torch.arange(6)
    data = load(pickle.dumps({"mask": base > 2, "head": base[:2], "tail": base[4:]}))
    assert data["mask"].tolist() == [False, False, False, True, True, True]
    assert data["head"].tolist() == [0, 1]
    assert data["tail"].tolist() == [4, 5]


class _Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def storage_bytes() -> bytes:
    stream = io.BytesIO()
    torch.save(torch.zeros(4).storage(), stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore:TypedStorage")
def test_tensors_that_reach_beyond_their_storage_are_refused() -> None:
    def tensor(offset: Any, size: Any, stride: Any, content: bytes | None = None) -> bytes:
        storage = _Call(torch.storage._load_from_bytes, storage_bytes() if content is None else content)
        return pickle.dumps(_Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {}))

    assert load(tensor(1, (3,), (1,))).tolist() == [0, 0, 0]
    for offset, size, stride in (
        (0, (5,), (1,)),
        (2, (3,), (1,)),
        (0, (2, 2), (3, 1)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (1 << 40,), (0,)),  # one entry, repeated to fill the memory
        (0, (2, 2), (1,)),
    ):
        with pytest.raises(pickle.UnpicklingError, match=r"storage|sizes"):
            load(tensor(offset, size, stride))
    for content in (storage_bytes()[:-4], storage_bytes() + b"\0"):
        with pytest.raises(pickle.UnpicklingError, match="announces 4 entries"):
            load(tensor(0, (1,), (1,), content))
    with pytest.raises(pickle.UnpicklingError, match="a storage of"):
        load(tensor(0, (1,), (1,), storage_bytes().replace(b"FloatStorage", b"FloatStorxge")))


@pytest.mark.filterwarnings("ignore:TypedStorage")
def test_nothing_is_run(tmp_path: Path) -> None:
    flag = tmp_path / "ran"
    attack = _Call(os.mkdir, str(flag))
    inner = pickle.dumps(0x1950A86A20F9469CFC6C) + pickle.dumps(1001) + pickle.dumps({}) + pickle.dumps(attack, 2)
    storage = _Call(torch.storage._load_from_bytes, inner + pickle.dumps(["0"]) + (0).to_bytes(8, "little"))
    file = tmp_path / "tensor.pkl"
    for payload in (attack, storage, _Call(torch._utils._rebuild_tensor_v2, storage, 0, (1,), (1,), False, {})):
        file.write_bytes(pickle.dumps({"hand_shape": payload}))
        with pytest.raises(InputError, match=r"tensor\.pkl: refused"):
            read_pickle(file)
        assert not flag.exists()
