"""MANO files: read exactly, and never obeyed."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand import files
from grasp_nodes.hand.arrays import mirror, shapedirs_disagree_with_template
from grasp_nodes.hand.mano_pickle import read_mano_pickle
from grasp_nodes.hand.model import HandModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("mano")
    files.write_mano_files(target)
    return target


@pytest.fixture(scope="module")
def entries() -> dict[str, np.ndarray]:
    return files.mano_entries(files.load_hand_arrays())


class _Payload:
    """Writes a file when it is unpickled by anything that obeys pickles."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_written_files_are_the_same_hand(folder: Path, side: files.Side, suffix: str) -> None:
    original = files.load_hand_arrays(side)
    again = files.load_hand_arrays(side, folder / f"MANO_{side.upper()}{suffix}")
    np.testing.assert_array_equal(again.shapedirs, original.shapedirs)
    np.testing.assert_array_equal(again.faces, original.faces)
    assert again.fingerprint == original.fingerprint
    assert again.model_id == "open_hand_v1"
    assert again.side == side


def test_the_pickles_open_without_our_code(folder: Path, entries: dict[str, np.ndarray]) -> None:
    with (folder / "MANO_RIGHT.pkl").open("rb") as stream:
        data = pickle.load(stream)
    assert scipy.sparse.issparse(data["J_regressor"])
    np.testing.assert_array_equal(data["v_template"], entries["v_template"])
    assert data["bs_style"] == "lbs"


def test_folder_and_environment_and_other_side_of_a_named_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = files.load_hand_arrays("left").fingerprint
    assert files.load_hand_arrays("left", folder).fingerprint == left
    assert files.load_hand_arrays("left", folder / "MANO_RIGHT.pkl").fingerprint == left
    monkeypatch.setenv(files.MODEL_VARIABLE, str(folder))
    assert files.load_hand_model("left").fingerprint == left


def _as_published(entries: dict[str, np.ndarray], protocol: int) -> bytes:
    """A pickle with the chumpy objects and the module names of the published files."""
    chumpy, ch, reordering = (types.ModuleType(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering"))

    class Ch:
        pass

    class Select(Ch):
        pass

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    Select.__module__, Select.__qualname__ = "chumpy.reordering", "Select"
    ch.Ch, reordering.Select = Ch, Select  # type: ignore[attr-defined]
    shapes = np.concatenate([entries["shapedirs"], np.full((778, 3, 10), 7.0)], 2)  # 20, of which 10 are selected
    select, source = Select(), Ch()
    source.x, source._dirty_vars = shapes, {"x"}  # type: ignore[attr-defined]
    select.a = source  # type: ignore[attr-defined]
    select.idxs = np.arange(shapes.size).reshape(shapes.shape)[:, :, :10].ravel()  # type: ignore[attr-defined]
    select.preferred_shape = (778, 3, 10)  # type: ignore[attr-defined]
    names = ("v_template", "posedirs", "weights", "hands_mean", "hands_components", "f", "kintree_table")
    data = {
        **{name: entries[name] for name in names},
        "shapedirs": select,
        "J_regressor": scipy.sparse.csc_matrix(entries["J_regressor"]),
        "bs_style": "lbs",
    }
    modules = {"chumpy": chumpy, "chumpy.ch": ch, "chumpy.reordering": reordering}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        return pickle.dumps(data, protocol).replace(b"numpy._core", b"numpy.core").replace(b"_csc\n", b"csc\n")


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_pickle_with_chumpy_objects_is_read_exactly(
    entries: dict[str, np.ndarray], tmp_path: Path, protocol: int
) -> None:
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(_as_published(entries, protocol))
    assert "chumpy" not in sys.modules
    arrays = files.load_hand_arrays("right", path)
    assert arrays.fingerprint == files.load_hand_arrays().fingerprint
    assert arrays.model_id == "mano"


def test_bytes_of_python_2() -> None:
    """An array as Python 2 writes it: its bytes are a plain string."""
    values = np.array([[1.5, -2.0]])
    stream = (
        b"\x80\x02}U\x01xcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01K\x02\x86"
        b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10"
        + values.tobytes()
        + b"tbs."
    )
    path = Path(os.devnull)
    assert pickle.loads(stream, encoding="latin1")["x"].tolist() == values.tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda _: stream)
        np.testing.assert_array_equal(read_mano_pickle(path)["x"], values)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i8", "|u1", "|b1"])
def test_arrays_of_every_protocol(tmp_path: Path, protocol: int, order: str, dtype: str) -> None:
    value = np.asarray(np.arange(24).reshape(2, 3, 4) % 2, dtype, order=order)  # type: ignore[call-overload]
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"x": value, "s": np.float32(2.5)}, protocol))
    read = read_mano_pickle(path)
    np.testing.assert_array_equal(read["x"], value)
    assert read["s"] == 2.5


@pytest.mark.parametrize("kind", ["csc_matrix", "csr_matrix", "coo_matrix"])
def test_sparse_matrices(tmp_path: Path, kind: str) -> None:
    dense = np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]])
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"x": getattr(scipy.sparse, kind)(dense)}, 2))
    np.testing.assert_array_equal(read_mano_pickle(path)["x"], dense)


_MARK = "obeyed"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (_Payload(os.system, f"touch {_MARK}"), f"{os.name}.system"),
        ([{"deep": (_Payload(os.system, f"touch {_MARK}"),)}], f"{os.name}.system"),
        (_Payload(eval, f"open({_MARK!r}, 'w')"), "eval"),
        (_Payload(getattr, "text", "format"), "getattr"),
        (_Payload(subprocess.Popen, ["touch", _MARK]), "Popen"),
        (_Payload(np.load, "x.npy"), "load"),
        (_Payload(scipy.sparse.load_npz, "x.npz"), "load_npz"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_by_name(
    entries: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: object,
    name: str,
    protocol: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(pickle.dumps({**entries, "hands_coeffs": value}, protocol))
    with pytest.raises(InputError, match=name) as caught:
        files.load_hand_model(path=path)
    assert str(path) in str(caught.value)
    assert not (tmp_path / _MARK).exists()


@pytest.mark.parametrize(
    "stream",
    [
        b"cscipy.sparse\n_base.os.system\n(S'touch obeyed'\ntR.",  # a dotted path through an allowed package
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cos\nsystem\nS'touch obeyed'\nS'b'\ntR.",
        b"ccopy_reg\n_reconstructor\n(c__builtin__\nset\nc__builtin__\nobject\nNtR.",
        b"ccopy_reg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR.",
        b"(dS'a'\ncnumpy\ndtype\n(S'O8'\ntRs.",  # an array of Python objects
        b"(dS'a'\nr\xff\xff\xff\x7fN.",  # a memo of two thousand million entries
        b"Pabc\n.",  # a persistent id
        b"\x80\x02N.",  # no dictionary
        b"",
        b"no pickle at all",
    ],
)
def test_crafted_streams_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(stream)
    with pytest.raises(InputError, match=r"MANO_RIGHT\.pkl"):
        files.load_hand_arrays("right", path)
    assert not (tmp_path / _MARK).exists()


_SMALL = pickle.dumps({"a": np.arange(6.0).reshape(2, 3), "b": scipy.sparse.csc_matrix(np.eye(3)), "c": "text"}, 2)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(_SMALL) - 1), st.binary(max_size=8), st.integers(0, 8))
def test_damaged_pickles_never_end_otherwise(tmp_path: Path, at: int, new: bytes, removed: int) -> None:
    path = tmp_path / "damaged.pkl"
    path.write_bytes(_SMALL[:at] + new + _SMALL[at + removed :])
    try:
        read = read_mano_pickle(path)
    except InputError as error:
        message = str(error)
    else:
        message = f"damaged.pkl, a {type(read).__name__}"
    assert "damaged.pkl" in message


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_files(folder: Path, tmp_path: Path, suffix: str, share: float) -> None:
    content = (folder / f"MANO_RIGHT{suffix}").read_bytes()
    path = tmp_path / f"MANO_RIGHT{suffix}"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="not a readable"):
        files.load_hand_arrays("right", path)


def test_an_npz_with_python_objects_is_refused(entries: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "MANO_RIGHT.npz"
    payload = np.array([_Payload(os.system, f"touch {tmp_path / _MARK}")], dtype=object)
    np.savez(path, hands_mean=payload)
    with pytest.raises(InputError, match="Python objects"):
        files.load_hand_arrays("right", path)
    assert not (tmp_path / _MARK).exists()


def test_a_changed_open_hand_is_noticed(entries: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "open.npz"
    files.save_npz(path, {**entries, "v_template": entries["v_template"] * 1.01})
    with pytest.raises(InputError, match="fingerprint"):
        files.load_hand_arrays("right", path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weights", None, "lacks weights"),
        ("v_template", np.zeros((777, 3)), r"v_template has shape \(777, 3\), expected \(778, 3\)"),
        ("posedirs", np.full((778, 3, 135), np.nan), "posedirs has values that are not finite"),
        ("weights", np.zeros((778, 16)), "rows of weights must sum to 1"),
        ("f", np.full((1538, 3), 778), "ids of 778 vertices"),
        ("kintree_table", np.zeros((2, 16)), "tree"),
        ("hands_mean", np.array(["x"] * 45), "not an array of numbers"),
    ],
)
def test_what_is_not_a_hand_is_named(
    entries: dict[str, np.ndarray], tmp_path: Path, name: str, value: np.ndarray | None, message: str
) -> None:
    changed = {k: v for k, v in {**entries, name: value}.items() if v is not None and k != "fingerprint"}
    path = tmp_path / "MANO_RIGHT.npz"
    files.save_npz(path, changed)
    with pytest.raises(InputError, match=message):
        files.load_hand_arrays("right", path)


def test_a_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "MANO_RIGHT.pkl"):
        with pytest.raises(
            MissingFileError, match=r"MANO_RIGHT\.pkl.*https://mano\.is\.tue\.mpg\.de.*GRASP_NODES_HAND"
        ):
            files.load_hand_model("right", path)
    (tmp_path / "hand.obj").touch()
    with pytest.raises(InputError, match=r"hand\.obj"):
        files.load_hand_model("right", tmp_path / "hand.obj")


def test_the_left_hands_sign_error_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    right = files.load_hand_arrays("right")
    left = mirror(right)
    assert not shapedirs_disagree_with_template(left)
    assert not shapedirs_disagree_with_template(right)
    wrong = replace(left, shapedirs=right.shapedirs, model_id="mano")  # as published: x not mirrored
    path = tmp_path / "MANO_LEFT.npz"
    files.save_npz(path, files.mano_entries(wrong))

    kept = files.load_hand_model("left", path)
    assert "sign of x wrong" in caplog.text
    assert "kept" in caplog.text
    np.testing.assert_array_equal(kept.arrays.shapedirs, right.shapedirs)
    caplog.clear()
    fixed = files.load_hand_model("left", path, fix_left_shapedirs=True)
    assert "corrected" in caplog.text
    np.testing.assert_array_equal(fixed.arrays.shapedirs, left.shapedirs)
    caplog.clear()
    files.load_hand_model("left")
    assert caplog.text == ""


def test_mirroring_twice_is_the_same_hand() -> None:
    right = files.load_hand_arrays("right")
    assert mirror(mirror(right)).fingerprint == right.fingerprint
    assert HandModel(mirror(right)).side == "left"
