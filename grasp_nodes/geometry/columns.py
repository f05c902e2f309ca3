"""Where a bundle of parallel lines crosses closed meshes, and the volumes that follow from it.

The lines run along the third axis through the nodes of a square grid in the first two. Each crossing carries the sign
of the face's orientation, so that the running sum along a line is the winding number: a mesh that intersects itself,
as posed hands do, still has the right inside (1 or more).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from grasp_nodes.geometry.winding import left_of_edge


class Columns(NamedTuple):
    """Crossings of one mesh, column after column.

    start: (W * H + 1,) int64: column (x, y) owns the crossings ``start[x * H + y]`` up to the next one's start.
    height: (N,) float64, m, ascending within a column. step: (N,) int8: +1 on the way in, -1 on the way out.
    """

    start: np.ndarray
    height: np.ndarray
    step: np.ndarray


def mesh_columns(
    vertices: np.ndarray, faces: np.ndarray, origin: np.ndarray, spacing: float, size: tuple[int, int]
) -> Columns:
    """Crossings of a closed mesh with the columns of a grid.

    Args:
        vertices: (V, 3) float64, m. faces: (F, 3) int, closed, outward.
        origin: (2,), m, of column (0, 0). spacing: m, between columns. size: number of columns along both axes.
    """
    column, height, step = _cross(
        np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(faces, np.int64), origin, spacing, *size
    )
    return Columns(*_sort_columns(column, height, step, size[0] * size[1]))


@njit(cache=True)
def _cross(
    vertices: np.ndarray, faces: np.ndarray, origin: np.ndarray, spacing: float, width: int, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column, height and step of every crossing, face after face."""
    room = 4 * (width * height + len(faces))
    column, level, step = np.empty(room, np.int64), np.empty(room), np.empty(room, np.int8)
    count = 0
    planar = np.empty((len(vertices), 2))
    for i in range(len(vertices)):
        planar[i, 0] = (vertices[i, 0] - origin[0]) / spacing
        planar[i, 1] = (vertices[i, 1] - origin[1]) / spacing
    for i in range(len(faces)):
        a, b, c = faces[i, 0], faces[i, 1], faces[i, 2]
        ax, bx, cx = planar[a, 0], planar[b, 0], planar[c, 0]
        low_x, high_x = max(0, math.ceil(min(ax, bx, cx))), min(width - 1, math.floor(max(ax, bx, cx)))
        if low_x > high_x:
            continue
        ay, by, cy = planar[a, 1], planar[b, 1], planar[c, 1]
        low_y, high_y = max(0, math.ceil(min(ay, by, cy))), min(height - 1, math.floor(max(ay, by, cy)))
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if low_y > high_y or area == 0.0:
            continue
        ahead = area > 0
        az, bz, cz = vertices[a, 2], vertices[b, 2], vertices[c, 2]
        needed = count + (high_x - low_x + 1) * (high_y - low_y + 1)
        if needed > len(level):
            room = 2 * needed
            column = np.concatenate((column[:count], np.empty(room - count, np.int64)))
            level = np.concatenate((level[:count], np.empty(room - count)))
            step = np.concatenate((step[:count], np.empty(room - count, np.int8)))
        for x in range(low_x, high_x + 1):
            for y in range(low_y, high_y + 1):
                if (
                    left_of_edge(ax, ay, bx, by, x, y) != ahead
                    or left_of_edge(bx, by, cx, cy, x, y) != ahead
                    or left_of_edge(cx, cy, ax, ay, x, y) != ahead
                ):
                    continue
                v = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
                w = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
                column[count] = x * height + y
                level[count] = az + v * (bz - az) + w * (cz - az)
                # A face that looks up (ahead) is where a line from below leaves the solid.
                step[count] = -1 if ahead else 1
                count += 1
    return column[:count], level[:count], step[:count]


@njit(cache=True)
def _sort_columns(
    column: np.ndarray, level: np.ndarray, step: np.ndarray, columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    start = np.zeros(columns + 1, np.int64)
    for i in range(len(column)):
        start[column[i] + 1] += 1
    for i in range(columns):
        start[i + 1] += start[i]
    fill = start[:-1].copy()
    height, steps = np.empty(len(level)), np.empty(len(level), np.int8)
    for i in range(len(column)):
        # Insertion keeps each column sorted; columns are short.
        k = fill[column[i]]
        fill[column[i]] += 1
        while k > start[column[i]] and height[k - 1] > level[i]:
            height[k], steps[k] = height[k - 1], steps[k - 1]
            k -= 1
        height[k], steps[k] = level[i], step[i]
    return start, height, steps


def common_lengths(first: Columns, second: Columns) -> np.ndarray:
    """(W * H,) m: on each column, the length that lies inside both meshes."""
    return _common(first.start, first.height, first.step, second.start, second.height, second.step)


@njit(cache=True)
def _common(
    start_a: np.ndarray,
    height_a: np.ndarray,
    step_a: np.ndarray,
    start_b: np.ndarray,
    height_b: np.ndarray,
    step_b: np.ndarray,
) -> np.ndarray:
    length = np.zeros(len(start_a) - 1)
    for column in range(len(length)):
        i, end_i = start_a[column], start_a[column + 1]
        j, end_j = start_b[column], start_b[column + 1]
        inside_a, inside_b, last = 0, 0, 0.0
        while i < end_i and j < end_j:
            level = min(height_a[i], height_b[j])
            if inside_a > 0 and inside_b > 0:
                length[column] += level - last
            last = level
            if height_a[i] <= height_b[j]:
                inside_a += step_a[i]
                i += 1
            else:
                inside_b += step_b[j]
                j += 1
        # One mesh has no crossing left: it is left for good, unless only the other one still has to end.
        while i < end_i and inside_b > 0:
            if inside_a > 0:
                length[column] += height_a[i] - last
            last = height_a[i]
            inside_a += step_a[i]
            i += 1
        while j < end_j and inside_a > 0:
            if inside_b > 0:
                length[column] += height_b[j] - last
            last = height_b[j]
            inside_b += step_b[j]
            j += 1
    return length


def wound_lengths(columns: Columns, least: int) -> np.ndarray:
    """(W * H,) m: on each column, the length with a winding number of `least` or more (2: inside itself twice)."""
    return _wound(columns.start, columns.height, columns.step, least)


@njit(cache=True)
def _wound(start: np.ndarray, height: np.ndarray, step: np.ndarray, least: int) -> np.ndarray:
    length = np.zeros(len(start) - 1)
    for column in range(len(length)):
        inside = 0
        for i in range(start[column], start[column + 1]):
            if inside >= least:
                length[column] += height[i] - height[i - 1]
            inside += step[i]
    return length


@njit(cache=True)
def bounds(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest coordinates (3,) of (V, 3) points; numpy's own reduction of narrow rows is slow."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for i in range(len(vertices)):
        for k in range(3):
            low[k], high[k] = min(low[k], vertices[i, k]), max(high[k], vertices[i, k])
    return low, high
