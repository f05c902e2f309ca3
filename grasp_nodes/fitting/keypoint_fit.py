"""Hands whose 21 keypoints are known in space, as data sets without MANO have them: one shape, a pose for each frame.

Least squares of the keypoints, with CPF's anatomical cost (equation 10) for what keypoints leave open: how a finger is
twisted about its bones, and which of two postures with the same joints is a hand's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import matrix_to_axis_angle
from grasp_nodes.hand.anatomy import HandAnatomy
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_KEYPOINTS, HandParams

LENGTH = 0.005
"""m: an error of a keypoint by which annotators differ."""
ANATOMY, POSTURE, SHAPE = 0.2, 0.02, 0.05
"""Weights of the anatomical cost, of squared angles away from the mean pose (rad) and of squared betas."""
PALM = (0, 5, 9, 13, 17)
"""Keypoints that hardly move against each other: the wrist and four knuckles."""
REACH = 0.1
"""m: unit of places, in which a step moves keypoints about as far as one of a radian turns them."""
ITERATIONS = 300


@dataclass(frozen=True)
class KeypointFit:
    """hands: T of one shape. errors: (T,), m, mean distance of their keypoints from those that were given."""

    hands: HandParams
    errors: np.ndarray


def fit_keypoints(model: HandModel, keypoints: np.ndarray) -> KeypointFit:
    """The hands of one person, from one data set's sequence.

    Args:
        model: of the hand's side. keypoints: (T, 21, 3), m, in the order of `KEYPOINT_NAMES`.

    Raises:
        InputError: no frames, or keypoints of another shape or not finite.
    """
    if keypoints.shape[1:] != (NUM_KEYPOINTS, 3) or not len(keypoints) or not np.isfinite(keypoints).all():
        raise InputError(f"keypoints: expected finite (T, 21, 3) with T of 1 or more, got {keypoints.shape}")
    skeleton = HandModel(model.arrays, torch.float64).vertex_subset([])
    anatomy = HandAnatomy.of_model(skeleton)
    target = torch.from_numpy(np.asarray(keypoints, np.float64))
    hands = _placed(skeleton, target)
    mean = skeleton.hands_mean
    unknown = [hands.global_orient, hands.hand_pose, hands.betas[:1], hands.transl / REACH]
    leaves = [value.clone().requires_grad_(True) for value in unknown]
    optimizer = torch.optim.LBFGS(leaves, max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe")

    def posed() -> HandParams:
        turn, pose, betas, transl = leaves
        return replace(
            hands, global_orient=turn, hand_pose=pose, betas=betas.expand(len(target), NUM_BETAS), transl=REACH * transl
        )

    def loss() -> Tensor:
        optimizer.zero_grad()
        own = posed()
        error = (skeleton(own).keypoints - target).square().sum(dim=(1, 2)) / LENGTH**2
        cost = error + ANATOMY * anatomy.costs(own.hand_pose).paper
        cost = cost + POSTURE * (own.hand_pose - mean).square().sum(dim=1)
        total = cost.sum() + SHAPE * len(target) * leaves[2].square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    with torch.no_grad():
        found = posed()
        found = replace(found, **{name: getattr(found, name).detach().clone() for name in _NAMES})
        errors = (skeleton(found).keypoints - target).norm(dim=2).mean(dim=1).numpy()
    return KeypointFit(found.to(dtype=model.dtype), errors)


_NAMES = ("global_orient", "hand_pose", "betas", "transl")


def _placed(model: HandModel, target: Tensor) -> HandParams:
    """Hands with the mean pose whose palms lie on those of the keypoints (Kabsch)."""
    count = len(target)
    hands = HandParams.zeros(count, model.side, torch.float64)
    hands = replace(hands, hand_pose=model.hands_mean.expand(count, -1).clone())
    with torch.no_grad():
        own = model(hands).keypoints[:, PALM]
    given = target[:, PALM]
    away, goal = own - own.mean(dim=1, keepdim=True), given - given.mean(dim=1, keepdim=True)
    left, _, right = torch.linalg.svd(goal.mT @ away)
    signs = torch.ones(count, 3, dtype=torch.float64)
    signs[:, 2] = torch.linalg.det(left @ right)
    turn = left @ (signs[..., None] * right)
    turned = replace(hands, global_orient=matrix_to_axis_angle(turn))
    with torch.no_grad():
        shift = (given - model(turned).keypoints[:, PALM]).mean(dim=1)
    return replace(turned, transl=shift)
