"""An object and a hand as Bullet 3 takes them: convex hulls, and triangles in the order of its tree.

Written after Bullet's documented behaviour and its source, which has the zlib licence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.spatial import ConvexHull

from grasp_nodes.evaluation.simulation.convex_parts import ConvexPart
from grasp_nodes.evaluation.simulation.protocol import BULLET_GAP

MARGIN = 0.5 * BULLET_GAP
"""m, around each body."""
INERTIA_MARGIN, SIZE_MARGIN = 3 * MARGIN, 2 * MARGIN
"""What Bullet adds on each side of a compound's box, of which it takes the inertia, and the breaking threshold."""
_BREAKING = 0.02
"""Of the object's size: how far two points may part before their contact is dropped."""
_STEPS = 65533.0
_TREE_MARGIN = 1.0
_THINNEST = 2 * MARGIN
"""m: boxes in the tree are at least that thick."""


class Hulls(NamedTuple):
    """The object, P hulls one after the other.

    vertices: (V, 3), edges: (E, 4), and planes, a block of (4, F) per hull, flat, are as of `shallowest_exit`. first_*:
    (P + 1,), where each hull's begin. center, radius: of a sphere around each hull; middle, half: of its box.
    threshold: m, at which contacts break.
    """

    vertices: np.ndarray
    planes: np.ndarray
    edges: np.ndarray
    first_vertex: np.ndarray
    first_plane: np.ndarray
    first_edge: np.ndarray
    center: np.ndarray
    radius: np.ndarray
    middle: np.ndarray
    half: np.ndarray
    threshold: float


class Triangles(NamedTuple):
    """The hand, T triangles in the order in which Bullet visits them: corners (T, 3, 3), centres, radii, boxes; m."""

    corners: np.ndarray
    center: np.ndarray
    radius: np.ndarray
    low: np.ndarray
    high: np.ndarray


def hulls_of(parts: Sequence[ConvexPart], center_of_mass: np.ndarray) -> Hulls:
    """The hulls of convex parts, and the breaking threshold of their compound about its centre of mass, (3,) m."""
    vertices, planes, edges, center, radius, middle, half = [], [], [], [], [], [], []
    first_vertex, first_plane, first_edge = [0], [0], [0]
    for part in parts:
        hull = ConvexHull(part.vertices)
        _, one, owner = np.unique(np.round(hull.equations, 6), axis=0, return_index=True, return_inverse=True)
        equations = hull.equations[one]
        planes.append(np.column_stack([equations[:, :3], -equations[:, 3]]).T)
        edges.append(_edges(hull.simplices, owner.ravel()))
        vertices.append(part.vertices)
        low, high = part.vertices.min(axis=0), part.vertices.max(axis=0)
        middle.append((low + high) / 2)
        half.append((high - low) / 2)
        center.append(part.vertices.mean(axis=0))
        radius.append(np.linalg.norm(part.vertices - center[-1], axis=1).max())
        first_vertex.append(first_vertex[-1] + len(part.vertices))
        first_plane.append(first_plane[-1] + len(equations))
        first_edge.append(first_edge[-1] + len(edges[-1]))
    low, high = box_of(parts, SIZE_MARGIN)
    reach = np.linalg.norm(high - low) / 2 + np.linalg.norm((low + high) / 2 - center_of_mass)
    return Hulls(
        np.ascontiguousarray(np.concatenate(vertices), np.float64),
        np.concatenate([block.ravel() for block in planes]),
        np.ascontiguousarray(np.concatenate(edges), np.int64),
        np.array(first_vertex),
        np.array(first_plane),
        np.array(first_edge),
        np.array(center),
        np.array(radius),
        np.array(middle),
        np.array(half),
        _BREAKING * float(reach),
    )


def box_of(parts: Sequence[ConvexPart], margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Two corners, (3,) m, of the box around the parts with a margin, m."""
    vertices = np.concatenate([part.vertices for part in parts])
    return vertices.min(axis=0) - margin, vertices.max(axis=0) + margin


def _edges(simplices: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """(E, 4) corners and faces of the edges between two faces that are not in one plane."""
    sides = np.sort(simplices[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    order = np.lexsort((sides[:, 1], sides[:, 0]))
    sides, faces = sides[order].reshape(-1, 2, 2)[:, 0], np.repeat(owner, 3)[order].reshape(-1, 2)
    between = faces[:, 0] != faces[:, 1]
    return np.column_stack([sides[between], faces[between]])


@njit(cache=True, error_model="numpy")
def triangles_of(corners: np.ndarray) -> Triangles:
    """A hand's triangles (T, 3, 3) float64, m, in Bullet's order."""
    count, order = len(corners), tree_order(corners)
    ordered, radius = np.empty((count, 3, 3)), np.zeros(count)
    center, low, high = np.empty((count, 3)), np.empty((count, 3)), np.empty((count, 3))
    for t in range(count):
        ordered[t] = corners[order[t]]
        for k in range(3):
            center[t, k] = (ordered[t, 0, k] + ordered[t, 1, k] + ordered[t, 2, k]) / 3
            low[t, k] = min(ordered[t, 0, k], ordered[t, 1, k], ordered[t, 2, k])
            high[t, k] = max(ordered[t, 0, k], ordered[t, 1, k], ordered[t, 2, k])
        for c in range(3):
            square = 0.0
            for k in range(3):
                square += (ordered[t, c, k] - center[t, k]) ** 2
            radius[t] = max(radius[t], np.sqrt(square))
    return Triangles(ordered, center, radius, low, high)


@njit(cache=True, error_model="numpy")
def tree_order(corners: np.ndarray) -> np.ndarray:
    """The order of the leaves of Bullet's quantised tree over triangles (T, 3, 3), m.

    A node is split at the mean of its boxes' middles along the axis in which they vary most, the greater ones first, or
    in half where that would leave a third or less on one side.
    """
    count = len(corners)
    middle = np.empty((count, 3))
    for k in range(3):
        low, high = corners[:, :, k].min(), corners[:, :, k].max()
        low, high = low - _TREE_MARGIN - _TREE_MARGIN, high + _TREE_MARGIN  # twice: rounding decides below
        scale = _STEPS / (high - low)
        top = (int((high - low) * scale + 1.0) | 1) & 0xFFFF
        scale = _STEPS / (max(high, top / scale + low + _TREE_MARGIN) - low)
        for t in range(count):
            near = min(corners[t, 0, k], corners[t, 1, k], corners[t, 2, k])
            far = max(corners[t, 0, k], corners[t, 1, k], corners[t, 2, k])
            if far - near < _THINNEST:
                near, far = near - 0.5 * _THINNEST, far + 0.5 * _THINNEST
            near, far = int((near - low) * scale) & 0xFFFE, int((far - low) * scale + 1.0) | 1
            middle[t, k] = 0.5 * ((near / scale + low) + (far / scale + low))
    order = np.arange(count)
    waiting = np.empty((count + 2, 2), np.int64)
    waiting[0, 0], waiting[0, 1], top = 0, count, 1
    while top > 0:
        top -= 1
        begin, end = waiting[top, 0], waiting[top, 1]
        size = end - begin
        if size < 2:
            continue
        widest, axis, at = -1.0, 0, 0.0
        for k in range(3):
            mean = spread = 0.0
            for i in range(begin, end):
                mean += middle[order[i], k]
            mean /= size
            for i in range(begin, end):
                spread += (middle[order[i], k] - mean) ** 2
            if spread > widest:
                widest, axis, at = spread, k, mean
        split = begin
        for i in range(begin, end):
            if middle[order[i], axis] > at:
                order[i], order[split] = order[split], order[i]
                split += 1
        if split <= begin + size // 3 or split >= end - 1 - size // 3:
            split = begin + size // 2
        waiting[top, 0], waiting[top, 1] = split, end
        waiting[top + 1, 0], waiting[top + 1, 1] = begin, split
        top += 2
    return order
