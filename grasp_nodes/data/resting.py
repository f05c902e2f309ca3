"""How a rigid body can lie on a table."""

from __future__ import annotations

import numpy as np
import trimesh
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.transform import Rotation

from grasp_nodes.evaluation.solid import Solid

FLATNESS = 2e-4
"""m: vertices this near to the lowest one stand on the table."""
LOOKED_AT = 60
"""Downward directions, those with the largest faces."""
SAME_FACE, SAME_POSE = 0.02, 0.3
"""rad, between directions that are not told apart."""


def resting_poses(solid: Solid) -> list[np.ndarray]:
    """Poses in which a body of uniform density does not fall over, the widest supports first.

    Returns:
        T_table_object, (4, 4) each: z up, z = 0 the table, the middle of the bounding box above the origin. At least
        one for a closed body, unless all of its supports are smaller than `FLATNESS`.
    """
    hull = trimesh.Trimesh(solid.vertices, solid.faces, process=False).convex_hull
    largest = np.argsort(-hull.area_faces, kind="stable")
    downs = _distinct(hull.face_normals[largest], SAME_FACE)[:LOOKED_AT]
    margins = np.array([_margin(np.asarray(hull.vertices), solid.center_of_volume, down) for down in downs])
    order = np.argsort(-margins, kind="stable")
    steady = downs[order[margins[order] > FLATNESS]]
    return [_standing(solid.vertices, down) for down in _distinct(steady, SAME_POSE)]


def _distinct(directions: np.ndarray, apart: float) -> np.ndarray:
    """Those (M, 3) of unit vectors (N, 3) that are not near an earlier one that was kept."""
    left, kept = np.asarray(directions, np.float64), []
    while len(left):
        kept.append(left[0])
        left = left[left @ left[0] < np.cos(apart)]
    return np.array(kept).reshape(-1, 3)


def _margin(vertices: np.ndarray, center: np.ndarray, down: np.ndarray) -> float:
    """How far, m, the centre of mass is inside of what touches the table; negative outside."""
    height = vertices @ down
    across = Rotation.align_vectors([[0, 0, -1.0]], [down])[0].as_matrix()[:2]
    support = (vertices[height > height.max() - FLATNESS]) @ across.T
    try:
        edges = ConvexHull(support).equations
    except QhullError:  # a point or a line
        return -np.inf
    return float(-(edges[:, :2] @ (across @ center) + edges[:, 2]).max())


def _standing(vertices: np.ndarray, down: np.ndarray) -> np.ndarray:
    rotation = Rotation.align_vectors([[0, 0, -1.0]], [down])[0].as_matrix()
    placed = vertices @ rotation.T
    low, high = placed.min(axis=0), placed.max(axis=0)
    T_table_object = np.eye(4)
    T_table_object[:3, :3] = rotation
    T_table_object[:3, 3] = [*(-(low + high) / 2)[:2], -low[2]]
    return T_table_object
