"""Attractive springs: elasticities by hand, energies spring by spring, and the collapse to one spring per anchor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_nodes.contact.springs import (
    AttractiveSprings,
    anchor_elasticities,
    elasticity_of_distance,
)
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import axis_angle_to_matrix
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model

MODEL = load_hand_model("right", OPEN_HAND_FILE, torch.float64)
ANCHORS = HandAnchors.of_model(MODEL)
POSITIONS = ANCHORS.positions(torch.from_numpy(MODEL.arrays.v_template))


def some_contact(seed, batch=3, count=40, per_anchor=True):
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    points = 0.1 * uniform(count, 3) - 0.05
    region = torch.randint(0, 20, (batch, count), generator=generator)  # 17 to 19 are no regions
    elasticity = uniform(batch, count, 4) if per_anchor else uniform(batch, count)
    anchors = POSITIONS + 0.02 * torch.randn(batch, 32, 3, generator=generator, dtype=torch.float64)
    return points, uniform(batch, count), region, elasticity, anchors


def energy_by_loops(points, contact, region, elasticity, anchors, threshold=0.8):
    """Algorithm 1 of the paper, lines 2 to 6, word by word."""
    total = np.zeros(len(contact))
    for b in range(len(contact)):
        for j in range(contact.shape[1]):
            if contact[b, j] > threshold and region[b, j] < 17:
                own = [i for i in range(32) if ANCHORS.region[i] == region[b, j]]
                for column, i in enumerate(own):
                    k = elasticity[b, j, column] if elasticity.ndim == 3 else elasticity[b, j]
                    total[b] += 0.5 * k * float(((anchors[b, i] - points[j]) ** 2).sum())
    return total


def test_elasticity_is_the_papers_cosine():
    distance = torch.tensor([0.0, 0.005, 0.010, 0.015, 0.020, 0.5], dtype=torch.float64)
    expected = [1.0, 0.5 + 0.5 * np.cos(np.pi / 4), 0.5, 0.5 - 0.5 * np.cos(np.pi / 4), 0.0, 0.0]
    np.testing.assert_allclose(elasticity_of_distance(distance), expected, atol=1e-12)


@pytest.mark.parametrize("per_anchor", [True, False])
def test_the_energy_is_that_of_the_algorithm(per_anchor):
    points, contact, region, elasticity, anchors = some_contact(1, per_anchor=per_anchor)
    springs = AttractiveSprings.of_contact(ANCHORS, points, contact, region, elasticity)
    expected = energy_by_loops(points, contact, region, elasticity, anchors)
    np.testing.assert_allclose(springs.energy(anchors), expected, rtol=1e-12)
    np.testing.assert_allclose(springs.collapsed().energy(anchors), expected, rtol=1e-12)
    sizes = np.array([1, 1, 3] * 5 + [4, 3] + [0] * 3)
    np.testing.assert_array_equal(springs.count, (sizes[region] * (contact.numpy() > 0.8)).sum(axis=1))


def test_springs_that_are_too_long_are_left_out():
    """The tip of the index finger has three anchors; points lie 4 and 15 cm above each hand's first one."""
    (first, *_) = np.flatnonzero(np.asarray(ANCHORS.region) == 5)
    positions = torch.stack([POSITIONS, POSITIONS + 1.0])
    points = POSITIONS[first] + torch.tensor([[0, 0, 0.04], [0, 0, 0.15]], dtype=torch.float64)
    ones = torch.ones(2, 2, dtype=torch.float64)
    springs = AttractiveSprings.of_contact(ANCHORS, points, ones, torch.full((2, 2), 5), ones)
    near = springs.within(positions, 0.1)
    assert springs.count.tolist() == [6, 6]
    assert near.count.tolist() == [3, 0]
    assert (near.point[0] == points[0]).all()
    assert springs.within(positions, 0.01).count.tolist() == [0, 0]
    torch.testing.assert_close(springs.within(positions, 3.0).energy(positions), springs.energy(positions))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 60))
def test_the_collapse_is_the_sum_wherever_the_anchors_are(seed, batch, count):
    points, contact, region, elasticity, anchors = some_contact(seed, batch, count)
    springs = AttractiveSprings.of_contact(ANCHORS, points, contact, region, elasticity, threshold=0.3)
    potential = springs.collapsed()
    moved = anchors.clone().requires_grad_()
    one_by_one = springs.energy(moved)
    torch.testing.assert_close(potential.energy(moved), one_by_one, rtol=1e-10, atol=1e-15)
    (expected,) = torch.autograd.grad(one_by_one.sum(), moved)
    (found,) = torch.autograd.grad(potential.energy(moved).sum(), moved)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)
    assert (potential.rest >= 0).all()


def test_gradients_are_finite_differences():
    points, contact, region, elasticity, anchors = some_contact(2, 2, 30)

    def of(anchors, points, elasticity):
        springs = AttractiveSprings.of_contact(ANCHORS, points, contact, region, elasticity, 0.3)
        return springs.energy(anchors), springs.collapsed().energy(anchors)

    inputs = tuple(value.clone().requires_grad_() for value in (anchors, points, elasticity))
    assert torch.autograd.gradcheck(of, inputs, fast_mode=True)


def test_the_energy_does_not_change_when_hand_and_object_move_together():
    points, contact, region, elasticity, anchors = some_contact(3)
    turn = axis_angle_to_matrix(torch.tensor([0.4, 1.1, -0.7], dtype=torch.float64))
    there = AttractiveSprings.of_contact(ANCHORS, points @ turn.T - 0.3, contact, region, elasticity)
    here = AttractiveSprings.of_contact(ANCHORS, points, contact, region, elasticity)
    torch.testing.assert_close(there.energy(anchors @ turn.T - 0.3), here.collapsed().energy(anchors))


def test_elasticities_of_a_pose_are_those_of_the_distances():
    points, _, region, _, anchors = some_contact(4)
    points = POSITIONS[torch.arange(40) % 32] + 0.01
    found = anchor_elasticities(ANCHORS, anchors, points, region)
    assert found.shape == (3, 40, 4)
    table = ANCHORS.anchors_of_region
    for b in range(3):
        for j in range(40):
            own = table[region[b, j]] if region[b, j] < 17 else [-1] * 4
            for column, i in enumerate(own):
                distance = float((anchors[b, i] - points[j]).norm()) if i >= 0 else 1.0
                expected = 0.5 * np.cos(np.pi * distance / 0.02) + 0.5 if distance < 0.02 else 0.0
                assert float(found[b, j, column]) == pytest.approx(expected, abs=1e-12)
    assert (found > 0).any()


def test_a_hand_that_touches_nothing_has_no_springs():
    points, contact, region, elasticity, anchors = some_contact(5)
    contact[1] = 0.0
    elasticity[2] = torch.nan
    springs = AttractiveSprings.of_contact(ANCHORS, points, contact, region, elasticity)
    assert springs.count[0] > 0
    assert list(springs.count[1:]) == [0, 0]
    assert springs.energy(anchors)[1:].tolist() == [0.0, 0.0]
    potential = springs.collapsed()
    assert potential.energy(anchors)[1:].tolist() == [0.0, 0.0]
    assert torch.isfinite(potential.centre).all()


def test_shapes_that_do_not_go_together_are_named():
    points, contact, region, elasticity, _ = some_contact(6)
    with pytest.raises(InputError, match=r"elasticity.*\(3, 40, 4\).*\(3, 40, 3\)"):
        AttractiveSprings.of_contact(ANCHORS, points, contact, region, elasticity[..., :3])
    with pytest.raises(InputError, match=r"points \(40, 3\)"):
        AttractiveSprings.of_contact(ANCHORS, points[:10], contact, region, elasticity)
