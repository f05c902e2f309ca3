"""Pickles of data sets: what numpy and pickle write is read exactly, and nothing of it is obeyed."""

from __future__ import annotations

import collections
import os
import pickle
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grasp_nodes.data.grasp_readers.pickles import (
    field_of,
    numbers_of,
    read_object_npy,
    read_object_npz,
    read_pickle,
    row_of,
)
from grasp_nodes.errors import InputError

NESTED = {
    "params": {"transl": np.arange(6, dtype=np.float32).reshape(2, 3), "big": np.arange(3, dtype=">f8")},
    "name": "mug",
    "text": np.str_("fly"),
    "number": np.float64(2.5),
    "flag": np.bool_(True),
    "list": [1, 2.5, None, (b"bytes", {3, 4})],
    "ordered": collections.OrderedDict(a=1),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "ragged": np.array([np.zeros(2), "x", None, {"deep": np.ones(3)}], dtype=object),
    "words": np.array(["ab", "c"]),
}


def same(found: object, expected: object) -> bool:
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and list(found) == list(expected)
            and all(same(found[k], expected[k]) for k in found)
        )
    if isinstance(expected, np.ndarray):
        if not isinstance(found, np.ndarray) or found.dtype != expected.dtype or found.shape != expected.shape:
            return False
        return all(map(same, found.ravel().tolist(), expected.ravel().tolist()))
    return type(found) is type(expected) and found == expected


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nested_data_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(NESTED, protocol))
    found = read_pickle(path)
    assert isinstance(found, dict)
    assert found["ordered"] == {"a": 1}
    for name, value in NESTED.items():
        assert name == "ordered" or same(found[name], value), name


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_of_dictionaries_and_arrays(tmp_path: Path, save) -> None:
    save(tmp_path / "x.npz", rhand=NESTED, count=7, gender="male", plain=np.eye(2))
    found = read_object_npz(tmp_path / "x.npz")
    assert same(found["rhand"]["params"], NESTED["params"])
    assert (found["count"], found["gender"]) == (7, "male")
    np.testing.assert_array_equal(found["plain"], np.eye(2))
    assert list(read_object_npz(tmp_path / "x.npz", only={"count"})) == ["count"]


def test_single_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "dictionary.npy", NESTED)  # type: ignore[arg-type]
    np.save(tmp_path / "objects.npy", NESTED["ragged"])  # type: ignore[arg-type]
    np.save(tmp_path / "numbers.npy", np.eye(3))
    assert same(read_object_npy(tmp_path / "dictionary.npy")["ragged"], NESTED["ragged"])
    assert same(read_object_npy(tmp_path / "objects.npy"), NESTED["ragged"])
    np.testing.assert_array_equal(read_object_npy(tmp_path / "numbers.npy"), np.eye(3))


class Payload:
    """Makes a file when a pickle is obeyed."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


HOSTILE = [
    (Payload(os.system, "touch obeyed"), f"{os.name}.system"),
    ({"deep": [(Payload(eval, "open('obeyed', 'w')"),)]}, "eval"),
    (np.array([Payload(subprocess.Popen, ["touch", "obeyed"]), None], dtype=object), "Popen"),
    (Payload(getattr, "text", "format"), "getattr"),
    (Payload(np.load, "x.npy"), "load"),
]


@pytest.mark.parametrize(("value", "name"), HOSTILE, ids=[name for _, name in HOSTILE])
@pytest.mark.parametrize("kind", ["pkl", "npy", "npz"])
def test_hostile_pickles_are_refused_by_name_in_every_wrapping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object, name: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"x.{kind}"
    if kind == "pkl":
        path.write_bytes(pickle.dumps({"a": value}))
        read = read_pickle
    elif kind == "npy":
        np.save(path, {"a": value})  # type: ignore[arg-type]
        read = read_object_npy
    else:
        np.savez(path, a={"a": value})  # type: ignore[arg-type]
        read = read_object_npz
    with pytest.raises(InputError, match=name) as caught:
        read(path, "pickle of a test")
    assert str(path) in str(caught.value)
    assert "pickle of a test" in str(caught.value)
    assert not (tmp_path / "obeyed").exists()


_NINE_OBJECTS_ANNOUNCED_ONE_THERE = (
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I9\ntcnumpy\ndtype\n(S'O8'\ntR"
    b"I00\n(lNatb."
)


@pytest.mark.parametrize(
    "stream",
    [
        b"cnumpy\ndtype\n(S'O8'\ntR.",  # a dtype where data belongs
        b"\x80\x02cnumpy\nndarray\n.",  # a class where data belongs
        b"(lp0\ng0\na.",  # a list that holds itself
        _NINE_OBJECTS_ANNOUNCED_ONE_THERE,
        b"r\xff\xff\xff\x7fN.",  # a memo of two thousand million entries
        b"",
    ],
)
def test_crafted_streams_are_refused(tmp_path: Path, stream: bytes) -> None:
    path = tmp_path / "crafted.pkl"
    path.write_bytes(stream)
    with pytest.raises(InputError, match=r"crafted\.pkl"):
        read_pickle(path)


def test_lists_that_share_their_entries_are_not_written_out(tmp_path: Path) -> None:
    """2^64 entries in 64 lists: made as often as they are named, they would fill any memory."""
    value: list[object] = [0]
    for _ in range(64):
        value = [value, value]
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(value))
    found = read_pickle(path)
    assert found[0] is found[1]


_SMALL = pickle.dumps({"a": np.arange(4.0), "b": np.array([{"c": [1, "x"]}], dtype=object)}, 4)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(_SMALL) - 1), st.binary(max_size=6), st.integers(0, 6))
def test_damaged_pickles_never_end_otherwise(tmp_path: Path, at: int, new: bytes, removed: int) -> None:
    path = tmp_path / "damaged.pkl"
    path.write_bytes(_SMALL[:at] + new + _SMALL[at + removed :])
    try:
        message = f"damaged.pkl, a {type(read_pickle(path)).__name__}"
    except InputError as error:
        message = str(error)
    assert "damaged.pkl" in message


def test_damaged_and_oversized_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "x.npz", a=NESTED)  # type: ignore[arg-type]
    content = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"x\.npz: not a readable"):
        read_object_npz(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("a.npy", b"no array at all")
    with pytest.raises(InputError, match=r"text\.npz: not a readable"):
        read_object_npz(tmp_path / "text.npz")
    (tmp_path / "big.npz").write_bytes(content)
    monkeypatch.setattr("grasp_nodes.data.grasp_readers.pickles.LARGEST_FILE", 100)
    with pytest.raises(InputError, match="100 are allowed"):
        read_object_npz(tmp_path / "big.npz")
    (tmp_path / "big.pkl").write_bytes(pickle.dumps(NESTED))
    with pytest.raises(InputError, match="100 are allowed"):
        read_pickle(tmp_path / "big.pkl")


def test_entries_are_checked_by_name() -> None:
    data, path = {"params": {"transl": np.zeros((4, 3), np.float32), "name": "x"}}, Path("x.npz")
    assert numbers_of(data, (None, 3), path, "params", "transl").dtype == np.float64
    assert row_of({"a": [[1], [2]]}, 2, path, "a").tolist() == [1, 2]
    with pytest.raises(InputError, match=r"x\.npz: expected the field params\.pose; found transl, name"):
        field_of(data, "params", path, "pose")
    with pytest.raises(InputError, match=r"expected the field params\.name\.deep; found a str"):
        field_of(data, "params", path, "name", "deep")
    with pytest.raises(InputError, match=r"params\.transl: expected shape \(N, 45\), got \(4, 3\)"):
        numbers_of(data, (None, 45), path, "params", "transl")
    with pytest.raises(InputError, match=r"params\.name: expected numbers"):
        numbers_of(data, (None,), path, "params", "name")
    with pytest.raises(InputError, match="a: expected 3 numbers"):
        row_of({"a": [1, 2]}, 3, path, "a")
