"""Refinement driven by contact alone: what ContactOpt does (Grady et al., CVPR 2021), without its network.

ContactOpt predicts where hand and object touch and moves the hand until they do. Here the skin that touches in most
grasps (the palmar side of the fingers and the palm) is drawn to the surface, each patch by its nearest part, and skin
inside the object is pushed out: place, turn and 15 principal components by AMSGrad, 250 steps of 0.01, as there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from grasp_nodes.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.pads import contact_patches
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.model import ObjectModel


@dataclass(frozen=True)
class ContactDrivenSettings:
    """steps, rate: of AMSGrad; places are in units of `length` (m). components: of the posture.

    softness: m, of the soft least distance of a patch. pads: weight of fingertips, other patches have 1. depth: weight
    of penetration. posture: of the change of the posture, per squared coefficient.
    """

    steps: int = 250
    rate: float = 0.01
    length: float = 0.05
    components: int = 15
    softness: float = 0.003
    pads: float = 3.0
    depth: float = 600.0
    posture: float = 0.02


class ContactDrivenRefiner:
    """Refines hands of one model at an object.

    Args:
        model: full, on the CPU. settings: see there.
    """

    def __init__(self, model: HandModel, settings: ContactDrivenSettings | None = None) -> None:
        self.model, self.settings = model, settings or ContactDrivenSettings()
        patches = contact_patches(model)
        self._patches = [torch.from_numpy(rows) for rows in patches.values()]
        self._weights = torch.tensor([self.settings.pads if name.endswith("_pad") else 1.0 for name in patches])

    def __call__(self, hands: HandParams, object_model: ObjectModel) -> HandParams:
        """B hands in the object's frame; each is a problem of its own."""
        s, model = self.settings, self.model
        start = hands.to(dtype=model.dtype)
        orient = axis_angle_to_matrix(start.global_orient)
        basis = model.hands_components[: s.components]
        turn = torch.zeros_like(start.transl).requires_grad_(True)
        shift = torch.zeros_like(start.transl).requires_grad_(True)
        bend = start.transl.new_zeros(len(start), s.components).requires_grad_(True)

        def moved() -> HandParams:
            return replace(
                start,
                global_orient=matrix_to_axis_angle(axis_angle_to_matrix(turn) @ orient),
                hand_pose=start.hand_pose + bend @ basis,
                # A hand turns about its wrist: turning does not move it.
                transl=start.transl + s.length * shift,
            )

        optimiser = torch.optim.Adam([turn, shift, bend], lr=s.rate, amsgrad=True)
        weights = self._weights.to(start.transl)
        for _ in range(s.steps):
            optimiser.zero_grad(set_to_none=True)
            distance = object_model.signed_distance(model(moved()).vertices)
            outside = distance.clamp(min=0.0)
            least = torch.stack(
                [-s.softness * torch.logsumexp(-outside[:, rows] / s.softness, dim=1) for rows in self._patches], dim=1
            )
            attraction = (weights * least / s.length).sum(dim=1)
            depth = s.depth * (-distance).clamp(min=0.0).mean(dim=1)
            (attraction + depth + s.posture * bend.square().sum(dim=1)).sum().backward()
            optimiser.step()
        with torch.no_grad():
            found = moved()
        return found
