"""The things in a cloud: points that hang together, and which of them is meant."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from grasp_nodes.objects.clouds.cells import cell_numbers, means

GAP = 0.01
"""m: points that are nearer to each other are of one thing."""
SMALLEST_SHARE = 0.05
"""Of the points of the largest thing: what is smaller is noise."""
FEWEST = 25


def things(points: np.ndarray, gap: float = GAP) -> list[np.ndarray]:
    """Indices of the points (N, 3) of each thing, the largest first, without those that are noise."""
    cell_of, count = cell_numbers(points, 0.5 * gap)
    middle = means(points, cell_of, count)
    pairs = cKDTree(middle).query_pairs(1.5 * gap, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    label = connected_components(graph, directed=False)[1][cell_of]
    sizes = np.bincount(label)
    wanted = [int(one) for one in np.argsort(-sizes, kind="stable") if sizes[one] >= SMALLEST_SHARE * sizes.max()]
    return [np.flatnonzero(label == one) for one in wanted if sizes[one] >= FEWEST]


def choose_thing(points: np.ndarray, found: list[np.ndarray], near: np.ndarray | None) -> np.ndarray:
    """Indices of one thing: the one that comes nearest to a point, or else the largest.

    Args:
        points: (N, 3), m. found: at least one, see `things`. near: (3,), m, or None.
    """
    if near is None:
        return found[0]
    return min(found, key=lambda rows: float(np.linalg.norm(points[rows] - near, axis=1).min()))
