"""Accepted synthetic grasps per minute, all tests included, over all families that training sees."""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

import torch

from benchmarks.report import Row
from grasp_nodes.data.synthetic_grasps import synthesize_grasps
from grasp_nodes.objects.registry import TRAINING_FAMILIES, ObjectName, training_names

PROCESSES = 2
GRASPS_PER_OBJECT = 125
"""As in a set of 50,000 over 400 objects."""
SEED = 7


def synthesis_rate() -> Row:
    """One object of each family, all processes busy at once and warm: their compiling is not counted.

    Time is that of the processes at work: the last object keeps one of them waiting here, which does not matter in a
    set of 500 objects.
    """
    names = training_names(2 * len(TRAINING_FAMILIES))[len(TRAINING_FAMILIES) :]
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    os.environ.update(dict.fromkeys(threads, "1"))
    try:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(PROCESSES, spawn, initializer=_warm) as pool:
            list(pool.map(_accepted, [ObjectName("box", 0)] * PROCESSES, [8] * PROCESSES))
            results = list(pool.map(_accepted, names, [GRASPS_PER_OBJECT] * len(names)))
    finally:
        for name, before in threads.items():
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
    accepted = sum(count for count, _ in results)
    minutes = sum(seconds for _, seconds in results) / PROCESSES / 60
    return Row("synthesis_per_minute", accepted / minutes, f"accepted grasps / min, {PROCESSES} processes")


def _warm() -> None:
    torch.set_num_threads(1)
    _accepted(ObjectName("sphere", 0), 8)


def _accepted(name: ObjectName, count: int) -> tuple[int, float]:
    """Grasps accepted, and seconds."""
    start = time.perf_counter()
    return len(synthesize_grasps(name, count, SEED)), time.perf_counter() - start
