"""Integrals over the part of an image that a projected mesh covers, and their derivatives, exactly.

The outline of the covered part is found from the mesh's edges, not from pixels. Only an edge whose faces all lie on one
side of it in the image can be part of it; what other faces cover just outside of such an edge is cut away from it. A
grid of cells over the image names the faces that may. The integral is then one along the outline (Gauss), pixel by
pixel, and so is its derivative (Reynolds). The centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.face_cells import BESIDE, covered_spans, fill_cells
from grasp_nodes.geometry.mesh import is_watertight

_NEAR = 1e-3
"""m; faces that reach closer than this to the camera's plane cover nothing, as in `rasterise_mask`."""
_FARTHEST = 1e8
"""px; a mesh that reaches farther is one that diverged, and pixels are no longer told apart there."""


@dataclass(frozen=True)
class FaceEdges:
    """Edges of a mesh with the faces beside each, of any number; worked out once for a topology.

    faces: (F, 3). edges: (E, 2) vertex ids. edge_start: (E + 1,) into edge_faces and edge_turns (3 F,): the faces of
    each edge, and 1 where the face runs along it from its first to its second vertex, else -1.
    closed: every edge joins two faces that run along it in opposite directions.
    vertex_count: one more than the greatest vertex id.
    """

    faces: np.ndarray
    edges: np.ndarray
    edge_start: np.ndarray
    edge_faces: np.ndarray
    edge_turns: np.ndarray
    closed: bool
    vertex_count: int

    @classmethod
    def of(cls, faces: np.ndarray) -> FaceEdges:
        """Of the faces (F, 3) of a mesh."""
        if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces) or faces.min() < 0:
            raise InputError(f"faces: expected at least one triangle (F, 3) of vertex ids, got shape {faces.shape}")
        half = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)
        edges, inverse, counts = np.unique(np.sort(half, axis=1), axis=0, return_inverse=True, return_counts=True)
        order = np.argsort(inverse.reshape(-1), kind="stable")
        return cls(
            faces=np.ascontiguousarray(faces),
            edges=np.ascontiguousarray(edges),
            edge_start=np.concatenate([[0], counts.cumsum()]).astype(np.int64),
            edge_faces=order // 3,
            edge_turns=np.where(half[order, 0] < half[order, 1], 1, -1).astype(np.int8),
            closed=is_watertight(faces),
            vertex_count=int(faces.max()) + 1,
        )


def sums_along_rows(images: np.ndarray) -> np.ndarray:
    """(B, H, W + 1): sum of the pixels left of each, and of the whole row; made once for images that stay."""
    return np.concatenate([np.zeros((*images.shape[:2], 1)), images.cumsum(axis=2)], axis=2)


def integrate_covered(
    pixels: np.ndarray, depths: np.ndarray, edges: FaceEdges, images: np.ndarray, row_sums: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Integral of each image over the area that the mesh covers in it.

    Args:
        pixels: (B, V, 2), px. depths: (B, V), m, along the optical axis.
        edges: of the mesh. images: (B, H, W) float64, constant in each pixel. row_sums: theirs, `sums_along_rows`.

    Returns:
        integral (B,), px^2 times the image's unit, and its derivative (B, V, 2) by the pixels. NaN and 0 where a vertex
        that is needed is not finite or far beyond any image.
    """
    return _integrate(
        np.ascontiguousarray(pixels, np.float64),
        np.ascontiguousarray(depths, np.float64),
        edges.faces,
        edges.edges,
        edges.edge_start,
        edges.edge_faces,
        edges.edge_turns,
        edges.closed,
        images,
        row_sums,
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _integrate(
    pixels: np.ndarray,
    depths: np.ndarray,
    faces: np.ndarray,
    edges: np.ndarray,
    edge_start: np.ndarray,
    edge_faces: np.ndarray,
    edge_turns: np.ndarray,
    closed: bool,
    change: np.ndarray,
    until: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The compiled core of :func:`integrate_covered`; `change` are the images and `until` their sums."""
    total, gradient = np.zeros(len(pixels)), np.zeros(pixels.shape)
    facing, corners = np.empty(len(faces), np.int8), np.empty((len(faces), 3, 2))
    seen_by = np.empty(len(faces), np.int64)
    spans = np.empty((len(faces), 2))
    for k in range(len(pixels)):
        pixel = pixels[k]
        height, width = change[k].shape
        box, finite = _face_directions(pixel, depths[k], faces, closed, width, height, facing, corners)
        if not finite:
            total[k] = np.nan
            continue
        if box[0] >= box[2] or box[1] >= box[3]:
            continue
        cell_start, cell_faces, grid = fill_cells(corners, facing, box)
        seen_by[:] = -1
        for e in range(len(edges)):
            side = _side_of_faces(edge_start[e], edge_start[e + 1], edge_faces, edge_turns, facing)
            if side == 0:
                continue
            a, b = edges[e, 0], edges[e, 1]
            ax, ay = pixel[a, 0], pixel[a, 1]
            dx, dy = pixel[b, 0] - ax, pixel[b, 1] - ay
            length = math.sqrt(dx * dx + dy * dy)
            begin, end = _clip_to_box(ax, ay, dx, dy, box)
            if length == 0 or begin >= end:
                continue
            # Outward normal times the edge's length: a face that turns positively has its inside at (-dy, dx).
            nx, ny = side * dy, -side * dx
            for n in range(edge_start[e], edge_start[e + 1]):
                seen_by[edge_faces[n]] = e
            count = covered_spans(
                ax + BESIDE * nx / length,
                ay + BESIDE * ny / length,
                dx,
                dy,
                begin,
                end,
                corners,
                cell_start,
                cell_faces,
                grid,
                e,
                seen_by,
                spans,
            )
            position = begin
            for n in range(count + 1):
                stop = end if n == count else min(spans[n, 0], end)
                if stop > position:
                    value, first, second = _along(ax, ay, dx, dy, position, stop, change[k], until[k])
                    total[k] += nx * value
                    gradient[k, a, 0] += nx * first
                    gradient[k, a, 1] += ny * first
                    gradient[k, b, 0] += nx * second
                    gradient[k, b, 1] += ny * second
                if n < count:
                    position = max(position, spans[n, 1])
        if box[2] == width - 0.5:
            # The covered part of the image's right border closes the outline.
            bx, by, dy = box[2], box[1], box[3] - box[1]
            count = covered_spans(
                bx - BESIDE,
                by,
                0.0,
                dy,
                0.0,
                1.0,
                corners,
                cell_start,
                cell_faces,
                grid,
                len(edges),
                seen_by,
                spans,
            )
            position = 0.0
            for n in range(count):
                position = max(position, spans[n, 0])
                if spans[n, 1] > position:
                    value, _, _ = _along(bx, by, 0.0, dy, position, spans[n, 1], change[k], until[k])
                    total[k] += dy * value
                    position = spans[n, 1]
    return total, gradient


@njit(cache=True, inline="always", error_model="numpy")
def _side_of_faces(start: int, stop: int, edge_faces: np.ndarray, edge_turns: np.ndarray, facing: np.ndarray) -> int:
    """On which side of an edge its faces lie in the image: 1 or -1; 0 for none, and for faces on both."""
    side = 0
    for n in range(start, stop):
        here = facing[edge_faces[n]] * edge_turns[n]
        if here * side < 0:
            return 0
        if here != 0:
            side = here
    return side


@njit(cache=True, error_model="numpy")
def _face_directions(
    pixel: np.ndarray,
    depth: np.ndarray,
    faces: np.ndarray,
    closed: bool,
    width: int,
    height: int,
    facing: np.ndarray,
    corners: np.ndarray,
) -> tuple[tuple[float, float, float, float], bool]:
    """Sense of rotation of each face in the image, 0 for one that is not needed, and its corners in positive order.

    The far side of a closed mesh covers nothing more than its near side.

    Returns:
        the part of the image that the faces may cover, and whether all are finite and within `_FARTHEST`.
    """
    complete = closed
    for v in range(len(depth)):
        if math.isnan(depth[v]):
            return (0.0, 0.0, 0.0, 0.0), False
        if depth[v] < _NEAR:
            complete = False
    left, top, right, bottom = np.inf, np.inf, -np.inf, -np.inf
    for i in range(len(faces)):
        a, b, c = faces[i, 0], faces[i, 1], faces[i, 2]
        facing[i] = 0
        if depth[a] < _NEAR or depth[b] < _NEAR or depth[c] < _NEAR:
            continue
        ax, ay, bx, by = pixel[a, 0], pixel[a, 1], pixel[b, 0], pixel[b, 1]
        cx, cy = pixel[c, 0], pixel[c, 1]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if not math.isfinite(area):
            return (0.0, 0.0, 0.0, 0.0), False
        if area == 0 or (complete and area > 0):
            continue
        if area > 0:
            facing[i] = 1
        else:
            facing[i] = -1
            bx, by, cx, cy = cx, cy, bx, by
        corners[i, 0, 0], corners[i, 0, 1] = ax, ay
        corners[i, 1, 0], corners[i, 1, 1] = bx, by
        corners[i, 2, 0], corners[i, 2, 1] = cx, cy
        left, right = min(left, ax, bx, cx), max(right, ax, bx, cx)
        top, bottom = min(top, ay, by, cy), max(bottom, ay, by, cy)
    if max(-left, -top, right, bottom) > _FARTHEST:
        return (0.0, 0.0, 0.0, 0.0), False
    return (max(left, -0.5), max(top, -0.5), min(right, width - 0.5), min(bottom, height - 0.5)), True


@njit(cache=True, error_model="numpy")
def _clip_to_box(
    ax: float, ay: float, dx: float, dy: float, box: tuple[float, float, float, float]
) -> tuple[float, float]:
    """Range of t in [0, 1] where a + t d lies in the box; empty (begin >= end) where it does not."""
    begin, end = 0.0, 1.0
    for start, step, low, high in ((ax, dx, box[0], box[2]), (ay, dy, box[1], box[3])):
        if step == 0:
            if start < low or start > high:
                return 1.0, 0.0
            continue
        first, second = (low - start) / step, (high - start) / step
        begin, end = max(begin, min(first, second)), min(end, max(first, second))
    return begin, end


@njit(cache=True, error_model="numpy")
def _along(
    ax: float, ay: float, dx: float, dy: float, begin: float, end: float, change: np.ndarray, until: np.ndarray
) -> tuple[float, float, float]:
    """Integrals over t of a + t d in [begin, end], pixel by pixel.

    Returns:
        of the sum of `change` from the image's left border to the point (what Gauss' theorem takes), and of `change`
        times 1 - t and times t: the shares of the two vertices in the motion of the point.
    """
    height, width = change.shape
    value, first, second = 0.0, 0.0, 0.0
    per_x, per_y = (1 / dx if dx != 0 else 0.0), (1 / dy if dy != 0 else 0.0)
    x, y = ax + begin * dx + 0.5, ay + begin * dy + 0.5
    # The next borders of pixels along the way; rounding at the start is mended by the max below.
    border_x = math.floor(x) + 1.0 if dx > 0 else math.ceil(x) - 1.0
    border_y = math.floor(y) + 1.0 if dy > 0 else math.ceil(y) - 1.0
    step_x, step_y = (1.0 if dx > 0 else -1.0), (1.0 if dy > 0 else -1.0)
    t = begin
    while t < end:
        to_x = (border_x - 0.5 - ax) * per_x if dx != 0 else np.inf
        to_y = (border_y - 0.5 - ay) * per_y if dy != 0 else np.inf
        stop = max(t, min(to_x, to_y, end))
        if to_x <= to_y:
            border_x += step_x
        else:
            border_y += step_y
        middle, share = 0.5 * (t + stop), stop - t
        x, y = ax + middle * dx + 0.5, ay + middle * dy + 0.5
        column, row = min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)
        here = change[row, column]
        value += share * (until[row, column] + here * (x - column))
        first += share * here * (1 - middle)
        second += share * here * middle
        t = stop
    return value, first, second
