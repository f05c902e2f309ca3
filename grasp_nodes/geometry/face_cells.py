"""Which faces of a projected mesh cover a line in the image: a grid of cells names those that may.

The centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

BESIDE = 1e-11
"""px; how far outside of an edge is looked whether another face covers it."""
_FACES_PER_CELL = 1


@njit(cache=True, error_model="numpy")
def fill_cells(
    corners: np.ndarray, facing: np.ndarray, box: tuple[float, float, float, float]
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float, int, int]]:
    """Lists of the faces whose boxes touch each cell of a grid over the box.

    Args:
        corners: (F, 3, 2), px, of the faces, turning positively. facing: (F,), 0 for faces that do not count.
        box: left, top, right, bottom, px.

    Returns:
        start (C + 1,) into the list of faces, that list, and the grid: its corner, cells per px, columns, rows.
    """
    used = 0
    for i in range(len(facing)):
        used += facing[i] != 0
    width, height = box[2] - box[0], box[3] - box[1]
    cell = max(math.sqrt(width * height * _FACES_PER_CELL / max(used, 1)), 1e-3 * max(width, height))
    per_pixel = 1 / cell
    columns, rows = int(width * per_pixel) + 1, int(height * per_pixel) + 1
    grid = (box[0], box[1], per_pixel, columns, rows)
    start = np.zeros(columns * rows + 1, np.int64)
    reach = np.empty((len(facing), 4), np.int32)
    for i in range(len(facing)):
        if facing[i] == 0:
            continue
        (ax, ay), (bx, by), (cx, cy) = corners[i, 0], corners[i, 1], corners[i, 2]
        x0, x1 = min(ax, bx, cx) - BESIDE, max(ax, bx, cx) + BESIDE
        y0, y1 = min(ay, by, cy) - BESIDE, max(ay, by, cy) + BESIDE
        if x1 < box[0] or x0 > box[2] or y1 < box[1] or y0 > box[3]:
            reach[i, 0], reach[i, 1], reach[i, 2], reach[i, 3] = 0, -1, 0, -1
            continue
        reach[i, 0], reach[i, 1] = _cell(x0, box[0], per_pixel, columns), _cell(x1, box[0], per_pixel, columns)
        reach[i, 2], reach[i, 3] = _cell(y0, box[1], per_pixel, rows), _cell(y1, box[1], per_pixel, rows)
        for row in range(reach[i, 2], reach[i, 3] + 1):
            for column in range(reach[i, 0], reach[i, 1] + 1):
                start[row * columns + column + 1] += 1
    for cell_id in range(columns * rows):
        start[cell_id + 1] += start[cell_id]
    place = start[:-1].copy()
    listed = np.empty(start[-1], np.int32)
    for i in range(len(facing)):
        if facing[i] == 0:
            continue
        for row in range(reach[i, 2], reach[i, 3] + 1):
            for column in range(reach[i, 0], reach[i, 1] + 1):
                listed[place[row * columns + column]] = i
                place[row * columns + column] += 1
    return start, listed, grid


@njit(cache=True, inline="always", error_model="numpy")
def _cell(x: float, origin: float, per_pixel: float, count: int) -> int:
    return int(min(max((x - origin) * per_pixel, 0.0), count - 1.0))


@njit(cache=True, error_model="numpy")
def covered_spans(
    ax: float,
    ay: float,
    dx: float,
    dy: float,
    begin: float,
    end: float,
    corners: np.ndarray,
    cell_start: np.ndarray,
    cell_faces: np.ndarray,
    grid: tuple[float, float, float, int, int],
    mark: int,
    seen_by: np.ndarray,
    spans: np.ndarray,
) -> int:
    """Ranges of t within [begin, end] where a + t d lies in a face that is not marked yet, sorted by their beginnings.

    Args:
        corners, cell_start, cell_faces, grid: of `fill_cells`. seen_by: (F,) marks, set to `mark` where looked at.
        spans: (F, 2), is filled.

    Returns:
        How many; they are in the first rows of `spans`.
    """
    left, top, per_pixel, columns, rows = grid
    count = 0
    free_begin, free_end = begin, end
    x0, y0, x1, y1 = ax + begin * dx, ay + begin * dy, ax + end * dx, ay + end * dy
    row0, row1 = _cell(min(y0, y1), top, per_pixel, rows), _cell(max(y0, y1), top, per_pixel, rows)
    for row in range(row0, row1 + 1):
        # The part of the segment in this row of cells; a little more does no harm.
        t0, t1 = begin, end
        if dy != 0 and row1 > row0:
            first = (top + row / per_pixel - ay) / dy
            second = (top + (row + 1) / per_pixel - ay) / dy
            t0, t1 = max(begin, min(first, second)), min(end, max(first, second))
        from_x, to_x = ax + t0 * dx, ax + t1 * dx
        column0 = _cell(min(from_x, to_x) - 1e-6, left, per_pixel, columns)
        column1 = _cell(max(from_x, to_x) + 1e-6, left, per_pixel, columns)
        for place in range(cell_start[row * columns + column0], cell_start[row * columns + column1 + 1]):
            i = cell_faces[place]
            if seen_by[i] == mark:
                continue
            seen_by[i] = mark
            low, high = begin, end
            for k in range(3):
                px, py = corners[i, k, 0], corners[i, k, 1]
                ex, ey = corners[i, 0 if k == 2 else k + 1, 0] - px, corners[i, 0 if k == 2 else k + 1, 1] - py
                # Twice the areas of the triangles that the edge makes with both ends: negative outside.
                at_begin, at_end = ex * (y0 - py) - ey * (x0 - px), ex * (y1 - py) - ey * (x1 - px)
                if at_begin < 0:
                    if at_end <= 0:
                        high = low
                        break
                    low = max(low, begin + (end - begin) * at_begin / (at_begin - at_end))
                elif at_end < 0:
                    high = min(high, begin + (end - begin) * at_begin / (at_begin - at_end))
            if low <= free_begin:
                free_begin = max(free_begin, high)
            if high >= free_end:
                free_end = min(free_end, low)
            if free_begin >= free_end:
                # Most candidates lie inside of the outline: this is known after a few faces.
                spans[0, 0], spans[0, 1] = begin, end
                return 1
            if high > low:
                place_in = count
                while place_in > 0 and spans[place_in - 1, 0] > low:
                    spans[place_in, 0], spans[place_in, 1] = spans[place_in - 1, 0], spans[place_in - 1, 1]
                    place_in -= 1
                spans[place_in, 0], spans[place_in, 1] = low, high
                count += 1
    return count
