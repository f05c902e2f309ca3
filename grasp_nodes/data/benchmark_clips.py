"""The benchmark's clips: seeded, with exact truth, rendered into the cache. Described in docs/benchmark_clips.md."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from grasp_nodes.data.benchmark_motion import MAX_FRAMES, Course
from grasp_nodes.data.benchmark_objects import open_hand
from grasp_nodes.data.benchmark_plan import ClipPlan, ClipRequest, Occlusion, View
from grasp_nodes.data.benchmark_search import find_plan
from grasp_nodes.data.benchmark_stage import RENDER_VERSION, BenchmarkStage
from grasp_nodes.data.clip_production import CLIP_FILE, ClipJob, Progress, produce, start_worker
from grasp_nodes.errors import InputError
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.registry import HELD_OUT_FAMILIES, TRAINING_FAMILIES
from grasp_nodes.paths import cache_dir

ROUND = 20
"""Clips after which sides, views, courses and occlusions begin again in another order."""
VIEWS: Mapping[View, int] = {
    "back": 5,
    "thumb": 4,
    "palm": 4,
    "little_finger": 3,
    "fingertips": 2,
    "forearm": 2,
}
SIDES: Mapping[Side, int] = {"right": 15, "left": 5}
OCCLUSIONS: Mapping[Occlusion, int] = {"object": 12, "prop": 4, "border": 4}
COURSES: Mapping[Course, int] = {"carry": 9, "put_down": 5, "pick_and_place": 6}
"""How often in a round."""
LARGEST_COUNT = 10_000

_Choice = TypeVar("_Choice", bound=str)

_log = logging.getLogger(__name__)


def benchmark_clips(
    count: int = 20,
    frames: int = MAX_FRAMES,
    seed: int = 0,
    progress: Progress | None = None,
    processes: int = 2,
    meshes: Sequence[Path] = (),
) -> list[Path]:
    """Folders of the benchmark's clips; those that the cache does not hold are rendered now.

    A clip depends on the seed and its number alone, not on `count`. Frames are written one by one, so that an
    interrupted rendering goes on where it stopped.

    Args:
        count: clips. frames: the first so many of each clip's 30 (2 s at 15 Hz).
        seed: 0 is the benchmark. progress: called with the frames that are done and all of them.
        processes: that render.
        meshes: files in m; their objects take the place of those of the last clips.

    Raises:
        InputError: a count, number of frames or processes that cannot be, or a mesh that cannot be read.
        MissingFileError: the published grasps or a mesh are not there.
    """
    for name, value, low, high in (
        ("count", count, 1, LARGEST_COUNT),
        ("frames", frames, 1, MAX_FRAMES),
        ("processes", processes, 1, 1024),
        ("seed", seed, 0, 2**31),
    ):
        if not low <= value <= high:
            raise InputError(f"{name}: expected {low} to {high}, got {value}")
    if len(meshes) > count:
        raise InputError(f"meshes: expected at most one for each of the {count} clips, got {len(meshes)}")
    requests = clip_requests(count, seed, meshes)
    targets = [_folder(request).with_name(f"{_folder(request).name}-{frames}") for request in requests]
    wanted = [(*pair,) for pair in zip(requests, targets, strict=True) if not (pair[1] / CLIP_FILE).is_file()]
    plans = _plans([request for request, _ in wanted], processes)
    jobs = [
        ClipJob(target, _folder(request).with_suffix(".frames"), frames, partial(BenchmarkStage, plan))
        for (request, target), plan in zip(wanted, plans, strict=True)
    ]
    done = frames * (count - len(jobs))
    produce(jobs, processes, progress and (lambda made, _: progress(done + made, frames * count)))
    return targets


def clip_requests(count: int, seed: int, meshes: Sequence[Path] = ()) -> list[ClipRequest]:
    """What the clips shall show: in each round of 20 the shares of sides, views, motions and occlusions are exact."""
    requests = []
    for index in range(count):
        turn, place = divmod(index, ROUND)
        orders = np.random.default_rng([seed, 8, turn])
        columns = [orders.permutation(ROUND)[place] for _ in range(4)]
        families = [*HELD_OUT_FAMILIES, *orders.permutation(TRAINING_FAMILIES)[: ROUND - len(HELD_OUT_FAMILIES)]]
        name = str(families[int(orders.permutation(ROUND)[place])])
        if index >= count - len(meshes):
            name = str(meshes[index - (count - len(meshes))])
        requests.append(
            ClipRequest(
                *(index, seed, _nth(SIDES, columns[0]), name),
                *(_nth(VIEWS, columns[1]), _nth(OCCLUSIONS, columns[2]), _nth(COURSES, columns[3])),
            )
        )
    return requests


def _nth(counts: Mapping[_Choice, int], place: int) -> _Choice:
    """The choice at a place of the list that holds each as often as its count says."""
    return [choice for choice, count in counts.items() for _ in range(count)][place]


def _folder(request: ClipRequest) -> Path:
    key = f"bench-v{RENDER_VERSION}-{open_hand('right').fingerprint[:8]}-seed{request.seed}-{request.index:02d}"
    if Path(request.object_name).suffix:
        key += f"-{hashlib.sha256(Path(request.object_name).read_bytes()).hexdigest()[:8]}"
    return cache_dir("clips") / key


def _plans(requests: Sequence[ClipRequest], processes: int) -> list[ClipPlan]:
    """Found once, here or in processes, and not in every process that renders."""
    if requests:
        _log.info("looking for the motions of %d clips", len(requests))
    if min(processes, len(requests)) <= 1:
        return [find_plan(request) for request in requests]
    with ProcessPoolExecutor(min(processes, len(requests)), multiprocessing.get_context("spawn"), start_worker) as pool:
        return list(pool.map(find_plan, requests))
