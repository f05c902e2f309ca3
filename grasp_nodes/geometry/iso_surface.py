"""A closed surface where a field on a grid is zero: surface nets (Gibson, 1998), one vertex for each cell it passes."""

from __future__ import annotations

import numpy as np


def surface_nets(values: np.ndarray, origin: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """The boundary of what is negative; the outermost nodes must not be.

    Args:
        values: (X, Y, Z), at the nodes ``origin + spacing * (i, j, k)``. origin: (3,), m. spacing: m.

    Returns:
        vertices (V, 3) float64, m, and outward faces (F, 3) int64, closed: two faces at each edge. Both are empty where
        nothing is negative.
    """
    values = well_composed(values)
    inside = values < 0
    cells = tuple(size - 1 for size in values.shape)
    total, count = np.zeros((*cells, 3)), np.zeros(cells)
    for axis in range(3):
        low, high = _ends(values, axis)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = low / (low - high)
        crossed = _ends(inside, axis)[0] != _ends(inside, axis)[1]
        share = np.where(crossed, share, 0.0)
        # Each cell has four edges along the axis: where the field is zero on them, on average, is its vertex.
        for a in (0, 1):
            for b in (0, 1):
                part = tuple(_edge_slices(axis, a, b, cells))
                total[..., axis] += share[part]
                total[..., (axis + 1) % 3] += a * crossed[part]
                total[..., (axis + 2) % 3] += b * crossed[part]
                count += crossed[part]
    used = count > 0
    number = np.full(cells, -1)
    number[used] = np.arange(int(used.sum()))
    vertices = origin + spacing * (np.argwhere(used) + total[used] / count[used][:, None])
    faces = [_quads(inside, number, axis) for axis in range(3)]
    return np.asarray(vertices, np.float64), np.concatenate(faces).astype(np.int64)


def well_composed(values: np.ndarray) -> np.ndarray:
    """The same field without squares of the grid of which only two opposite corners are inside.

    Around those four faces would share an edge (Latecki, 1997); a corner more is put inside, by next to nothing.
    """
    values = values.copy()
    tiny = -1e-3 * float(np.abs(values).min(initial=1.0, where=values != 0))
    while True:
        inside = values < 0
        changed = False
        for axis in range(3):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            corner = {(a, b): _shifted(inside, u, v, a, b) for a in (0, 1) for b in (0, 1)}
            first = corner[0, 0] & corner[1, 1] & ~corner[0, 1] & ~corner[1, 0]
            second = ~corner[0, 0] & ~corner[1, 1] & corner[0, 1] & corner[1, 0]
            for crossed, a, b in ((first, 0, 1), (second, 0, 0)):
                if crossed.any():
                    _shifted(values, u, v, a, b)[crossed] = tiny
                    changed = True
        if not changed:
            return values


def _shifted(field: np.ndarray, u: int, v: int, a: int, b: int) -> np.ndarray:
    """A view of one corner of all squares across two axes."""
    slices = [slice(None)] * 3
    for axis, shift in ((u, a), (v, b)):
        slices[axis] = slice(1, None) if shift else slice(None, -1)
    return field[tuple(slices)]


def _ends(field: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """A field at both ends of every edge along an axis."""
    first, last = [slice(None)] * 3, [slice(None)] * 3
    first[axis], last[axis] = slice(None, -1), slice(1, None)
    return field[tuple(first)], field[tuple(last)]


def _edge_slices(axis: int, a: int, b: int, cells: tuple[int, ...]) -> list[slice]:
    """Of the edges along an axis those that are the (a, b)-th of each cell, counted along the two other axes."""
    slices = [slice(0, cells[0]), slice(0, cells[1]), slice(0, cells[2])]
    for other, shift in (((axis + 1) % 3, a), ((axis + 2) % 3, b)):
        slices[other] = slice(shift, shift + cells[other])
    return slices


def _quads(inside: np.ndarray, number: np.ndarray, axis: int) -> np.ndarray:
    """Two triangles around each edge along an axis that leaves or enters the solid."""
    low, high = _ends(inside, axis)
    u, v = (axis + 1) % 3, (axis + 2) % 3
    edges = np.argwhere(low != high)
    if not len(edges):
        return np.zeros((0, 3), np.int64)
    leaves = low[tuple(edges.T)]
    ring = []
    for du, dv in ((-1, -1), (0, -1), (0, 0), (-1, 0)):
        cell = edges.copy()
        cell[:, u] += du
        cell[:, v] += dv
        ring.append(number[tuple(cell.T)])
    quad = np.stack(ring, axis=1)
    quad[~leaves] = quad[~leaves][:, ::-1]
    return np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])
