"""The views that the landmark reader learns from, rendered in chunks that a stopped run goes on from."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from grasp_nodes.data.landmark_views import LandmarkStudio, LandmarkView, SeenLandmarks, ViewKind
from grasp_nodes.npz import replacing
from grasp_nodes.perception.hand_landmarks import LandmarkerOptions, LitertHandLandmarker

CHUNK = 25
"""Numbers of one file."""


@dataclass(frozen=True)
class ViewRange:
    """kind: of the views. first, count: of their numbers."""

    kind: ViewKind
    first: int
    count: int

    def chunks(self) -> Iterator[ViewRange]:
        """The same in files' worth."""
        for start in range(0, self.count, CHUNK):
            yield ViewRange(self.kind, self.first + start, min(CHUNK, self.count - start))

    @property
    def file_name(self) -> str:
        """Of a chunk."""
        return f"{self.kind}-{self.first:06d}-{self.count}.npz"


SHIPPED_VIEWS = (
    ViewRange("grasp", 0, 3000),
    ViewRange("grasp", 20_000, 3000),
    ViewRange("free", 0, 750),
    ViewRange("free", 1125, 375),
    ViewRange("hidden", 0, 400),
)
"""What the shipped reader has learned from."""
SHIPPED_SEED = 1000

Progress = Callable[[int, int], None]


def make_views(
    ranges: tuple[ViewRange, ...], seed: int, folder: Path, processes: int, progress: Progress
) -> list[LandmarkView]:
    """Render what the folder does not hold yet, and read all of it.

    Args:
        ranges: which views. seed: of the studio. folder: of the chunks, made if absent. processes: that render.
        progress: is told how many numbers are done, and of how many.

    Returns:
        Views in which the network saw a hand, in the order of `ranges`.

    Raises:
        MissingFileError: the open grasps or the landmark network are not there. OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chunks = [chunk for part in ranges for chunk in part.chunks()]
    missing = [chunk for chunk in chunks if not (folder / chunk.file_name).is_file()]
    total = sum(chunk.count for chunk in chunks)
    done = total - sum(chunk.count for chunk in missing)
    progress(done, total)
    if missing:
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            jobs = {pool.submit(_render, chunk, seed, folder / chunk.file_name): chunk for chunk in missing}
            try:
                for job in as_completed(jobs):
                    job.result()
                    done += jobs[job].count
                    progress(done, total)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return [view for chunk in chunks for view in read_views(folder / chunk.file_name)]


def write_views(path: Path, views: list[LandmarkView]) -> None:
    """One file, whole or not at all."""
    readings = [reading for view in views for reading in view.readings]
    arrays = {
        "readings": np.array([len(view.readings) for view in views], np.int64),
        "rotation": np.array([view.rotation for view in views]).reshape(-1, 3, 3),
        "angles": np.array([view.angles for view in views]),
        "keypoints": np.array([view.keypoints for view in views]).reshape(-1, 21, 3),
        "rays": np.array([reading.rays for reading in readings]).reshape(-1, 21, 2),
        "relative": np.array([reading.relative for reading in readings]).reshape(-1, 21, 3),
        "presence": np.array([reading.presence for reading in readings], np.float64),
    }
    with replacing(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_views(path: Path) -> list[LandmarkView]:
    """What `write_views` wrote."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    last = np.cumsum(arrays["readings"])
    views = []
    for row, (count, end) in enumerate(zip(arrays["readings"], last, strict=True)):
        seen = tuple(
            SeenLandmarks(arrays["rays"][k], arrays["relative"][k], float(arrays["presence"][k]))
            for k in range(int(end - count), int(end))
        )
        views.append(LandmarkView(seen, arrays["rotation"][row], arrays["angles"][row], arrays["keypoints"][row]))
    return views


def _render(chunk: ViewRange, seed: int, path: Path) -> None:
    studio = _studio(seed)
    views = [studio.view(number, chunk.kind) for number in range(chunk.first, chunk.first + chunk.count)]
    write_views(path, [view for view in views if view is not None])


@lru_cache(maxsize=1)
def _studio(seed: int) -> LandmarkStudio:
    """One for each process."""
    torch.set_num_threads(1)
    return LandmarkStudio(LitertHandLandmarker(LandmarkerOptions()), seed)
