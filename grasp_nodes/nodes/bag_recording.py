"""An MCAP bag that is whole or not there: written under another name and moved when it is closed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Final, cast

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError

from grasp_nodes.data.message_types import typestore
from grasp_nodes.errors import InputError

BAG_VERSION: Final = 9
PARTIAL = ".partial"
DEMO = "demo.json"
RESERVED = 16_000_000
"""bytes that a bag keeps on the disk for its own end: the index of 50 GB."""
_RESERVE = "reserve"


class BagRecording:
    """Writes serialised messages to a bag folder.

    Args:
        folder: of the bag; must not exist. salvages: of what was recorded once, a full disk leaves a bag of all that
            found room; what can be made again is better whole or not there.

    Raises:
        InputError: the folder exists already, a recording to it was cut off or is going on, or it cannot be written.
    """

    def __init__(self, folder: Path, salvages: bool = False) -> None:
        self._salvages = salvages
        if folder.exists():
            raise InputError(f"bag {folder}: exists already; choose another output or remove it")
        self.folder = folder
        self.messages = 0
        self._partial = folder.with_name(folder.name + PARTIAL)
        if self._partial.exists():
            raise InputError(
                f"bag {self._partial}: of another recorder, or of one that was cut off; choose another output, or "
                "remove it if nobody writes to it and nothing in it is wanted"
            )
        self._store = typestore()
        self._connections: dict[str, Connection] = {}
        self._writer = Writer(self._partial, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._writer.open()
        except (WriterError, OSError) as error:
            raise InputError(f"bag {folder}: cannot be written: {error}") from error
        try:
            self._storage = cast("Any", self._writer.storage)
            self._storage.bio.close()
            self._storage.bio = _WholeWrites(self._storage.path)
            if salvages:
                with (self._partial / _RESERVE).open("wb") as reserve:
                    os.posix_fallocate(reserve.fileno(), 0, RESERVED)
        except OSError as error:
            self.discard()
            raise InputError(f"bag {folder}: cannot be written: {error}") from error

    def add_topic(self, topic: str, message_type: str) -> None:
        """Announce a topic.

        Args:
            message_type: such as "sensor_msgs/msg/Image".

        Raises:
            InputError: the type is not known.
        """
        if message_type not in self._store.fielddefs:
            raise InputError(f"topic {topic!r}: message type {message_type!r} is not known")
        self._connections[topic] = self._writer.add_connection(topic, message_type, typestore=self._store)

    def write(self, topic: str, stamp: int, data: bytes) -> None:
        """Append one message.

        Args:
            stamp: ns, when it was received. data: CDR with its header.

        Raises:
            OSError: the disk is full or gone. Where it salvages, `close` makes a bag of what was written before.
        """
        end, connection = self._storage.bio.tell(), self._connections[topic]
        try:
            self._writer.write(connection, stamp, data)
        except OSError:
            # The chunk that found no room holds this message, too.
            self._writer.counts[connection.id] += 1
            self.messages += 1
            self._drop_chunk(end)
            raise
        self.messages += 1

    def free_bytes(self) -> int:
        """On the bag's disk."""
        return shutil.disk_usage(self._partial).free

    def discard(self) -> None:
        """Give up a recording that is not closed yet; nothing is left of it."""
        if self._partial.exists():
            # On a full disk closing fails as writing did; nobody wants the files any more.
            with contextlib.suppress(OSError, AssertionError, ValueError):
                self._writer.close()
            shutil.rmtree(self._partial)

    def close(self, folder: Path | None = None, demo: Mapping[str, Any] | None = None) -> Path:
        """Finish the files and give the bag its name.

        Args:
            folder: its name, where it is not to be the one that it was opened for; must not exist.
            demo: what is to be known of it as a demonstration, as JSON knows it; goes to ``demo.json``.

        Returns:
            The folder.

        Raises:
            OSError: the disk is full; where it salvages, even for the bag's end. What was written stays under its
                unfinished name.
        """
        folder = folder or self.folder
        (self._partial / _RESERVE).unlink(missing_ok=True)
        end = self._storage.bio.tell()
        try:
            self._writer.close()
        except OSError:
            if self._writer.storage is None or not self._salvages:
                raise
            # The last messages find no room, the index does.
            self._drop_chunk(end)
            self._writer.close()
        for file in self._partial.iterdir():
            if file.name.startswith(self._partial.name):
                file.rename(file.with_name(file.name.replace(self._partial.name, folder.name, 1)))
        metadata = self._partial / "metadata.yaml"
        metadata.write_text(metadata.read_text(encoding="utf-8").replace(self._partial.name, folder.name), "utf-8")
        if demo is not None:
            (self._partial / DEMO).write_text(json.dumps(dict(demo), indent=1) + "\n", encoding="utf-8")
        self._partial.rename(folder)
        return folder

    def _drop_chunk(self, end: int) -> None:
        """Forget the messages that wait for their chunk to be full, and whatever of it reached the file.

        Args:
            end: of the file, bytes, before it was tried.
        """
        self._storage.bio.cut(end)
        chunk = self._storage.chunk
        for connection, entries in chunk.msgs.items():
            self._storage.channel_stats[connection] -= len(entries)
            self._writer.counts[connection] -= len(entries)
            self.messages -= len(entries)
        chunk.msgs.clear()
        chunk.bio = BytesIO()


class _WholeWrites:
    """A file, unbuffered: every write is whole, or an error that leaves the file as it was."""

    def __init__(self, path: Path) -> None:
        self._raw = path.open("r+b", buffering=0)
        self._raw.seek(0, os.SEEK_END)

    def write(self, data: Any) -> int:
        """Append bytes."""
        begin, view = self._raw.tell(), memoryview(data).cast("B")
        written = 0
        try:
            while written < len(view):
                written += self._raw.write(view[written:]) or 0
        except OSError:
            self.cut(begin)
            raise
        return written

    def tell(self) -> int:
        """Where the file ends."""
        return self._raw.tell()

    def cut(self, end: int) -> None:
        """Make the file end there."""
        self._raw.truncate(end)
        self._raw.seek(end)

    def close(self) -> None:
        """Close the file."""
        self._raw.close()
