"""Where a hand meets an object: balls below the skin, and under each a flat patch of the object's surface.

A simulator that is given the object as convex parts spends nine tenths of its time on finding the closest points, and
the parts of a thin wall fill what it encloses. Here the closest points come from the mesh itself, and the simulator is
told of a small plate at each; they are made anew whenever the object has moved on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from grasp_nodes.evaluation.solid import Solid

BALL_RADIUS = 0.003
"""m; a third of a finger's thickness: smaller than the gaps between vertices would let edges slip in."""
MOST_PATCHES = 200
"""At a time, the deepest; an open hand has some 100 vertices within 2 mm of a mug."""
PATCH_HALF_WIDTH, PATCH_HALF_DEPTH = 0.02, 0.02
_FACING = 0.5
"""Cosine between skin and surface from which on the skin has come through a wall and does not push it back."""


class Patches(NamedTuple):
    """K balls and the plates below the object's surface that they may touch.

    balls: (K, 3) m, centres, in the hand's frame. plates: (K, 3) m, centres, and turns: (K, 4) wxyz, in the object's.
    outward: (K, 3), the surface's normals, in the object's frame.
    """

    balls: np.ndarray
    plates: np.ndarray
    turns: np.ndarray
    outward: np.ndarray


class SkinBalls:
    """The balls below the skin of one hand, and the patches that they meet.

    Args:
        vertices: (V, 3) m, in the frame in which object and hand start. skin: (V, 3) outward unit normals.
    """

    def __init__(self, solid: Solid, vertices: np.ndarray, skin: np.ndarray) -> None:
        self._distance, self._skin = solid.distance, skin
        self._centers = vertices - BALL_RADIUS * skin
        self._at_start: tuple[np.ndarray, np.ndarray] | None = None
        # Where each ball was in the object's frame when its distance was last asked for, and the distance; before that,
        # its distance from the object's box, which is less.
        self._asked_at = self._centers.copy()
        low, high = solid.vertices.min(axis=0), solid.vertices.max(axis=0)
        self._known = np.linalg.norm(np.clip(self._centers, low, high) - self._centers, axis=1)

    def start(self, reach: float) -> Patches:
        """The patches of the object where it starts; arguments as of `patches`."""
        patches = self.patches(np.zeros(3), np.eye(3), reach)
        self._at_start = self._asked_at.copy(), self._known.copy()
        return patches

    def restart(self) -> None:
        """The object is back where it started."""
        if self._at_start is not None:
            self._asked_at, self._known = self._at_start[0].copy(), self._at_start[1].copy()

    def patches(self, position: np.ndarray, rotation: np.ndarray, reach: float) -> Patches:
        """The patches of the object where it is now.

        Args:
            position: (3,) m, and rotation: (3, 3), of the object's frame.
            reach: m, between ball and surface, up to which there is a patch.
        """
        local = (self._centers - position) @ rotation
        moved = local - self._asked_at
        # No ball is nearer than it was by more than it has moved.
        asked = np.flatnonzero(self._known - np.sqrt(np.einsum("ij,ij->i", moved, moved)) < BALL_RADIUS + reach)
        local = local[asked]
        signed, closest, _ = self._distance.signed(local, coherent=True)
        self._asked_at[asked], self._known[asked] = local, signed
        # A ball whose centre is on the surface knows no direction: the next one beside it does.
        kept = np.flatnonzero((signed < BALL_RADIUS + reach) & (np.abs(signed) > 1e-9))
        outward = (local[kept] - closest[kept]) / signed[kept, None]
        faces_it = np.einsum("ij,ij->i", outward, self._skin[asked[kept]] @ rotation) < _FACING
        kept, outward = kept[faces_it], outward[faces_it]
        if len(kept) > MOST_PATCHES:
            deepest = np.sort(np.argsort(signed[kept], kind="stable")[:MOST_PATCHES])
            kept, outward = kept[deepest], outward[deepest]
        plates = closest[kept] - PATCH_HALF_DEPTH * outward
        return Patches(self._centers[asked[kept]], plates, _turn_to(outward), outward)


def skin_normals(vertices: np.ndarray, faces: np.ndarray, face_to_vertex: sp.csr_matrix) -> np.ndarray:
    """(V, 3) outward unit normals of one hand; face_to_vertex: (V, F), ones at a face's corners."""
    corner = vertices[faces]
    normals = face_to_vertex @ np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)


def _turn_to(axis: np.ndarray) -> np.ndarray:
    """Quaternions (K, 4), wxyz, that turn z to unit vectors (K, 3) by the shortest way."""
    turn = np.zeros((len(axis), 4))
    turn[:, 0] = 1 + axis[:, 2]
    turn[:, 1], turn[:, 2] = -axis[:, 1], axis[:, 0]
    turn[turn[:, 0] < 1e-9] = (0.0, 1.0, 0.0, 0.0)
    return turn / np.linalg.norm(turn, axis=1, keepdims=True)
