"""Rendering clips into folders of the cache, frame by frame, so that what was interrupted goes on where it stopped."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
import trimesh

from grasp_nodes.data.clip_files import (
    FRAME_NAME,
    ClipInfo,
    ClipTruth,
    write_clip_info,
    write_image,
    write_truth,
)
from grasp_nodes.data.depth_sensor import measured_depth
from grasp_nodes.data.shading import StudioImage

FOLDERS = {"color": ".jpg", "depth": ".png", "labels": ".png"}
CLIP_FILE = "clip.json"

Progress = Callable[[int, int], None]
"""Called with the frames that are done and all of them."""


class ClipStage(Protocol):
    """What renders one clip. seed: of the depth camera's noise. depth_noise: its factor."""

    seed: int
    depth_noise: float

    def image(self, frame: int) -> StudioImage:
        """Render one frame."""

    def truth(self, frames: int) -> ClipTruth:
        """The exact trajectory of the first so many frames."""

    def info(self, frames: int) -> ClipInfo:
        """What clip.json says."""

    def meshes(self) -> Mapping[str, trimesh.Trimesh]:
        """The objects by file name."""


@dataclass(frozen=True)
class ClipJob:
    """One clip to render.

    target: its folder. work: the folder of its single frames. frames: wanted. make_stage: can be pickled; called once
    in each process.
    """

    target: Path
    work: Path
    frames: int
    make_stage: Callable[[], ClipStage]

    @property
    def finished(self) -> bool:
        """Whether the clip's folder is there; it gets its name when it is whole."""
        return (self.target / CLIP_FILE).is_file()

    def missing(self) -> list[int]:
        """Frames without all of their files."""
        return [i for i in range(self.frames) if not all(path.is_file() for path in frame_files(self.work, i))]


def frame_files(folder: Path, frame: int) -> list[Path]:
    """Colour, depth and labels of a frame."""
    return [folder / name / (FRAME_NAME.format(frame) + suffix) for name, suffix in FOLDERS.items()]


def produce(jobs: Sequence[ClipJob], processes: int, progress: Progress | None = None) -> None:
    """Render what is missing of clips, one clip after the other, and publish each when it is whole.

    Args:
        jobs: the clips. processes: that render; 1 = this one.
        progress: called at the start and after each frame with the frames that are done.
    """
    open_jobs = [job for job in jobs if not job.finished]
    for job in open_jobs:
        for name in (*FOLDERS, "objects"):
            (job.work / name).mkdir(parents=True, exist_ok=True)
    missing = {job.target: job.missing() for job in open_jobs}
    total = sum(job.frames for job in jobs)
    done = total - sum(map(len, missing.values()))
    if progress:
        progress(done, total)
    with _rendered(open_jobs, missing, processes) as rendered:
        for job in open_jobs:
            for _ in rendered(job):
                done += 1
                if progress:
                    progress(done, total)
            _publish(job)


@contextmanager
def _rendered(
    jobs: Sequence[ClipJob], missing: Mapping[Path, Sequence[int]], processes: int
) -> Iterator[Callable[[ClipJob], Iterator[None]]]:
    """A function that renders the missing frames of a job and yields after each."""
    count = min(processes, sum(map(len, missing.values())))
    if count <= 1:

        def here(job: ClipJob) -> Iterator[None]:
            for frame in missing[job.target]:
                _render_to_files(job, frame)
                yield

        yield here
        return
    # Processes and not threads: half of the time is numpy under the interpreter's lock. Spawned: torch and Open3D do
    # not survive a fork.
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), start_worker)
    try:
        # All at once, so that no process waits for the last frame of a clip before it begins the next one.
        tasks = {
            job.target: [pool.submit(_render_to_files, job, frame) for frame in missing[job.target]] for job in jobs
        }

        def elsewhere(job: ClipJob) -> Iterator[None]:
            for task in as_completed(tasks[job.target]):
                task.result()
                yield

        yield elsewhere
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def start_worker() -> None:
    """One thread for each process."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


_kept: tuple[Path, ClipStage] | None = None
"""The stage that this process used last: frames of a clip come one after the other."""


def _stage(job: ClipJob) -> ClipStage:
    global _kept
    if _kept is None or _kept[0] != job.target:
        _kept = job.target, job.make_stage()
    return _kept[1]


def _render_to_files(job: ClipJob, frame: int) -> None:
    stage = _stage(job)
    image = stage.image(frame)
    color, depth, labels = frame_files(job.work, frame)
    rng = np.random.default_rng([stage.seed, 4, frame])
    write_image(color, image.color)
    write_image(depth, measured_depth(image.depth, rng, stage.depth_noise))
    write_image(labels, image.labels)


def _publish(job: ClipJob) -> None:
    """Make the clip's folder out of rendered frames (hard links where possible) and give it its name at once."""
    stage = _stage(job)
    folder = job.target.with_name(f"{job.target.name}.{os.getpid()}.part")
    shutil.rmtree(folder, ignore_errors=True)
    for name in (*FOLDERS, "objects"):
        (folder / name).mkdir(parents=True)
    for frame in range(job.frames):
        for source in frame_files(job.work, frame):
            link_or_copy(source, folder / source.relative_to(job.work))
    for name, mesh in stage.meshes().items():
        mesh.export(folder / name, include_normals=False)
    write_truth(folder, stage.truth(job.frames))
    write_clip_info(folder, stage.info(job.frames))
    try:
        folder.rename(job.target)
    except OSError:
        if not job.finished:
            raise
        shutil.rmtree(folder)  # another process was faster


def link_or_copy(source: Path, place: Path) -> None:
    """A hard link, or a copy on a file system without them."""
    try:
        os.link(source, place)
    except OSError:
        shutil.copyfile(source, place)
