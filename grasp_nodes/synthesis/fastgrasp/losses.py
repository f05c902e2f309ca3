"""The losses of FastGrasp (Wu et al., section 3.2): reconstruction, and GraspTTA's three of hand and object.

``loss = l1 parameters + l2 mesh + l3 contact + l4 penetration + l5 consistency``. The paper gives the weights but no
units and leaves three terms to GraspTTA (Jiang et al., ICCV 2021, sections 3.3 and 3.4). Ours are such that the
parameters lead while hands are far from the truth, and all terms are of one order once they are near:

- parameters: squared error of the vectors, summed over the numbers, each of deviation 1;
- mesh: Chamfer distance of the vertices, in units of (10 cm)²;
- contact: mean squared distance to the object of what usually touches and is nearer than 1 cm, m²;
- penetration: sum of the squared depths of 3,000 object points inside the hand, m²;
- consistency: a tenth of the mean squared difference of the two contact maps of the object's points (the whole kept
  hands from ever coming near). The maps are soft: the overlap of those that a threshold makes has no gradient.

Nearest points are found without gradient, distances to them have one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from grasp_nodes.fitting.homan.losses import contact_zones
from grasp_nodes.synthesis.fastgrasp.layers import LENGTH
from grasp_nodes.synthesis.nearest_points import nearest_index, taken
from grasp_nodes.synthesis.posed_vectors import PosedVectors, vertex_normals

CONTACT_REACH = 0.01
"""m; a vertex that is further away is left where it is."""
DEEPEST = 0.02
"""m; half of a palm's thickness and more. Points that seem deeper lie before the closed wrist or in a crease."""
CONTACT_WIDTH = 0.01
"""m; distance at which soft contact has fallen to exp(-1/2)."""
POINTS_COUNTED = 3000
"""Object points of the paper: penetration is a sum over so many."""
_PER_UNIT = 1.0 / LENGTH**2


@dataclass(frozen=True)
class LossWeights:
    """Of the five terms; the defaults are those of the auto-encoder (section 4.3)."""

    parameters: float = 0.1
    mesh: float = 1.0
    contact: float = 1000.0
    penetration: float = 10.0
    consistency: float = 10.0

    def without_physics(self) -> LossWeights:
        """Reconstruction alone: the ablation "no physical loss" of Table 4."""
        return replace(self, contact=0.0, penetration=0.0, consistency=0.0)


ADAPTATION_WEIGHTS = LossWeights(100.0, 0.1, 1000.0, 20.0, 0.1)
"""Of the adaptation module (section 4.3)."""
FREER_ADAPTATION_WEIGHTS = replace(ADAPTATION_WEIGHTS, parameters=1.0, contact=3000.0, penetration=100.0)
"""For a hand that is held to itself: with the others it would hardly move at all."""


class GraspLoss:
    """The weighted sum for hands of one coder.

    Args:
        posed: of the coder, of a full hand. weights: of the terms; those of weight 0 are not computed.
    """

    def __init__(self, posed: PosedVectors, weights: LossWeights) -> None:
        self.posed, self.weights = posed, weights
        self._zone = torch.cat(contact_zones(posed.coder.model))
        self._faces = posed.faces

    def __call__(
        self, vectors: Tensor, true_vectors: Tensor, true_vertices: Tensor, points: Tensor
    ) -> dict[str, Tensor]:
        """Terms by name, unweighted, and ``loss``, their weighted sum.

        Args:
            vectors, true_vectors: (B, D). true_vertices: (B, V, 3), m, of the true hands. points: (B, P, 3), m, of the
                objects, in the same frame.
        """
        weights = self.weights
        vectors = vectors.float()
        vertices = self.posed(vectors)
        terms: dict[str, Tensor] = {}
        if weights.parameters:
            terms["parameters"] = (vectors - true_vectors).square().sum(dim=1).mean()
        if weights.mesh:
            terms["mesh"] = _PER_UNIT * chamfer(vertices, true_vertices)
        if weights.contact:
            terms["contact"] = contact_loss(vertices[:, self._zone.to(vertices.device)], points)
        if weights.penetration or weights.consistency:
            nearest = nearest_index(points, vertices)
            if weights.penetration:
                normals = vertex_normals(vertices.detach(), self._faces.to(vertices.device))
                terms["penetration"] = penetration_loss(points, vertices, normals, nearest)
            if weights.consistency:
                true_map = contact_map(points, true_vertices, nearest_index(points, true_vertices))
                terms["consistency"] = consistency_loss(contact_map(points, vertices, nearest), true_map)
        total = vectors.new_zeros(())
        for name, value in terms.items():
            total = total + getattr(weights, name) * value
        return {"loss": total, **terms}


def chamfer(first: Tensor, second: Tensor) -> Tensor:
    """Chamfer distance of point sets (B, P, 3) and (B, Q, 3): mean squares to the nearest, both ways, added."""
    there = (first - taken(second, nearest_index(first, second))).square().sum(dim=2).mean()
    back = (second - taken(first, nearest_index(second, first))).square().sum(dim=2).mean()
    return there + back


def contact_loss(vertices: Tensor, points: Tensor, reach: float = CONTACT_REACH) -> Tensor:
    """GraspTTA's hand-centric term: mean squared distance to the nearest object point of the vertices within reach.

    Args:
        vertices: (B, V, 3), m, of what usually touches. points: (B, P, 3), m, of the object. reach: m.

    Returns:
        m²; mean over all vertices of the batch that are within reach, 0 if none is.
    """
    squared = (vertices - taken(points, nearest_index(vertices, points))).square().sum(dim=2)
    near = (squared.detach() < reach * reach).to(squared.dtype)
    return (squared * near).sum() / near.sum().clamp(min=1.0)


def penetration_loss(points: Tensor, vertices: Tensor, normals: Tensor, nearest: Tensor) -> Tensor:
    """Sum of squared distances to the nearest vertex of the object points behind its normal, mean over the batch.

    Args:
        points: (B, P, 3), m, of the object. vertices, normals: (B, V, 3), m and unit, of the hand.
        nearest: (B, P), vertex of each point.

    Returns:
        m², of `POINTS_COUNTED` points: a sparser or denser set gives the same but for its noise.
    """
    off = points - taken(vertices, nearest)
    squared = off.square().sum(dim=2)
    inside = ((off.detach() * taken(normals, nearest)).sum(dim=2) < 0) & (squared.detach() < DEEPEST * DEEPEST)
    return (squared * inside).sum() / len(points) * (POINTS_COUNTED / points.shape[1])


def contact_map(points: Tensor, vertices: Tensor, nearest: Tensor, width: float = CONTACT_WIDTH) -> Tensor:
    """(B, P) in 0..1: ``exp(-d² / (2 width²))`` of the distance d of object points to the hand's nearest vertex."""
    squared = (points - taken(vertices, nearest)).square().sum(dim=2)
    return torch.exp(-0.5 * squared / width**2)


def consistency_loss(first: Tensor, second: Tensor) -> Tensor:
    """A tenth of the mean squared difference of contact maps (B, P)."""
    return 0.1 * (first - second).square().mean()
