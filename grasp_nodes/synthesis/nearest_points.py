"""Nearest points between sets of a batch: found without gradient; what is worked out of them has one."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

_ABREAST = 64
"""Points that are compared with one of the others at once, in the lanes of vector registers."""


@torch.no_grad()
def nearest_index(points: Tensor, others: Tensor) -> Tensor:
    """(B, P) int64: for each of points (B, P, 3) the nearest of others (B, Q, 3), the first of equally near ones.

    On a CPU every pair is compared, in vector registers: for some hundred points that is many times as fast as trees. A
    point with NaN or infinity has the first one.
    """
    if points.device.type != "cpu":
        return torch.cdist(points, others).argmin(dim=2)
    found = np.zeros(points.shape[:2], np.int64)
    _search(
        np.ascontiguousarray(points.detach().float().numpy()),
        np.ascontiguousarray(others.detach().float().numpy()),
        found,
    )
    return torch.from_numpy(found)


def taken(rows: Tensor, index: Tensor) -> Tensor:
    """(B, P, 3): rows (B, Q, 3) by index (B, P)."""
    return torch.gather(rows, 1, index[..., None].expand(-1, -1, rows.shape[2]))


def safe_norm(vectors: Tensor) -> Tensor:
    """Lengths (...) of vectors (..., 3); the gradient at zero length is 0 instead of NaN."""
    squared = vectors.square().sum(dim=-1)
    positive = squared > 0
    return torch.where(positive, squared, torch.ones_like(squared)).sqrt() * positive


@njit(cache=True, fastmath={"contract"})
def _search(points: np.ndarray, others: np.ndarray, found: np.ndarray) -> None:
    x, y, z = np.empty(_ABREAST, np.float32), np.empty(_ABREAST, np.float32), np.empty(_ABREAST, np.float32)
    best, index = np.empty(_ABREAST, np.float32), np.empty(_ABREAST, np.int32)
    for row in range(len(points)):
        for start in range(0, points.shape[1], _ABREAST):
            count = min(_ABREAST, points.shape[1] - start)
            for k in range(_ABREAST):
                # Lanes beyond the last point compare it again, so that the inner loop has one length.
                source = start + min(k, count - 1)
                x[k], y[k], z[k] = points[row, source, 0], points[row, source, 1], points[row, source, 2]
                best[k], index[k] = np.inf, 0
            for j in range(others.shape[1]):
                there = others[row, j]
                for k in range(_ABREAST):
                    dx, dy, dz = x[k] - there[0], y[k] - there[1], z[k] - there[2]
                    squared = dx * dx + dy * dy + dz * dz
                    closer = squared < best[k]
                    best[k] = squared if closer else best[k]
                    index[k] = np.int32(j) if closer else index[k]
            for k in range(count):
                found[row, start + k] = index[k]
