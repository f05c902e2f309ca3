"""How far a hand is in itself: fingers through each other or through the palm."""

from __future__ import annotations

import numpy as np

from grasp_nodes.evaluation.solid import check_hands, finite_hands
from grasp_nodes.geometry.columns import bounds, mesh_columns, wound_lengths
from grasp_nodes.geometry.mesh import vertex_normals
from grasp_nodes.geometry.mesh_distance import MeshDistance
from grasp_nodes.geometry.winding import winding_numbers
from grasp_nodes.hand.keypoints import PARENTS

COLUMN_SPACING = 0.001
BELOW_SKIN = 1e-5
"""m; where a vertex is asked how often the hand surrounds it."""


def self_intersection_volume(hand_vertices: np.ndarray, hand_faces: np.ndarray) -> np.ndarray:
    """Volume that a hand's surface encloses more than once, by columns 1 mm apart.

    The fold of skin inside a strongly bent joint counts, too: a bent hand has a few hundredths of a cm^3 of it.

    Args:
        hand_vertices: (B, V, 3), m. hand_faces: (F, 3) int, closed, outward.

    Returns:
        (B,) m^3, NaN for a hand with NaN.
    """
    vertices = check_hands(hand_vertices, hand_faces)
    good = finite_hands(vertices)
    result = np.full(len(vertices), np.nan)
    for i in np.flatnonzero(good):
        low, high = bounds(vertices[i])
        size = np.ceil((high - low)[:2] / COLUMN_SPACING).astype(int) + 1
        origin = low[:2] - 0.37 * COLUMN_SPACING
        columns = mesh_columns(vertices[i], hand_faces, origin, COLUMN_SPACING, (int(size[0]), int(size[1])))
        result[i] = wound_lengths(columns, 2).sum() * COLUMN_SPACING**2
    return result


class SelfPenetration:
    """Self-penetration depth of hands of one topology.

    A vertex penetrates when the hand surrounds it twice and the nearest skin of the parts that are neither its own nor
    neighbours in the joint tree has it on its inner side; its depth is the distance to that skin. Folds of skin between
    neighbouring parts of a finger do not count.

    Args:
        hand_faces: (F, 3) int, closed, outward. skinning_weights: (V, 16), a hand model's `arrays.weights`.
    """

    def __init__(self, hand_faces: np.ndarray, skinning_weights: np.ndarray) -> None:
        self._faces = np.asarray(hand_faces, np.int64)
        self._part = skinning_weights.argmax(axis=1)
        near = np.eye(len(PARENTS), dtype=bool)
        for joint, parent in enumerate(PARENTS[1:], start=1):
            near[joint, parent] = near[parent, joint] = True
        # A face belongs to all parts of its corners.
        foreign = [~near[part][self._part[self._faces]].any(axis=1) for part in range(len(PARENTS))]
        self._foreign_skin = [self._faces[choice] for choice in foreign]

    def __call__(self, hand_vertices: np.ndarray) -> np.ndarray:
        """Largest self-penetration of each hand.

        Args:
            hand_vertices: (B, V, 3), m.

        Returns:
            (B,) m, 0 where no part is in another, NaN for a hand with NaN.
        """
        vertices = check_hands(hand_vertices, self._faces)
        good = finite_hands(vertices)
        return np.array([self._depth(one) if good[i] else np.nan for i, one in enumerate(vertices)])

    def _depth(self, vertices: np.ndarray) -> float:
        below_skin = vertices - BELOW_SKIN * vertex_normals(vertices, self._faces)
        twice = np.flatnonzero(winding_numbers(vertices, self._faces, below_skin) > 1)
        deepest = 0.0
        for part in np.unique(self._part[twice]):
            if not len(self._foreign_skin[part]):
                continue
            points = vertices[twice[self._part[twice] == part]]
            distance, _, _ = MeshDistance(vertices, self._foreign_skin[part]).signed(points)
            deepest = max(deepest, float(-distance.min()))
        return deepest
