"""Whether, where and how much a hand touches the object. Every function states its threshold."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.mesh import face_normals_and_areas, mesh_edges

CONTACT_RATIO_DISTANCE = 0.005
"""m; FastGrasp's evaluation counts a grasp with any hand vertex nearer than this as in contact."""
AGREEMENT_DISTANCE = 0.002
"""m; CHOIR, section C.1."""
CONTACT_AREA_DISTANCE = 0.005
"""m; JHOD, figure 11."""
FINGER_CONTACT_DISTANCE = 0.002
"""m; a finger with a vertex nearer than this, or inside, touches."""


def in_contact(signed_distance: np.ndarray, threshold: float = CONTACT_RATIO_DISTANCE) -> np.ndarray:
    """Whether any vertex of each hand is nearer to the object than a threshold, or inside it.

    Args:
        signed_distance: (B, V), m, negative inside the object. threshold: m.

    Returns:
        (B,) bool; False for a hand with NaN.
    """
    return np.asarray((signed_distance < threshold).any(axis=1))


def contact_ratio(signed_distance: np.ndarray, threshold: float = CONTACT_RATIO_DISTANCE) -> float:
    """Contact ratio of FastGrasp, section 4.2: the share of grasps in contact, 0..1. A grasp with NaN has none."""
    return float(in_contact(signed_distance, threshold).mean())


def contact_percentage(signed_distance: np.ndarray) -> float:
    """Contact % of HOMan, section 4.2: share of frames (0..1) with exact surface contact or interpenetration.

    Args:
        signed_distance: (B, V), m: one row per frame.
    """
    return float((signed_distance <= 0).any(axis=1).mean())


def contact_accuracy(signed_distance: np.ndarray, labels: np.ndarray) -> float:
    """Contact accuracy of HOMan: share of frames (0..1) whose contact, as in `contact_percentage`, is the labelled one.

    Args:
        signed_distance: (B, V), m: one row per frame. labels: (B,) bool. A frame with NaN is wrong either way.
    """
    labels = np.asarray(labels, bool)
    if labels.shape != signed_distance.shape[:1]:
        raise InputError(f"contact labels: expected shape {signed_distance.shape[:1]}, got {labels.shape}")
    finite = np.isfinite(signed_distance).all(axis=1)
    return float((finite & ((signed_distance <= 0).any(axis=1) == labels)).mean())


def fingers_in_contact(
    signed_distance: np.ndarray, finger_of_vertices: np.ndarray, threshold: float = FINGER_CONTACT_DISTANCE
) -> np.ndarray:
    """Which fingers touch the object.

    Args:
        signed_distance: (B, V), m. finger_of_vertices: (V,) int, see `penetration.finger_of_vertices`. threshold: m.

    Returns:
        (B, 5) bool: thumb, index, middle, ring, little.
    """
    touching = signed_distance < threshold
    return np.stack([touching[:, finger_of_vertices == finger].any(axis=1) for finger in range(5)], axis=1)


def contact_area(
    hand_vertices: np.ndarray,
    hand_faces: np.ndarray,
    signed_distance: np.ndarray,
    threshold: float = CONTACT_AREA_DISTANCE,
) -> np.ndarray:
    """Contact area of JHOD: area of the hand's skin that is nearer than 5 mm to the object, or inside it.

    A face counts with the share of its corners that are in contact. Give the skin's own faces, without the wrist's cap,
    and an up-sampled hand where faces are large against the patch.

    Args:
        hand_vertices: (B, V, 3), m. hand_faces: (F, 3) int. signed_distance: (B, V), m. threshold: m.

    Returns:
        (B,) m^2, NaN for a hand with NaN.
    """
    touching = (signed_distance < threshold)[:, hand_faces].mean(axis=2)
    areas = np.stack([face_normals_and_areas(np.asarray(one, np.float64), hand_faces)[1] for one in hand_vertices])
    return (touching * areas).sum(axis=1)


def midpoint_upsampling(faces: np.ndarray, vertex_count: int, levels: int = 1) -> tuple[sp.csr_matrix, np.ndarray]:
    """Splits each triangle into four without moving the surface, as a matrix for every pose of the mesh.

    Args:
        faces: (F, 3) int. vertex_count: V. levels: how often.

    Returns:
        matrix (V', V), rows add up to one, the first V rows are the old vertices; and the new faces.
    """
    matrix: sp.csr_matrix = sp.identity(vertex_count, format="csr")
    faces = np.asarray(faces, np.int64)
    for _ in range(levels):
        edges, count = mesh_edges(faces), matrix.shape[0]
        rows = np.repeat(np.arange(len(edges.vertices)), 2)
        halves = sp.csr_matrix((np.full(len(rows), 0.5), (rows, edges.vertices.ravel())), (len(edges.vertices), count))
        matrix = sp.vstack([matrix, halves @ matrix]).tocsr()
        middle = count + edges.face_edges
        corners = [np.stack([faces[:, k], middle[:, k], middle[:, k - 1]], axis=1) for k in range(3)]
        faces = np.concatenate([*corners, middle])
    return matrix, faces


def upsample(matrix: sp.csr_matrix, hand_vertices: np.ndarray) -> np.ndarray:
    """Vertices (B, V', 3) of the up-sampled hands (B, V, 3)."""
    batch, count = hand_vertices.shape[:2]
    flat = np.ascontiguousarray(np.moveaxis(hand_vertices, 0, 1)).reshape(count, -1)
    return np.moveaxis((matrix @ flat).reshape(-1, batch, 3), 1, 0)


class ContactAgreement(NamedTuple):
    """Of each grasp, (B,): precision, recall and F1, 0..1; NaN where there is nothing to divide by."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def contact_agreement(
    signed_distance: np.ndarray, true_signed_distance: np.ndarray, threshold: float = AGREEMENT_DISTANCE
) -> ContactAgreement:
    """Hand contact precision, recall and F1 of CHOIR, section C.1: binary contact maps on an up-sampled hand at 2 mm.

    The paper measures to the object's points, this to its surface; a vertex inside the object is in contact.

    Args:
        signed_distance: (B, V), m, of the estimated hand's (up-sampled) vertices to the object.
        true_signed_distance: (B, V), m, of the true hand's.
    """
    if signed_distance.shape != true_signed_distance.shape:
        raise InputError(
            f"signed distances: expected the truth's shape {true_signed_distance.shape}, got {signed_distance.shape}"
        )
    found, true = signed_distance < threshold, true_signed_distance < threshold
    hits = (found & true).sum(axis=1).astype(np.float64)
    known = np.isfinite(signed_distance).all(axis=1) & np.isfinite(true_signed_distance).all(axis=1)

    def share(of: np.ndarray, scale: float = 1.0) -> np.ndarray:
        return np.divide(scale * hits, of, out=np.full(len(hits), np.nan), where=known & (of > 0))

    found_count, true_count = found.sum(axis=1), true.sum(axis=1)
    return ContactAgreement(share(found_count), share(true_count), share(found_count + true_count, 2.0))
