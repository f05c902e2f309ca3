"""Formulas of the peers' released code where they differ from the papers: to explain a table, never to judge a grasp.

Each function says what it gets wrong. Our own metrics are in the other files of this folder.
"""

from __future__ import annotations

import numpy as np
import trimesh
from scipy.cluster.vq import whiten
from scipy.spatial import cKDTree

from grasp_nodes.evaluation.diversity import CLUSTERS, diversity
from grasp_nodes.evaluation.solid import Solid, check_hands, finite_hands
from grasp_nodes.geometry.winding import winding_numbers


def intersection_volume_as_released(
    hand_vertices: np.ndarray, hand_faces: np.ndarray, solid: Solid, pitch: float = 0.005
) -> np.ndarray:
    """Penetration volume in the code of ObMan, GraspTTA and FastGrasp: 5 mm voxels that the object's surface touches.

    The papers say solid 1 mm voxels. Voxels of the surface alone miss the inside, and count whole where the surface
    grazes them: 3 to 5 times the exact volume for fingertips in an object, and too little for a deep overlap.

    Args:
        hand_vertices: (B, V, 3), m, object frame. hand_faces: (F, 3) int, closed, outward. pitch: m.

    Returns:
        (B,) m^3, NaN for a hand with NaN.
    """
    vertices = check_hands(hand_vertices, hand_faces)
    centres = np.asarray(trimesh.Trimesh(solid.vertices, solid.faces, process=False).voxelized(pitch).points)
    result = np.full(len(vertices), np.nan)
    for i in np.flatnonzero(finite_hands(vertices)):
        result[i] = np.count_nonzero(winding_numbers(vertices[i], hand_faces, centres) > 0) * pitch**3
    return result


def in_contact_as_released_by_volume(intersection_volume: np.ndarray) -> np.ndarray:
    """Contact in FastGrasp's evaluation of the adaptation module: the penetration volume is not zero.

    A hand that lies exactly on the surface, the ideal grasp, is not in contact.

    Args:
        intersection_volume: (B,), m^3.
    """
    return np.asarray(intersection_volume != 0)


def in_contact_as_released_by_sign(signed_distance: np.ndarray) -> np.ndarray:
    """Contact in HALO's evaluation: a hand vertex is inside the object. Rewards penetration as well.

    Args:
        signed_distance: (B, V), m.
    """
    return np.asarray(signed_distance.min(axis=1) < 0)


def contact_distance_as_released(hand_vertices: np.ndarray, object_points: np.ndarray) -> np.ndarray:
    """Distance of hand vertices to the object's point cloud, as CHOIR's contact metrics use it, without a sign.

    A vertex deep inside the object is not in contact, nor is one that lies on the surface between sparse points.

    Args:
        hand_vertices: (B, V, 3), m, without NaN. object_points: (N, 3), m, same frame.

    Returns:
        (B, V) m.
    """
    return cKDTree(object_points).query(hand_vertices)[0]


def cluster_size_as_released(keypoints: np.ndarray, clusters: int = CLUSTERS, seed: int = 0) -> float:
    """Cluster size in the code of GF, HALO, ContactGen and FastGrasp: each coordinate is divided by its own deviation.

    The result has no unit and does not see how far grasps differ: a set squeezed to a thousandth keeps its value. The
    original is unseeded, too.

    Args:
        keypoints: (N, K, 3), any unit, without NaN. clusters, seed: of K-means.
    """
    flat = whiten(np.asarray(keypoints, np.float64).reshape(len(keypoints), -1))
    return diversity(flat.reshape(keypoints.shape), clusters, seed).cluster_size


def displacement_as_released_by_oakink(final_center_of_mass: np.ndarray) -> np.ndarray:
    """Simulation displacement in OakInk's script: the distance of the final centre of mass from the origin.

    The body is placed by its inertial frame, so that the start that the script subtracts is zero: an object that never
    moves scores the offset of its centre of mass.

    Args:
        final_center_of_mass: (B, 3), m, object frame.

    Returns:
        (B,) m.
    """
    return np.linalg.norm(final_center_of_mass, axis=1)


def aligned_error_as_released(vertices: np.ndarray, true_vertices: np.ndarray) -> float:
    """Aligned hand error in HOMan's code: both hands are centred on the *truth's* mean, then scaled to one spread.

    The translation is not removed; worse, an estimate that is far away is shrunk towards the truth's centre, so that
    its error stays below twice the hand's own radius however far it is.

    Args:
        vertices: (V, 3), m. true_vertices: (V, 3), m, same frame.

    Returns:
        m; NaN where the estimate has NaN, or lies in one point at the truth's centre.
    """
    centre = true_vertices.mean(axis=0)
    estimate, truth = vertices - centre, true_vertices - centre
    spread = float(np.sqrt((estimate**2).sum() / len(estimate)))
    if not spread > 0:
        return float("nan")
    wanted = float(np.sqrt((truth**2).sum() / len(truth)))
    return float(np.linalg.norm(estimate * (wanted / spread) - truth, axis=1).mean())
