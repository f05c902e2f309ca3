"""Signed distances to many rigid objects at once: their grids behind each other in one array.

Each row of points asks an object of its own, as a training batch does; the answers are those of
`SignedDistanceGrid`, grid by grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid, query_grid


@dataclass(frozen=True, eq=False)
class StackedDistances:
    """Distances at the nodes of K regular grids of different sizes, interpolated trilinearly.

    values: (sum of nodes,) float32, m, grid after grid, each in C order. shapes: (K, 3) int64, nodes.
    origins: (K, 3) float32, m, of each grid's first node, in its object's frame. spacings: (K,) float64, m.
    All on one device.
    """

    values: Tensor
    shapes: Tensor
    origins: Tensor
    spacings: Tensor

    def __post_init__(self) -> None:
        count = len(self.shapes)
        shapes = {name: tuple(getattr(self, name).shape) for name in ("shapes", "origins", "spacings")}
        if shapes != {"shapes": (count, 3), "origins": (count, 3), "spacings": (count,)}:
            raise InputError(
                f"stacked distances: expected shapes (K, 3), origins (K, 3) and spacings (K,), got {shapes}"
            )
        if not count or int(self.shapes.min()) < 2 or not bool((self.spacings > 0).all()):
            raise InputError(
                "stacked distances: expected at least one grid, of 2 nodes and more each way, spaced above 0"
            )
        nodes = int(self.shapes.prod(dim=1).sum())
        if self.values.shape != (nodes,):
            raise InputError(f"stacked distances: expected {nodes} values, got shape {tuple(self.values.shape)}")

    @staticmethod
    def of(grids: Sequence[SignedDistanceGrid]) -> StackedDistances:
        """Grids of objects as one, in their order.

        Raises:
            InputError: there are none.
        """
        if not grids:
            raise InputError("stacked distances: expected at least one grid")
        return StackedDistances(
            torch.cat([grid.values.reshape(-1).float() for grid in grids]),
            torch.tensor([grid.values.shape for grid in grids]),
            torch.stack([grid.origin.float() for grid in grids]),
            torch.tensor([grid.spacing for grid in grids], dtype=torch.float64),
        )

    def __len__(self) -> int:
        return len(self.shapes)

    def to(self, device: str | torch.device) -> StackedDistances:
        """The same on another device."""
        parts = (self.values, self.shapes, self.origins, self.spacings)
        return StackedDistances(*(part.to(device) for part in parts))

    def __call__(self, points: Tensor, objects: Tensor) -> Tensor:
        """Signed distances, differentiable in the points.

        Args:
            points: (B, P, 3), m, each row in the frame of its object. objects: (B,) int64, which object.

        Returns:
            (B, P), m, in the dtype of the points.

        Raises:
            InputError: other shapes, or an object that is not there.
        """
        if points.ndim != 3 or points.shape[2] != 3 or objects.shape != points.shape[:1]:
            raise InputError(
                f"points and objects: expected (B, P, 3) and (B,), got {tuple(points.shape)} and {tuple(objects.shape)}"
            )
        self.check(objects)
        if points.device.type == "cpu":
            return _OnCpu.apply(points, objects, self)
        return self.by_gather(points, objects)

    def check(self, objects: Tensor) -> None:
        """See that these are numbers of its objects.

        Raises:
            InputError: an object that is not there.
        """
        if len(objects) and not 0 <= int(objects.min()) <= int(objects.max()) < len(self):
            raise InputError(
                f"objects: expected 0 to {len(self) - 1}, got {int(objects.min())} to {int(objects.max())}"
            )

    def by_gather(self, points: Tensor, objects: Tensor) -> Tensor:
        """`__call__` in torch's own operations, for any device; NaN for NaN."""
        origin, spacing = self.origins[objects][:, None], self.spacings[objects][:, None, None].to(self.values.dtype)
        size = self.shapes[objects][:, None]
        place = (points.to(self.values.dtype) - origin) / spacing
        inside = torch.minimum(place.clamp(min=0.0), (size - 1).to(place.dtype))
        base = torch.minimum(torch.nan_to_num(inside.detach()).long(), size - 2)
        share = inside - base
        stride = torch.stack([size[..., 1] * size[..., 2], size[..., 2], torch.ones_like(size[..., 0])], dim=-1)
        first = self._starts[objects][:, None] + (base * stride).sum(dim=-1)
        found = self.values[first].new_zeros(first.shape)
        for corner in range(8):
            bits = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1], device=points.device)
            weight = torch.where(bits.bool(), share, 1.0 - share).prod(dim=-1)
            found = found + weight * self.values[first + (bits * stride).sum(dim=-1)]
        return (found + ((place - inside) * spacing).norm(dim=-1)).to(points.dtype)

    def query(self, points: np.ndarray, objects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances (B, P), m, and gradients (B, P, 3) at points (B, P, 3), float64; on the CPU."""
        values, starts, shapes, origins, spacings = self.arrays
        distance, gradient = np.empty(points.shape[:2]), np.empty(points.shape)
        inner = np.ascontiguousarray(points, np.float64)
        _query_stack(values, starts, shapes, origins, spacings, objects, inner, distance, gradient)
        return distance, gradient

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Values, first values, shapes, origins (float64) and spacings of the grids, for compiled functions."""
        values, starts, shapes = (part.cpu().numpy() for part in (self.values, self._starts, self.shapes))
        return values, starts, shapes, self.origins.cpu().double().numpy(), self.spacings.cpu().numpy()

    @cached_property
    def _starts(self) -> Tensor:
        nodes = self.shapes.prod(dim=1)
        return torch.cumsum(nodes, dim=0) - nodes


class _OnCpu(torch.autograd.Function):
    """One compiled pass for distance and gradient."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, objects: Tensor, stack: StackedDistances) -> Tensor:
        distance, gradient = stack.query(points.detach().numpy(), objects.numpy())
        if points.requires_grad:
            ctx.save_for_backward(torch.from_numpy(gradient).to(points.dtype))
        return torch.from_numpy(distance).to(points.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream[0][..., None] * gradient, None, None


@njit(cache=True)
def _query_stack(
    values: np.ndarray,
    starts: np.ndarray,
    shapes: np.ndarray,
    origins: np.ndarray,
    spacings: np.ndarray,
    objects: np.ndarray,
    points: np.ndarray,
    distance: np.ndarray,
    gradient: np.ndarray,
) -> None:
    for row in range(len(objects)):
        k = objects[row]
        x, y, z = shapes[k, 0], shapes[k, 1], shapes[k, 2]
        grid = values[starts[k] : starts[k] + x * y * z].reshape((x, y, z))
        distance[row], gradient[row] = query_grid(grid, origins[k], spacings[k], points[row])
