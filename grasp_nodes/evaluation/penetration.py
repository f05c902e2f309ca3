"""How deep the hand is in the object and how far its fingertips are from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.solid import Solid, check_hands, finite_hands
from grasp_nodes.geometry.mesh import mesh_edges
from grasp_nodes.geometry.mesh_distance import MeshDistance
from grasp_nodes.geometry.winding import winding_numbers
from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS

PALM = -1


def hand_signed_distance(hand_vertices: np.ndarray, solid: Solid) -> np.ndarray:
    """Exact distance of each hand vertex to the object's surface: what the metrics of depth and contact are made of.

    Args:
        hand_vertices: (B, V, 3), m, object frame; V may be an up-sampled hand's.

    Returns:
        (B, V) m, negative inside the object; a row of NaN for a hand with NaN.
    """
    vertices = check_hands(hand_vertices)
    good = finite_hands(vertices)
    result = np.full(vertices.shape[:2], np.nan)
    if good.any():
        distance, _, _ = solid.distance.signed(vertices[good].reshape(-1, 3))
        result[good] = distance.reshape(-1, vertices.shape[1])
    return result


def penetration_depth(signed_distance: np.ndarray) -> np.ndarray:
    """Penetration depth (PD) of CPF, section 6.2; also HOMan's and JHOD's: the deepest hand vertex.

    The largest distance of the hand vertices inside the object to their closest point of its surface.

    Args:
        signed_distance: (B, V), m, from :func:`hand_signed_distance`.

    Returns:
        (B,) m, 0 where no vertex is inside, NaN for a hand with NaN.
    """
    return np.maximum(-signed_distance.min(axis=1), 0.0)


def object_depth_in_hand(hand_vertices: np.ndarray, hand_faces: np.ndarray, solid: Solid) -> np.ndarray:
    """How deep the object's surface is inside the hand: what a hand through a thin wall cannot hide.

    No vertex of a finger that goes through a 4 mm wall is deeper in it than 2 mm, so that `penetration_depth` finds
    nothing wrong. The wall is as deep in the finger as the finger is thick.

    Args:
        hand_vertices: (B, V, 3), m, object frame. hand_faces: (F, 3) int, closed, outward.
        solid: the object, of whose surface 4096 points are asked.

    Returns:
        (B,) m, 0 where no point of the object is inside, NaN for a hand with NaN.
    """
    vertices = check_hands(hand_vertices, hand_faces)
    good = finite_hands(vertices)
    result = np.where(good, 0.0, np.nan)
    points = solid.surface_points
    edges = mesh_edges(hand_faces)
    for i in np.flatnonzero(good):
        low, high = vertices[i].min(axis=0), vertices[i].max(axis=0)
        near = points[((points > low) & (points < high)).all(axis=1)]
        near = near[winding_numbers(vertices[i], hand_faces, near) > 0]
        if len(near):
            result[i] = MeshDistance(vertices[i], hand_faces, edges).unsigned(near)[0].max()
    return result


def disjointedness_distance(signed_distance: np.ndarray, fingertips: Sequence[np.ndarray]) -> np.ndarray:
    """Disjointedness distance (DD) of CPF, section 6.2: mean distance of fingertip vertices to the surface.

    Over all five fingertip regions. Unsigned: a fingertip inside the object is as far as one outside of it.

    Args:
        signed_distance: (B, V), m. fingertips: vertex ids per finger, from :func:`fingertip_regions`.

    Returns:
        (B,) m, NaN for a hand with NaN.
    """
    return np.abs(signed_distance[:, np.concatenate(fingertips)]).mean(axis=1)


def finger_of_vertices(skinning_weights: np.ndarray) -> np.ndarray:
    """Which finger each vertex belongs to, by the joint that moves it most; the ball of the thumb is palm.

    Args:
        skinning_weights: (V, 16), a hand model's `arrays.weights`.

    Returns:
        (V,) int64: 0 thumb, 1 index, 2 middle, 3 ring, 4 little, PALM (-1) elsewhere.
    """
    owner = _owner(skinning_weights)
    fingers = np.full(len(owner), PALM, np.int64)
    for number, name in enumerate(FINGERS):
        joints = FINGER_JOINTS[name]
        fingers[np.isin(owner, joints[1:] if name == "thumb" else joints)] = number
    return fingers


def fingertip_regions(skinning_weights: np.ndarray) -> list[np.ndarray]:
    """Vertex ids of the outermost phalanges of thumb, index, middle, ring and little finger.

    Args:
        skinning_weights: (V, 16), a hand model's `arrays.weights`.
    """
    owner = _owner(skinning_weights)
    return [np.flatnonzero(owner == FINGER_JOINTS[name][-1]) for name in FINGERS]


def _owner(skinning_weights: np.ndarray) -> np.ndarray:
    if skinning_weights.ndim != 2 or skinning_weights.shape[1] != 16:
        raise InputError(f"skinning weights: expected shape (V, 16), got {skinning_weights.shape}")
    return skinning_weights.argmax(axis=1)
