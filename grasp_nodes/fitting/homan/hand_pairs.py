"""Two hands that touch: vertices of one inside the other, from its nearest vertices' tangent planes.

Hands deform, so that no field can be built once as for an object; but near its surface a plane is field enough.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

REACH = 0.02
"""m; vertices farther apart than this say nothing about inside and outside."""


class HandPairMatch(NamedTuple):
    """For each vertex of one hand the nearest of the other: ids (T, V), its unit normal (T, V, 3), weight (T, V)."""

    nearest: Tensor
    normals: Tensor
    weight: Tensor


def match_hands(vertices: np.ndarray, others: np.ndarray, normals: np.ndarray, active: np.ndarray) -> HandPairMatch:
    """Find the nearest vertices.

    Args:
        vertices: (T, V, 3) float32, m, of one hand. others, normals: (T, U, 3) float32, of the other.
        active: (T,) bool, frames in which the two are near each other.
    """
    nearest, distance = _nearest(vertices, others, active)
    toward = torch.from_numpy(normals).gather(1, torch.from_numpy(nearest)[..., None].expand(-1, -1, 3))
    return HandPairMatch(torch.from_numpy(nearest), toward, torch.from_numpy((distance < REACH**2).astype(np.float32)))


def hand_pair_distances(match: HandPairMatch, vertices: Tensor, others: Tensor) -> Tensor:
    """Signed distances (T, V), m, of one hand's vertices to the other, negative inside; zero where nothing is near.

    Args:
        match: from :func:`match_hands`. vertices: (T, V, 3) and others: (T, U, 3), m, as they are now.
    """
    place = others.gather(1, match.nearest[..., None].expand(-1, -1, 3))
    return match.weight * ((vertices - place) * match.normals).sum(-1)


@njit(cache=True)
def _nearest(vertices: np.ndarray, others: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest other vertex (T, V) int64 and its squared distance (T, V), infinite in frames that are not active."""
    frames, count = vertices.shape[:2]
    nearest, distance = np.zeros((frames, count), np.int64), np.full((frames, count), np.inf, np.float32)
    for t in range(frames):
        if not active[t]:
            continue
        for i in range(count):
            x, y, z = vertices[t, i, 0], vertices[t, i, 1], vertices[t, i, 2]
            for j in range(others.shape[1]):
                dx, dy, dz = others[t, j, 0] - x, others[t, j, 1] - y, others[t, j, 2] - z
                square = dx * dx + dy * dy + dz * dz
                if square < distance[t, i]:
                    nearest[t, i], distance[t, i] = j, square
    return nearest, distance
