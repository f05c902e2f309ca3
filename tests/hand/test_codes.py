"""Hands as vectors: exact inverses, rigid motions, and what normalisation does."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.hand.anatomy import DegreesOfFreedom, HandAnatomy
from grasp_nodes.hand.codes import HandCoder, HandLayout
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams

LAYOUTS = [
    HandLayout(),
    HandLayout("wrist", "axis_angle", "axis_angle", shape=True),
    HandLayout("palm", "rotation_6d", "rotation_6d"),
    HandLayout("wrist", "rotation_6d", "pca", shape=True),
]


@pytest.fixture(scope="module", params=["right", "left"])
def model(request):
    return load_hand_model(request.param, dtype=torch.float64)


def random_hands(model, count=12, seed=0) -> HandParams:
    """Hands whose pose is made of angles, so that every layout can say it."""
    generator = torch.Generator().manual_seed(seed)
    freedom = DegreesOfFreedom.of_anatomy(HandAnatomy.of_model(model))
    low, high = torch.from_numpy(freedom.low), torch.from_numpy(freedom.high)
    angles = low + (high - low) * torch.rand(count, len(low), generator=generator, dtype=torch.float64)
    return HandParams(
        2.5 * torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=1),
        angles @ torch.from_numpy(freedom.matrix),
        torch.randn(count, 10, generator=generator, dtype=torch.float64),
        0.1 * torch.randn(count, 3, generator=generator, dtype=torch.float64),
        torch.ones(count, dtype=torch.float64),
        model.side,
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_decoding_gives_the_same_hand(model, layout):
    hands = random_hands(model)
    coder = HandCoder(model, layout)
    coder = coder.fitted(coder.parts(hands))
    vectors = coder.encode(hands)
    assert vectors.shape == (12, coder.size)
    back = coder.decode(vectors, None if layout.shape else hands.betas)
    torch.testing.assert_close(model(back).vertices, model(hands).vertices, atol=1e-9, rtol=0)
    torch.testing.assert_close(coder.encode(back), vectors, atol=1e-8, rtol=0)


def test_sizes(model):
    assert [HandCoder(model, layout).size for layout in LAYOUTS] == [
        3 + 6 + 21,
        3 + 3 + 45 + 10,
        3 + 6 + 90,
        3 + 6 + 45 + 10,
    ]
    assert HandCoder(model, HandLayout(pose="pca", components=7)).size == 3 + 6 + 7


@pytest.mark.parametrize("layout", LAYOUTS)
def test_turned_and_shifted_parts_are_the_turned_and_shifted_hand(model, layout):
    hands, coder = random_hands(model), HandCoder(model, layout)
    turn = random_rotations(12, torch.Generator().manual_seed(1), torch.float64)
    shift = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    moved = coder.hands(coder.parts(hands).turned(turn).shifted(shift))
    expected = model(hands).vertices @ turn.mT + shift
    torch.testing.assert_close(model(moved).vertices, expected, atol=1e-9, rtol=0)


def test_position_is_a_point_of_the_hand(model):
    hands = random_hands(model)
    wrist = HandCoder(model, HandLayout("wrist")).parts(hands).position
    torch.testing.assert_close(wrist, model(hands).joints[:, 0], atol=1e-12, rtol=0)
    flat = replace(hands, betas=torch.zeros_like(hands.betas), hand_pose=torch.zeros_like(hands.hand_pose))
    keypoints = model(flat).keypoints
    palm = HandCoder(model).parts(flat).position
    torch.testing.assert_close(palm, 0.5 * (keypoints[:, 0] + keypoints[:, [5, 9, 13, 17]].mean(1)), atol=1e-9, rtol=0)


def test_normalised_numbers_have_unit_deviation(model):
    hands, coder = random_hands(model, 500), HandCoder(model, HandLayout(shape=True))
    vectors = coder.fitted(coder.parts(hands)).encode(hands)
    torch.testing.assert_close(vectors[:, 9:].mean(0), torch.zeros(31, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(vectors[:, 9:].std(0, correction=0), torch.ones(31, dtype=torch.float64))
    assert float(vectors[:, :3].square().mean()) == pytest.approx(1.0)
    # Directions of a position and of an orientation share one scale: turning keeps the length.
    coder = coder.fitted(coder.parts(hands))
    turned = coder.vectors(coder.parts(hands).turned(random_rotations(500, torch.Generator(), torch.float64)))
    torch.testing.assert_close(turned[:, :3].norm(dim=1), vectors[:, :3].norm(dim=1))
    torch.testing.assert_close(turned[:, 3:9].norm(dim=1), vectors[:, 3:9].norm(dim=1))


def test_what_hardly_varies_is_not_blown_up(model):
    hands, coder = random_hands(model, 50), HandCoder(model, HandLayout(shape=True))
    hands = replace(hands, betas=torch.ones_like(hands.betas))
    fitted = coder.fitted(coder.parts(hands))
    assert float(fitted.deviation[-10:].max()) == pytest.approx(0.05)
    torch.testing.assert_close(fitted.decode(fitted.encode(hands)).betas, hands.betas)


def test_description_is_json_and_complete(model):
    hands, coder = random_hands(model), HandCoder(model, LAYOUTS[3])
    coder = coder.fitted(coder.parts(hands))
    again = HandCoder.of_description(model, json.loads(json.dumps(coder.description())))
    assert again.layout == coder.layout
    assert torch.equal(again.encode(hands), coder.encode(hands))


@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_gradients_reach_the_vector(model, layout):
    coder = HandCoder(model, layout)
    coder = coder.fitted(coder.parts(random_hands(model)))
    vector = coder.encode(random_hands(model, 1, seed=4))

    def height(values):
        return model(coder.decode(values)).vertices[:, ::97].sum(dim=1)[0]

    assert torch.autograd.gradcheck(height, vector.requires_grad_(True), eps=1e-6, atol=1e-5)


def test_what_cannot_be(model):
    coder, hands = HandCoder(model), random_hands(model)
    with pytest.raises(InputError, match="scale 1"):
        coder.encode(replace(hands, scale=2 * hands.scale))
    with pytest.raises(InputError, match=r"\(B, 30\)"):
        coder.decode(torch.zeros(2, 29, dtype=torch.float64))
    with pytest.raises(InputError, match="pose: expected one of freedom"):
        HandLayout(pose="euler")
    with pytest.raises(InputError, match="components"):
        HandLayout(pose="pca", components=0)
    with pytest.raises(InputError, match=r"expected shape \(30,\), got mean \(3,\)"):
        HandCoder(model, None, torch.zeros(3))
    with pytest.raises(InputError, match="above 0"):
        HandCoder(model, None, torch.zeros(30), torch.zeros(30))
    for broken in ({}, {"layout": {"colour": 1}}, {"layout": {}, "mean": "x", "deviation": []}):
        with pytest.raises(InputError, match="hand code"):
            HandCoder.of_description(model, broken)


def test_other_poses_come_as_near_as_angles_can(model):
    hands = random_hands(model)
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, hands.hand_pose.shape))
    bent = replace(hands, hand_pose=hands.hand_pose + noise)
    coder = HandCoder(model)
    back = coder.decode(coder.encode(bent), bent.betas).hand_pose
    left = bent.hand_pose - back
    matrix = torch.from_numpy(DegreesOfFreedom.of_anatomy(HandAnatomy.of_model(model)).matrix)
    torch.testing.assert_close(left @ matrix.T, torch.zeros(12, 21, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("point", ["palm", "wrist"])
def test_points_are_the_models_vertices(point):
    model = load_hand_model("right")
    generator = torch.Generator().manual_seed(4)
    coder = HandCoder(model, HandLayout(point=point))
    hands = coder.decode(0.3 * torch.randn(5, coder.size, generator=generator), torch.randn(5, 10, generator=generator))
    ids = [3, 700, 45]
    vertices, keypoints = coder.posed(coder.parts(hands), model.vertex_subset(ids))
    torch.testing.assert_close(vertices, model(hands).vertices[:, ids], rtol=0, atol=2e-6)
    torch.testing.assert_close(keypoints, model(hands).keypoints, rtol=0, atol=2e-6)
    torch.testing.assert_close(coder.posed(coder.parts(hands))[0], model(hands).vertices, rtol=0, atol=2e-6)
