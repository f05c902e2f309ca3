"""Grasps from hand parameters and back: what generators end with, and what judges start from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from grasp_nodes.contact.interaction import Grasp, HandState
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import matrix_to_quaternion
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams


def hand_states(params: HandParams, model: HandModel) -> list[HandState]:
    """One state per hand, metric, in the frame of the parameters.

    Args:
        params: B hands of the model's side.
    """
    with torch.no_grad():
        posed = model(params.to(dtype=model.dtype, device=model.device))
    keypoints = posed.keypoints.double().cpu().numpy()
    frames = posed.joint_frames.double().cpu()
    poses = torch.cat([frames[..., :3, 3], matrix_to_quaternion(frames[..., :3, :3])], dim=-1).numpy()
    return [
        HandState(params[k : k + 1], keypoints[k], poses[k], model.model_id, model.fingerprint, is_metric=True)
        for k in range(len(params))
    ]


def make_grasps(params: HandParams, model: HandModel, scores: np.ndarray | None = None) -> list[Grasp]:
    """Grasps of B hands in the order given.

    Args:
        params: B hands of the model's side, object frame. scores: (B,), higher is better; None = all 0.
    """
    given = np.zeros(len(params)) if scores is None else np.asarray(scores, np.float64)
    return [Grasp(state, float(score)) for state, score in zip(hand_states(params, model), given, strict=True)]


def stack_hands(grasps: Sequence[Grasp]) -> HandParams:
    """The hands of grasps of one side as one batch, float32 on the CPU.

    Raises:
        InputError: no grasp, or hands of both sides.
    """
    sides = {grasp.hand.params.side for grasp in grasps}
    if len(sides) != 1:
        raise InputError(f"grasps: expected hands of one side, got {sorted(sides) or 'none'}")
    return stack_params([grasp.hand.params.to(dtype=torch.float32, device="cpu") for grasp in grasps])


def stack_params(params: Sequence[HandParams]) -> HandParams:
    """Hands of one side, dtype and device as one batch."""
    return HandParams(
        global_orient=torch.cat([part.global_orient for part in params]),
        hand_pose=torch.cat([part.hand_pose for part in params]),
        betas=torch.cat([part.betas for part in params]),
        transl=torch.cat([part.transl for part in params]),
        scale=torch.cat([part.scale for part in params]),
        side=params[0].side,
    )
