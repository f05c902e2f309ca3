"""The springs as CPF's authors released them, where that differs from their paper; for comparisons only."""

from __future__ import annotations

import torch
from torch import Tensor

from grasp_nodes.contact.springs import AttractiveSprings
from grasp_nodes.hand.anchors import FINGERTIP_REGIONS, HandAnchors

_NOT_TIP = 0.1


def attraction_as_released(springs: AttractiveSprings, anchors: HandAnchors, anchor_positions: Tensor) -> Tensor:
    """Attraction in CPF's code: the mean over a hand's springs of ``t k |a - v|^2``, t = 1 at fingertips, else 0.1.

    The paper adds springs up, weighs them alike and halves the energy. With the mean, a hand that touches at one point
    is held as firmly as one that holds with the whole palm.

    Args:
        springs: of B hands. anchors: of the hand. anchor_positions: (B, 32, 3), m, object frame.

    Returns:
        (B,), m^2; 0 for a hand without springs.
    """
    tip = torch.isin(torch.as_tensor(anchors.region), torch.tensor(FINGERTIP_REGIONS)).to(anchor_positions.device)
    weights = _NOT_TIP + (1.0 - _NOT_TIP) * tip.to(anchor_positions.dtype)
    ends = torch.gather(anchor_positions, 1, springs.anchor[..., None].expand(-1, -1, 3))
    squared = (ends - springs.point).square().sum(dim=-1)
    total = (weights[springs.anchor] * springs.elasticity * squared).sum(dim=1)
    return total / springs.count.clamp(min=1)


def repulsion_as_released(
    hand_vertices: Tensor,
    points: Tensor,
    normals: Tensor,
    stiffness: float = 1e-3,
    reach: float = 0.020,
    candidates: int = 50,
    bound: float = 0.080,
) -> Tensor:
    """Repulsion in CPF's code: all distances, sorted, and an exponent in metres.

    Each object point has pairs with its 50 nearest hand vertices, as far as they are within reach; the energy
    ``k / 2 exp(-2 h)``, h in metres and clamped, is divided by the number of object points with a pair. Over the reach
    the exponential changes by 4 %: a push that does not know how deep it is.

    Args:
        hand_vertices: (B, V, 3), m, object frame. points, normals: (N, 3), m and unit.
        stiffness: k. reach: m. candidates: pairs of one object point at most. bound: m, of h.

    Returns:
        (B,), 0 where no pair is within reach. Differentiable; memory grows with B N V.
    """
    distance = torch.cdist(points.expand(len(hand_vertices), -1, -1), hand_vertices)
    order = distance.argsort(dim=2)[..., :candidates]
    near = distance.gather(2, order) < reach
    rows = torch.arange(len(hand_vertices), device=order.device)[:, None, None]
    height = ((hand_vertices[rows, order] - points[:, None]) * normals[:, None]).sum(dim=-1)
    pushed = 0.5 * stiffness * torch.exp(-2 * height.clamp(-bound, bound)) * near
    return pushed.sum(dim=(1, 2)) / near.any(dim=2).sum(dim=1).clamp(min=1)
