"""The contact map of a posed hand and an object, from signed distances both ways."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from scipy.special import expit

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.springs import SPRING_REACH, anchor_elasticities
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.mesh import MeshEdges, mesh_edges
from grasp_nodes.geometry.mesh_distance import MeshDistance
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.objects.model import ObjectModel

CONTACT_THRESHOLD = 0.005
"""m; below this distance a point counts as touched."""


def soft_contact(signed_distance: np.ndarray, threshold: float = CONTACT_THRESHOLD) -> np.ndarray:
    """Contact from a distance: ``1 / (1 + exp(4 (d / threshold - 1)))``.

    One half at the threshold, 0.98 at the surface, 0.02 at twice the threshold, towards 1 inside; strictly falling.

    Args:
        signed_distance: (...), m, negative inside. threshold: m.

    Returns:
        (...) float32 in [0, 1].
    """
    if not threshold > 0:
        raise InputError(f"threshold: must be positive (m), got {threshold}")
    return expit(4 * (1 - np.asarray(signed_distance) / threshold)).astype(np.float32)


def compute_contact_map(
    hand_vertices: np.ndarray,
    hand_faces: np.ndarray,
    object_model: ObjectModel,
    threshold: float = CONTACT_THRESHOLD,
    hand_side: Literal["right", "left"] = "right",
    hand_track_id: int = 0,
    anchors: HandAnchors | None = None,
    spring_reach: float = SPRING_REACH,
) -> ContactMap:
    """Where a hand touches an object.

    Object points are measured against the exact hand mesh, hand vertices against the object's signed distance grid.
    With anchors each object point also has the region of the hand's skin that is closest to it, however far that is,
    and the elasticity of CPF (equation 4) to the nearest anchor of that region, 0 from `spring_reach` on.

    Args:
        hand_vertices: (V, 3), m, object frame. hand_faces: (F, 3) int, closed (the wrist's loop filled), outward.
        threshold: m, where contact is one half.
        anchors: of the hand's model; None = region and elasticity are left as *not computed*. spring_reach: m.

    Returns:
        The contact map on ``object_model.points``.

    Raises:
        InputError: NaN in the hand, or arrays that are no mesh.
    """
    mesh = MeshDistance(hand_vertices, hand_faces, _edges(np.ascontiguousarray(hand_faces, np.int64).tobytes()))
    # Surface points follow the list of faces, so that neighbours in the list are close in space.
    to_hand, closest, face = mesh.signed(object_model.points, coherent=True)
    to_object, _ = object_model.signed_distance.query(hand_vertices)
    vertices = np.asarray(hand_vertices, np.float64)
    springs = {}
    if anchors is not None:
        corners = np.asarray(hand_faces, np.int64)[face]
        springs = _springs(anchors, vertices, corners, object_model.points, closest, spring_reach)
    return ContactMap(
        object_id=object_model.object_id,
        points=object_model.points,
        signed_distance=to_hand.astype(np.float32),
        contact=soft_contact(to_hand, threshold),
        hand_signed_distance=to_object.astype(np.float32),
        hand_contact=soft_contact(to_object, threshold),
        contact_threshold=threshold,
        hand_side=hand_side,
        hand_track_id=hand_track_id,
        **springs,
    )


def _springs(
    anchors: HandAnchors,
    vertices: np.ndarray,
    corners: np.ndarray,
    points: np.ndarray,
    closest: np.ndarray,
    reach: float,
) -> dict[str, np.ndarray]:
    """Region and elasticity of object points; corners: (N, 3) vertex ids of the face that holds `closest` (N, 3)."""
    away = np.square(vertices[corners] - closest[:, None]).sum(axis=2)
    region = anchors.vertex_region[corners[np.arange(len(corners)), away.argmin(axis=1)]]
    # An anchor is no nearer to a point than the skin is.
    near = np.flatnonzero(np.square(points - closest).sum(axis=1) < reach**2)
    elasticity = np.zeros(len(points), np.float32)
    elasticity[near] = (
        anchor_elasticities(
            anchors,
            anchors.positions(torch.from_numpy(vertices[None])),
            torch.from_numpy(np.asarray(points[near], np.float64)),
            torch.from_numpy(region[None, near]),
            reach,
        )[0]
        .amax(dim=1)
        .numpy()
    )
    return {"region": region.astype(np.uint8), "elasticity": elasticity}


@lru_cache(maxsize=8)
def _edges(faces: bytes) -> MeshEdges:
    """Edges of a topology that comes again with every frame."""
    return mesh_edges(np.frombuffer(faces, np.int64).reshape(-1, 3))
