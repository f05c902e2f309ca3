"""Writes demonstrations as a data set in the layout of LeRobotDataset v3.0, new or behind those that are there.

What is there is never written anew, but for the three small files that describe the whole (info, statistics, tasks).
All files of a run are made in a folder beside them and moved in once they are whole; a run that was killed while it
moved them is finished by the next one.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from grasp_nodes.errors import GraspNodesError, InputError
from grasp_nodes.export.demonstration import CAMERA, Demonstration
from grasp_nodes.export.lerobot.layout import (
    EPISODES_PATH,
    INFO,
    OURS,
    STATS,
    TASKS,
    VERSION,
    check_features,
    empty_info,
    features_of,
    next_file,
)
from grasp_nodes.export.lerobot.statistics import PictureStatistics, Statistics, together
from grasp_nodes.export.lerobot.tables import (
    frame_rows,
    load_arrow,
    read_episodes,
    read_tasks,
    write_episodes,
    write_tasks,
)
from grasp_nodes.export.lerobot.video import VideoFile, load_av, stored_shape, video_info
from grasp_nodes.json_files import read_json_object
from grasp_nodes.npz import replacing
from grasp_nodes.paths import working_alone

MAKING, MADE = ".export.making", ".export.made"
"""Folders of a run's files: being written; whole, to be moved in."""
_MB = 1024 * 1024
_EPISODES_PER_FILE = 2000


class LeRobotDataset:
    """A data set that is open for more episodes; use it as a context, which keeps every episode that was added.

    info: content of ``meta/info.json``, up to date. tasks: by their index.
    """

    def __init__(self, folder: Path, robot_type: str = "", codec: str = "h264") -> None:
        """Open a data set, or a folder for a new one.

        Args:
            robot_type: of a new data set. codec: of its videos, one of `CODECS`.

        Raises:
            InputError: it is none, of another version, or another run is at work in it.
            MissingDependencyError: a package is not installed.
        """
        load_arrow()
        self.folder, self._robot_type, self._codec = folder, robot_type, codec
        self._stack = contextlib.ExitStack()
        if folder.exists() and not (folder / "meta").is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder}: expected a LeRobot data set or an empty folder, it holds other things")
        try:
            self._stack.enter_context(working_alone(folder / OURS))
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error}); name another folder with -o") from error
        self._making = folder / MAKING
        self._finish_moving()
        shutil.rmtree(self._making, ignore_errors=True)
        self.info: dict[str, Any] = {}
        self.tasks: list[str] = []
        self._stats: dict[str, Statistics] = {}
        self._rows: list[dict[str, Any]] = []
        self._next = {"data": (0, 0), "video": (0, 0), "episodes": (0, 0)}
        self._data: Any = None
        self._data_bytes = 0
        self._video: VideoFile | None = None
        if (folder / INFO).is_file():
            self._read()

    def __enter__(self) -> LeRobotDataset:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After a full disk nothing that is open can be trusted; all else keeps the episodes that are whole.
        try:
            if isinstance(error, OSError) and not isinstance(error, GraspNodesError):
                self._discard()
            else:
                self._commit()
        finally:
            self._stack.close()

    @property
    def episodes(self) -> int:
        """How many there are, with those that were just added."""
        return int(self.info.get("total_episodes", 0))

    def add(self, demonstration: Demonstration, facts: Mapping[str, Any]) -> int:
        """Append an episode.

        Args:
            facts: what LeRobot has no place for, as JSON knows it; it goes to ``meta/grasp_nodes``.

        Returns:
            Its number.

        Raises:
            InputError: it does not fit the data set, or its pictures cannot be read; nothing of it is added.
            OSError: the disk is full; nothing of this run is added.
        """
        try:
            return self._add(demonstration, facts)
        except InputError:
            if not self.episodes:  # what was to be the first episode decides nothing
                self._discard()
                self.info = {}
            raise

    def _add(self, demonstration: Demonstration, facts: Mapping[str, Any]) -> int:
        pictures = demonstration.images()
        first = next(pictures, None)
        shape = None if first is None else stored_shape(first.shape)
        self._fit(demonstration, shape)
        episode, first_index = self.episodes, int(self.info["total_frames"])
        task_index = self.tasks.index(demonstration.task) if demonstration.task in self.tasks else len(self.tasks)
        table, stats = frame_rows(demonstration, episode, first_index, task_index)
        row: dict[str, Any] = {
            "episode_index": episode,
            "tasks": [demonstration.task],
            "length": len(demonstration),
            "dataset_from_index": first_index,
            "dataset_to_index": first_index + len(demonstration),
        }
        if first is not None and shape is not None:
            found, stats[CAMERA] = self._write_pictures(demonstration, first, pictures, shape)
            row |= found
        row |= self._write_rows(table)
        row |= {f"stats/{key}/{name}": value for key, values in stats.items() for name, value in values.items()}
        self._rows.append(row)
        self._describe(episode, facts)
        if task_index == len(self.tasks):
            self.tasks.append(demonstration.task)
        for key, values in stats.items():
            self._stats[key] = together([self._stats[key], values]) if key in self._stats else values
        self.info["total_episodes"] = episode + 1
        self.info["total_frames"] = first_index + len(demonstration)
        self.info["total_tasks"] = len(self.tasks)
        self.info["splits"] = {"train": f"0:{episode + 1}"}
        return episode

    # -- opening

    def _read(self) -> None:
        self.info = read_json_object(self.folder / INFO)
        version = self.info.get("codebase_version")
        if version != VERSION:
            raise InputError(f"{self.folder}: expected a LeRobot data set {VERSION}, got {version!r}; convert it first")
        missing = [name for name in ("total_episodes", "total_frames", "fps", "features") if name not in self.info]
        if missing:
            raise InputError(f"{self.folder / INFO}: {', '.join(missing)} is missing")
        self.tasks = read_tasks(self.folder / TASKS)
        stats = read_json_object(self.folder / STATS)
        self._stats = {
            key: {name: np.asarray(value) for name, value in values.items()} for key, values in stats.items()
        }
        names = ["data/chunk_index", "data/file_index", "meta/episodes/chunk_index", "meta/episodes/file_index"]
        video = [f"videos/{CAMERA}/{name}" for name in ("chunk_index", "file_index")]
        has_video = CAMERA in self.info["features"]
        rows = read_episodes(
            self.folder / "meta" / "episodes", ["episode_index", *names, *(video if has_video else [])]
        )
        if len(rows) != self.episodes:
            raise InputError(f"{self.folder}: {INFO} says {self.episodes} episodes, meta/episodes holds {len(rows)}")
        size = int(self.info["chunks_size"])
        kinds = {"data": names[:2], "episodes": names[2:], **({"video": video} if has_video else {})}
        for kind, (chunk, file) in kinds.items():
            if rows:
                self._next[kind] = next_file(*max((row[chunk], row[file]) for row in rows), size)

    def _fit(self, demonstration: Demonstration, shape: tuple[int, int, int] | None) -> None:
        features = features_of(demonstration, shape)
        if not self.info:
            self.info = empty_info(demonstration.fps, self._robot_type, features)
            return
        if int(self.info["fps"]) != demonstration.fps:
            raise InputError(
                f"{demonstration.name}: {demonstration.fps} Hz, the data set has {self.info['fps']} Hz: give --fps "
                f"{self.info['fps']}, or another folder"
            )
        check_features(self.info["features"], features, demonstration.name)

    # -- one episode

    def _write_rows(self, table: Any) -> dict[str, Any]:
        _, pq = load_arrow()
        if self._data is not None and self._data_bytes + table.nbytes > int(self.info["data_files_size_in_mb"]) * _MB:
            self._close_data()
        chunk, file = self._next["data"]
        if self._data is None:
            path = self._making / str(self.info["data_path"]).format(chunk_index=chunk, file_index=file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._data, self._data_bytes = pq.ParquetWriter(path, table.schema, compression="snappy"), 0
        self._data.write_table(table)
        self._data_bytes += table.nbytes
        return {"data/chunk_index": chunk, "data/file_index": file}

    def _write_pictures(
        self, demonstration: Demonstration, first: np.ndarray, rest: Iterator[np.ndarray], shape: tuple[int, int, int]
    ) -> tuple[dict[str, Any], Statistics]:
        if self._video is not None and self._video.size() > int(self.info["video_files_size_in_mb"]) * _MB:
            self._close_video()
        chunk, file = self._next["video"]
        if self._video is None:
            path = self._video_path(chunk, file)
            self._video = VideoFile(path, demonstration.fps, shape, self._codec)
        begin, stats = self._video.frames, PictureStatistics(len(demonstration))
        picture: np.ndarray | None = first
        while picture is not None:
            self._video.write(picture)
            stats.add(picture)
            picture = next(rest, None)
        written = self._video.frames - begin
        if written != len(demonstration):
            raise InputError(
                f"{demonstration.name}: {written} pictures for {len(demonstration)} frames: its recording ends before "
                "its states do; export it with --no-images"
            )
        fps = demonstration.fps
        row = {"chunk_index": chunk, "file_index": file, "from_timestamp": begin / fps}
        row["to_timestamp"] = self._video.frames / fps
        return {f"videos/{CAMERA}/{name}": value for name, value in row.items()}, stats.statistics()

    def _describe(self, episode: int, facts: Mapping[str, Any]) -> None:
        path = self._making / OURS / f"episode-{episode:06d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(facts), indent=1, allow_nan=False) + "\n", encoding="utf-8")

    # -- the end

    def _close_data(self) -> None:
        if self._data is not None:
            self._data.close()
            self._data = None
            self._next["data"] = next_file(*self._next["data"], int(self.info["chunks_size"]))

    def _close_video(self) -> None:
        if self._video is None:
            return
        video, self._video = self._video, None
        video.close()
        feature = self.info["features"][CAMERA]
        if not feature.get("info"):
            feature["info"] = video_info(self._video_path(*self._next["video"]))
        self._next["video"] = next_file(*self._next["video"], int(self.info["chunks_size"]))

    def _video_path(self, chunk: int, file: int) -> Path:
        load_av()
        return self._making / str(self.info["video_path"]).format(video_key=CAMERA, chunk_index=chunk, file_index=file)

    def _commit(self) -> None:
        if not self._rows:
            self._discard()
            return
        self._close_data()
        self._close_video()
        for begin in range(0, len(self._rows), _EPISODES_PER_FILE):
            chunk, file = self._next["episodes"]
            rows = self._rows[begin : begin + _EPISODES_PER_FILE]
            place = {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}
            path = self._making / EPISODES_PATH.format(chunk_index=chunk, file_index=file)
            write_episodes(path, [{**row, **place} for row in rows])
            self._next["episodes"] = next_file(chunk, file, int(self.info["chunks_size"]))
        write_tasks(self._making / TASKS, self.tasks)
        stats = {key: {name: value.tolist() for name, value in one.items()} for key, one in self._stats.items()}
        _write_json(self._making / STATS, stats)
        _write_json(self._making / INFO, self.info)
        self._rows = []
        self._making.rename(self.folder / MADE)
        self._finish_moving()

    def _finish_moving(self) -> None:
        """Move a run's files in, info.json last; what was moved already is not there any more."""
        made = self.folder / MADE
        if not made.is_dir():
            return
        files = sorted((path for path in made.rglob("*") if path.is_file()), key=lambda path: path == made / INFO)
        for path in files:
            target = self.folder / path.relative_to(made)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        shutil.rmtree(made)

    def _discard(self) -> None:
        video, self._video = self._video, None
        if video is not None:
            video.discard()
        # Closing it writes its end, for which there may be no room.
        with contextlib.suppress(OSError):
            if self._data is not None:
                self._data.close()
        self._data = None
        shutil.rmtree(self._making, ignore_errors=True)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        stream.write((json.dumps(content, indent=4, allow_nan=False) + "\n").encode())
