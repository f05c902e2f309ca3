"""Archives of arrays: what numpy writes is read, and whatever else comes is one clear error."""

import contextlib
import io
import resource
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grasp_nodes.errors import InputError
from grasp_nodes.npz import pack_npz, read_npz, write_npz


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


def test_compressed_is_smaller_and_the_same(tmp_path):
    arrays = {"zeros": np.zeros((100, 100)), "names": np.array(["a", "b"])}
    for path, compressed in ((tmp_path / "plain.npz", False), (tmp_path / "small.npz", True)):
        write_npz(path, arrays, compressed)
        assert path.read_bytes() == pack_npz(arrays, compressed)
        found = read_npz(path)
        assert all(np.array_equal(found[name], value) for name, value in arrays.items())
    assert 10 * (tmp_path / "small.npz").stat().st_size < (tmp_path / "plain.npz").stat().st_size


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "kept.npz"
    path.write_bytes(b"an old file")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_npz(path, {"big": np.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"an old file"
    assert list(tmp_path.iterdir()) == [path]
