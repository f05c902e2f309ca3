"""FastGrasp's five losses against values worked out by hand, and their gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_nodes.geometry import mesh
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.synthesis.fastgrasp.autoencoder import PAPER_LAYOUT
from grasp_nodes.synthesis.fastgrasp.losses import (
    ADAPTATION_WEIGHTS,
    CONTACT_WIDTH,
    POINTS_COUNTED,
    GraspLoss,
    LossWeights,
    chamfer,
    consistency_loss,
    contact_loss,
    contact_map,
    penetration_loss,
)
from grasp_nodes.synthesis.nearest_points import nearest_index, safe_norm
from grasp_nodes.synthesis.posed_vectors import PosedVectors, vertex_normals


def points(*rows):
    return torch.tensor(rows, dtype=torch.float64)[None]


@given(st.integers(0, 2**31), st.integers(1, 200), st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_nearest_is_the_nearest_of_all(seed, count, others):
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(3, n, 3, generator=generator) for n in (count, others))
    distances = (first[:, :, None] - second[:, None]).norm(dim=3)
    found = distances.gather(2, nearest_index(first, second)[..., None])[..., 0]
    torch.testing.assert_close(found, distances.amin(dim=2))


def test_of_equally_near_ones_the_first_and_for_what_is_not_finite_too():
    others = torch.tensor([[[2.0, 0, 0], [1.0, 0, 0], [-1.0, 0, 0]]])
    asked = torch.tensor([[[0.0, 0, 0], [torch.nan, 0, 0], [torch.inf, 0, 0], [-0.5, 0, 0]]])
    assert nearest_index(asked, others).tolist() == [[1, 0, 0, 2]]


def test_chamfer_by_hand():
    one, other = points((0, 0, 0), (1, 0, 0)), points((0, 0, 0), (0, 3, 0), (0, 0, 0))
    # (0 + 1) / 2 there, (0 + 9 + 0) / 3 back.
    assert float(chamfer(one, other)) == pytest.approx(0.5 + 3.0)
    assert float(chamfer(other, other)) == 0.0


def test_contact_draws_what_is_near_and_leaves_the_rest():
    thing = points((0, 0, 0))
    hand = points((0.003, 0.004, 0), (0, 0, 0.008), (0.03, 0, 0)).requires_grad_(True)
    found = contact_loss(hand, thing)
    assert float(found.detach()) == pytest.approx((25e-6 + 64e-6) / 2)
    found.backward()
    assert hand.grad is not None
    np.testing.assert_allclose(hand.grad[0], [[0.003, 0.004, 0], [0, 0, 0.008], [0, 0, 0]], atol=1e-9)
    far = (hand.detach() + 1.0).requires_grad_(True)
    nothing = contact_loss(far, thing)
    nothing.backward()
    assert float(nothing.detach()) == 0.0
    assert far.grad is not None
    assert torch.isfinite(far.grad).all()


def test_penetration_of_a_ball_is_that_of_its_radius():
    ball = trimesh.creation.icosphere(5, 0.03)
    vertices = torch.from_numpy(np.asarray(ball.vertices))[None]
    normals = vertex_normals(vertices, torch.from_numpy(np.asarray(ball.faces, np.int64)))
    directions = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    inside, outside = 0.02 * directions.double(), 0.035 * directions.double()
    deep = torch.zeros(20, 3, dtype=torch.float64)  # 3 cm: no hand is so thick, the sign is not believed
    thing = torch.cat([inside, outside, deep])[None]
    found = penetration_loss(thing, vertices, normals, nearest_index(thing, vertices))
    assert float(found) == pytest.approx(50 * 0.01**2 * POINTS_COUNTED / 120, rel=0.02)


def test_normals_are_those_of_the_mesh(right):
    vertices = torch.from_numpy(right.arrays.v_template)
    found = vertex_normals(torch.stack([vertices, 2 * vertices]), torch.from_numpy(right.arrays.faces))
    corners = right.arrays.v_template[right.arrays.faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    expected = np.stack([area[(right.arrays.faces == k).any(axis=1)].sum(axis=0) for k in range(778)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    # Weighted by angle instead they are other normals, but none looks to another side.
    assert ((expected * mesh.vertex_normals(right.arrays.v_template, right.arrays.faces)).sum(axis=1) > 0.8).all()
    np.testing.assert_allclose(found[0], expected, atol=1e-9)
    np.testing.assert_allclose(found[1], expected, atol=1e-9)


def test_maps_agree_or_not():
    thing = points((0, 0, 0), (0, 0, 2 * CONTACT_WIDTH), (1, 0, 0))
    hand = points((0, 0, 0))
    found = contact_map(thing, hand, nearest_index(thing, hand))
    np.testing.assert_allclose(found[0], [1.0, np.exp(-2.0), 0.0], atol=1e-12)
    assert float(consistency_loss(found, found)) == 0.0
    assert float(consistency_loss(found, torch.zeros_like(found))) == pytest.approx((1 + np.exp(-4.0)) / 30)


@pytest.mark.parametrize("term", ["chamfer", "contact", "penetration", "consistency", "norm"])
def test_gradients_are_those_of_finite_differences(term):
    ball = trimesh.creation.icosphere(1, 0.02)
    faces = torch.from_numpy(np.asarray(ball.faces, np.int64))
    generator = torch.Generator().manual_seed(2)
    vertices = torch.from_numpy(np.asarray(ball.vertices))[None] + 1e-3 * torch.randn(1, 42, 3, generator=generator)
    normals = vertex_normals(vertices.detach(), faces)
    thing = 0.02 * torch.randn(1, 30, 3, generator=generator, dtype=torch.float64)
    other = vertices + 0.003
    true_map = contact_map(thing, other, nearest_index(thing, other))

    def value(hand):
        nearest = nearest_index(thing, hand)
        return {
            "chamfer": lambda: 1e4 * chamfer(hand, other),
            "contact": lambda: 1e4 * contact_loss(hand, thing, reach=0.02),
            "penetration": lambda: penetration_loss(thing, hand, normals, nearest),
            "consistency": lambda: 10 * consistency_loss(contact_map(thing, hand, nearest), true_map),
            "norm": lambda: 1e2 * safe_norm(hand).mean(),
        }[term]()

    assert float(value(vertices)) > 0.01
    torch.autograd.gradcheck(value, vertices.requires_grad_(True), eps=1e-7, atol=1e-3, rtol=1e-3)


def test_length_zero_has_no_slope():
    zero = torch.zeros(2, 3, requires_grad=True)
    safe_norm(zero).sum().backward()
    assert torch.equal(zero.grad, torch.zeros(2, 3))


def test_the_sum_is_weighted_and_zero_weights_cost_nothing(right):
    posed = PosedVectors(HandCoder(right, PAPER_LAYOUT))
    generator = torch.Generator().manual_seed(3)
    truth = 0.1 * torch.randn(2, 61, generator=generator)
    told = truth + 0.05 * torch.randn(2, 61, generator=generator)
    vertices = posed(truth)
    thing = vertices[:, ::7] + 0.004
    weights = LossWeights(2.0, 3.0, 5.0, 7.0, 11.0)
    terms = GraspLoss(posed, weights)(told, truth, vertices, thing)
    assert float(terms["loss"]) == pytest.approx(
        sum(getattr(weights, k) * float(v) for k, v in terms.items() if k != "loss")
    )
    assert float(terms["parameters"]) == pytest.approx(float((told - truth).square().sum()) / 2, rel=1e-5)
    assert float(terms["mesh"]) == pytest.approx(100 * float(chamfer(posed(told), vertices)), rel=1e-5)
    same = GraspLoss(posed, weights)(truth, truth, vertices, thing)
    assert float(same["parameters"]) == float(same["consistency"]) == 0.0
    assert float(same["mesh"]) < 1e-12
    assert float(same["penetration"]) > 0.0
    assert set(GraspLoss(posed, weights.without_physics())(told, truth, vertices, thing)) == {
        "loss",
        "parameters",
        "mesh",
    }


def test_the_weights_are_the_papers():
    assert tuple(vars(LossWeights()).values()) == (0.1, 1, 1000, 10, 10)
    assert tuple(vars(ADAPTATION_WEIGHTS).values()) == (100, 0.1, 1000, 20, 0.1)
