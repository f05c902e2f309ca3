"""Any number of grasps in the memory of a few: a generator asked for one chunk after the other."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from grasp_nodes.contact.interaction import Grasp, GraspGenerator, GraspSet
from grasp_nodes.errors import InputError
from grasp_nodes.objects.model import ObjectModel

CHUNK = 128
"""Grasps at once: with eight candidates each, their hands' vertices and what is measured of them take 50 MB."""
LARGEST_COUNT = 1_000_000


class ChunkedGenerator:
    """Another generator, asked for at most so many grasps at once.

    The first chunk has the seed itself, so that a request of one chunk is what the other generator makes of it.

    Args:
        generator: of the grasps. chunk: at most, at once.
    """

    def __init__(self, generator: GraspGenerator, chunk: int = CHUNK) -> None:
        if chunk < 1:
            raise InputError(f"chunk: expected 1 grasp or more, got {chunk}")
        self.generator, self._chunk = generator, chunk

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """As many as the generator makes, best first; of equal scores in the order they came.

        Raises:
            InputError: a count below 1 or above a million, or a negative seed.
        """
        check_request(count, seed)
        start = time.perf_counter()
        sizes = [min(self._chunk, count - first) for first in range(0, count, self._chunk)]
        found: GraspSet | None = None
        grasps: list[Grasp] = []
        for number, size in enumerate(sizes):
            part = self.generator.generate(object_model, size, chunk_seed(seed, number))
            found = found or part
            grasps += part.grasps
        assert found is not None
        if len(sizes) > 1:
            grasps.sort(key=lambda grasp: -grasp.score)
        return replace(found, seed=seed, duration=time.perf_counter() - start, grasps=grasps)


def chunk_seed(seed: int, number: int) -> int:
    """The seed of a chunk, counted from 0: a number of 63 bits that depends on both, of the first the seed itself."""
    if number == 0:
        return seed
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def check_request(count: int, seed: int) -> None:
    """Refuse what cannot be generated.

    Raises:
        InputError: a count below 1 or above a million, or a negative seed.
    """
    if not 1 <= count <= LARGEST_COUNT:
        raise InputError(f"count: expected 1 to {LARGEST_COUNT} grasps, got {count}")
    if seed < 0:
        raise InputError(f"seed: expected 0 or more, got {seed}")
