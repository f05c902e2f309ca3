"""The Parquet tables of a LeRobot data set: rows of frames, of episodes, and of tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grasp_nodes.errors import InputError, MissingDependencyError
from grasp_nodes.export.demonstration import Demonstration
from grasp_nodes.export.lerobot.statistics import Statistics, column_statistics

TASK_INDEX = "__index_level_0__"
"""The column that pandas, with which LeRobot reads tasks, takes for the names of the rows."""


def load_arrow() -> Any:
    """The packages pyarrow and pyarrow.parquet, as (pa, pq).

    Raises:
        MissingDependencyError: they are not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependencyError(
            "LeRobot data sets need the package pyarrow: pip install 'grasp_nodes[lerobot]'"
        ) from error
    return pa, pq


def frame_rows(
    demonstration: Demonstration, episode: int, first_index: int, task_index: int
) -> tuple[Any, dict[str, Statistics]]:
    """The rows of an episode, and the statistics of each column.

    Args:
        episode: its number. first_index: frames in the episodes before it. task_index: of its task.
    """
    pa, _ = load_arrow()
    count = len(demonstration)
    frame_index = np.arange(count, dtype=np.int64)
    arrays: dict[str, np.ndarray] = {name: column.values for name, column in demonstration.columns.items()}
    arrays |= {
        "timestamp": (frame_index / demonstration.fps).astype(np.float32),
        "frame_index": frame_index,
        "episode_index": np.full(count, episode, np.int64),
        "index": first_index + frame_index,
        "task_index": np.full(count, task_index, np.int64),
    }
    columns = {name: _array(pa, values) for name, values in arrays.items()}
    return pa.table(columns), {name: column_statistics(values) for name, values in arrays.items()}


def _array(pa: Any, values: np.ndarray) -> Any:
    """A column of numbers, or of lists of one length; a feature of one number is a number, as LeRobot has it."""
    if values.ndim == 1 or values.shape[1] == 1:
        return pa.array(values.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def write_episodes(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of ``meta/episodes``."""
    pa, pq = load_arrow()
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: [_plain(row[name]) for row in rows] for name in rows[0]}
    pq.write_table(pa.table(columns), path, compression="snappy")


def read_episodes(folder: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Some columns of all episodes, in order.

    Args:
        folder: ``meta/episodes``.

    Raises:
        InputError: a file cannot be read or lacks a column.
    """
    pa, pq = load_arrow()
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("chunk-*/file-*.parquet")):
        try:
            rows += pq.read_table(path, columns=list(names), partitioning=None).to_pylist()
        except (OSError, KeyError, pa.ArrowInvalid) as error:
            raise InputError(f"{path}: cannot be read as episodes of a LeRobot data set ({error})") from error
    return sorted(rows, key=lambda row: row["episode_index"])


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """Write ``meta/tasks.parquet``: the task of row i has index i. With the description that pandas expects."""
    pa, pq = load_arrow()
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), TASK_INDEX: pa.array(tasks, pa.string())})
    described = {
        "index_columns": [TASK_INDEX],
        "column_indexes": [
            {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
        ],
        "columns": [
            {
                "name": "task_index",
                "field_name": "task_index",
                "pandas_type": "int64",
                "numpy_type": "int64",
                "metadata": None,
            },
            {
                "name": None,
                "field_name": TASK_INDEX,
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": None,
            },
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(described)}), path, compression="snappy")


def read_tasks(path: Path) -> list[str]:
    """The tasks in the order of their index.

    Raises:
        InputError: it cannot be read, or its indices are not 0, 1, 2, ...
    """
    pa, pq = load_arrow()
    try:
        table = pq.read_table(path, partitioning=None)
        name = next(column for column in table.column_names if column != "task_index")
        found = dict(zip(table["task_index"].to_pylist(), table[name].to_pylist(), strict=True))
    except (OSError, KeyError, StopIteration, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read as tasks of a LeRobot data set ({error})") from error
    if sorted(found) != list(range(len(found))):
        raise InputError(f"{path}: expected task_index 0 to {len(found) - 1}, got {sorted(found)}")
    return [str(found[index]) for index in range(len(found))]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
