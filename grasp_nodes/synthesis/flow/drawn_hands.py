"""How good hands are that a network draws while it is trained: without simulation, in milliseconds."""

from __future__ import annotations

import numpy as np
import torch

from grasp_nodes.evaluation.contact_metrics import FINGER_CONTACT_DISTANCE
from grasp_nodes.evaluation.good import GOOD_DEPTH, GOOD_FINGERS
from grasp_nodes.evaluation.penetration import finger_of_vertices
from grasp_nodes.hand.codes import HandCoder, HandParts
from grasp_nodes.hand.model import HandModel
from grasp_nodes.synthesis.flow.fields import DistanceField
from grasp_nodes.synthesis.flow.hand_points import HandPoints


class DrawnHandsJudge:
    """Measures hands at objects.

    Values: ``depth_mm`` (mean), ``shallow`` (share below 5 mm), ``fingers`` (mean number in contact) and ``promising``
    (share that is shallow and touches with three fingers).

    Args:
        model: a full hand.
    """

    def __init__(self, model: HandModel) -> None:
        fingers = finger_of_vertices(model.arrays.weights)
        self._fingers = [torch.from_numpy(np.flatnonzero(fingers == finger)) for finger in range(5)]

    def __call__(
        self, coder: HandCoder, points: HandPoints, parts: HandParts, field: DistanceField
    ) -> dict[str, float]:
        """The values of B hands and their objects, all on the coder's device."""
        signed = field(coder.posed(parts)[0])
        # The skin's depth, or a wall's depth in the hand.
        clearance = points.clearance(parts, field)
        depth = (-torch.minimum(signed.amin(dim=1), clearance.amin(dim=1))).clamp(min=0)
        touching = torch.stack([signed[:, ids].amin(dim=1) < FINGER_CONTACT_DISTANCE for ids in self._fingers], dim=1)
        fingers, shallow = touching.sum(dim=1), depth < GOOD_DEPTH
        return {
            "depth_mm": 1e3 * float(depth.mean()),
            "shallow": float(shallow.float().mean()),
            "fingers": float(fingers.float().mean()),
            "promising": float((shallow & (fingers >= GOOD_FINGERS)).float().mean()),
        }
