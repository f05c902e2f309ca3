"""Archives of arrays (.npz): reading them from anywhere, and writing them whole.

Nothing is unpickled, and a damaged or hostile archive is one clear error.
"""

from __future__ import annotations

import io
import os
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from grasp_nodes.errors import InputError

_DAMAGED = (
    *(ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error),
    *(SyntaxError, tokenize.TokenError),  # numpy parses an array's header as a Python literal
    *(NotImplementedError, RuntimeError),  # an unknown compression, an encrypted member
)

LARGEST_CONTENT = 1_000_000_000
"""bytes, all arrays together: a few kilobytes of zip can claim to hold any amount."""


def read_npz(path: Path, what: str = ".npz file", largest: int = LARGEST_CONTENT) -> dict[str, np.ndarray]:
    """The arrays of an archive by name.

    Args:
        path: the file. what: it is meant to be, for messages. largest: bytes that its arrays may have, unpacked.

    Raises:
        InputError: it is no such archive, is damaged, holds Python objects, or is larger than allowed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            size = sum(member.file_size for member in members)
            if size > largest:
                raise InputError(f"{path}: not a readable {what} (it claims {size} bytes, {largest} are allowed)")
            # What is unpacked is bounded by the sizes that were just added up, whatever the stream holds.
            return {
                member.filename.removesuffix(".npy"): np.lib.format.read_array(
                    io.BytesIO(archive.read(member)), allow_pickle=False
                )
                for member in members
            }
    except InputError:
        raise
    except _DAMAGED as error:
        reason = "it holds Python objects, which are refused" if "allow_pickle" in str(error) else str(error)
        raise InputError(f"{path}: not a readable {what} ({reason})") from error
    except MemoryError as error:
        raise InputError(f"{path}: not a readable {what} (a shape that its bytes do not fill)") from error


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an archive beside its place and rename it, so that another process never reads half a file.

    Args:
        path: the file, in a folder that exists. arrays: by name.

    Raises:
        OSError: it cannot be written.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    with os.fdopen(handle, "wb") as stream:
        # numpy types its own switch as one of the arrays.
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    Path(temporary).replace(path)
