"""Signed distance to objects in the frames that the network sees them in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.geometry.stacked_distance import StackedDistances
from grasp_nodes.synthesis.flow.compiled_slope import Objects


class DistanceField(Protocol):
    """Objects of B hands, each in the frame of its hand."""

    def __call__(self, points: Tensor) -> Tensor:
        """Signed distances (B, P), m, of points (B, P, 3), m; differentiable."""
        ...

    def rows(self, chosen: Tensor | slice) -> DistanceField:
        """The objects of some of the hands."""
        ...

    @property
    def arrays(self) -> Objects | None:
        """For compiled loops; None on other devices than the CPU."""
        ...


@dataclass(frozen=True)
class OneObject:
    """All hands are at one object.

    grid: of the object, in its frame. turn: (B, 3, 3) and shift: (B, 3), m: a point x of a hand's frame is at
    ``turn x + shift`` of the object's; turns may reflect.
    """

    grid: SignedDistanceGrid
    turn: Tensor
    shift: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        """As `DistanceField`."""
        return self.grid(points @ self.turn.mT + self.shift[:, None])

    def rows(self, chosen: Tensor | slice) -> OneObject:
        """As `DistanceField`."""
        return replace(self, turn=self.turn[chosen], shift=self.shift[chosen])

    @cached_property
    def arrays(self) -> Objects | None:
        """As `DistanceField`."""
        if self.turn.device.type != "cpu":
            return None
        values, origin = self.grid.arrays
        none, spacing = np.zeros(1, np.int64), np.array([self.grid.spacing])
        stack = values.reshape(-1), none, np.array([values.shape]), origin[None], spacing
        return Objects(*stack, none.repeat(len(self.turn)), float64_array(self.turn), float64_array(self.shift))


@dataclass(frozen=True)
class ManyObjects:
    """Each hand is at an object of its own; fields as of `OneObject`. stack: of all objects. index: (B,) into them."""

    stack: StackedDistances
    index: Tensor
    turn: Tensor
    shift: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        """As `DistanceField`."""
        return self.stack(points @ self.turn.mT + self.shift[:, None], self.index)

    def rows(self, chosen: Tensor | slice) -> ManyObjects:
        """As `DistanceField`."""
        return replace(self, index=self.index[chosen], turn=self.turn[chosen], shift=self.shift[chosen])

    @cached_property
    def arrays(self) -> Objects | None:
        """As `DistanceField`."""
        if self.turn.device.type != "cpu":
            return None
        self.stack.check(self.index)
        values, starts, shapes, origins, spacings = self.stack.arrays
        which = np.ascontiguousarray(self.index.numpy())
        turn, shift = float64_array(self.turn), float64_array(self.shift)
        return Objects(values, starts, shapes, origins, spacings, which, turn, shift)


def with_slope(field: DistanceField, points: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (B, P), m, and their gradients (B, P, 3) at points (B, P, 3), both without a graph."""
    with torch.enable_grad():
        leaf = points.detach().requires_grad_(True)
        distance = field(leaf)
        (slope,) = torch.autograd.grad(distance.sum(), leaf)
    return distance.detach(), slope


def float64_array(tensor: Tensor) -> np.ndarray:
    """As compiled loops read it."""
    return np.ascontiguousarray(tensor.detach().numpy(), np.float64)
