"""Perturbed grasps have the noise that is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grasp_nodes.data.perturbed_grasps import PoseNoise, perturbed
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams


def test_noise_has_the_deviations_that_are_asked_for() -> None:
    model = load_hand_model("right")
    hands = HandParams.zeros(2000)
    knuckles = [5, 9, 13, 17]
    before = model(hands).keypoints[:, knuckles].mean(dim=1)
    shifted = perturbed(hands, model, PoseNoise(0.01, 0.3, 0.0), torch.Generator().manual_seed(0))
    moved = model(shifted).keypoints[:, knuckles].mean(dim=1) - before
    np.testing.assert_allclose(moved.std(dim=0).numpy(), 0.01, rtol=0.1)  # the turn is about this very point
    np.testing.assert_allclose(shifted.global_orient.std(dim=0).numpy(), 0.3, rtol=0.1)
    assert torch.equal(shifted.hand_pose, hands.hand_pose)
    bent = perturbed(hands, model, PoseNoise(0.0, 0.0, 0.2), torch.Generator().manual_seed(0))
    np.testing.assert_allclose(bent.hand_pose.std().item(), 0.2, rtol=0.05)
    np.testing.assert_allclose(bent.transl.numpy(), 0.0, atol=1e-6)
    again = perturbed(hands, model, PoseNoise(0.0, 0.0, 0.2), torch.Generator().manual_seed(0))
    assert torch.equal(bent.hand_pose, again.hand_pose)


def test_negative_noise_is_refused() -> None:
    with pytest.raises(InputError, match="at least 0"):
        PoseNoise(shift=-0.01)
