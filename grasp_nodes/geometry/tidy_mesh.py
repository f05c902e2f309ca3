"""Whether a closed mesh bounds a solid without meeting itself, so that the normals beside a point tell its side.

Scans fold over and run through themselves, and models are put together of solids that overlap, touch or lie in each
other. The check errs to one side only: a mesh that it calls tidy is one.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numba import njit

from grasp_nodes.geometry.mesh import MeshEdges
from grasp_nodes.geometry.winding import Tree, winding_at

NEAR = 1e-9
"""Of the mesh's longest side: faces nearer to each other than this touch."""
_ANGLE = 1e-6
"""rad; faces that share a corner and are nearer to each other than this touch."""
_FOLD = 1e-3
"""rad; two faces of an edge at a smaller angle lie on each other."""
_STACK = 64

Vector: TypeAlias = "tuple[float, float, float]"


def is_tidy(corner: np.ndarray, faces: np.ndarray, edges: MeshEdges, tree: Tree) -> bool:
    """Whether no face of a closed mesh meets another but where they share an edge or a corner, and none is inside.

    Not tidy are, too: edges with more than two faces, corners in which two surfaces meet, faces without area, folds
    that are closed flat, and a solid within a solid (a hollow, which looks the other way, is tidy).

    Args:
        corner: (F, 3, 3) float64, m. faces: (F, 3) int64, closed, outward. edges: of `faces`. tree: over the faces.
    """
    if (edges.counts != 2).any():
        return False
    low, high = corner.min(axis=(0, 1)), corner.max(axis=(0, 1))
    near = NEAR * float((high - low).max())
    surface, pinched = _surfaces(faces, int(faces.max()) + 1, edges.vertices, edges.faces)
    if pinched or _meets_itself(corner, faces, *tree, near):
        return False
    # Each surface as a whole is outside of the others, or is the wall of a hollow: one face of it knows.
    _, index = np.unique(surface, return_index=True)
    normal = np.cross(corner[index, 1] - corner[index, 0], corner[index, 2] - corner[index, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    above = corner[index].mean(axis=1) + 0.5 * near * normal
    return not winding_at(above, corner, *tree).any()


@njit(cache=True)
def _root(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _surfaces(
    faces: np.ndarray, num_vertices: int, edge_vertices: np.ndarray, edge_faces: np.ndarray
) -> tuple[np.ndarray, bool]:
    """(F,) the surface that each face belongs to, and whether a corner has faces that no edges there connect."""
    count = len(faces)
    surface, fan = np.arange(count), np.arange(3 * count)
    for edge in range(len(edge_faces)):
        first, second = edge_faces[edge, 0], edge_faces[edge, 1]
        surface[_root(surface, first)] = _root(surface, second)
        for side in range(2):
            vertex, a, b = edge_vertices[edge, side], 3 * first, 3 * second
            for k in range(3):
                if faces[first, k] == vertex:
                    a = 3 * first + k
                if faces[second, k] == vertex:
                    b = 3 * second + k
            fan[_root(fan, a)] = _root(fan, b)
    seen = np.zeros(num_vertices, np.bool_)
    pinched = False
    for i in range(3 * count):
        if fan[i] == i:
            vertex = faces[i // 3, i % 3]
            pinched = pinched or seen[vertex]
            seen[vertex] = True
    for face in range(count):
        surface[face] = _root(surface, face)
    return surface, pinched


@njit(cache=True, nogil=True)
def _meets_itself(
    corner: np.ndarray,
    faces: np.ndarray,
    order: np.ndarray,
    node_low: np.ndarray,
    node_high: np.ndarray,
    node_first: np.ndarray,
    node_count: np.ndarray,
    near: float,
) -> bool:
    """Each leaf of the tree against all leaves from itself on whose boxes meet its own."""
    count = len(faces)
    face_low, face_high = np.empty((count, 3)), np.empty((count, 3))
    for face in range(count):
        for k in range(3):
            face_low[face, k] = min(corner[face, 0, k], corner[face, 1, k], corner[face, 2, k]) - near
            face_high[face, k] = max(corner[face, 0, k], corner[face, 1, k], corner[face, 2, k]) + near
    stack = np.empty(_STACK, np.int64)
    nodes, covered = 0, 0
    while covered < count:
        covered += node_count[nodes]
        nodes += 1
    for leaf in range(nodes):
        if node_count[leaf] == 0:
            continue
        stack[0] = 0
        top = 1
        while top:
            top -= 1
            node = stack[top]
            if not _boxes_meet(node_low[node], node_high[node], node_low[leaf], node_high[leaf], near):
                continue
            if node_count[node] == 0:
                # Nodes are numbered depth first: all below node + 1 come before node_first[node].
                stack[top] = node_first[node]
                top += 1
                if leaf < node_first[node]:
                    stack[top] = node + 1
                    top += 1
                continue
            if node < leaf:
                continue
            for i in range(node_first[leaf], node_first[leaf] + node_count[leaf]):
                a = order[i]
                begin = i + 1 if node == leaf else node_first[node]
                for j in range(begin, node_first[node] + node_count[node]):
                    b = order[j]
                    if _boxes_meet(face_low[a], face_high[a], face_low[b], face_high[b], 0.0) and _faces_meet(
                        corner[a], corner[b], faces[a], faces[b], near
                    ):
                        return True
    return False


@njit(cache=True, inline="always")
def _boxes_meet(low: np.ndarray, high: np.ndarray, other_low: np.ndarray, other_high: np.ndarray, near: float) -> bool:
    return (
        low[0] <= other_high[0] + near
        and other_low[0] <= high[0] + near
        and low[1] <= other_high[1] + near
        and other_low[1] <= high[1] + near
        and low[2] <= other_high[2] + near
        and other_low[2] <= high[2] + near
    )


@njit(cache=True)
def _faces_meet(a: np.ndarray, b: np.ndarray, a_ids: np.ndarray, b_ids: np.ndarray, near: float) -> bool:
    """Whether two triangles (3, 3) meet elsewhere than in the corners and the edge that they share."""
    shared, i, j, left_a, left_b = 0, 0, 0, 3, 3
    for k in range(3):
        for m in range(3):
            if a_ids[k] == b_ids[m]:
                shared, i, j, left_a, left_b = shared + 1, k, m, left_a - k, left_b - m
    if shared == 0:
        return not _apart(a, b, near)
    if shared == 1:
        return not _fans_apart(
            _unit(_leg(a, i, (i + 1) % 3)),
            _unit(_leg(a, i, (i + 2) % 3)),
            _unit(_leg(b, j, (j + 1) % 3)),
            _unit(_leg(b, j, (j + 2) % 3)),
        )
    return shared == 3 or _flat_fold(
        _unit(_leg(a, (left_a + 1) % 3, (left_a + 2) % 3)), _leg(a, i, left_a), _leg(b, j, left_b), near
    )


@njit(cache=True)
def _flat_fold(along: Vector, a: Vector, b: Vector, near: float) -> bool:
    """Whether two faces lie on each other: from their edge, of unit direction `along`, to the third corner of each."""
    first, second = _cross(along, a), _cross(along, b)
    if min(_dot(first, first), _dot(second, second)) <= near * near:  # without area it has no normal to go by
        return True
    across, dot = _cross(first, second), _dot(first, second)
    return dot > 0 and _dot(across, across) < (_FOLD * dot) ** 2


@njit(cache=True)
def _apart(a: np.ndarray, b: np.ndarray, near: float) -> bool:
    """Whether a plane has two triangles on different sides.

    Tried are their own planes, those along an edge of each, and, for triangles of one plane, those upright on an edge.
    """
    normal_a, normal_b = _cross(_leg(a, 0, 1), _leg(a, 0, 2)), _cross(_leg(b, 0, 1), _leg(b, 0, 2))
    if _gap(a, b, normal_a, near) or _gap(a, b, normal_b, near):
        return True
    for i in range(3):
        edge_a, edge_b = _leg(a, i, (i + 1) % 3), _leg(b, i, (i + 1) % 3)
        if _gap(a, b, _cross(normal_a, edge_a), near) or _gap(a, b, _cross(normal_b, edge_b), near):
            return True
        for j in range(3):
            if _gap(a, b, _cross(edge_a, _leg(b, j, (j + 1) % 3)), near):
                return True
    return False


@njit(cache=True)
def _gap(a: np.ndarray, b: np.ndarray, axis: Vector, near: float) -> bool:
    """Whether two triangles are more than `near` from each other along an axis of any length."""
    low_a, high_a, low_b, high_b = 0.0, 0.0, np.inf, -np.inf
    for k in range(3):
        # From a corner of one of them: far from the origin nothing is lost to rounding.
        x = (a[k, 0] - a[0, 0]) * axis[0] + (a[k, 1] - a[0, 1]) * axis[1] + (a[k, 2] - a[0, 2]) * axis[2]
        y = (b[k, 0] - a[0, 0]) * axis[0] + (b[k, 1] - a[0, 1]) * axis[1] + (b[k, 2] - a[0, 2]) * axis[2]
        low_a, high_a, low_b, high_b = min(low_a, x), max(high_a, x), min(low_b, y), max(high_b, y)
    gap = max(low_b - high_a, low_a - high_b)
    return gap > 0 and gap * gap > near * near * _dot(axis, axis)


@njit(cache=True)
def _fans_apart(a: Vector, b: Vector, c: Vector, d: Vector) -> bool:
    """Whether the plane angles between unit vectors a and b, and c and d, share nothing but their common corner.

    If so, some plane through the corner has them on different sides. Tried are the one halfway, their own, those
    upright on them along a leg, and those through a leg of each.
    """
    halfway = (a[0] + b[0] - c[0] - d[0], a[1] + b[1] - c[1] - d[1], a[2] + b[2] - c[2] - d[2])
    if _parted(halfway, a, c) and _parted(halfway, a, d) and _parted(halfway, b, c):
        return True
    up, other_up = _cross(a, b), _cross(c, d)
    if _together(up, c, d) or _together(other_up, a, b):
        return True
    for axis, own in ((_cross(a, up), b), (_cross(b, up), a)):
        if _parted(axis, own, c) and _parted(axis, own, d):
            return True
    for axis, own in ((_cross(c, other_up), d), (_cross(d, other_up), c)):
        if _parted(axis, own, a) and _parted(axis, own, b):
            return True
    return (
        _parted(_cross(a, c), b, d)
        or _parted(_cross(a, d), b, c)
        or _parted(_cross(b, c), a, d)
        or _parted(_cross(b, d), a, c)
    )


@njit(cache=True)
def _together(axis: Vector, a: Vector, b: Vector) -> bool:
    """Whether unit vectors a and b are clearly on the same side of a plane through the corner."""
    least, x, y = _ANGLE * math.sqrt(_dot(axis, axis)), _dot(axis, a), _dot(axis, b)
    return (x > least and y > least) or (x < -least and y < -least)


@njit(cache=True)
def _parted(axis: Vector, a: Vector, b: Vector) -> bool:
    """Whether they are clearly on different sides of it."""
    return _together(axis, a, (-b[0], -b[1], -b[2]))


@njit(cache=True)
def _leg(tri: np.ndarray, start: int, end: int) -> Vector:
    return tri[end, 0] - tri[start, 0], tri[end, 1] - tri[start, 1], tri[end, 2] - tri[start, 2]


@njit(cache=True)
def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(cache=True)
def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@njit(cache=True)
def _unit(a: Vector) -> Vector:
    length = max(math.sqrt(_dot(a, a)), 1e-300)
    return a[0] / length, a[1] / length, a[2] / length
