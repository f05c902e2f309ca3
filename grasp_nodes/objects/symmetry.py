"""Rotations that bring an object nearly onto itself: a bottle's pose can be told up to those only."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from grasp_nodes.geometry.mesh import sample_surface

STEPS = 24
"""Turns about an axis that are tried, 15 degrees apart."""
MEAN_SHARE, LARGEST_SHARE = 0.008, 0.025
"""Of the object's diameter: how far its points may be from its surface after a turn, on average and nearly all."""
NEARLY_ALL = 0.98
_DENSE, _TRIED = 5_000, 250


def rotation_symmetries(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Rotations about the middle of an object that leave its surface where it is.

    Tried are turns by 15 degrees about the three axes of its frame, with and without turning it over, and the 24
    rotations of a cube: what manufactured things have. A sphere has all of these, and no more are told.

    Args:
        vertices: (V, 3), m, the middle of the bounding box at the origin. faces: (F, 3).

    Returns:
        (G, 3, 3) float64; the first is the identity.
    """
    dense, _, _ = sample_surface(vertices, faces, _DENSE, 0)
    tried = dense[:: _DENSE // _TRIED]
    tree = cKDTree(dense)
    diameter = float(np.linalg.norm(dense.max(axis=0) - dense.min(axis=0)))
    rest, _ = tree.query(dense[1 :: _DENSE // _TRIED], k=2)
    spacing = float(rest[:, 1].mean())  # how far a point of the surface is from the others
    found = []
    for turn in _candidates():
        distance, _ = tree.query(tried @ turn.T)
        small = distance.mean() - spacing < MEAN_SHARE * diameter
        if small and np.quantile(distance, NEARLY_ALL) - spacing < LARGEST_SHARE * diameter:
            found.append(turn)
    return np.stack(found)


def _candidates() -> np.ndarray:
    """(C, 3, 3), each once, the identity first."""
    axes = np.eye(3)
    turns = [np.eye(3)]
    for axis, other in itertools.product(range(3), range(3)):
        over = np.eye(3) if axis == other else Rotation.from_rotvec(np.pi * axes[other]).as_matrix()
        turns += [
            Rotation.from_rotvec(angle * axes[axis]).as_matrix() @ over
            for angle in np.arange(STEPS) * 2 * np.pi / STEPS
        ]
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((-1.0, 1.0), repeat=3):
            matrix = axes[list(order)] * np.array(signs)[:, None]
            if np.linalg.det(matrix) > 0:
                turns.append(matrix)
    keys = np.unique(np.round(np.stack(turns), 6) + 0.0, axis=0, return_index=True)[1]
    return np.stack(turns)[np.sort(keys)]
