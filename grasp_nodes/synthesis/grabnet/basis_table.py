"""Basis points' distances of objects in many turns, worked out before a training: a k-d tree per step is too slow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.learning.object_encoders import BasisPoints
from grasp_nodes.synthesis.principal_frames import drawn_principal_turns

DISTANCES = "distances"


@dataclass(frozen=True, eq=False)
class BasisTable:
    """K objects in T turns each.

    distances: (K, T, basis) float16, m. turns: (K, T, 3, 3), of the object; the first is none, unless they are into the
    frames of principal axes.
    """

    distances: Tensor
    turns: Tensor

    @staticmethod
    def of(
        points: Tensor,
        basis: BasisPoints,
        turns: int,
        seed: int = 0,
        report: Callable[[int, int], None] | None = None,
        principal: bool = False,
    ) -> BasisTable:
        """Of objects.

        Args:
            points: (K, P, 3), m, in no order, their middle at the origin. basis: see there. turns: of each. seed: of
                them. report: is told objects done, and in all.
            principal: into the frame of their principal axes, each time as other few of the points tell it.
        """
        generator = torch.Generator().manual_seed(seed)
        if principal:
            drawn = [drawn_principal_turns(points, k, generator) for k in range(turns)]
            every = torch.stack(drawn, dim=1)
        else:
            every = random_rotations(len(points) * turns, generator, dtype=points.dtype).view(-1, turns, 3, 3)
            every[:, 0] = torch.eye(3, dtype=points.dtype)
        rows = []
        for number, (one, turn) in enumerate(zip(points, every, strict=True)):
            rows.append(basis(one @ turn.mT).half())
            if report is not None:
                report(number + 1, len(points))
        return BasisTable(torch.stack(rows), every)

    def turned(self, batch: Mapping[str, Tensor], which: Tensor, coder: HandCoder) -> dict[str, Tensor]:
        """A batch of grasps that are not turned (`GraspBatches`), turned, with ``distances`` (B, basis).

        Args:
            which: (B,) int64, turn of each row.
        """
        objects = batch["object"]
        turn = self.turns[objects, which]
        parts = coder.parts_of(batch["code"], batch["betas"]).turned(turn.to(batch["code"].dtype))
        return {
            **batch,
            "points": batch["points"] @ turn.to(batch["points"].dtype).mT,
            "code": coder.vectors(parts),
            "turn": turn,
            DISTANCES: self.distances[objects, which].float(),
        }
