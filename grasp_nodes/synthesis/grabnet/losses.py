"""GrabNet's losses (GRAB, section 5): vertices, edges, and the distances between hand and object, all absolute errors.

The paper gives no numbers; the weights are those that the authors published with it. Lengths in m.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.geometry.mesh import mesh_edges
from grasp_nodes.synthesis.nearest_points import nearest_index, safe_norm, taken
from grasp_nodes.synthesis.posed_vectors import PosedVectors, vertex_normals

NEAR = 0.01
"""m; object points further from the true hand count little."""
INSIDE_WEIGHT, NEAR_WEIGHT, FAR_WEIGHT = 1.5, 1.0, 0.1


@dataclass(frozen=True)
class GrabNetWeights:
    """vertices, edges: of the hand. hand_to_object, object_to_hand: distances. divergence: of CoarseNet's latents."""

    vertices: float = 35.0
    edges: float = 30.0
    hand_to_object: float = 20.0
    object_to_hand: float = 10.0
    divergence: float = 0.005


class GrabNetLoss:
    """The weighted sum.

    Args:
        posed: of the vectors' coder. weights: of the terms.
    """

    def __init__(self, posed: PosedVectors, weights: GrabNetWeights) -> None:
        self._weights, self._faces = weights, posed.faces
        self._edges = torch.from_numpy(np.ascontiguousarray(mesh_edges(posed.faces.numpy()).vertices))

    def __call__(self, vertices: Tensor, true_vertices: Tensor, points: Tensor) -> dict[str, Tensor]:
        """Terms by name, unweighted, m, and ``loss``, their weighted sum.

        Args:
            vertices, true_vertices: (B, V, 3), m. points: (B, P, 3), m, of the objects, in the same frame.
        """
        edges, faces = self._edges.to(vertices.device), self._faces.to(vertices.device)
        signed, true_signed = (signed_to_hand(points, one, faces) for one in (vertices, true_vertices))
        terms = {
            "vertices": (vertices - true_vertices).abs().mean(),
            "edges": (edge_vectors(vertices, edges) - edge_vectors(true_vertices, edges)).abs().mean(),
            "hand_to_object": (distance_to(vertices, points) - distance_to(true_vertices, points)).abs().mean(),
            "object_to_hand": (point_weights(signed, true_signed) * (signed - true_signed).abs()).mean(),
        }
        total = vertices.new_zeros(())
        for name, value in terms.items():
            total = total + getattr(self._weights, name) * value
        return {"loss": total, **terms}


def edge_vectors(vertices: Tensor, edges: Tensor) -> Tensor:
    """(B, E, 3), m: from one end of each edge (E, 2) to the other."""
    return vertices[:, edges[:, 1]] - vertices[:, edges[:, 0]]


def distance_to(points: Tensor, others: Tensor) -> Tensor:
    """(B, P), m: from points (B, P, 3) to the nearest of others (B, Q, 3)."""
    return safe_norm(points - taken(others, nearest_index(points, others)))


def signed_to_hand(points: Tensor, vertices: Tensor, faces: Tensor) -> Tensor:
    """(B, P), m: from object points (B, P, 3) to the nearest vertex of hands (B, V, 3), negative behind its normal."""
    nearest = nearest_index(points, vertices)
    off = points - taken(vertices, nearest)
    behind = (off.detach() * taken(vertex_normals(vertices.detach(), faces), nearest)).sum(dim=2) < 0
    return torch.where(behind, -1.0, 1.0) * safe_norm(off)


def point_weights(signed: Tensor, true_signed: Tensor) -> Tensor:
    """What each object point counts (B, P): most inside the told hand, little far from the true one."""
    near = torch.where(true_signed.detach().abs() < NEAR, NEAR_WEIGHT, FAR_WEIGHT)
    return torch.where(signed.detach() < 0, INSIDE_WEIGHT, near)
