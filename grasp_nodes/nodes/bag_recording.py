"""An MCAP bag that is whole or not there: written under another name and moved when it is closed."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Final

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError

from grasp_nodes.data.message_types import typestore
from grasp_nodes.errors import InputError

BAG_VERSION: Final = 9
PARTIAL = ".partial"


class BagRecording:
    """Writes serialised messages to a bag folder.

    Args:
        folder: of the bag; must not exist.

    Raises:
        InputError: the folder exists already, a recording to it was cut off or is going on, or it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
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
        """
        self._writer.write(self._connections[topic], stamp, data)
        self.messages += 1

    def discard(self) -> None:
        """Give up a recording that is not closed yet; nothing is left of it."""
        if self._partial.exists():
            # On a full disk closing fails as writing did; nobody wants the files any more.
            with contextlib.suppress(OSError):
                self._writer.close()
            shutil.rmtree(self._partial)

    def close(self) -> Path:
        """Finish the files and give the bag its name; returns the folder."""
        self._writer.close()
        for file in self._partial.iterdir():
            if file.name.startswith(self._partial.name):
                file.rename(file.with_name(file.name.replace(PARTIAL, "", 1)))
        metadata = self._partial / "metadata.yaml"
        metadata.write_text(metadata.read_text(encoding="utf-8").replace(self._partial.name, self.folder.name), "utf-8")
        self._partial.rename(self.folder)
        return self.folder
