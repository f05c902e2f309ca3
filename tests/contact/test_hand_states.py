"""Grasps from parameters and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.contact.hand_states import hand_states, make_grasps, stack_hands
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.parameters import HandParams


def random_hands(count: int) -> HandParams:
    generator = torch.Generator().manual_seed(0)
    flat = HandParams.zeros(count)
    return replace(
        flat,
        global_orient=torch.randn(count, 3, generator=generator),
        hand_pose=0.3 * torch.randn(count, 45, generator=generator),
        transl=torch.randn(count, 3, generator=generator),
    )


def test_states_say_where_the_hand_is() -> None:
    model = load_hand_model("right", OPEN_HAND_FILE)
    params = random_hands(3)
    posed = model(params)
    for k, state in enumerate(hand_states(params, model)):
        np.testing.assert_allclose(state.keypoints, posed.keypoints[k].numpy(), atol=1e-6)
        np.testing.assert_allclose(state.joint_poses[:, :3], posed.joints[k].numpy(), atol=1e-6)
        turned = Rotation.from_quat(state.joint_poses[:, 3:]).as_matrix()
        np.testing.assert_allclose(turned, posed.joint_frames[k, :, :3, :3].numpy(), atol=1e-5)
        assert state.model_fingerprint == model.fingerprint
        assert state.is_metric


def test_hands_come_back_in_their_order() -> None:
    model = load_hand_model("right", OPEN_HAND_FILE)
    params = random_hands(4)
    grasps = make_grasps(params, model, np.array([4.0, 3.0, 2.0, 1.0]))
    assert [grasp.score for grasp in grasps] == [4, 3, 2, 1]
    back = stack_hands(grasps[::-1])
    for name in ("global_orient", "hand_pose", "betas", "transl", "scale"):
        assert torch.equal(getattr(back, name), getattr(params, name).flip(0))


def test_hands_of_both_sides_are_no_batch() -> None:
    models = [load_hand_model(side, OPEN_HAND_FILE) for side in ("right", "left")]
    grasps = [make_grasps(HandParams.zeros(1, model.side), model)[0] for model in models]
    with pytest.raises(InputError, match=r"one side, got \['left', 'right'\]"):
        stack_hands(grasps)
    with pytest.raises(InputError, match="got none"):
        stack_hands([])
