"""Batches out of arrays, in an order that follows from the seed and the number of the step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.learning.steps import Step

Batch: TypeAlias = Mapping[str, Tensor]


class Batches(Protocol):
    """Where the batches of a training come from: a function of the step, whoever asks and however often."""

    def __call__(self, step: Step) -> Batch:
        """Tensors by name, on the CPU or already on the training's device."""
        ...


class ShuffledRows:
    """Numbers of rows: every row once in each pass, each pass in another order, the processes' shares disjoint."""

    def __init__(self, count: int, batch: int, seed: int) -> None:
        if count < 1 or batch < 1:
            raise InputError(f"batches: expected at least one row and a batch of 1 or more, got {count} and {batch}")
        self.count, self.batch = count, batch
        self._seed = seed
        self._orders: dict[int, np.ndarray] = {}

    def __call__(self, step: Step) -> np.ndarray:
        """(batch,) int64."""
        first = (step.number * step.world + step.rank) * self.batch
        places = np.arange(first, first + self.batch)
        passes = places // self.count
        return np.concatenate([self._order(int(one))[places[passes == one] % self.count] for one in np.unique(passes)])

    def _order(self, number: int) -> np.ndarray:
        if number not in self._orders:
            # A batch may reach into the next pass; older ones are over.
            orders = {one: order for one, order in self._orders.items() if one >= number - 1}
            orders[number] = np.random.default_rng([self._seed, number, 7]).permutation(self.count)
            self._orders = orders
        return self._orders[number]


class ArrayBatches:
    """Batches of rows of arrays.

    arrays: by name, of one length; numpy's may be memory-mapped. Floating point narrower than float32 comes as float32.
    rows: those that are used, None = all. batch: rows of one process in a step. seed: of the order.
    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray | Tensor], batch: int, seed: int = 0, rows: np.ndarray | None = None
    ) -> None:
        lengths = {name: len(values) for name, values in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise InputError(f"arrays of a training: expected one length, got {lengths}")
        self._arrays = dict(arrays)
        self._rows = np.arange(next(iter(lengths.values()))) if rows is None else np.asarray(rows, np.int64)
        self._shuffled = ShuffledRows(len(self._rows), batch, seed)

    def __call__(self, step: Step) -> dict[str, Tensor]:
        """The rows of a step."""
        return self.of_rows(self._rows[self._shuffled(step)])

    def __len__(self) -> int:
        return len(self._rows)

    def of_rows(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Rows by their number in the arrays."""
        index = torch.from_numpy(rows)
        found = {}
        for name, values in self._arrays.items():
            taken = values[index.to(values.device)] if isinstance(values, Tensor) else torch.from_numpy(values[rows])
            found[name] = taken.float() if taken.dtype in (torch.float16, torch.bfloat16) else taken
        return found
