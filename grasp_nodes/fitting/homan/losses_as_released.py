"""Error terms as HOMan's released code computes them where it differs from the paper: to explain a table, nothing else.

The terms that the fit uses are in `losses`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def local_contact_loss_as_released(hand_vertices: Tensor, object_vertices: Tensor, reach: float = 0.02) -> Tensor:
    """`local`: every hand vertex, inside or outside, is drawn to the nearest object vertex with one saturation.

    The code asks which vertices lie outside by the sign of a distance that was clamped to be positive before, so that
    all of them take the branch of repulsion and none that of attraction. A vertex inside is drawn out of the object,
    one outside is drawn in, fingers far from the object included; and between sparse object vertices the surface itself
    is not where the term is least.

    Args:
        hand_vertices: (T, V, 3), m. object_vertices: (T, N, 3), m, same frame. reach: m.

    Returns:
        m; mean over frames and vertices.
    """
    nearest = torch.cdist(hand_vertices.detach(), object_vertices.detach()).argmin(dim=-1)
    target = object_vertices.gather(1, nearest[..., None].expand(-1, -1, 3))
    distance = (hand_vertices - target).norm(dim=-1)
    return (reach * torch.tanh(distance / reach)).mean()
