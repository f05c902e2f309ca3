"""Points by the cells of a grid that they lie in: thinned to one for each cell, and near to others.

Trees of points answer the same questions; of clouds whose points lie about evenly on surfaces cells know it ten times
as fast.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from grasp_nodes.geometry.columns import bounds

_MOST_CELLS = 64
"""For each point: where there would be more, cells are larger."""


def thinned(points: np.ndarray, voxel: float) -> np.ndarray:
    """One point for each voxel (m), the mean of those in it, in the order they first come; (N, 3) to (M, 3), m."""
    number, count = cell_numbers(points, voxel)
    return means(points, number, count)


def cell_numbers(points: np.ndarray, voxel: float) -> tuple[np.ndarray, int]:
    """(N,) which cell of a grid each point (N, 3) lies in, and how many cells those are, in the order they first come.

    Args:
        voxel: side of a cell, in the unit of the points.
    """
    points = np.ascontiguousarray(points, np.float64)
    return _numbered(points, bounds(points)[0], voxel, 1 << (2 * len(points) + 1).bit_length())


def means(points: np.ndarray, number: np.ndarray, count: int) -> np.ndarray:
    """(count, 3): the mean of the points (N, 3) of each number (N,)."""
    share = np.maximum(np.bincount(number, minlength=count), 1)
    return np.stack([np.bincount(number, points[:, k], count) / share for k in range(3)], axis=1)


class Neighbours:
    """Of points (N, 3), m, at least one, what is near.

    Args:
        reach: m, that is mostly asked for.
    """

    def __init__(self, points: np.ndarray, reach: float) -> None:
        self._points = np.ascontiguousarray(points, np.float64)
        low, high = bounds(self._points)
        span = np.maximum(high - low, reach)
        self._low, self._cell = low, max(reach, float(np.cbrt(span.prod() / (_MOST_CELLS * len(points) + 1000))))
        self._size = np.floor((high - low) / self._cell).astype(np.int64) + 1
        self._first, self._order = _sorted_into_cells(self._points, self._low, self._cell, self._size)
        self._points = self._points[self._order]

    def within(self, asked: np.ndarray, reach: float) -> np.ndarray:
        """(M,) whether one of the points is nearer than `reach` (m) to each of the asked ones (M, 3)."""
        asked = np.ascontiguousarray(asked, np.float64)
        return _any_within(asked, reach, self._points, self._low, self._cell, self._size, self._first)

    def nearest(self, count: int) -> np.ndarray:
        """(N, count), m: distances from each point to the `count` (below N) nearest others, the least first."""
        found = np.empty((len(self._points), count))
        found[self._order] = _nearest(count, self._points, self._low, self._cell, self._size, self._first)
        return found


@njit(cache=True)
def _numbered(points: np.ndarray, low: np.ndarray, voxel: float, slots: int) -> tuple[np.ndarray, int]:
    """As `cell_numbers`; cells are found again in a table of 2^k slots, more than there are points."""
    table, number = np.full(slots, -1, np.int64), np.empty(len(points), np.int64)
    cells = np.empty((len(points), 3), np.int64)
    used = 0
    for i in range(len(points)):
        x = math.floor((points[i, 0] - low[0]) / voxel)
        y = math.floor((points[i, 1] - low[1]) / voxel)
        z = math.floor((points[i, 2] - low[2]) / voxel)
        # Teschner et al., 2003, mixed once more, so that the lowest bits tell cells apart.
        slot = (x * 73856093) ^ (y * 19349663) ^ (z * 83492791)
        slot = (slot ^ (slot >> 15)) & (slots - 1)
        at = table[slot]
        while at >= 0 and (cells[at, 0] != x or cells[at, 1] != y or cells[at, 2] != z):
            slot = (slot + 1) & (slots - 1)
            at = table[slot]
        if at < 0:
            at = used
            table[slot] = at
            cells[at, 0], cells[at, 1], cells[at, 2] = x, y, z
            used += 1
        number[i] = at
    return number, used


@njit(cache=True)
def _sorted_into_cells(
    points: np.ndarray, low: np.ndarray, cell: float, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where each cell's points begin (cells + 1,), and the points' numbers (N,) in the order of their cells."""
    number = np.empty(len(points), np.int64)
    first = np.zeros(size[0] * size[1] * size[2] + 1, np.int64)
    for i in range(len(points)):
        at = 0
        for k in range(3):
            at = at * size[k] + min(math.floor((points[i, k] - low[k]) / cell), size[k] - 1)
        number[i] = at
        first[at + 1] += 1
    for at in range(1, len(first)):
        first[at] += first[at - 1]
    filled, order = first[:-1].copy(), np.empty(len(points), np.int64)
    for i in range(len(points)):
        order[filled[number[i]]] = i
        filled[number[i]] += 1
    return first, order


@njit(cache=True)
def _any_within(
    asked: np.ndarray,
    reach: float,
    points: np.ndarray,
    low: np.ndarray,
    cell: float,
    size: np.ndarray,
    first: np.ndarray,
) -> np.ndarray:
    """As `Neighbours.within`; points: in the order of their cells."""
    found = np.zeros(len(asked), np.bool_)
    squared = reach * reach
    for i in range(len(asked)):
        px, py, pz = asked[i, 0], asked[i, 1], asked[i, 2]
        begin_z = max(math.floor((pz - reach - low[2]) / cell), 0)
        end_z = min(math.floor((pz + reach - low[2]) / cell) + 1, size[2])
        begin_y = max(math.floor((py - reach - low[1]) / cell), 0)
        end_y = min(math.floor((py + reach - low[1]) / cell) + 1, size[1])
        x = max(math.floor((px - reach - low[0]) / cell), 0)
        end_x = min(math.floor((px + reach - low[0]) / cell) + 1, size[0])
        while begin_z < end_z and x < end_x and not found[i]:
            for y in range(begin_y, end_y):
                row = (x * size[1] + y) * size[2]
                # Cells along z follow each other, and so do their points.
                for k in range(first[row + begin_z], first[row + end_z]):
                    dx, dy, dz = px - points[k, 0], py - points[k, 1], pz - points[k, 2]
                    if dx * dx + dy * dy + dz * dz < squared:
                        found[i] = True
                        break
                if found[i]:
                    break
            x += 1
    return found


@njit(cache=True)
def _nearest(
    count: int, points: np.ndarray, low: np.ndarray, cell: float, size: np.ndarray, first: np.ndarray
) -> np.ndarray:
    """As `Neighbours.nearest`; points and result: in the order of their cells."""
    result = np.empty((len(points), count))
    best = np.empty(count)
    most = max(size[0], size[1], size[2])
    for i in range(len(points)):
        px, py, pz = (points[i, 0] - low[0]) / cell, (points[i, 1] - low[1]) / cell, (points[i, 2] - low[2]) / cell
        ox = min(math.floor(px), size[0] - 1)
        oy = min(math.floor(py), size[1] - 1)
        oz = min(math.floor(pz), size[2] - 1)
        # Cells to the nearest wall of its own; what is farther out by a ring is farther away by a cell or more.
        room = max(min(px - ox, ox + 1 - px, py - oy, oy + 1 - py, pz - oz, oz + 1 - pz), 0.0)
        best[:] = np.inf
        ring = 1
        while True:
            for x in range(max(ox - ring, 0), min(ox + ring + 1, size[0])):
                for y in range(max(oy - ring, 0), min(oy + ring + 1, size[1])):
                    row = (x * size[1] + y) * size[2]
                    begin, end = max(oz - ring, 0), min(oz + ring + 1, size[2])
                    if ring > 1 and abs(x - ox) < ring and abs(y - oy) < ring:
                        # Of the inner rows all but the two ends were looked at with the smaller rings.
                        if oz - ring >= 0:
                            _keep_nearest(best, points, i, first[row + oz - ring], first[row + oz - ring + 1])
                        if oz + ring < size[2]:
                            _keep_nearest(best, points, i, first[row + oz + ring], first[row + oz + ring + 1])
                    else:
                        _keep_nearest(best, points, i, first[row + begin], first[row + end])
            if ring >= most or best[count - 1] <= ((room + ring) * cell) ** 2:
                break
            ring += 1
        for k in range(count):
            result[i, k] = math.sqrt(best[k])
    return result


@njit(cache=True, inline="always")
def _keep_nearest(best: np.ndarray, points: np.ndarray, own: int, begin: int, end: int) -> None:
    """The least squared distances of a point to others than itself, of those so far and of some more."""
    last = len(best) - 1
    for k in range(begin, end):
        dx, dy, dz = points[own, 0] - points[k, 0], points[own, 1] - points[k, 1], points[own, 2] - points[k, 2]
        squared = dx * dx + dy * dy + dz * dz
        if squared < best[last] and k != own:
            at = last
            while at > 0 and best[at - 1] > squared:
                best[at] = best[at - 1]
                at -= 1
            best[at] = squared
