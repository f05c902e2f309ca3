"""CHOIR fields: distances of basis points to the object, and to the anchor of the hand that each of them measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from grasp_nodes.contact.choir.space import ChoirFrame, ChoirSpace
from grasp_nodes.errors import InputError
from grasp_nodes.hand.anchors import NUM_ANCHORS

_PAIRS_AT_ONCE = 1 << 25
"""Distances in one table on a GPU."""


@dataclass(frozen=True)
class ChoirField:
    """B fields of K basis points.

    object_distance: (B, K), scaled units, to the nearest of the object's points. anchor_distance: (B, K), scaled units,
    to the anchor that the point measures. frame: of the scenes. fingerprint: of the space.
    """

    object_distance: Tensor
    anchor_distance: Tensor
    frame: ChoirFrame
    fingerprint: str

    def __len__(self) -> int:
        return len(self.anchor_distance)

    def __getitem__(self, rows: slice | Tensor) -> ChoirField:
        """Some of the fields."""
        parts = (self.object_distance[rows], self.anchor_distance[rows], self.frame[rows])
        return ChoirField(*parts, self.fingerprint)


def make_field(space: ChoirSpace, points: Tensor, anchors: Tensor, frame: ChoirFrame | None = None) -> ChoirField:
    """Fields of hands at objects.

    Args:
        space: of the basis points. points: (B, P, 3) or (P, 3) of one object for all, m. anchors: (B, 32, 3), m.
        frame: None = about the mean of the points, scaled as the space wants.
    """
    many = points.expand(len(anchors), -1, -1) if points.ndim == 2 else points
    if frame is None:
        frame = space.frame(many.mean(dim=1), many, anchors)
    near = object_distances(space, points, frame)
    return ChoirField(near, anchor_distances(space, anchors, frame), frame, space.fingerprint)


def anchor_distances(space: ChoirSpace, anchors: Tensor, frame: ChoirFrame) -> Tensor:
    """(B, K), scaled units: from each basis point to its anchor; differentiable in anchors (B, 32, 3), m."""
    if anchors.shape[1:] != (NUM_ANCHORS, 3):
        raise InputError(f"CHOIR: expected anchors (B, {NUM_ANCHORS}, 3), got {tuple(anchors.shape)}")
    own = frame.scaled(anchors)[:, space.ids_on(anchors.device)]
    return (own - space.basis_like(anchors)).norm(dim=-1)


@torch.no_grad()
def object_distances(space: ChoirSpace, points: Tensor, frame: ChoirFrame) -> Tensor:
    """(B, K), scaled units: from each basis point to the nearest point of the object.

    On a CPU by k-d trees; scenes of one object that are seen alike share one.

    Args:
        points: (B, P, 3), or (P, 3) of one object for all scenes, m.
    """
    if points.ndim == 2:
        alike = bool((frame.center == frame.center[:1]).all()) and bool((frame.factor == frame.factor[:1]).all())
        if alike:
            one = _nearest(space, points[None], frame[:1])
            return one.expand(len(frame), -1)
        points = points.expand(len(frame), -1, -1)
    return _nearest(space, points, frame)


def _nearest(space: ChoirSpace, points: Tensor, frame: ChoirFrame) -> Tensor:
    if points.device.type == "cpu":
        rows = [cKDTree(one, balanced_tree=False).query(space.basis)[0] for one in frame.scaled(points).numpy()]
        return torch.from_numpy(np.stack(rows)).to(points.dtype)
    basis, scaled = space.basis_like(points), frame.scaled(points)
    step = max(1, _PAIRS_AT_ONCE // (len(basis) * points.shape[1]))
    parts = [torch.cdist(basis, part).amin(dim=2) for part in scaled.split(step)]
    return torch.cat(parts)
