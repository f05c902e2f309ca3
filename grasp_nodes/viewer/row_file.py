"""Rows of text in a CSV file that grows: each is on disk at once, and a killed writer loses no whole row."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from grasp_nodes.errors import InputError


class RowFile:
    """A CSV file with a header to which rows are added."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Open or make the file; what a killed process left of a row is removed.

        Args:
            path: the file, in a folder that exists. columns: of the header.

        Raises:
            InputError: it cannot be written, or has another header.
        """
        self.path = path
        try:
            with path.open("a+b") as stream:
                stream.seek(0)
                stream.truncate(stream.read().rfind(b"\n") + 1)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error})") from error
        if path.stat().st_size == 0:
            self.append(columns)
        read_rows(path, columns)

    def append(self, values: Sequence[object]) -> None:
        """Add a row, on disk before this returns.

        Raises:
            InputError: it cannot be written, in which case nothing of the row is left in it, or a value has a line
                break, which a row here must not have.
        """
        if any(sign in str(value) for value in values for sign in "\r\n"):
            raise InputError(f"{self.path}: a value with a line break cannot be a row's: {values}")
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        try:
            self._write(text.getvalue().encode())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error})") from error

    def _write(self, row: bytes) -> None:
        # Without a buffer, so that nothing of a row that a full disk cut off comes later.
        with self.path.open("ab", buffering=0) as stream:
            end = stream.tell()
            try:
                while row:
                    row = row[stream.write(row) :]
                os.fsync(stream.fileno())
            except OSError:
                with suppress(OSError):  # the next row must not go on where this one was cut off
                    stream.truncate(end)
                raise


def read_rows(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """All whole rows of a file, without its header.

    Raises:
        InputError: it cannot be read, has another header, or a row with another number of values.
    """
    try:
        text = path.read_bytes().decode()
        rows = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from error
    if not rows or tuple(rows[0]) != tuple(columns):
        raise InputError(
            f"{path}: expected the columns {','.join(columns)}, got {','.join(rows[0]) if rows else 'none'}"
        )
    wrong = [number for number, row in enumerate(rows, start=1) if len(row) != len(columns)]
    if wrong:
        raise InputError(f"{path}: row {wrong[0]}: expected {len(columns)} values, got {len(rows[wrong[0] - 1])}")
    return [tuple(row) for row in rows[1:]]
