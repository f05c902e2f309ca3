"""Objects in the frames of their principal axes: hands keep their places at them, and turn with them."""

from __future__ import annotations

import pytest
import torch

from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.learning.steps import Step
from grasp_nodes.synthesis.fastgrasp.autoencoder import SMALL_LAYOUT
from grasp_nodes.synthesis.fastgrasp.cvae import CVAEConfig, GraspCVAE
from grasp_nodes.synthesis.fastgrasp.generator import CVAENetwork
from grasp_nodes.synthesis.grasp_data import GraspData
from grasp_nodes.synthesis.posed_vectors import PosedVectors
from grasp_nodes.synthesis.principal_frames import flipped_turns, in_principal_frames
from grasp_nodes.synthesis.vector_generator import VectorGenerator

LONG = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.01, 0.06, 0.03])


@pytest.mark.usefixtures("own_cache")
def test_hand_and_object_stay_together_in_training(toy_grasps, right):
    data = GraspData.of_grasps(toy_grasps, right, SMALL_LAYOUT, 80, turned=True, validation=0.5, principal=True)
    rows, step = data.split.training[:6], Step(3)
    plain = data.batches.of_rows(rows, step)
    turned = in_principal_frames(plain, step, data.coder)
    posed = PosedVectors(data.coder)
    before, after = (torch.cdist(posed(batch["code"]), batch["points"]) for batch in (plain, turned))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    torch.testing.assert_close(turned["points"], plain["points"] @ turned["turn"].mT, atol=1e-6, rtol=0)
    assert not torch.allclose(turned["code"], plain["code"], atol=0.1)
    assert len({tuple(turn.flatten().round(decimals=3).tolist()) for turn in turned["turn"]}) > 1
    made = data.training(4, seed=0)(step)
    assert not torch.allclose(made["turn"], torch.eye(3).expand(4, 3, 3), atol=0.1)


def test_axes_lie_in_order_and_all_half_turns_occur():
    points = LONG[None] @ random_rotations(1, torch.Generator().manual_seed(1), dtype=torch.float32).mT
    turns = flipped_turns(points, 8)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(8))
    for turn in turns:
        spread = (points[0] @ turn.T).std(dim=0)
        assert spread[0] > spread[1] > spread[2]
    assert len({tuple(turn.flatten().round(decimals=3).tolist()) for turn in turns}) == 4
    torch.testing.assert_close(turns[4:], turns[:4])


def test_grasps_of_a_turned_object_are_turned(right):
    torch.manual_seed(0)
    coder = HandCoder(right, SMALL_LAYOUT)
    config = CVAEConfig(4, 200, (16, 32), False, "layer", (32,), (32,), principal=True)
    generator = VectorGenerator("cvae", CVAENetwork(GraspCVAE(config, coder.size).eval()), coder)
    turn = random_rotations(1, torch.Generator().manual_seed(2), dtype=torch.float32)[0]
    shift, noise = torch.tensor([[0.3, -0.2, 0.1]]), torch.randn(1, 4).expand(4, -1)
    middle = torch.zeros(1, 3)
    here = right(generator.hands(LONG[None], middle, noise, 0)).vertices @ turn.T + shift
    there = right(generator.hands(LONG[None] @ turn.T + shift, shift, noise, 0)).vertices
    apart = (here[:, None] - there[None]).norm(dim=3).amax(dim=2)
    # Which of the half turns comes first is a matter of the axes' signs.
    assert apart.amin(dim=1).max() < 1e-3
    assert apart.amin(dim=0).max() < 1e-3
    assert apart.max() > 0.02
    # Each object of its own is the same as one for all.
    many = right(generator.hands(LONG.expand(4, -1, -1), middle.expand(4, 3), noise, 0)).vertices
    torch.testing.assert_close(many, right(generator.hands(LONG[None], middle, noise, 0)).vertices, atol=1e-5, rtol=0)
