"""How deep points lie in a hand: the other direction of HOMan's collision term (equation 5), of a mesh that deforms.

An object's vertices in a hand, or those of another hand. The hand changes with every step, so that no field of it can
be kept; but only points within a few millimetres of its skin matter, and for these the tangent plane at the nearest
vertex is as good as the exact distance.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit
from torch import Tensor

from grasp_nodes.errors import InputError

REACH = 0.01
"""m; a point that is farther from all vertices counts as outside: deeper than this, no plane says which way is out."""
_MOST_CELLS = 64
"""Along one axis."""


def distances_to_hand(
    points: Tensor, vertices: Tensor, faces: np.ndarray, rim: np.ndarray, reach: float = REACH
) -> Tensor:
    """Signed distances of points to the tangent planes at their nearest hand vertices, negative inside.

    Differentiable in points and vertices with the planes' directions held fixed: to first order that of the distance.
    Points whose nearest vertex lies on the wrist's rim are outside: the hand has no surface there.

    Args:
        points: (T, N, 3), m. vertices: (T, V, 3), m, same frame. faces: (F, 3) int64, outward. rim: (V,) bool.
        reach: m.

    Returns:
        (T, N), m; `reach`, without gradient, for points that are not near the hand and in frames that are not finite.
    """
    if points.ndim != 3 or vertices.ndim != 3 or len(points) != len(vertices):
        raise InputError(
            f"points, vertices: expected (T, N, 3) and (T, V, 3), got {tuple(points.shape)} and {tuple(vertices.shape)}"
        )
    place, skin = (value.detach().cpu().numpy().astype(np.float64) for value in (points, vertices))
    nearest, normals = _nearest_vertices(place, skin, np.ascontiguousarray(faces), np.asarray(rim, bool), reach)
    index = torch.from_numpy(nearest).to(points.device)
    near = index >= 0
    places = vertices.gather(1, index.clamp(min=0)[..., None].expand(-1, -1, 3))
    along = ((points - places) * torch.from_numpy(normals).to(points)).sum(dim=-1)
    return torch.where(near, along, along.new_tensor(reach))


@njit(cache=True)
def _nearest_vertices(
    points: np.ndarray, vertices: np.ndarray, faces: np.ndarray, rim: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest vertex within reach (T, N), -1 where there is none, and its unit normal (T, N, 3)."""
    frames, count = points.shape[:2]
    nearest, normals = np.full((frames, count), -1), np.zeros((frames, count, 3))
    for t in range(frames):
        if not np.isfinite(vertices[t]).all():
            continue
        low, high = np.empty(3), np.empty(3)
        for k in range(3):
            low[k], high[k] = vertices[t, :, k].min(), vertices[t, :, k].max()
        # A diverging hand must not ask for more cells than there is memory.
        edge = max(reach, (high - low).max() / _MOST_CELLS)
        start, order, size = _fill_cells(vertices[t], low, high, edge)
        turned = _vertex_normals(vertices[t], faces)
        for i in range(count):
            point = points[t, i]
            if not (low[0] <= point[0] <= high[0] and low[1] <= point[1] <= high[1] and low[2] <= point[2] <= high[2]):
                continue
            best, found = reach * reach, -1
            x, y, z = _cell(point, low, size, edge)
            for a in range(max(x - 1, 0), min(x + 2, size[0])):
                for b in range(max(y - 1, 0), min(y + 2, size[1])):
                    row = (a * size[1] + b) * size[2]
                    for place in range(start[row + max(z - 1, 0)], start[row + min(z + 2, size[2])]):
                        v = order[place]
                        dx = point[0] - vertices[t, v, 0]
                        dy = point[1] - vertices[t, v, 1]
                        dz = point[2] - vertices[t, v, 2]
                        square = dx * dx + dy * dy + dz * dz
                        if square < best:
                            best, found = square, v
            if found >= 0 and not rim[found]:
                nearest[t, i] = found
                normals[t, i] = turned[found]
    return nearest, normals


@njit(cache=True, inline="always")
def _cell(point: np.ndarray, low: np.ndarray, size: tuple[int, int, int], edge: float) -> tuple[int, int, int]:
    return (
        min(int((point[0] - low[0]) / edge), size[0] - 1),
        min(int((point[1] - low[1]) / edge), size[1] - 1),
        min(int((point[2] - low[2]) / edge), size[2] - 1),
    )


@njit(cache=True)
def _fill_cells(
    vertices: np.ndarray, low: np.ndarray, high: np.ndarray, edge: float
) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int]]:
    """Vertices sorted by cells of that edge: start of each cell (C + 1,), ids (V,), cells per axis."""
    size = (
        int((high[0] - low[0]) / edge) + 1,
        int((high[1] - low[1]) / edge) + 1,
        int((high[2] - low[2]) / edge) + 1,
    )
    cell_of = np.empty(len(vertices), np.int64)
    start = np.zeros(size[0] * size[1] * size[2] + 1, np.int64)
    for v in range(len(vertices)):
        x, y, z = _cell(vertices[v], low, size, edge)
        cell_of[v] = (x * size[1] + y) * size[2] + z
        start[cell_of[v] + 1] += 1
    for c in range(len(start) - 1):
        start[c + 1] += start[c]
    place, order = start[:-1].copy(), np.empty(len(vertices), np.int64)
    for v in range(len(vertices)):
        order[place[cell_of[v]]] = v
        place[cell_of[v]] += 1
    return start, order, size


@njit(cache=True)
def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3), face normals weighted by area."""
    total = np.zeros(vertices.shape)
    for i in range(len(faces)):
        a, b, c = vertices[faces[i, 0]], vertices[faces[i, 1]], vertices[faces[i, 2]]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in range(3):
            total[faces[i, k], 0] += nx
            total[faces[i, k], 1] += ny
            total[faces[i, k], 2] += nz
    for v in range(len(total)):
        length = math.sqrt(total[v, 0] ** 2 + total[v, 1] ** 2 + total[v, 2] ** 2)
        if length > 0:
            total[v] /= length
    return total
