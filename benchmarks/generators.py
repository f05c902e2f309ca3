"""Generators of grasps: time per grasp of one, of 128 of one object and of 128 different objects, and memory.

All times are from the object (its mesh, its signed distance and its points are there) to grasps with posed hands: with
the object's encoder and the hand model. Objects are new to the generator each time. Baseline: FastGrasp in the paper's
size with 20 steps of DDIM and the adaptation module, our own implementation without training (its time is the same), in
turns with `fastgrasp-flow` in one process; in batches of 8. The paper: 0.14 s per grasp on an A40; other hardware and
code, hence no ratio.

Rows ``+rank8`` and ``+polish`` are per grasp, in a batch of 128 of one object, scores and measurements included.
JHOD in its own sizes, and sixteen hands with their objects: `_jhod_times`.
Memory is the whole process': Python, torch, hand models and 128 different objects of 1 MB each.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks._generator_methods import (
    PAPER_STEPS,
    HandModels,
    TimedMethod,
    hand_models,
    objects,
    paper_method,
    timed_methods,
)
from benchmarks._jhod_times import jhod_rows
from benchmarks.report import Row
from grasp_nodes.evaluation.harness.protocols import Method
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.suffixes import compose, parse_method

THREADS = 2
BATCH = 128
PAPER_BATCH = 8
REPEATS = 5
SUFFIX_REPEATS = 3
BASELINE = f"FastGrasp in the paper's size, {PAPER_STEPS} steps"


def rows() -> list[Row]:
    """Times and memory."""
    models, things = hand_models(), objects(BATCH)
    paper, (flow, *others) = paper_method(models), timed_methods(models)
    theirs = _works(paper, things, PAPER_BATCH)
    both = [_in_turns(ours, slow) for ours, slow in zip(_works(flow, things, BATCH), theirs, strict=True)]
    slow = [both[0][1], both[1][1] / PAPER_BATCH, both[2][1] / PAPER_BATCH]
    result = _rows(flow, [fast for fast, _ in both], slow)
    result += _suffixes(flow, models, things, slow[1])
    for method in others:
        result += _rows(method, [_in_turns(work)[0] for work in _works(method, things, BATCH)], slow)
    return result + jhod_rows(models, things[0])


def _works(method: TimedMethod, things: list[ObjectModel], count: int) -> list[Callable[[], object]]:
    """One grasp, `count` of one object, and one each of `count` objects."""
    return [
        lambda: method.fresh().generate(things[0], 1, 0),
        lambda: method.fresh().generate(things[0], count, 0),
        lambda: method.each(things[:count]),
    ]


def _rows(method: TimedMethod, spent: list[float], slow: list[float]) -> list[Row]:
    alone, same, each = spent
    return [
        Row.time(f"{method.name}_b1_ms", alone, "ms", BASELINE, slow[0]),
        Row.time(f"{method.name}_b128_same_ms", same / BATCH, "ms per grasp", BASELINE, slow[1]),
        Row.time(f"{method.name}_b128_ms", each / BATCH, "ms per grasp", BASELINE, slow[2]),
        Row(f"{method.name}_peak_mb", _peak_mb(method.name), "MB of the process"),
    ]


def _suffixes(method: TimedMethod, models: HandModels, things: list[ObjectModel], slow: float) -> list[Row]:
    """Each object is new to the generator; the first one warms up and does not count."""
    found = []
    for suffix in ("+rank8", "+polish"):
        composed = compose(parse_method(method.name + suffix), Method(method.name, method.fresh()), models).generator
        assert composed is not None
        spent = [_milliseconds(partial(composed.generate, one, BATCH, 0)) for one in things[: 1 + SUFFIX_REPEATS]]
        name = f"{method.name}{suffix}_b128_same_ms"
        median = statistics.median(spent[1:])
        found.append(Row.time(name, median / BATCH, "ms per grasp", f"{BASELINE}, raw", slow))
    return found


def _in_turns(*works: Callable[[], object]) -> list[float]:
    """Medians in ms, after one call of each that does not count."""
    for work in works:
        work()
    spent = [[_milliseconds(work) for work in works] for _ in range(REPEATS)]
    return [statistics.median(values) for values in zip(*spent, strict=True)]


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - started)


def _peak_mb(name: str) -> float:
    """Of a process of its own that makes one grasp of each of 128 objects, and 128 of one."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return float(pool.apply(_peak_of, (name,)))


def _peak_of(name: str) -> float:
    torch.set_num_threads(THREADS)
    things = objects(BATCH)
    method = next(one for one in timed_methods(hand_models()) if one.name == name)
    method.each(things)
    method.fresh().generate(things[0], BATCH, 0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
