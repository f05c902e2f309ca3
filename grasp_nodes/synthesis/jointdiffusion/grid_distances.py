"""Distances to objects from their signed distance grids, beyond the grids' boxes as well.

Within the box a look-up tells the distance. From outside the nearest point of the box is asked for the surface point
that is nearest to *it*: the distance to that one is at most a few millimetres too large, the grid's own continuation,
which adds the way to the box, a centimetre.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.geometry.stacked_distance import StackedDistances


def distances_by_grid(grid: SignedDistanceGrid, points: Tensor) -> Tensor:
    """(B, P), m, >= 0: from points (B, P, 3), m, in an object's frame to its surface, inside or outside."""
    low, high = grid.origin.cpu().double().numpy(), grid.upper.cpu().double().numpy()

    def asked(clamped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distance, gradient = grid.query(clamped.reshape(-1, 3))
        return distance.reshape(clamped.shape[:-1]), gradient.reshape(clamped.shape)

    return _distances(points, low, high, asked)


def distances_by_stack(stack: StackedDistances, points: Tensor, objects: Tensor) -> Tensor:
    """The same of points (B, P, 3) each row in the frame of its object, objects (B,) int64."""
    index = objects.numpy()
    low = stack.origins.double().numpy()[index][:, None]
    size = (stack.shapes.numpy()[index] - 1) * stack.spacings.double().numpy()[index][:, None]
    return _distances(points, low, low + size[:, None], lambda clamped: stack.query(clamped, index))


def _distances(
    points: Tensor,
    low: np.ndarray,
    high: np.ndarray,
    asked: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> Tensor:
    places = points.detach().cpu().double().numpy()
    clamped = np.ascontiguousarray(np.clip(places, low, high))
    distance, gradient = asked(clamped)
    length = np.maximum(np.linalg.norm(gradient, axis=-1, keepdims=True), 1e-6)
    surface = clamped - distance[..., None] * gradient / length
    return torch.from_numpy(np.linalg.norm(places - surface, axis=-1)).to(points.dtype)
