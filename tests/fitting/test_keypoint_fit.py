"""Hands from keypoints in space: hands that made them are found again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.data.grasp_set import open_grasps
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.keypoint_fit import fit_keypoints
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams, Side


def grasping(side: Side, count: int) -> HandParams:
    """Postures of grasps, anywhere, of one shape."""
    model = load_hand_model("right")
    grasps = open_grasps(model.fingerprint)
    rows = torch.from_numpy(np.random.default_rng(0).choice(len(grasps), count, replace=False))
    hands = grasps.hands[rows]
    turn = Rotation.random(count, random_state=1).as_rotvec().astype(np.float32)
    betas = torch.linspace(-0.8, 0.8, 10).expand(count, 10)
    transl = torch.from_numpy(np.random.default_rng(2).uniform(-0.2, 0.5, (count, 3)).astype(np.float32))
    return HandParams(torch.from_numpy(turn), hands.hand_pose, betas, transl, hands.scale, side)


def test_hands_that_made_the_keypoints_are_found() -> None:
    model = load_hand_model("right")
    true = replace(grasping("right", 12))
    with torch.no_grad():
        output = model(true)
    fit = fit_keypoints(model, output.keypoints.double().numpy())
    assert fit.errors.max() < 1.5e-3
    with torch.no_grad():
        found = model(fit.hands).vertices
    assert float((found - output.vertices).norm(dim=2).mean()) < 4e-3
    torch.testing.assert_close(fit.hands.betas, fit.hands.betas[:1].expand(12, -1))


def test_noise_of_annotators_does_not_twist_fingers() -> None:
    """4 mm on every keypoint: the skin stays within that of the true one."""
    model = load_hand_model("right")
    true = grasping("right", 8)
    with torch.no_grad():
        output = model(true)
    noise = np.random.default_rng(3).normal(0, 0.004 / np.sqrt(3), output.keypoints.shape)
    fit = fit_keypoints(model, output.keypoints.double().numpy() + noise)
    with torch.no_grad():
        found = model(fit.hands).vertices
    assert float((found - output.vertices).norm(dim=2).mean()) < 6e-3


@pytest.mark.parametrize("keypoints", [np.zeros((0, 21, 3)), np.zeros((2, 20, 3)), np.full((1, 21, 3), np.nan)])
def test_keypoints_that_are_none_are_refused(keypoints: np.ndarray) -> None:
    with pytest.raises(InputError, match="keypoints: expected finite"):
        fit_keypoints(load_hand_model("right"), keypoints)
