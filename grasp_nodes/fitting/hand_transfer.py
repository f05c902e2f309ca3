"""The same grasps with another hand: its keypoints and contacts go where those of the first hand are.

Two hand models have other lengths and skins, so that the same angles neither reach the same places nor touch. Least
squares of the 21 keypoints and of the 32 anchors of the palm side (CPF), whose weight rises where the first hand is at
the object; angles stay near those of the first hand and within anatomy, where keypoints leave them open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from grasp_nodes.hand.anatomy import HandAnatomy
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, HandParams
from grasp_nodes.objects.model import ObjectModel

_PALM = (0, 5, 9, 13, 17)


@dataclass(frozen=True)
class TransferSettings:
    """Of the transfer.

    steps, rate: of Adam, rad; places move by a tenth of that in m. length: m, of an error that costs 1.
    contact: weight of an anchor that touches beside 1 of one that is far. near: m, from the object where it is half.
    anatomy: weight of CPF's cost of angles. posture: of squared angles (rad) away from those of the first hand.
    """

    steps: int = 120
    rate: float = 0.02
    length: float = 0.005
    contact: float = 5.0
    near: float = 0.008
    anatomy: float = 0.1
    posture: float = 0.5


def transfer_hands(
    hands: HandParams,
    source: HandModel,
    target: HandModel,
    object_model: ObjectModel | None = None,
    betas: np.ndarray | None = None,
    settings: TransferSettings | None = None,
) -> HandParams:
    """Hands of another model that are where these are.

    Args:
        hands: B of the source model, in any frame. source, target: full hands of one side, on the CPU.
        object_model: in the frame of the hands, at which contact counts more; None = all anchors count the same.
        betas: (10,), the shape of the target hand; None = zeros.

    Returns:
        B hands of the target model, of its dtype.

    Raises:
        InputError: models of two sides.
    """
    if source.side != target.side:
        raise InputError(f"hands of a {source.side} model cannot be told by a {target.side} one: mirror them first")
    s = settings or TransferSettings()
    if not len(hands):
        return hands
    with torch.no_grad():
        posed = source(hands.to(dtype=source.dtype, device=source.device))
        places = anchors_of(source).positions(posed.vertices).to(target.dtype)
        keypoints = posed.keypoints.to(target.dtype)
        weight = torch.ones_like(places[..., 0])
        if object_model is not None:
            distance = object_model.signed_distance(places)
            weight = 1.0 + s.contact * torch.sigmoid(4.0 * (1.0 - distance / s.near))
    shape = torch.zeros(NUM_BETAS) if betas is None else torch.as_tensor(np.asarray(betas))
    start = replace(
        hands.to(dtype=target.dtype),
        betas=shape.to(target.dtype).expand(len(hands), -1).clone(),
        scale=torch.ones(len(hands), dtype=target.dtype),
    )
    skin = _Anchored(target)
    start = _palm_to_palm(start, skin, keypoints)
    anatomy = HandAnatomy.of_model(target)
    turn, pose = torch.zeros_like(start.transl), start.hand_pose.clone()
    shift = torch.zeros_like(start.transl)
    leaves = [one.requires_grad_(True) for one in (turn, pose, shift)]
    optimiser = torch.optim.Adam(
        [{"params": leaves[:2], "lr": s.rate}, {"params": [shift], "lr": 0.1 * s.rate}], betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, s.steps, 0.05 * s.rate)
    rest = axis_angle_to_matrix(start.global_orient)

    def moved() -> HandParams:
        own = matrix_to_axis_angle(axis_angle_to_matrix(turn) @ rest)
        return replace(start, global_orient=own, hand_pose=pose, transl=start.transl + shift)

    for _ in range(s.steps):
        optimiser.zero_grad(set_to_none=True)
        own_keypoints, own_places = skin(moved())
        cost = (own_keypoints - keypoints).square().sum(dim=(1, 2)) / s.length**2
        cost = cost + (weight * (own_places - places).square().sum(dim=2)).sum(dim=1) / s.length**2
        cost = cost + s.anatomy * anatomy.costs(pose).paper
        cost = cost + s.posture * (pose - start.hand_pose).square().sum(dim=1)
        cost.sum().backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        found = moved()
    return replace(
        found, global_orient=found.global_orient.detach(), hand_pose=pose.detach(), transl=found.transl.detach()
    )


class _Anchored:
    """Keypoints (B, 21, 3) and anchors (B, 32, 3), m, of a model's hands, without the rest of their skin."""

    def __init__(self, model: HandModel) -> None:
        anchors = anchors_of(model)
        ids, rows = np.unique(anchors.faces, return_inverse=True)
        self._model = model.vertex_subset(ids.tolist())
        self._anchors = replace(anchors, faces=rows.reshape(anchors.faces.shape))

    def __call__(self, hands: HandParams) -> tuple[Tensor, Tensor]:
        posed = self._model(hands)
        return posed.keypoints, self._anchors.positions(posed.vertices)


def _palm_to_palm(hands: HandParams, skin: _Anchored, keypoints: Tensor) -> HandParams:
    """The hands turned and moved so that their palms lie on those of keypoints (B, 21, 3) (Kabsch)."""
    with torch.no_grad():
        own, given = skin(hands)[0][:, _PALM], keypoints[:, _PALM]
        away, goal = own - own.mean(dim=1, keepdim=True), given - given.mean(dim=1, keepdim=True)
        left, _, right = torch.linalg.svd(goal.mT @ away)
        signs = torch.ones_like(goal[:, 0])
        signs[:, 2] = torch.linalg.det(left @ right)
        turn = left @ (signs[..., None] * right)
        orient = matrix_to_axis_angle(turn @ axis_angle_to_matrix(hands.global_orient))
        turned = replace(hands, global_orient=orient)
        shift = (given - skin(turned)[0][:, _PALM]).mean(dim=1)
        return replace(turned, transl=hands.transl + shift)
