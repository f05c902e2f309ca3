"""Demonstrations as plain arrays: a folder with one .npz each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.export.demonstration import CAMERA, Demonstration
from grasp_nodes.npz import write_npz
from grasp_nodes.paths import working_alone

FORMAT, FORMAT_VERSION = "grasp_nodes/demonstration", 1
NAMES = ".names"
"""What the key of a column's names has behind the column's own."""
MOST_PICTURE_BYTES = 2_000_000_000


class ArrayFolder:
    """A folder of ``demo_000000.npz``, ...; use it as a context. episodes: how many there are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._alone = working_alone(folder)
            self._alone.__enter__()
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error}); name another folder with -o") from error
        numbers = [path.stem.removeprefix("demo_") for path in folder.glob("demo_*.npz")]
        self.episodes = 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)

    def __enter__(self) -> ArrayFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self._alone.__exit__(None, None, None)

    def add(self, demonstration: Demonstration, facts: Mapping[str, Any]) -> int:
        """Write the next file, whole; returns its number.

        Raises:
            InputError: its pictures cannot be read, or are too many for one file. OSError: it cannot be written.
        """
        arrays: dict[str, np.ndarray] = {
            "format": np.array(FORMAT),
            "format_version": np.array(FORMAT_VERSION),
            "task": np.array(demonstration.task),
            "fps": np.array(demonstration.fps),
            "stamps": demonstration.stamps,
            "timestamp": np.arange(len(demonstration)) / demonstration.fps,
            "facts": np.array(json.dumps(dict(facts), allow_nan=False)),
        }
        for name, column in demonstration.columns.items():
            arrays[name] = column.values
            arrays[name + NAMES] = np.array(column.names)
        pictures = all_pictures(demonstration)
        if pictures is not None:
            arrays[CAMERA] = pictures
        number = self.episodes
        write_npz(self.folder / f"demo_{number:06d}.npz", arrays, compressed=True)
        self.episodes += 1
        return number


def all_pictures(demonstration: Demonstration) -> np.ndarray | None:
    """(T, H, W, 3) uint8, the pictures of all frames; None without a camera.

    Raises:
        InputError: fewer pictures than frames, of several sizes, or more than one file should hold.
    """
    pictures: np.ndarray | None = None
    row = -1
    for row, picture in enumerate(demonstration.images()):
        if pictures is None:
            size = picture.nbytes * len(demonstration)
            if size > MOST_PICTURE_BYTES:
                raise InputError(
                    f"{demonstration.name}: {size / 1e9:.1f} GB of pictures, {MOST_PICTURE_BYTES / 1e9:.0f} GB are "
                    "allowed; export to lerobot, which keeps video, or give --no-images"
                )
            pictures = np.empty((len(demonstration), *picture.shape), np.uint8)
        if picture.shape != pictures.shape[1:]:
            raise InputError(f"{demonstration.name}: picture {row} is {picture.shape}, the first {pictures.shape[1:]}")
        pictures[row] = picture
    if pictures is not None and row + 1 != len(pictures):
        raise InputError(
            f"{demonstration.name}: {row + 1} pictures for {len(pictures)} frames: its recording ends before its "
            "states do; export it with --no-images"
        )
    return pictures
