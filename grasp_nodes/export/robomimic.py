"""Demonstrations as one HDF5 file in the layout of robomimic: ``data/demo_0/{obs,actions,states,rewards,dones}``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from grasp_nodes.errors import InputError, MissingDependencyError
from grasp_nodes.export.arrays import all_pictures
from grasp_nodes.export.demonstration import ACTION, STATE, Demonstration

FORMAT = "grasp_nodes/robomimic"
OBSERVATION = "observation."
PICTURES = "camera_image"
MAKING = "being_written"
"""Group of a demonstration until it is whole: one that a stopped run left there is thrown away."""


class RobomimicFile:
    """An HDF5 file, new or with demonstrations already; use it as a context. episodes: how many there are."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            MissingDependencyError: no h5py. InputError: it is no such file, or cannot be written.
        """
        try:
            import h5py
        except ImportError as error:
            raise MissingDependencyError("HDF5 needs the package h5py: pip install 'grasp_nodes[hdf5]'") from error
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # HDF5 itself keeps a second writer out.
            self._file = h5py.File(path, "a")
        except OSError as error:
            raise InputError(f"{path}: cannot be written as HDF5 ({error}); name another file with -o") from error
        self._data = self._file.require_group("data")
        if len(self._data) and self._data.attrs.get("format") != FORMAT:
            self._file.close()
            raise InputError(f"{path}: expected a file of this command, it holds other data; name another with -o")
        self._data.attrs["format"] = FORMAT
        if MAKING in self._data:
            del self._data[MAKING]
        self.episodes = len(self._data)

    def __enter__(self) -> RobomimicFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if not self.episodes:
            self.path.unlink()

    def add(self, demonstration: Demonstration, facts: Mapping[str, Any]) -> int:
        """Append a demonstration; returns its number.

        Raises:
            InputError: its columns are not those of the file's others, or its pictures cannot be read.
            OSError: the disk is full; the demonstrations before it are kept.
        """
        names = {name: list(column.names) for name, column in demonstration.columns.items()}
        there = self._data.attrs.get("column_names")
        if there is not None and json.loads(there) != names:
            raise InputError(
                f"{demonstration.name}: has other columns than the file's demonstrations; export it to another file"
            )
        pictures = all_pictures(demonstration)
        count = len(demonstration)
        group = self._data.create_group(MAKING)
        try:
            for name, column in demonstration.columns.items():
                if name.startswith(OBSERVATION):
                    group.create_dataset(f"obs/{name.removeprefix(OBSERVATION)}", data=column.values)
            if pictures is not None:
                shape = (1, *pictures.shape[1:])
                group.create_dataset(
                    f"obs/{PICTURES}", data=pictures, chunks=shape, compression="gzip", compression_opts=1
                )
            group.create_dataset("actions", data=demonstration.columns[ACTION].values)
            group.create_dataset("states", data=demonstration.columns[STATE].values)
            # A demonstration is taken to end well: the reward of imitation learning's usual readers.
            ends = (np.arange(count) == count - 1).astype(np.int64)
            group.create_dataset("rewards", data=ends.astype(np.float64))
            group.create_dataset("dones", data=ends)
            group.create_dataset("stamps", data=demonstration.stamps)
            group.attrs["num_samples"] = count
            group.attrs["task"], group.attrs["fps"] = demonstration.task, demonstration.fps
            group.attrs["facts"] = json.dumps(dict(facts), allow_nan=False)
        except BaseException:
            del self._data[MAKING]
            raise
        number = self.episodes
        self._data.move(MAKING, f"demo_{number}")
        self._data.attrs["column_names"] = json.dumps(names)
        self._data.attrs["total"] = int(self._data.attrs.get("total", 0)) + count
        self._data.attrs["env_args"] = json.dumps({"env_name": "grasp_nodes", "type": 2, "env_kwargs": {}})
        self._file.flush()
        self.episodes += 1
        return number
