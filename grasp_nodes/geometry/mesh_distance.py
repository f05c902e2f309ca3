"""Exact distance from points to a triangle mesh, fast enough for a mesh that deforms in every frame.

A tree of boxes over the triangles is built in about a millisecond for a hand; a query descends it, nearest box first.
The sign comes from the normal of the closest feature (face, edge or vertex): Baerentzen and Aanaes, "Signed distance
computation using the angle weighted pseudonormal", 2005. It is exact for closed meshes that do not meet themselves
(`tidy_mesh`). For all other closed meshes, scans above all, it may be wrong on whichever side the closest feature is
part of a fold or lies within the solid; there, where asked to (`any_mesh`), the winding number decides.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numba import njit

from grasp_nodes.geometry.mesh import MeshEdges, check_mesh, mesh_edges
from grasp_nodes.geometry.tidy_mesh import NEAR, is_tidy
from grasp_nodes.geometry.winding import winding_at

_LEAF_SIZE = 4
_STACK = 64


@njit(cache=True, nogil=True)
def _build_tree(
    corner: np.ndarray,
    order: np.ndarray,
    node_low: np.ndarray,
    node_high: np.ndarray,
    node_first: np.ndarray,
    node_count: np.ndarray,
) -> int:
    """Median split along the longest axis. Children of node i are i + 1 and node_first[i]; leaves have a count."""
    count = len(order)
    centre = np.empty((count, 3))
    for i in range(count):
        for k in range(3):
            centre[i, k] = corner[i, 0, k] + corner[i, 1, k] + corner[i, 2, k]
    begin_stack, end_stack = np.empty(_STACK, np.int64), np.empty(_STACK, np.int64)
    parent_stack = np.empty(_STACK, np.int64)
    begin_stack[0], end_stack[0], parent_stack[0] = 0, count, -1
    top, nodes = 1, 0
    while top:
        top -= 1
        begin, end, parent = begin_stack[top], end_stack[top], parent_stack[top]
        node = nodes
        nodes += 1
        if parent >= 0:
            node_first[parent] = node
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        centre_low, centre_high = np.full(3, np.inf), np.full(3, -np.inf)
        for i in range(begin, end):
            face = order[i]
            for k in range(3):
                low[k] = min(low[k], corner[face, 0, k], corner[face, 1, k], corner[face, 2, k])
                high[k] = max(high[k], corner[face, 0, k], corner[face, 1, k], corner[face, 2, k])
                centre_low[k] = min(centre_low[k], centre[face, k])
                centre_high[k] = max(centre_high[k], centre[face, k])
        node_low[node], node_high[node] = low, high
        if end - begin <= _LEAF_SIZE:
            node_first[node], node_count[node] = begin, end - begin
            continue
        node_count[node] = 0
        axis = np.argmax(centre_high - centre_low)
        part = order[begin:end].copy()
        order[begin:end] = part[np.argsort(centre[part, axis], kind="mergesort")]
        middle = (begin + end) // 2
        # The right half waits; the left half is taken next and so becomes node + 1.
        begin_stack[top], end_stack[top], parent_stack[top] = middle, end, node
        begin_stack[top + 1], end_stack[top + 1], parent_stack[top + 1] = begin, middle, -1
        top += 2
    return nodes


@njit(cache=True, inline="always")
def _box_distance(px: float, py: float, pz: float, low: np.ndarray, high: np.ndarray) -> float:
    dx = max(low[0] - px, 0.0, px - high[0])
    dy = max(low[1] - py, 0.0, py - high[1])
    dz = max(low[2] - pz, 0.0, pz - high[2])
    return dx * dx + dy * dy + dz * dz


@njit(cache=True)
def _closest_on_triangle(px: float, py: float, pz: float, tri: np.ndarray) -> tuple[float, float, int]:
    """Barycentric weights of corners b and c, and the feature: 0 face, 1-3 edge ab/bc/ca, 4-6 corner a/b/c.

    Ericson, "Real-time collision detection", 5.1.5.
    """
    abx, aby, abz = tri[1, 0] - tri[0, 0], tri[1, 1] - tri[0, 1], tri[1, 2] - tri[0, 2]
    acx, acy, acz = tri[2, 0] - tri[0, 0], tri[2, 1] - tri[0, 1], tri[2, 2] - tri[0, 2]
    apx, apy, apz = px - tri[0, 0], py - tri[0, 1], pz - tri[0, 2]
    d1 = abx * apx + aby * apy + abz * apz
    d2 = acx * apx + acy * apy + acz * apz
    if d1 <= 0 and d2 <= 0:
        return 0.0, 0.0, 4
    bpx, bpy, bpz = px - tri[1, 0], py - tri[1, 1], pz - tri[1, 2]
    d3 = abx * bpx + aby * bpy + abz * bpz
    d4 = acx * bpx + acy * bpy + acz * bpz
    if d3 >= 0 and d4 <= d3:
        return 1.0, 0.0, 5
    vc = d1 * d4 - d3 * d2
    if vc <= 0 and d1 >= 0 and d3 <= 0 and d1 > d3:  # equal for an edge without length: another edge answers
        return d1 / (d1 - d3), 0.0, 1
    cpx, cpy, cpz = px - tri[2, 0], py - tri[2, 1], pz - tri[2, 2]
    d5 = abx * cpx + aby * cpy + abz * cpz
    d6 = acx * cpx + acy * cpy + acz * cpz
    if d6 >= 0 and d5 <= d6:
        return 0.0, 1.0, 6
    vb = d5 * d2 - d1 * d6
    if vb <= 0 and d2 >= 0 and d6 <= 0 and d2 > d6:
        return 0.0, d2 / (d2 - d6), 3
    va = d3 * d6 - d5 * d4
    if va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0 and (d4 - d3) + (d5 - d6) > 0:
        w = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        return 1.0 - w, w, 2
    total = va + vb + vc
    if total <= 0.0:
        return 0.0, 0.0, 4
    return vb / total, vc / total, 0


@njit(cache=True, nogil=True)
def _query(
    points: np.ndarray,
    corner: np.ndarray,
    order: np.ndarray,
    node_low: np.ndarray,
    node_high: np.ndarray,
    node_first: np.ndarray,
    node_count: np.ndarray,
    coherent: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Squared distance, closest point, face and feature of each point."""
    count = len(points)
    best_squared, closest = np.empty(count), np.empty((count, 3))
    face_of, feature_of = np.empty(count, np.int64), np.empty(count, np.int64)
    stack, stack_distance = np.empty(_STACK, np.int64), np.empty(_STACK)
    for i in range(count):
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        best = np.inf
        if coherent and i > 0:
            # Neighbours in the list are neighbours in space: the last answer bounds this one.
            step = math.sqrt((px - points[i - 1, 0]) ** 2 + (py - points[i - 1, 1]) ** 2 + (pz - points[i - 1, 2]) ** 2)
            best = (math.sqrt(best_squared[i - 1]) + step) ** 2 * (1 + 1e-9) + 1e-30
        cx, cy, cz, best_face, best_feature = 0.0, 0.0, 0.0, -1, 0
        stack[0], stack_distance[0] = 0, 0.0
        top = 1
        while top:
            top -= 1
            if stack_distance[top] >= best:
                continue
            node = stack[top]
            if node_count[node] == 0:
                left, right = node + 1, node_first[node]
                left_distance = _box_distance(px, py, pz, node_low[left], node_high[left])
                right_distance = _box_distance(px, py, pz, node_low[right], node_high[right])
                if left_distance > right_distance:
                    left, right = right, left
                    left_distance, right_distance = right_distance, left_distance
                stack[top], stack_distance[top] = right, right_distance
                stack[top + 1], stack_distance[top + 1] = left, left_distance
                top += 2
                continue
            for k in range(node_first[node], node_first[node] + node_count[node]):
                face = order[k]
                tri = corner[face]
                v, w, feature = _closest_on_triangle(px, py, pz, tri)
                u = 1.0 - v - w
                qx = u * tri[0, 0] + v * tri[1, 0] + w * tri[2, 0]
                qy = u * tri[0, 1] + v * tri[1, 1] + w * tri[2, 1]
                qz = u * tri[0, 2] + v * tri[1, 2] + w * tri[2, 2]
                squared = (px - qx) ** 2 + (py - qy) ** 2 + (pz - qz) ** 2
                if squared < best:
                    best, best_face, best_feature = squared, face, feature
                    cx, cy, cz = qx, qy, qz
        best_squared[i], face_of[i], feature_of[i] = best, best_face, best_feature
        closest[i, 0], closest[i, 1], closest[i, 2] = cx, cy, cz
    return best_squared, closest, face_of, feature_of


@njit(cache=True, nogil=True)
def _normals_of_features(
    corner: np.ndarray, faces: np.ndarray, num_vertices: int, edge_faces: np.ndarray, face_edges: np.ndarray
) -> np.ndarray:
    """(F, 7, 3): of each face its normal, those of its edges and its corners; corners weigh faces by their angle.

    Args:
        corner: (F, 3, 3), m. faces: (F, 3). edge_faces: (E, 2), -1 = none. face_edges: (F, 3).
    """
    count = len(faces)
    result, at_vertex = np.zeros((count, 7, 3)), np.zeros((num_vertices, 3))
    for face in range(count):
        x, y, z = _across(corner[face], 0)
        length = max(math.sqrt(x * x + y * y + z * z), 1e-30)
        result[face, 0, 0], result[face, 0, 1], result[face, 0, 2] = x / length, y / length, z / length
    for face in range(count):
        for k in range(3):
            x, y, z = _across(corner[face], k)
            dot = 0.0
            for axis in range(3):
                here = corner[face, k, axis]
                dot += (corner[face, (k + 1) % 3, axis] - here) * (corner[face, (k + 2) % 3, axis] - here)
            angle = math.atan2(math.sqrt(x * x + y * y + z * z), dot)
            for axis in range(3):
                at_vertex[faces[face, k], axis] += angle * result[face, 0, axis]
            for side in range(2):
                other = edge_faces[face_edges[face, k], side]
                if other >= 0:
                    for axis in range(3):
                        result[face, 1 + k, axis] += result[other, 0, axis]
    for face in range(count):
        for k in range(3):
            for axis in range(3):
                result[face, 4 + k, axis] = at_vertex[faces[face, k], axis]
    return result


@njit(cache=True, inline="always")
def _across(tri: np.ndarray, k: int) -> tuple[float, float, float]:
    """The cross product of a triangle's (3, 3) two edges from corner k."""
    b, c = (k + 1) % 3, (k + 2) % 3
    ux, uy, uz = tri[b, 0] - tri[k, 0], tri[b, 1] - tri[k, 1], tri[b, 2] - tri[k, 2]
    vx, vy, vz = tri[c, 0] - tri[k, 0], tri[c, 1] - tri[k, 1], tri[c, 2] - tri[k, 2]
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


class MeshDistance:
    """Distances to one mesh.

    What is inside: of a closed mesh that does not meet itself, what it encloses. Of any other closed mesh, with
    `any_mesh`: what it surrounds once or more (winding number 1 and up, as in `SignedDistanceGrid`), so that solids
    which overlap are one, and the pocket of a fold that is turned inside out is outside. The distance is always that to
    the nearest face, also where that face lies within the solid: a depth there is at most the depth below the skin.

    Args:
        vertices: (V, 3), m. faces: (F, 3) int.
        edges: edges of `faces`, from :func:`mesh_edges`, where the same topology is used again and again.
        any_mesh: signs are to be right for closed meshes that meet themselves, too. The first signed query finds out
            whether the mesh does, which costs several times the building; the answers for a mesh that does not are the
            same to the bit. For objects, which come from anywhere and stay as they are. Not for hands, which deform
            with every frame, and of which what touches a crease is to be measured against the skin beside it.

    Raises:
        InputError: the arrays are not a mesh.
    """

    def __init__(
        self, vertices: np.ndarray, faces: np.ndarray, edges: MeshEdges | None = None, any_mesh: bool = False
    ) -> None:
        check_mesh(vertices, faces)
        self.vertices = np.asarray(vertices, dtype=np.float64)
        self.faces = np.asarray(faces, dtype=np.int64)
        self._edges = edges
        self._any_mesh = any_mesh
        self._corner = np.ascontiguousarray(self.vertices[self.faces])
        count = len(self.faces)
        order = np.arange(count)
        low, high = np.empty((2 * count, 3)), np.empty((2 * count, 3))
        first, number = np.empty(2 * count, np.int64), np.empty(2 * count, np.int64)
        _build_tree(self._corner, order, low, high, first, number)
        self._tree = order, low, high, first, number
        self._feature_normals: np.ndarray | None = None

    def _mesh_edges(self) -> MeshEdges:
        if self._edges is None:
            self._edges = mesh_edges(self.faces)
        return self._edges

    @cached_property
    def tidy(self) -> bool:
        """Whether the mesh, if it is closed, does not meet itself, so that normals tell the sign (`is_tidy`)."""
        return is_tidy(self._corner, self.faces, self._mesh_edges(), self._tree)

    def _pseudo_normals(self) -> np.ndarray:
        """(F, 7, 3): outward direction at each feature of each face; length does not matter."""
        if self._feature_normals is None:
            edges = self._mesh_edges()
            self._feature_normals = _normals_of_features(
                self._corner, self.faces, len(self.vertices), edges.faces, edges.face_edges
            )
        return self._feature_normals

    def unsigned(self, points: np.ndarray, coherent: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distance to the surface.

        Args:
            points: (N, 3), m.
            coherent: neighbours in the list are neighbours in space (a raster): faster, same answer.

        Returns:
            distance (N,) m, closest point (N, 3) m, and the face that it lies on (N,) int64.
        """
        squared, closest, face, _ = self._closest(points, coherent)
        return np.sqrt(squared), closest, face

    def signed(self, points: np.ndarray, coherent: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distance to the surface of a closed mesh, negative inside. Arguments and results as for :meth:`unsigned`."""
        squared, closest, face, feature = self._closest(points, coherent)
        outward = self._pseudo_normals()[face, feature]
        distance, inside = np.sqrt(squared), ((points - closest) * outward).sum(axis=-1) < 0
        if self._any_mesh and not self.tidy:
            # A point on the surface has no winding number.
            off = np.flatnonzero(distance > NEAR * np.ptp(self._corner, axis=(0, 1)).max())
            inside[off] = winding_at(np.ascontiguousarray(points[off], np.float64), self._corner, *self._tree) > 0
        return np.where(inside, -1.0, 1.0) * distance, closest, face

    def _closest(self, points: np.ndarray, coherent: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return _query(np.ascontiguousarray(points, dtype=np.float64), self._corner, *self._tree, coherent)
