"""Distances on grids: Felzenszwalb and Huttenlocher, "Distance transforms of sampled functions" (2012)."""

from __future__ import annotations

import numpy as np
from numba import njit

_FAR = 1e12
"""Squared nodes: of a grid without a single node to measure from."""


def distance_from(nodes: np.ndarray) -> np.ndarray:
    """Distances (X, Y, Z) float32, in nodes, of all nodes of a grid to the nearest of those marked (X, Y, Z) bool.

    Where none is marked they are very large.
    """
    squared = np.where(nodes, 0.0, _FAR)
    for axis in range(3):
        lines = np.ascontiguousarray(np.moveaxis(squared, axis, -1))
        _lower_envelopes(lines.reshape(-1, lines.shape[-1]))
        squared = np.moveaxis(lines, -1, axis)
    return np.ascontiguousarray(np.sqrt(squared, dtype=np.float32, casting="same_kind"))


@njit(cache=True)
def _lower_envelopes(lines: np.ndarray) -> None:
    """In place: of each line (L, n) the least of the parabolas ``values[k] + (x - k)^2`` at every x."""
    size = lines.shape[1]
    values, where, border = np.empty(size), np.empty(size, np.int64), np.empty(size + 1)
    for line in range(len(lines)):
        some = False
        for x in range(size):
            values[x] = lines[line, x]
            some = some or values[x] < _FAR
        if not some:
            continue
        last = -1
        for x in range(size):
            if values[x] >= _FAR:
                continue
            start = -np.inf
            while last >= 0:
                other = where[last]
                start = ((values[x] + x * x) - (values[other] + other * other)) / (2.0 * (x - other))
                if start > border[last]:
                    break
                last -= 1
                start = -np.inf
            last += 1
            where[last], border[last] = x, start
        at = 0
        for x in range(size):
            while at < last and border[at + 1] < x:
                at += 1
            lines[line, x] = values[where[at]] + (x - where[at]) ** 2
