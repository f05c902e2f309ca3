"""Objects in the frames of their principal axes, in training and when grasps are made.

Papers train and judge in the frames of a data set, in which like objects stand alike. Objects of any turn have none:
their principal axes are what comes nearest.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.learning.steps import Step
from grasp_nodes.synthesis.flow.frames import FLIPS, principal_turns

_SEEN_POINTS = 64
"""From which a training sees axes: their noise turns what has no axes of its own at random."""
_STREAM = 4
"""Of a step's random numbers: those of the half turns."""


def in_principal_frames(batch: Mapping[str, Tensor], step: Step, coder: HandCoder) -> dict[str, Tensor]:
    """A batch of `GraspBatches` with objects and hands turned to the objects' axes, and one of the four half turns."""
    points = batch["points"]
    flips = FLIPS[torch.from_numpy(step.rng(_STREAM).integers(len(FLIPS), size=len(points)))]
    turn = flips @ principal_turns(points[:, :_SEEN_POINTS])
    parts = coder.parts_of(batch["code"], batch["betas"]).turned(turn.to(batch["code"].dtype))
    return {
        **batch,
        "points": points @ turn.mT,
        "normals": batch["normals"] @ turn.mT,
        "code": coder.vectors(parts),
        "turn": turn.to(batch["turn"].dtype) @ batch["turn"],
    }


def drawn_principal_turns(points: Tensor, flip: int, generator: torch.Generator) -> Tensor:
    """(K, 3, 3): into the principal frames of point sets (K, P, 3) as a few of their points tell them.

    Args:
        flip: number of the half turn, any integer. generator: of the choice of points, one for all sets.
    """
    few = torch.randperm(points.shape[1], generator=generator)[:_SEEN_POINTS]
    return FLIPS[flip % len(FLIPS)].to(points) @ principal_turns(points[:, few])


def flipped_turns(points: Tensor, count: int) -> Tensor:
    """Turns (count, 3, 3) into the principal frames of point sets (count, P, 3) or (1, P, 3), by half turns."""
    flips = FLIPS.to(points)[torch.arange(count, device=points.device) % len(FLIPS)]
    return flips @ principal_turns(points)
