"""Winding numbers of a closed mesh at the nodes of a grid: which nodes are inside, also where the mesh is untidy.

A ray from each node along the last axis counts the faces that it crosses, each with the sign of its orientation. A
mesh that intersects itself or has folds, as scanned meshes do, still gives the right inside: 1 or more.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numba import njit

Tree: TypeAlias = "tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]"
"""Boxes over the faces of a mesh, as `mesh_distance` builds them: order of the faces, low and high corners of the
boxes, first child or face, and number of faces."""
_STACK = 64


def winding_number_grid(
    vertices: np.ndarray, faces: np.ndarray, origin: np.ndarray, spacing: float, size: tuple[int, int, int]
) -> np.ndarray:
    """How often the mesh surrounds each node; 0 = outside.

    Args:
        vertices: (V, 3), m. faces: (F, 3) int, closed, outward.
        origin: (3,), m, node (0, 0, 0). spacing: m. size: nodes along each axis.

    Returns:
        `size` int32.
    """
    corner = (np.asarray(vertices, np.float64) - np.asarray(origin, np.float64))[faces] / spacing
    crossings = np.zeros((size[0], size[1], size[2] + 1), np.int32)
    _count_crossings(np.ascontiguousarray(corner), crossings)
    # Node k lies below the crossings recorded at k + 1 and beyond.
    return crossings[:, :, ::-1].cumsum(axis=2, dtype=np.int32)[:, :, ::-1][:, :, 1:]


def winding_numbers(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How often a closed mesh surrounds each of some points anywhere; for many points take the grid.

    Args:
        vertices: (V, 3), m. faces: (F, 3) int, closed, outward. points: (N, 3), m, off the surface.

    Returns:
        (N,) int64.
    """
    corner = np.ascontiguousarray(np.asarray(vertices, np.float64)[faces])
    return _winding_above(corner, np.ascontiguousarray(points, np.float64))


@njit(cache=True)
def _winding_above(corner: np.ndarray, points: np.ndarray) -> np.ndarray:
    result = np.zeros(len(points), np.int64)
    for i in range(len(corner)):
        a, b, c = corner[i, 0], corner[i, 1], corner[i, 2]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if area == 0.0:
            continue
        ahead = area > 0
        low_x, high_x = min(a[0], b[0], c[0]), max(a[0], b[0], c[0])
        low_y, high_y, high_z = min(a[1], b[1], c[1]), max(a[1], b[1], c[1]), max(a[2], b[2], c[2])
        for j in range(len(points)):
            x, y, z = points[j, 0], points[j, 1], points[j, 2]
            if x < low_x or x > high_x or y < low_y or y > high_y or z > high_z:
                continue
            if (
                left_of_edge(a[0], a[1], b[0], b[1], x, y) != ahead
                or left_of_edge(b[0], b[1], c[0], c[1], x, y) != ahead
                or left_of_edge(c[0], c[1], a[0], a[1], x, y) != ahead
            ):
                continue
            v = ((x - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (y - a[1])) / area
            w = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / area
            if a[2] + v * (b[2] - a[2]) + w * (c[2] - a[2]) > z:
                result[j] += 1 if ahead else -1
    return result


@njit(cache=True, nogil=True)
def winding_at(
    points: np.ndarray,
    corner: np.ndarray,
    order: np.ndarray,
    node_low: np.ndarray,
    node_high: np.ndarray,
    node_first: np.ndarray,
    node_count: np.ndarray,
) -> np.ndarray:
    """`winding_numbers` by a `Tree` over the faces: (N,) int64 of points (N, 3) float64, m; corner: (F, 3, 3) m.

    Which side of a face a point is on is asked without a division, so that faces nearly along the ray are no trouble.
    """
    result, stack = np.zeros(len(points), np.int64), np.empty(_STACK, np.int64)
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        stack[0] = 0
        top = 1
        while top:
            top -= 1
            node = stack[top]
            low, high = node_low[node], node_high[node]
            if not (low[0] <= x <= high[0] and low[1] <= y <= high[1] and z <= high[2]):  # NaN is nowhere
                continue
            if node_count[node] == 0:
                stack[top], stack[top + 1] = node_first[node], node + 1
                top += 2
                continue
            for k in range(node_first[node], node_first[node] + node_count[node]):
                result[i] += _crossing_above(corner[order[k]], x, y, z)
    return result


@njit(cache=True)
def _crossing_above(tri: np.ndarray, x: float, y: float, z: float) -> int:
    """1 where the ray upwards leaves through a face (3, 3), -1 where it enters, 0 where it passes by."""
    a, b, c = tri[0], tri[1], tri[2]
    ahead = left_of_edge(a[0], a[1], b[0], b[1], x, y)
    if (
        left_of_edge(b[0], b[1], c[0], c[1], x, y) != ahead
        or left_of_edge(c[0], c[1], a[0], a[1], x, y) != ahead
        or (b[0] - a[0]) * (c[1] - a[1]) == (c[0] - a[0]) * (b[1] - a[1])
        or z > max(a[2], b[2], c[2])
    ):
        return 0
    if z >= min(a[2], b[2], c[2]):
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        below = (uy * vz - uz * vy) * (a[0] - x) + (uz * vx - ux * vz) * (a[1] - y) + (ux * vy - uy * vx) * (a[2] - z)
        if (below > 0.0) != ahead:
            return 0
    return 1 if ahead else -1


@njit(cache=True, inline="always")
def left_of_edge(ax: float, ay: float, bx: float, by: float, px: float, py: float) -> bool:
    """Whether p is left of the line a to b. Both triangles of an edge compute it from the same end, and so agree."""
    if ax < bx or (ax == bx and ay < by):
        return (bx - ax) * (py - ay) - (by - ay) * (px - ax) > 0.0
    return not (ax - bx) * (py - by) - (ay - by) * (px - bx) > 0.0


@njit(cache=True)
def _count_crossings(corner: np.ndarray, crossings: np.ndarray) -> None:
    width, height, depth = crossings.shape[0], crossings.shape[1], crossings.shape[2] - 1
    for i in range(len(corner)):
        a, b, c = corner[i, 0], corner[i, 1], corner[i, 2]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if area == 0.0:
            continue
        low_x = max(0, math.ceil(min(a[0], b[0], c[0])))
        high_x = min(width - 1, math.floor(max(a[0], b[0], c[0])))
        low_y = max(0, math.ceil(min(a[1], b[1], c[1])))
        high_y = min(height - 1, math.floor(max(a[1], b[1], c[1])))
        for x in range(low_x, high_x + 1):
            for y in range(low_y, high_y + 1):
                first = left_of_edge(a[0], a[1], b[0], b[1], x, y)
                if (
                    left_of_edge(b[0], b[1], c[0], c[1], x, y) != first
                    or left_of_edge(c[0], c[1], a[0], a[1], x, y) != first
                ):
                    continue
                v = ((x - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (y - a[1])) / area
                w = ((b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1])) / area
                z = a[2] + v * (b[2] - a[2]) + w * (c[2] - a[2])
                above = min(max(math.ceil(z), 0), depth)
                crossings[x, y, above] += 1 if first else -1
