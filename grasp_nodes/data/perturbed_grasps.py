"""Grasps with the errors of an estimated pose: what a refinement is to mend."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import axis_angle_to_matrix
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.hand.placement import move_hands

_KNUCKLES = [5, 9, 13, 17]


@dataclass(frozen=True)
class PoseNoise:
    """Standard deviations of normal noise on every component: shift, m; turn, rad; each of the 45 of the pose, rad."""

    shift: float = 0.01
    turn: float = math.radians(10.0)
    pose: float = 0.2

    def __post_init__(self) -> None:
        if min(self.shift, self.turn, self.pose) < 0:
            raise InputError(f"pose noise: expected deviations of at least 0, got {self}")


def perturbed(hands: HandParams, model: HandModel, noise: PoseNoise, generator: torch.Generator) -> HandParams:
    """Hands that are shifted, turned about the middle of their knuckles, and bent at random.

    Args:
        hands: B hands of the model's side and dtype. generator: of the noise.
    """

    def normal(size: int, deviation: float) -> torch.Tensor:
        return deviation * torch.randn(len(hands), size, generator=generator, dtype=model.dtype)

    with torch.no_grad():
        pivot = model(hands).keypoints[:, _KNUCKLES].mean(dim=1)
    turn = axis_angle_to_matrix(normal(3, noise.turn))
    moved = torch.eye(4, dtype=model.dtype).repeat(len(hands), 1, 1)
    moved[:, :3, :3] = turn
    moved[:, :3, 3] = pivot + normal(3, noise.shift) - (turn @ pivot[..., None])[..., 0]
    bent = replace(hands, hand_pose=hands.hand_pose + normal(hands.hand_pose.shape[1], noise.pose))
    return move_hands(bent, moved, model)
