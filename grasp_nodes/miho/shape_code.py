"""What a network is told of an object: how far the object is from fixed points about it.

Prokudin et al., "Efficient Learning on Point Clouds with Basis Point Sets", ICCV 2019. The distances tell both the
shape and how it lies in its own frame, in which the pose is to be told.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from grasp_nodes.geometry.mesh import sample_surface

CODE_SIZE = 128
RADIUS = 0.15
"""m, of the ball that the basis points fill."""
CODE_POINTS = 2048
"""Of an object's surface, to which distances are told: training and use must agree, since fewer lie farther away."""
SCALE = 0.1
"""m: distances are told in this unit."""


def basis_points(count: int = CODE_SIZE) -> np.ndarray:
    """(count, 3) m: evenly spread over a ball about the object's origin (a Fibonacci lattice with growing radius)."""
    index = np.arange(count) + 0.5
    turn = index * np.pi * (3 - np.sqrt(5))
    # The radius runs through the ball once for every 8 directions, so that neighbours differ in it.
    radius = RADIUS * ((index * (np.sqrt(5) - 1) / 2) % 1.0) ** (1 / 3)
    z = 1 - 2 * index / count
    flat = np.sqrt(1 - z * z)
    return radius[:, None] * np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)


def shape_code(points: np.ndarray, count: int = CODE_SIZE) -> np.ndarray:
    """The code of an object.

    Args:
        points: (N, 3), m, on its surface, object's frame, the middle of its bounding box at the origin.

    Returns:
        (count + 3,) float32: distances of the basis points to the nearest of the points, then half the extents.
    """
    distance, _ = cKDTree(points).query(basis_points(count))
    half = 0.5 * (points.max(axis=0) - points.min(axis=0))
    return (np.concatenate([distance, half]) / SCALE).astype(np.float32)


def mesh_code(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """`shape_code` of a mesh: vertices (V, 3), m, in the canonical frame, and faces (F, 3)."""
    return shape_code(sample_surface(vertices, faces, CODE_POINTS, 0)[0])
