"""Archives of arrays: what numpy writes is read, and whatever else comes is one clear error."""

import contextlib
import io
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grasp_nodes.errors import InputError
from grasp_nodes.npz import read_npz, write_npz


def array_file(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def archive(path, content: bytes, compression: int = zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("x.npy", content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path, save):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "name": np.array("hand"), "f": np.asfortranarray(np.eye(3, 4))}
    save(tmp_path / "x.npz", **arrays)
    found = read_npz(tmp_path / "x.npz")
    assert sorted(found) == sorted(arrays)
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        assert np.array_equal(found[name], value)


def test_one_array_and_no_archive_are_refused(tmp_path):
    for content in (array_file(np.zeros(3)), b"", b"PK"):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"x\.npz: not a readable weight file"):
            read_npz(tmp_path / "x.npz", "weight file")


def test_a_shape_that_the_bytes_do_not_fill_is_refused(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**13,)})
    with pytest.raises(InputError, match="do not fill"):
        read_npz(archive(tmp_path / "x.npz", stream.getvalue()))


def test_more_than_is_allowed_is_refused_before_it_is_unpacked(tmp_path):
    path = archive(tmp_path / "x.npz", array_file(np.zeros(1_000_000)), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 20_000
    with pytest.raises(InputError, match="8000128 bytes, 1000000 are allowed"):
        read_npz(path, largest=1_000_000)
    assert read_npz(path)["x"].shape == (1_000_000,)


def test_a_damaged_stream_is_refused(tmp_path):
    path = archive(tmp_path / "x.npz", array_file(np.random.default_rng(0).random(1000)), zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    content[60:70] = bytes(10)
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a readable"):
        read_npz(path)
    with pytest.raises((zlib.error, zipfile.BadZipFile)), np.load(path) as direct:
        _ = direct["x"]


@given(st.lists(st.tuples(st.integers(0, 175), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes_of_an_array_never_end_otherwise(tmp_path_factory, changes):
    content = bytearray(array_file(np.arange(6.0)))
    for place, value in changes:
        content[place] = value
    path = archive(tmp_path_factory.mktemp("npz") / "x.npz", bytes(content))
    with contextlib.suppress(InputError):  # anything else fails the test
        assert set(read_npz(path)) == {"x"}


@pytest.mark.parametrize("text", [b"{'descr': '<f8', (", b"{'shape': (007,), }"])
def test_a_header_that_is_no_literal_is_refused(tmp_path, text):
    header = b"\x93NUMPY\x01\x00\x76\x00" + text.ljust(117) + b"\n"
    with pytest.raises(InputError, match="not a readable"):
        read_npz(archive(tmp_path / "x.npz", header))


def test_what_is_written_is_read_again_and_replaces_the_old_whole(tmp_path):
    path = tmp_path / "kept.npz"
    path.write_bytes(b"an old file")
    arrays = {"count": np.array(2), "v0": np.arange(6.0).reshape(2, 3)}
    write_npz(path, arrays)
    found = read_npz(path)
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], value) for name, value in arrays.items())
    assert list(tmp_path.iterdir()) == [path]
