"""Moves posed hands as rigid bodies: MANO's parameters in another frame, vertices where the motion puts them.

A hand model turns a hand about its wrist joint, which is not at the origin, so a rotation of the frame changes
`transl` by more than the rotation of `transl`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams


def move_hands(hands: HandParams, transform: Tensor | np.ndarray, model: HandModel) -> HandParams:
    """The same hands seen from another frame.

    With the wrist at ``w = scale J0(betas) + transl``: ``w' = R w + t``, hence ``transl' = R w + t - (w - transl)``.

    Args:
        hands: B hands of the model's side, dtype and device.
        transform: (4, 4) or (B, 4, 4), the hands' frame to the new one; rigid, m.
        model: of these hands; only its rest wrist matters.

    Returns:
        Hands whose every vertex x is at ``R x + t`` of the given hands.

    Raises:
        InputError: the transforms are not rigid, or not one or B of them.
    """
    matrix = torch.as_tensor(transform).to(model.dtype).to(model.device)
    if matrix.shape not in ((4, 4), (len(hands), 4, 4)):
        raise InputError(f"transform: expected shape (4, 4) or ({len(hands)}, 4, 4), got {tuple(matrix.shape)}")
    turn, shift = matrix[..., :3, :3].expand(len(hands), 3, 3), matrix[..., :3, 3].expand(len(hands), 3)
    off = (turn @ turn.mT - torch.eye(3, dtype=turn.dtype, device=turn.device)).abs()
    if len(hands) and not (off.max() < 1e-3 and torch.linalg.det(turn).min() > 0):
        raise InputError("transform: expected rotations without scale or reflection")
    orient = matrix_to_axis_angle(turn @ axis_angle_to_matrix(hands.global_orient))
    wrist = wrist_positions(hands, model)
    moved_wrist = (turn @ wrist[..., None])[..., 0] + shift
    return replace(hands, global_orient=orient, transl=moved_wrist - (wrist - hands.transl))


def place_wrists(hands: HandParams, wrist: Tensor | np.ndarray, model: HandModel) -> HandParams:
    """The same hands with their wrist joint (``joints[:, 0]``) at given positions.

    This reads data whose translation is that of the wrist (manotorch and manopth with ``center_idx=0``).

    Args:
        hands: B hands. wrist: (B, 3), m. model: of these hands.
    """
    target = torch.as_tensor(wrist).to(model.dtype).to(model.device)
    return replace(hands, transl=hands.transl + target - wrist_positions(hands, model))


def wrist_positions(hands: HandParams, model: HandModel) -> Tensor:
    """(B, 3), m, of the wrist joint; turning the hand does not move it."""
    return model.joints(hands)[0][:, 0]
