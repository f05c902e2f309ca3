"""Closes fingers onto an object by a line search: each finger bends until it touches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.evaluation.penetration import finger_of_vertices
from grasp_nodes.fitting.grasp_hand import GraspHand, GraspPose
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.hand.keypoints import FINGERS

ALL_JOINTS, OUTER_JOINTS = (0, 1, 2), (1, 2)
_COUPLED = {0: 1.0, 1: 1.0, 2: 0.67}
"""rad of a joint per rad of the search: the last joint bends with the one before it."""


class FingerCloser:
    """Line search over the bends of all fingers at once.

    Args:
        hand: in the search's variables.
    """

    def __init__(self, hand: GraspHand) -> None:
        self._hand = hand
        finger = finger_of_vertices(hand.model.arrays.weights)
        self._rows = [torch.from_numpy(np.flatnonzero(finger == number)) for number in range(len(FINGERS))]
        names = hand.freedom.names
        self._of_finger = torch.tensor([[name.startswith(one + "_") for name in names] for one in FINGERS])
        self._bend = torch.tensor(
            [_COUPLED[int(name[-1])] if "_bend_" in name else 0.0 for name in names], dtype=hand.model.dtype
        )

    def directions(self, joints: Sequence[int]) -> Tensor:
        """(D,): what one rad of closing adds to the angles, for some of the joints of every finger."""
        moving = [any(name.endswith(f"_bend_{joint}") for joint in joints) for name in self._hand.freedom.names]
        return self._bend * torch.tensor(moving)

    def close(
        self,
        pose: GraspPose,
        distance: SignedDistanceGrid,
        direction: Tensor,
        span: tuple[float, float],
        steps: int,
        depth: float,
        moving: Tensor | None = None,
        only_to_touch: bool = False,
    ) -> GraspPose:
        """Move each finger along `direction` to the last of `steps` places before it is deeper than `depth`.

        Fingers are independent of each other once the palm stands still, so that all are tried at once. A finger that
        is too deep at its most open place stays as it was; so does one that meets nothing, if it is told to.

        Args:
            pose: B hands. distance: to the object. direction: (D,) or (B, D), angles per unit.
            span: where the search begins and ends, in units of `direction`; negative = opens. steps: places tried.
            depth: m, that a finger may be in the object. moving: (B, 5) or (5,) bool, fingers that
                may move, None = all. only_to_touch: leave a finger that is free at every place.
        """
        hand, batch = self._hand, len(pose)
        places = torch.linspace(*span, steps, dtype=pose.angles.dtype)
        low, high = torch.minimum(hand.low, pose.angles), torch.maximum(hand.high, pose.angles)
        tried = pose.angles[:, None] + places[:, None] * direction.expand(batch, -1)[:, None]
        tried = torch.minimum(torch.maximum(tried, low[:, None]), high[:, None])  # (B, S, D)
        vertices, _ = hand.posed(pose.repeated(steps).with_angles(tried.flatten(0, 1)))
        signed = distance(vertices).view(batch, steps, -1)
        angles = pose.angles.clone()
        allowed = torch.ones(batch, len(FINGERS), dtype=torch.bool) if moving is None else moving.expand(batch, -1)
        for number in range(len(FINGERS)):
            free = signed[:, :, self._rows[number]].amin(dim=2) > -depth
            reached = free.int().cumprod(dim=1).sum(dim=1)  # places passed before the first that is too deep
            chosen = tried[torch.arange(batch), (reached - 1).clamp(min=0)]
            meets = (reached > 0) & ((reached < steps) | (not only_to_touch))
            mine = self._of_finger[number] & (meets & allowed[:, number])[:, None]
            angles = torch.where(mine, chosen, angles)
        return pose.with_angles(angles)
