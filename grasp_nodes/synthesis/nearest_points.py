"""Nearest points between sets of a batch: found without gradient; what is worked out of them has one."""

from __future__ import annotations

import torch
from torch import Tensor

_ROWS = 32
"""Pairs of sets whose distances are worked out together on a CPU: their tables stay in its cache."""


@torch.no_grad()
def nearest_index(points: Tensor, others: Tensor) -> Tensor:
    """(B, P) int64: for each of points (B, P, 3) the nearest of others (B, Q, 3)."""
    if points.device.type != "cpu" or len(points) <= _ROWS:
        return torch.cdist(points, others).argmin(dim=2)
    pairs = zip(points.split(_ROWS), others.split(_ROWS), strict=True)
    return torch.cat([torch.cdist(one, other).argmin(dim=2) for one, other in pairs])


def taken(rows: Tensor, index: Tensor) -> Tensor:
    """(B, P, 3): rows (B, Q, 3) by index (B, P)."""
    return torch.gather(rows, 1, index[..., None].expand(-1, -1, rows.shape[2]))


def safe_norm(vectors: Tensor) -> Tensor:
    """Lengths (...) of vectors (..., 3); the gradient at zero length is 0 instead of NaN."""
    squared = vectors.square().sum(dim=-1)
    positive = squared > 0
    return torch.where(positive, squared, torch.ones_like(squared)).sqrt() * positive
