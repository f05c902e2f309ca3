"""CHOIR's own test-time optimisation (section B.2), by Adam in two stages: what our solver is compared with.

Stage 1 moves a hand until the distances of all basis points to its anchors are those of the field. Stage 2 draws the
skin that the contact Gaussians name to its five nearest object points, and pushes skin out of the object.
Constants are those of the authors' published configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.contact.choir.field import ChoirField
from grasp_nodes.contact.choir.gaussians import ContactGaussians, ContactSkin, decode_contacts
from grasp_nodes.contact.choir.space import ChoirSpace
from grasp_nodes.fitting.choir.choir_fit import FittedHands
from grasp_nodes.geometry.rotations import (
    matrix_to_axis_angle,
    matrix_to_rotation_6d,
    rotation_6d_to_matrix,
)
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, HandParams
from grasp_nodes.objects.model import ObjectModel

_NEIGHBOURS = 5
_PATIENCE = 10


@dataclass(frozen=True)
class AdamFitSettings:
    """components: of the hand's posture that are moved; 45 = all.

    rate, halved_every (steps), steps, least_change: of stage 1; it ends after ten steps in which the loss changed less.
    field, shape, posture: weights of stage 1. surface_rate, surface_steps, cooled_every, cooled: of stage 2.
    contact, depth: weights of stage 2. tolerance: m, that skin may be in the object.
    """

    components: int = 15
    rate: float = 8e-2
    halved_every: int = 100
    steps: int = 1000
    least_change: float = 1e-6
    field: float = 1000.0
    shape: float = 1e-4
    posture: float = 1e-2
    surface_rate: float = 1e-3
    surface_steps: int = 1000
    cooled_every: int = 50
    cooled: float = 0.9
    contact: float = 500.0
    depth: float = 1000.0
    tolerance: float = 0.002


class AdamChoirFit:
    """The paper's procedure with the interface of `ChoirFit`.

    Args:
        model: full. space: of the fields. settings: see there.
    """

    def __init__(self, model: HandModel, space: ChoirSpace, settings: AdamFitSettings | None = None) -> None:
        self.model, self.space, self.settings = model, space, settings or AdamFitSettings()
        self._skin = ContactSkin.of_model(model)

    def stage1(self, field: ChoirField) -> FittedHands:
        """Hands whose anchors have the distances of B fields, from the mean posture at the object's centre.

        Raises:
            InputError: fields of another space.
        """
        self.space.check(field.fingerprint, "field")
        s, model, batch = self.settings, self.model, len(field)
        distances = field.anchor_distance.to(dtype=model.dtype, device=model.device)
        basis = self.space.basis_like(distances).expand(batch, -1, -1)
        ids = self.space.ids_on(model.device)[None, :, None].expand(batch, -1, 1)
        frame = field.frame
        eye = torch.eye(3, dtype=model.dtype, device=model.device).expand(batch, 3, 3)
        orient = matrix_to_rotation_6d(eye).clone().requires_grad_(True)
        place = torch.zeros(batch, 3, dtype=model.dtype, device=model.device).requires_grad_(True)
        posture = torch.zeros(batch, s.components, dtype=model.dtype, device=model.device).requires_grad_(True)
        betas = torch.zeros(batch, NUM_BETAS, dtype=model.dtype, device=model.device).requires_grad_(True)

        def loss() -> Tensor:
            anchors = anchors_of(model).positions(model(self._hands(orient, place, posture, betas, field)).vertices)
            told = torch.gather(torch.cdist(basis, frame.scaled(anchors)), 2, ids)[..., 0]
            # Each hand is a problem of its own: means over its field, sums over the batch.
            agreement = (told - distances).square().mean(dim=1)
            prior = s.shape * betas.square().sum(dim=1) + s.posture * posture.square().sum(dim=1)
            return s.field * agreement + prior

        rate = (s.rate, s.halved_every, 0.5)
        cost, steps = _descended([orient, place, posture, betas], loss, rate, s.steps, s.least_change)
        with torch.no_grad():
            hands = self._hands(orient, place, posture, betas, field)
            anchors = anchors_of(model).positions(model(hands).vertices).double().cpu()
        return FittedHands(hands.to(device="cpu"), cost, np.full(batch, steps), anchors)

    def stage2(
        self,
        fitted: FittedHands,
        gaussians: ContactGaussians | None,
        object_model: ObjectModel,
        steps: int | None = None,
    ) -> FittedHands:
        """Hands on the object's surface; arguments as for `ChoirFit.stage2`. Place and turn of the hand stay."""
        s, model = self.settings, self.model
        start = fitted.hands.to(dtype=model.dtype, device=model.device)
        points = torch.as_tensor(object_model.points, dtype=model.dtype, device=model.device)
        normals = torch.as_tensor(object_model.normals, dtype=model.dtype, device=model.device)
        pose, betas = start.hand_pose.clone().requires_grad_(True), start.betas.clone().requires_grad_(True)

        def hands() -> HandParams:
            return HandParams(start.global_orient, pose, betas, start.transl, start.scale, start.side)

        def loss() -> Tensor:
            vertices = model(hands()).vertices
            table = torch.cdist(vertices, points.expand(len(vertices), -1, -1))
            near = table.topk(_NEIGHBOURS, dim=2, largest=False)
            total = vertices.new_zeros(len(vertices))
            if gaussians is not None:
                weight = decode_contacts(self._skin, gaussians, vertices).detach()
                total = s.contact * (weight * near.values.mean(dim=2)).sum(dim=1)
            away = ((vertices - points[near.indices[..., 0]]) * normals[near.indices[..., 0]]).sum(dim=-1)
            return total + s.depth * (-away - s.tolerance).clamp(min=0.0).sum(dim=1)

        rate = (s.surface_rate, s.cooled_every, s.cooled)
        limit = s.surface_steps if steps is None else steps
        cost, count = _descended([pose, betas], loss, rate, limit, s.least_change)
        with torch.no_grad():
            found = hands().to(device="cpu")
        found = replace(found, hand_pose=found.hand_pose.detach(), betas=found.betas.detach())
        return FittedHands(found, cost, np.full(len(found), count), fitted.anchors)

    def __call__(self, field: ChoirField, gaussians: ContactGaussians | None, object_model: ObjectModel) -> FittedHands:
        """Both stages."""
        return self.stage2(self.stage1(field), gaussians, object_model)

    def _hands(self, orient: Tensor, place: Tensor, posture: Tensor, betas: Tensor, field: ChoirField) -> HandParams:
        """place: (B, 3), in units of 0.1 m, as rates are common to all unknowns, from the object's centre."""
        turn = rotation_6d_to_matrix(orient)
        pose = self.model.pose_from_pca(posture)
        transl = field.frame.center.to(place) + 0.1 * place
        return HandParams(
            matrix_to_axis_angle(turn), pose, betas, transl, torch.ones_like(betas[:, 0]), self.model.side
        )


def _descended(
    leaves: list[Tensor],
    loss: Callable[[], Tensor],
    rate: tuple[float, int, float],
    steps: int,
    least_change: float,
) -> tuple[np.ndarray, int]:
    """Adam on the sum of B losses; rate: (first, steps, factor after so many). The losses (B,), and steps made."""
    optimiser = torch.optim.Adam(leaves, lr=rate[0])
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, rate[1], rate[2])
    before, waited, count = float("inf"), 0, 0
    values = loss().detach()
    while count < steps and waited < _PATIENCE:
        optimiser.zero_grad(set_to_none=True)
        each = loss()
        each.sum().backward()
        optimiser.step()
        schedule.step()
        count += 1
        values = each.detach()
        now = float(values.mean())
        waited = waited + 1 if abs(before - now) < least_change else 0
        before = now
    return values.double().cpu().numpy(), count
