"""Triangle meshes as arrays: merging, watertightness, edges, normals and sampling.

A mesh is ``vertices (V, 3)`` float, m, and ``faces (F, 3)`` int, counter-clockwise seen from outside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from grasp_nodes.errors import InputError


def check_mesh(vertices: np.ndarray, faces: np.ndarray, name: str = "mesh") -> None:
    """Refuse arrays that are not a triangle mesh.

    Raises:
        InputError: wrong shape, no triangle, NaN, or an index outside the vertices.
    """
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise InputError(f"{name}: expected vertices (V, 3) and faces (F, 3), got {vertices.shape} and {faces.shape}")
    if not len(vertices) or not len(faces):
        raise InputError(f"{name}: no triangles ({len(vertices)} vertices, {len(faces)} faces)")
    if not np.isfinite(vertices).all():
        raise InputError(f"{name}: {int((~np.isfinite(vertices)).any(axis=1).sum())} vertices are NaN or infinite")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InputError(f"{name}: faces name vertices {faces.min()}..{faces.max()}, but there are {len(vertices)}")


def merge_vertices(vertices: np.ndarray, faces: np.ndarray, tolerance: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Join vertices of the same position, drop degenerate and repeated faces and unused vertices.

    Texture seams and hard normals split a vertex into several; distances and edges need them to be one.

    Args:
        vertices: (V, 3). faces: (F, 3).
        tolerance: m; positions closer than this are the same (chains of them, too).

    Returns:
        vertices (V', 3) and faces (F', 3) int64.
    """
    if tolerance > 0:
        pairs = cKDTree(vertices).query_pairs(tolerance, output_type="ndarray")
        label = _connected_labels(len(vertices), pairs)
        count = label.max() + 1
        first = np.full(count, len(vertices))
        np.minimum.at(first, label, np.arange(len(vertices)))
        merged = vertices[first]
    else:
        merged, label = np.unique(vertices, axis=0, return_inverse=True)
    faces = label.reshape(-1)[faces]
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    faces = faces[distinct]
    _, keep = np.unique(_rotate_smallest_first(faces), axis=0, return_index=True)
    faces = faces[np.sort(keep)]
    used = np.unique(faces)
    renumber = np.zeros(len(merged), np.int64)
    renumber[used] = np.arange(len(used))
    return merged[used], renumber[faces]


def _connected_labels(count: int, pairs: np.ndarray) -> np.ndarray:
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _rotate_smallest_first(faces: np.ndarray) -> np.ndarray:
    """The same triangles, each beginning with its smallest index (orientation kept)."""
    start = faces.argmin(axis=1)
    return np.take_along_axis(faces, (start[:, None] + np.arange(3)) % 3, axis=1)


@dataclass(frozen=True)
class MeshEdges:
    """Undirected edges of a mesh.

    vertices: (E, 2) int64, smaller index first. faces: (E, 2) int64: the two faces of each edge, -1 where an edge has
    one only. face_edges: (F, 3) int64: edge between corners k and k + 1 of each face.
    counts: (E,) int64, faces per edge.
    """

    vertices: np.ndarray
    faces: np.ndarray
    face_edges: np.ndarray
    counts: np.ndarray


def mesh_edges(faces: np.ndarray) -> MeshEdges:
    """Unique edges with the faces beside them.

    Args:
        faces: (F, 3) int.
    """
    count = len(faces)
    half = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    edges, inverse, counts = np.unique(np.sort(half, axis=1), axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    owner = np.repeat(np.arange(count), 3)
    first = np.full(len(edges), 3 * count)
    np.minimum.at(first, inverse, np.arange(3 * count))
    last = np.full(len(edges), -1)
    np.maximum.at(last, inverse, np.arange(3 * count))
    beside = np.stack([owner[first], np.where(counts > 1, owner[last], -1)], axis=1)
    return MeshEdges(edges.astype(np.int64), beside, inverse.reshape(count, 3), counts)


def is_watertight(faces: np.ndarray) -> bool:
    """Whether each edge joins exactly two faces that run along it in opposite directions."""
    half = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    if len(np.unique(half, axis=0)) != len(half):
        return False
    return bool((np.unique(np.sort(half, axis=1), axis=0, return_counts=True)[1] == 2).all())


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Holes of a mesh: closed chains of edges that have one face only, in the order that a filling face would run.

    Args:
        faces: (F, 3) int.

    Returns:
        One (L,) int64 array of vertex ids per hole; chains that do not close or that branch are left out.
    """
    half = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2).astype(np.int64)
    stride = int(faces.max()) + 1
    open_edges = half[~np.isin(half[:, 0] * stride + half[:, 1], half[:, 1] * stride + half[:, 0])]
    follow: dict[int, list[int]] = {}
    for a, b in open_edges:
        follow.setdefault(int(b), []).append(int(a))
    loops = []
    while follow:
        start = min(follow)
        loop, current = [start], start
        while current in follow and len(follow[current]) == 1:
            current = follow.pop(current)[0]
            if current == start:
                loops.append(np.array(loop, np.int64))
                break
            loop.append(current)
        else:
            follow.pop(current, None)
    return loops


def face_normals_and_areas(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (F, 3) and areas (F,), m^2, of triangles; a degenerate one has normal zero."""
    corner = vertices[faces]
    cross = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    length = np.linalg.norm(cross, axis=1)
    return cross / np.maximum(length, 1e-30)[:, None], 0.5 * length


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3): face normals weighted by the angle at the vertex (Baerentzen and Aanaes, 2005)."""
    normals, _ = face_normals_and_areas(vertices, faces)
    corner = vertices[faces]
    total = np.zeros((len(vertices), 3))
    for k in range(3):
        first, second = corner[:, (k + 1) % 3] - corner[:, k], corner[:, (k + 2) % 3] - corner[:, k]
        sine = np.linalg.norm(np.cross(first, second), axis=1)
        angle = np.arctan2(sine, (first * second).sum(axis=1))
        np.add.at(total, faces[:, k], normals * angle[:, None])
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30)


def signed_volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Volume inside a closed mesh, m^3; negative when its faces look inwards."""
    corner = vertices[faces] - vertices.mean(axis=0)
    return float(np.einsum("ij,ij->", corner[:, 0], np.cross(corner[:, 1], corner[:, 2])) / 6)


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points uniform by area, stratified along the list of faces, so that every part gets its share.

    Args:
        vertices: (V, 3), m. faces: (F, 3). count: number of points. seed: of the generator.

    Returns:
        points (count, 3) and normals (count, 3) float64, and the face of each point (count,) int64.
    """
    rng = np.random.default_rng(seed)
    normals, areas = face_normals_and_areas(vertices, faces)
    cumulative = np.cumsum(areas)
    if not cumulative[-1] > 0:
        raise InputError("mesh: its surface has no area")
    position = (np.arange(count) + rng.random(count)) / count * cumulative[-1]
    face = np.minimum(np.searchsorted(cumulative, position, side="right"), len(faces) - 1)
    # The square root makes the points uniform inside the triangle (Osada et al., 2002).
    root, second = np.sqrt(rng.random(count))[:, None], rng.random(count)[:, None]
    corner = vertices[faces[face]]
    points = (1 - root) * corner[:, 0] + root * (1 - second) * corner[:, 1] + root * second * corner[:, 2]
    return points, normals[face], face
