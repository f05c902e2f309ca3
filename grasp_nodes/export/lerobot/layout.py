"""The layout of LeRobotDataset v3.0: where files lie, and what ``meta/info.json`` says of the columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grasp_nodes.errors import InputError
from grasp_nodes.export.demonstration import CAMERA, Demonstration

VERSION = "v3.0"
CHUNK_FILES = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200
_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{_FILE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{_FILE}.mp4"
EPISODES_PATH = f"meta/episodes/{_FILE}.parquet"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
OURS = "meta/grasp_nodes"
"""Folder of what LeRobot has no place for: where each episode comes from, and what was found wrong with it."""
ROW_COLUMNS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""The columns that every LeRobot data set has, besides its features."""


def features_of(demonstration: Demonstration, image_shape: tuple[int, int, int] | None) -> dict[str, Any]:
    """The features of a data set that begins with this demonstration.

    Args:
        image_shape: height, width and channels of its pictures; None without any.
    """
    features: dict[str, Any] = {
        name: {"dtype": "float32", "shape": [len(column.names)], "names": list(column.names)}
        for name, column in demonstration.columns.items()
    }
    if image_shape is not None:
        features[CAMERA] = {"dtype": "video", "shape": list(image_shape), "names": ["height", "width", "channels"]}
    for name, dtype in ROW_COLUMNS.items():
        features[name] = {"dtype": dtype, "shape": [1], "names": None}
    return features


def check_features(there: Mapping[str, Any], new: Mapping[str, Any], name: str) -> None:
    """A data set has the same columns in every episode.

    Args:
        there: features of the data set. new: of the demonstration called `name`.

    Raises:
        InputError: they differ; the message says in what.
    """
    missing, further = sorted(there.keys() - new.keys()), sorted(new.keys() - there.keys())
    if missing or further:
        told = [f"lacks {', '.join(missing)}"] if missing else []
        told += [f"has {', '.join(further)} besides"] if further else []
        raise InputError(f"{name}: does not fit the data set: it {' and '.join(told)}; export it to another folder")
    for key, feature in new.items():
        for part in ("dtype", "shape", "names"):
            if there[key].get(part) != feature[part]:
                was, now = _shortened(there[key].get(part)), _shortened(feature[part])
                raise InputError(
                    f"{name}: does not fit the data set: {part} of {key} is {now}, of the data set's episodes {was}; "
                    "export it to another folder"
                )


def empty_info(fps: int, robot_type: str, features: Mapping[str, Any]) -> dict[str, Any]:
    """``meta/info.json`` of a data set without episodes."""
    has_video = any(feature["dtype"] == "video" for feature in features.values())
    return {
        "codebase_version": VERSION,
        "robot_type": robot_type,
        "total_episodes": 0,
        "total_frames": 0,
        "total_tasks": 0,
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "fps": fps,
        "splits": {},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if has_video else None,
        "features": dict(features),
    }


def next_file(chunk: int, file: int, chunk_files: int) -> tuple[int, int]:
    """Numbers of the file after one."""
    return (chunk + 1, 0) if file + 1 >= chunk_files else (chunk, file + 1)


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
