"""Generators of grasps: time per grasp of one, of 128 of one object and of 128 different objects, and memory.

All times are from the object (its mesh, its signed distance and its points are there) to grasps with posed hands: with
the object's encoder and the hand model. Objects are new to the generator each time. Baseline: FastGrasp in the paper's
size with 20 steps of DDIM and the adaptation module, our own implementation without training (its time is the same), in
turns with ours in one process; in batches of 16, as larger ones are no faster per grasp. The paper: 0.14 s per grasp on
an A40; other hardware and code, hence no ratio.

Rows ``+rank8`` and ``+polish`` are per grasp, in a batch of 128 of one object, scores and measurements included.
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
from benchmarks.report import Row
from grasp_nodes.evaluation.harness.protocols import Method
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.flow.trained import METHOD
from grasp_nodes.synthesis.suffixes import compose, parse_method

THREADS = 2
BATCH = 128
PAPER_BATCH = 16
REPEATS = 7
BASELINE = f"FastGrasp in the paper's size, {PAPER_STEPS} steps"


def rows() -> list[Row]:
    """Times and memory."""
    models, things = hand_models(), objects(BATCH)
    paper, methods = paper_method(models), timed_methods(models)
    result = []
    for method in methods:
        alone, slow_alone = _in_turns(_one(method, things[0]), _one(paper, things[0]))
        same, slow_same = _in_turns(_same(method, things[0], BATCH), _same(paper, things[0], PAPER_BATCH), 3)
        each, slow_each = _in_turns(_each(method, things), _each(paper, things[:PAPER_BATCH]), 3)
        result += [
            Row.time(f"{method.name}_b1_ms", alone, "ms", BASELINE, slow_alone),
            Row.time(f"{method.name}_b128_same_ms", same / BATCH, "ms per grasp", BASELINE, slow_same / PAPER_BATCH),
            Row.time(f"{method.name}_b128_ms", each / BATCH, "ms per grasp", BASELINE, slow_each / PAPER_BATCH),
            Row(f"{method.name}_peak_mb", _peak_mb(method.name), "MB of the process"),
        ]
        if method.name == METHOD:
            result += _suffixes(method, models, things[0], slow_same / PAPER_BATCH)
    return result


def _suffixes(method: TimedMethod, models: HandModels, thing: ObjectModel, slow: float) -> list[Row]:
    found = []
    for suffix in ("+rank8", "+polish"):
        composed = compose(parse_method(method.name + suffix), Method(method.name, method.fresh()), models).generator
        assert composed is not None
        work = partial(composed.generate, thing, BATCH, 0)
        work()
        spent = [_milliseconds(work) for _ in range(2)]
        name = f"{method.name}{suffix}_b128_same_ms"
        found.append(Row.time(name, min(spent) / BATCH, "ms per grasp", f"{BASELINE}, raw", slow))
    return found


def _one(method: TimedMethod, thing: ObjectModel) -> Callable[[], object]:
    return _same(method, thing, 1)


def _same(method: TimedMethod, thing: ObjectModel, count: int) -> Callable[[], object]:
    return lambda: method.fresh().generate(thing, count, 0)


def _each(method: TimedMethod, things: list[ObjectModel]) -> Callable[[], object]:
    return lambda: method.each(things)


def _in_turns(ours: Callable[[], object], theirs: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """Medians in ms, after one call of each that does not count."""
    ours()
    theirs()
    both = [(_milliseconds(ours), _milliseconds(theirs)) for _ in range(repeats)]
    fast, slow = (statistics.median(values) for values in zip(*both, strict=True))
    return fast, slow


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
