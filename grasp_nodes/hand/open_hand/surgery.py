"""A triangle mesh that can be cut: edge splits, collapses and flips that keep it a manifold.

Half of remeshing is asking "which triangles touch this vertex"; sets answer that in constant time and let triangles
come and go. Geometry that concerns all vertices at once is done on arrays (`compact`).
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from grasp_nodes.hand.open_hand.proportions import Array

Edge = tuple[int, int]
Triangle = tuple[int, ...]


def _cross(a: Array, b: Array) -> Array:
    """np.cross of two vectors, ten times faster."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


class CutMesh:
    """positions: by vertex id; ids of collapsed vertices stay unused. triangles: by triangle id, oriented."""

    def __init__(self, vertices: Array, faces: NDArray[np.int64]) -> None:
        self.positions: list[Array] = [np.array(v, float) for v in vertices]
        self.triangles: dict[int, Triangle] = {}
        self._touching: dict[int, set[int]] = defaultdict(set)
        self._next = 0
        for face in faces:
            self._add(tuple(int(v) for v in face))

    def used(self) -> list[int]:
        """Vertex ids in use, ascending."""
        return sorted(v for v, around in self._touching.items() if around)

    def exists(self, vertex: int) -> bool:
        """Whether the vertex is still part of the mesh."""
        return bool(self._touching[vertex])

    def edges(self) -> list[Edge]:
        """Every edge once, in a fixed order."""
        return sorted({(min(t[i - 1], t[i]), max(t[i - 1], t[i])) for t in self.triangles.values() for i in range(3)})

    def neighbours(self, vertex: int) -> set[int]:
        """Vertices that share an edge with it."""
        return {v for i in self._touching[vertex] for v in self.triangles[i]} - {vertex}

    def sides(self, a: int, b: int) -> list[int]:
        """The one or two triangles at an edge."""
        return sorted(self._touching[a] & self._touching[b])

    def opposite(self, a: int, b: int) -> list[int]:
        """The vertices across an edge, one per side."""
        return [next(v for v in self.triangles[i] if v not in (a, b)) for i in self.sides(a, b)]

    def on_rim(self, vertex: int) -> bool:
        """Whether the vertex is on the open boundary."""
        return any(len(self._touching[vertex] & self._touching[v]) == 1 for v in self.neighbours(vertex))

    def split(self, a: int, b: int) -> int:
        """Put a vertex into the middle of an edge."""
        middle = len(self.positions)
        self.positions.append((self.positions[a] + self.positions[b]) / 2)
        for i in self.sides(a, b):
            triangle = self._remove(i)
            self._add(tuple(middle if v == a else v for v in triangle))
            self._add(tuple(middle if v == b else v for v in triangle))
        return middle

    def collapse(self, a: int, b: int, position: Array, check_normals: bool = True) -> bool:
        """Merge b into a at `position`; refused where it would pinch the mesh or turn a triangle over."""
        shared = self._touching[a] & self._touching[b]
        if len(self.neighbours(a) & self.neighbours(b)) != len(shared):
            return False
        if len(shared) == 2 and self.on_rim(a) and self.on_rim(b):
            return False
        if any(len(self._touching[v]) <= 3 for v in self.opposite(a, b)):
            return False
        if check_normals:
            for i in (self._touching[a] | self._touching[b]) - shared:
                triangle = self.triangles[i]
                before = self._normal([self.positions[v] for v in triangle])
                after = self._normal([position if v in (a, b) else self.positions[v] for v in triangle])
                if before @ after < 0.3 * np.sqrt((before @ before) * (after @ after)):
                    return False
        for i in sorted(shared):
            self._remove(i)
        for i in sorted(self._touching[b]):
            triangle = self._remove(i)
            self._add(tuple(a if v == b else v for v in triangle))
        self.positions[a] = position
        return True

    def flip(self, a: int, b: int) -> bool:
        """Exchange an edge for the other diagonal; refused at the rim, where it exists, or over a fold."""
        sides = self.sides(a, b)
        if len(sides) != 2:
            return False
        c, d = self.opposite(a, b)
        if d in self.neighbours(c):
            return False
        first = self.triangles[sides[0]]
        ahead = first[(first.index(a) + 1) % 3] == b
        new: list[Triangle] = [(a, d, c), (d, b, c)] if ahead else [(a, c, d), (d, c, b)]
        old_normals = [self._normal([self.positions[v] for v in self.triangles[i]]) for i in sides]
        mean = sum((n / np.sqrt(n @ n) for n in old_normals), np.zeros(3))
        for triangle in new:
            normal = self._normal([self.positions[v] for v in triangle])
            if normal @ mean <= 0.2 * np.sqrt((normal @ normal) * (mean @ mean)):
                return False
        for i in sides:
            self._remove(i)
        for triangle in new:
            self._add(triangle)
        return True

    def compact(self) -> tuple[Array, NDArray[np.int64], list[int]]:
        """Positions (V, 3), faces (F, 3) numbered without gaps, and the vertex id of each row."""
        ids = self.used()
        row = {v: i for i, v in enumerate(ids)}
        faces = np.array([[row[v] for v in triangle] for triangle in self.triangles.values()])
        return np.array([self.positions[v] for v in ids]), faces, ids

    def _add(self, triangle: Triangle) -> None:
        self.triangles[self._next] = triangle
        for v in triangle:
            self._touching[v].add(self._next)
        self._next += 1

    def _remove(self, i: int) -> Triangle:
        triangle = self.triangles.pop(i)
        for v in triangle:
            self._touching[v].discard(i)
        return triangle

    @staticmethod
    def _normal(corners: list[Array]) -> Array:
        return _cross(corners[1] - corners[0], corners[2] - corners[0])


def rim_edges(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, 2) edges that belong to one triangle only."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    return unique[count == 1]


def rim_loop(faces: NDArray[np.int64]) -> list[int]:
    """The one boundary as a cycle of vertex ids."""
    beside = defaultdict(list)
    for a, b in rim_edges(faces).tolist():
        beside[a].append(b)
        beside[b].append(a)
    loop, previous = [min(beside)], -1
    while True:
        following = next(v for v in beside[loop[-1]] if v != previous)
        if following == loop[0]:
            return loop
        previous = loop[-1]
        loop.append(following)
