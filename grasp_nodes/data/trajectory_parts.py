"""The folder of a reconstruction: windows as they are finished, so that it can be stopped anywhere and gone on with.

``settings.json`` says what it is made with, ``parts/000000.npz`` holds the states of a window under the number of its
first frame, ``parts/000000.json`` how the window went. See docs/reconstruct.md.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from grasp_nodes.contact.interaction import HandObjectState
from grasp_nodes.data.trajectory_tables import Tables, check_tables, join_tables, state_tables, table_states
from grasp_nodes.data.workers import writing_below
from grasp_nodes.errors import InputError
from grasp_nodes.json_files import read_json_object
from grasp_nodes.npz import UNFINISHED, read_npz, replacing, write_npz
from grasp_nodes.paths import working_alone

SETTINGS_FILE = "settings.json"
PARTS = "parts"
_NAME = "{:06d}"


class TrajectoryFolder:
    """Keeps the windows of one reconstruction.

    path: the folder. outputs: names of files and folders in it that belong to the reconstruction besides.
    """

    def __init__(self, path: Path, outputs: tuple[str, ...] = ()) -> None:
        self.path = path
        self._parts = path / PARTS
        self._outputs = outputs

    @contextlib.contextmanager
    def opened(self, settings: Mapping[str, Any], restart: bool = False) -> Iterator[None]:
        """Make the folder, or go on in it; nobody else works in it meanwhile.

        Args:
            settings: all that decides the result, as JSON knows it. restart: throw away what is there.

        Raises:
            InputError: it holds something else, a reconstruction with other settings, or another run works in it.
            WorkError: it cannot be written.
        """
        there = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()
        if SETTINGS_FILE not in there and there - {"lock"}:
            names = ", ".join(sorted(there)[:3])
            raise InputError(f"{self.path}: not empty, and not a folder of 'grasp-nodes reconstruct' (it has {names})")
        with contextlib.ExitStack() as stack:
            with self.writing():
                stack.enter_context(working_alone(self.path))
            if restart:
                self._empty()
            self._agree(json.loads(json.dumps(dict(settings))))
            with self.writing():
                self._parts.mkdir(exist_ok=True)
                # Of a run that was killed; a video's keeps its own ending.
                for pattern in (f"*{UNFINISHED}", f"*{UNFINISHED}.*"):
                    for leftover in (*self.path.glob(pattern), *self._parts.glob(pattern)):
                        leftover.unlink()
            yield

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """What is done within it may write to the folder; see `writing_below`."""
        return writing_below(self.path)

    def keep(self, start: int, states: list[HandObjectState], report: Mapping[str, Any]) -> None:
        """Write a window that is done.

        Args:
            start: number of its first frame. states: of its frames. report: as JSON knows it.

        Raises:
            WorkError: it cannot be written.
        """
        name = _NAME.format(start)
        with self.writing():
            with replacing(self._parts / f"{name}.json") as stream:
                stream.write(json.dumps({"start": start, "frames": len(states), **report}).encode())
            # The states come last: a window counts once they are there.
            write_npz(self._parts / f"{name}.npz", state_tables(states), compressed=True)

    def frames_done(self) -> int:
        """Frames in finished windows, from the first frame on without a gap; what lies behind a gap is removed."""
        done = 0
        for start, path in self._windows():
            count = self._count(path) if start == done else 0
            if count:
                done += count
                continue
            with self.writing():
                path.unlink()
                path.with_suffix(".json").unlink(missing_ok=True)
        return done

    def windows(self) -> Iterator[tuple[int, list[HandObjectState]]]:
        """First frame and states of every finished window, in time order, one in memory at a time.

        Raises:
            InputError: one is damaged.
        """
        for start, path in self._windows():
            yield start, table_states(read_npz(path, "window"), str(path))

    def reports(self) -> list[dict[str, Any]]:
        """How the finished windows went, in time order.

        Raises:
            InputError: one is damaged.
        """
        return [read_json_object(path.with_suffix(".json")) for _, path in self._windows()]

    def tables(self) -> Tables:
        """The tables of all finished windows together.

        Raises:
            InputError: there is none, or one is damaged.
        """
        return join_tables([read_npz(path, "window") for _, path in self._windows()])

    def _windows(self) -> list[tuple[int, Path]]:
        paths = self._parts.glob("*.npz") if self._parts.is_dir() else ()
        return sorted((int(path.stem), path) for path in paths if path.stem.isdigit())

    @staticmethod
    def _count(path: Path) -> int:
        """Frames of a window; 0 where its files are damaged."""
        try:
            read_json_object(path.with_suffix(".json"))
            tables = read_npz(path, "window")
            check_tables(tables, str(path))
        except InputError:
            return 0
        return len(tables["stamps"])

    def _agree(self, settings: Mapping[str, Any]) -> None:
        file = self.path / SETTINGS_FILE
        if not file.is_file() or not self._windows():
            # Settings with which nothing was finished bind nobody.
            with self.writing(), replacing(file) as stream:
                stream.write((json.dumps(settings, indent=1) + "\n").encode())
            return
        there = read_json_object(file)
        names = [name for name in {**settings, **there} if settings.get(name) != there.get(name)]
        if names:
            differ = "; ".join(f"{name} {there.get(name)!r} instead of {settings.get(name)!r}" for name in names)
            raise InputError(
                f"{self.path}: holds a reconstruction with other settings ({differ}). Give the same to go on with it, "
                "--restart to throw it away, or another folder"
            )

    def _empty(self) -> None:
        with self.writing():
            for name in (PARTS, *self._outputs):
                path = self.path / name
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            (self.path / SETTINGS_FILE).unlink(missing_ok=True)
