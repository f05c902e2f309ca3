"""Nearest points between sets of a batch: found without gradient; what is worked out of them has one."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor


@torch.no_grad()
def nearest_index(points: Tensor, others: Tensor) -> Tensor:
    """(B, P) int64: for each of points (B, P, 3) the nearest of others (B, Q, 3).

    On a CPU by trees, five times as fast as a table of all distances; a point with NaN or infinity has the first one.
    """
    if points.device.type != "cpu":
        return torch.cdist(points, others).argmin(dim=2)
    pairs = zip(points.detach().float().numpy(), others.detach().float().numpy(), strict=True)
    found = np.stack([_nearest(one, other) for one, other in pairs])
    return torch.from_numpy(found)


def taken(rows: Tensor, index: Tensor) -> Tensor:
    """(B, P, 3): rows (B, Q, 3) by index (B, P)."""
    return torch.gather(rows, 1, index[..., None].expand(-1, -1, rows.shape[2]))


def safe_norm(vectors: Tensor) -> Tensor:
    """Lengths (...) of vectors (..., 3); the gradient at zero length is 0 instead of NaN."""
    squared = vectors.square().sum(dim=-1)
    positive = squared > 0
    return torch.where(positive, squared, torch.ones_like(squared)).sqrt() * positive


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """A tree refuses what is not finite; the loop of the training then says that the loss is not."""
    if not (np.isfinite(points).all() and np.isfinite(others).all()):
        return np.zeros(len(points), np.int64)
    return cKDTree(others).query(points)[1]
