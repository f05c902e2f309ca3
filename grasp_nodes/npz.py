"""Archives of arrays (.npz): reading them from anywhere, and writing them whole.

Nothing is unpickled, and a damaged or hostile archive is one clear error.
"""

from __future__ import annotations

import contextlib
import io
import tokenize
import uuid
import zipfile
import zlib
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from grasp_nodes.errors import InputError

Member = TypeVar("Member")

_DAMAGED = (
    *(ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error),
    *(SyntaxError, tokenize.TokenError),  # numpy parses an array's header as a Python literal
    *(NotImplementedError, RuntimeError),  # an unknown compression, an encrypted member
)

UNFINISHED = ".part"
"""Ending of a file that is being written: what a killed process leaves behind is known by it."""
LARGEST_CONTENT = 1_000_000_000
"""bytes, all arrays together: a few kilobytes of zip can claim to hold any amount."""


def read_npz(path: Path, what: str = ".npz file", largest: int = LARGEST_CONTENT) -> dict[str, np.ndarray]:
    """The arrays of an archive by name.

    Args:
        path: the file. what: it is meant to be, for messages. largest: bytes that its arrays may have, unpacked.

    Raises:
        InputError: it is no such archive, is damaged, holds Python objects, or is larger than allowed.
    """
    return read_archive(path, _plain_array, what, largest)


def read_archive(
    path: Path,
    read_member: Callable[[bytes], Member],
    what: str = ".npz file",
    largest: int = LARGEST_CONTENT,
    only: Container[str] | None = None,
) -> dict[str, Member]:
    """The members of an archive by name, each made by `read_member` of its bytes (a .npy file's).

    Args:
        path, what, largest: as for `read_npz`.
        read_member: may raise InputError, which passes through. only: the names to read; None = all.

    Raises:
        InputError: it is no such archive, is damaged, or is larger than allowed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            members = [one for one in members if only is None or one.filename.removesuffix(".npy") in only]
            size = sum(member.file_size for member in members)
            if size > largest:
                raise InputError(f"{path}: not a readable {what} (it claims {size} bytes, {largest} are allowed)")
            # What is unpacked is bounded by the sizes that were just added up, whatever the stream holds.
            return {member.filename.removesuffix(".npy"): read_member(archive.read(member)) for member in members}
    except InputError:
        raise
    except _DAMAGED as error:
        reason = "it holds Python objects, which are refused" if "allow_pickle" in str(error) else str(error)
        raise InputError(f"{path}: not a readable {what} ({reason})") from error
    except MemoryError as error:
        raise InputError(f"{path}: not a readable {what} (a shape that its bytes do not fill)") from error


def _plain_array(content: bytes) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], compressed: bool = False) -> None:
    """Write an archive whole; equal arrays give equal bytes.

    Args:
        path: the file, in a folder that exists. arrays: by name. compressed: smaller, and slower.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as stream:
        _save(stream, arrays, compressed)


def pack_npz(arrays: Mapping[str, np.ndarray], compressed: bool = False) -> bytes:
    """The bytes that `write_npz` would write."""
    stream = io.BytesIO()
    _save(stream, arrays, compressed)
    return stream.getvalue()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content becomes the file when the block ends: a reader never meets half of it.

    It is written beside its place and renamed. After an error the old file, if any, is still there, and nothing else.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}{UNFINISHED}")
    try:
        with temporary.open("xb") as stream:
            yield stream
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _save(stream: BinaryIO, arrays: Mapping[str, np.ndarray], compressed: bool) -> None:
    # numpy types its own switch as one of the arrays.
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)  # type: ignore[arg-type]
