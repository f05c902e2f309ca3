"""Loop subdivision as a sparse matrix, so that a posed mesh is smoothed by one product.

C. Loop, "Smooth Subdivision Surfaces Based on Triangles", 1987; boundary rules of Hoppe et al., 1994.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def loop_subdivision(faces: np.ndarray, vertex_count: int, levels: int = 1) -> tuple[sp.csr_matrix, np.ndarray]:
    """Matrix that maps the vertices of a triangle mesh to those of its Loop subdivision.

    Args:
        faces: (F, 3) int, a manifold mesh, with or without boundary.
        vertex_count: number of vertices V; each must belong to a face.
        levels: how often to subdivide.

    Returns:
        matrix: (V', V) float64; its rows add up to one. The first V rows are the moved old vertices.
        faces: (F * 4**levels, 3) int64, wound like the input.
    """
    matrix: sp.csr_matrix = sp.identity(vertex_count, format="csr")
    faces = np.asarray(faces, np.int64)
    for _ in range(levels):
        step, faces = _subdivide_once(faces, matrix.shape[0])
        matrix = (step @ matrix).tocsr()
    return matrix, faces


def _subdivide_once(faces: np.ndarray, count: int) -> tuple[sp.csr_matrix, np.ndarray]:
    half_edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    opposite = np.concatenate([faces[:, 2], faces[:, 0], faces[:, 1]])
    edges, edge_of, uses = np.unique(np.sort(half_edges, axis=1), axis=0, return_inverse=True, return_counts=True)
    edge_of = edge_of.reshape(-1)
    boundary = uses == 1
    edge_count = len(edges)

    rows = np.arange(edge_count)
    end_weight = np.where(boundary, 0.5, 0.375)
    inner = ~boundary[edge_of]
    odd = sp.coo_matrix(
        (
            np.concatenate([end_weight, end_weight, np.full(inner.sum(), 0.125)]),
            (
                np.concatenate([rows, rows, edge_of[inner]]),
                np.concatenate([edges[:, 0], edges[:, 1], opposite[inner]]),
            ),
        ),
        shape=(edge_count, count),
    )

    adjacency = sp.coo_matrix((np.ones(edge_count), (edges[:, 0], edges[:, 1])), shape=(count, count)).tocsr()
    adjacency = adjacency + adjacency.T
    valence = np.maximum(np.asarray(adjacency.sum(axis=1)).ravel(), 1)
    beta = (0.625 - (0.375 + 0.25 * np.cos(2 * np.pi / valence)) ** 2) / valence
    rim_edges = edges[boundary]
    rim = sp.coo_matrix((np.ones(len(rim_edges)), (rim_edges[:, 0], rim_edges[:, 1])), shape=(count, count)).tocsr()
    rim = rim + rim.T
    on_rim = np.zeros(count, bool)
    on_rim[rim_edges.reshape(-1)] = True
    even = (
        sp.diags(np.where(on_rim, 0.75, 1 - valence * beta)) + sp.diags(np.where(on_rim, 0, beta)) @ adjacency
    ) + 0.125 * rim

    middle = (count + edge_of).reshape(3, -1).T
    children = [
        np.stack([faces[:, 0], middle[:, 0], middle[:, 2]], axis=1),
        np.stack([faces[:, 1], middle[:, 1], middle[:, 0]], axis=1),
        np.stack([faces[:, 2], middle[:, 2], middle[:, 1]], axis=1),
        middle,
    ]
    return sp.vstack([even, odd]).tocsr(), np.concatenate(children)
