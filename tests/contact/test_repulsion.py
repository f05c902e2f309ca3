"""Repulsive springs against all pairs in numpy, finite differences, and the equilibrium of one spring pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from grasp_nodes.contact.repulsion import LENGTH_SCALE, SKIN, STIFFNESS, RepulsiveSprings
from grasp_nodes.errors import InputError


def ball(count=600, radius=0.04, seed=0):
    normals = np.random.default_rng(seed).normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return radius * normals + [0.1, -0.2, 0.3], normals


def hands(batch=2, count=50, seed=1, spread=0.06):
    return np.random.default_rng(seed).uniform(-spread, spread, (batch, count, 3)) + [0.1, -0.2, 0.3]


def all_pairs(vertices, points, normals, stiffness=STIFFNESS, length=LENGTH_SCALE, reach=0.02):
    away = vertices[:, :, None] - points
    height = (away * normals).sum(axis=-1)
    near = np.linalg.norm(away, axis=-1) <= reach
    return 0.5 * stiffness * length * (np.exp(-2 * height / length) * near).sum(axis=(1, 2)), near


@pytest.mark.parametrize("length", [0.002, LENGTH_SCALE, 1.0])
def test_the_energy_is_that_of_all_pairs(length):
    points, normals = ball()
    springs = RepulsiveSprings(points, normals, 0.7, length)
    expected, near = all_pairs(hands(), points, normals, 0.7, length)
    np.testing.assert_allclose(springs.energy(torch.from_numpy(hands())), expected, rtol=1e-9)
    np.testing.assert_array_equal(springs.pairs(hands()), near.sum(axis=(1, 2)))
    assert near.any()


def test_a_length_of_one_metre_is_the_papers_formula():
    points, normals = ball()
    vertices = hands()
    away = vertices[:, :, None] - points
    near = np.linalg.norm(away, axis=-1) <= 0.02
    published = (0.5 * 1e-3 * np.exp(-(away * normals).sum(axis=-1)) ** 2 * near).sum(axis=(1, 2))
    np.testing.assert_allclose(
        RepulsiveSprings(points, normals, length=1.0).energy(torch.from_numpy(vertices)), published
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.0, 0.03), min_size=1, max_size=6), st.integers(0, 1000))
def test_kept_neighbours_never_change_the_answer(steps, seed):
    points, normals = ball()
    springs = RepulsiveSprings(points, normals)
    vertices = hands(2, 20, seed)
    rng = np.random.default_rng(seed)
    for step in steps:
        vertices = vertices + step * rng.uniform(-1, 1, (2, 1, 3))
        kept = springs.energy(torch.from_numpy(vertices)).numpy()
        np.testing.assert_allclose(kept, all_pairs(vertices, points, normals)[0], rtol=1e-9)


def test_a_hand_that_creeps_is_looked_up_again_in_time():
    points, normals = ball()
    springs = RepulsiveSprings(points, normals)
    vertices = hands(1, 30, spread=0.01) + [0.075, 0, 0]
    for _ in range(30):
        vertices = vertices - [0.3 * SKIN, 0, 0]
        kept = springs.energy(torch.from_numpy(vertices)).numpy()
        np.testing.assert_allclose(kept, all_pairs(vertices, points, normals)[0], rtol=1e-9)
    assert kept > 0


def test_gradient_and_hessian_are_finite_differences():
    points, normals = ball()
    springs = RepulsiveSprings(points, normals, stiffness=1.0, length=0.03, reach=0.5)  # no pair enters or leaves
    vertices = hands(2, 4, 3)
    found = springs.derivatives(vertices)
    step = 1e-6
    for b in range(2):
        for v in range(4):
            for k in range(3):
                ahead, behind = vertices.copy(), vertices.copy()
                ahead[b, v, k] += step
                behind[b, v, k] -= step
                above, below = springs.derivatives(ahead), springs.derivatives(behind)
                slope = (above.energy[b] - below.energy[b]) / (2 * step)
                assert found.gradient[b, v, k] == pytest.approx(slope, rel=1e-5)
                bend = (above.gradient[b, v] - below.gradient[b, v]) / (2 * step)
                np.testing.assert_allclose(found.hessian[b, v, :, k], bend, rtol=1e-4, atol=1e-4 * abs(bend).max())
    assert (np.linalg.eigvalsh(found.hessian) > -1e-9).all()
    leaf = torch.from_numpy(vertices).requires_grad_()
    (2 * springs.energy(leaf)).sum().backward()
    np.testing.assert_allclose(leaf.grad, 2 * found.gradient)


def test_repulsion_is_felt_inside_and_negligible_at_its_end():
    """The shape of the paper's figure 12, on one pair of vertices."""
    springs = RepulsiveSprings(np.zeros((1, 3)), np.array([[0.0, 0.0, 1.0]]))

    def force(height):
        return -springs.derivatives(np.array([[[0.0, 0.0, height]]])).gradient[0, 0, 2]

    assert force(0.0) == pytest.approx(STIFFNESS)
    assert force(0.0199) < 0.02 * force(0.0)
    assert force(0.0201) == 0.0
    assert force(-0.010) > 7 * force(0.0)
    heights = np.linspace(-0.019, 0.019, 39)
    assert (np.diff([force(height) for height in heights]) < 0).all()


def test_the_balance_of_one_pair_follows_the_stiffness():
    """The trend of the paper's table 5: a stiffer repulsion lets go of the surface."""
    balances = []
    for stiffness in (0.2e-3, 0.6e-3, 1e-3, 1.4e-3, 2e-3, 4e-3, 8e-3):
        springs = RepulsiveSprings(np.zeros((1, 3)), np.array([[0.0, 0.0, 1.0]]), stiffness)

        def pull(height, springs=springs):
            return height + springs.derivatives(np.array([[[0.0, 0.0, height]]])).gradient[0, 0, 2]

        balances.append(brentq(pull, -0.01, 0.019))
    assert (np.diff(balances) > 0).all()
    assert 0 < balances[0] < balances[-1] < 0.01
    assert balances[2] == pytest.approx(1e-3, rel=0.2)  # the paper's own stiffness: a millimetre outside


def test_the_energy_does_not_depend_on_the_frame():
    points, normals = ball()
    turn = Rotation.from_rotvec([0.5, -1.0, 0.3]).as_matrix()
    here = RepulsiveSprings(points, normals).energy(torch.from_numpy(hands()))
    there = RepulsiveSprings(points @ turn.T + 1.0, normals @ turn.T).energy(torch.from_numpy(hands() @ turn.T + 1.0))
    torch.testing.assert_close(here, there)


def test_a_hand_far_away_is_not_pushed():
    springs = RepulsiveSprings(*ball())
    far = torch.from_numpy(hands() + 5.0).requires_grad_()
    energy = springs.energy(far)
    energy.sum().backward()
    assert not energy.any()
    assert not far.grad.any()
    assert list(springs.pairs(far.detach().numpy())) == [0, 0]


def test_batches_of_any_size_and_float32_are_the_same_hands():
    points, normals = ball()
    springs = RepulsiveSprings(points, normals)
    both = springs.energy(torch.from_numpy(hands()))
    single = springs.energy(torch.from_numpy(hands()[1:]).float())
    assert single.dtype == torch.float32
    assert float(single[0]) == pytest.approx(float(both[1]), rel=1e-4)


def test_surfaces_that_cannot_push_are_refused():
    points, normals = ball()
    with pytest.raises(InputError, match="make the object from a mesh"):
        RepulsiveSprings(points, np.zeros((0, 3)))
    with pytest.raises(InputError, match="inside-out"):
        RepulsiveSprings(points, -normals)
    with pytest.raises(InputError, match="unit vectors"):
        RepulsiveSprings(points, 0 * normals)
    with pytest.raises(InputError, match="N > 0"):
        RepulsiveSprings(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(InputError, match="length"):
        RepulsiveSprings(points, normals, length=1e-6)
    with pytest.raises(InputError, match=r"\(B, V, 3\)"):
        RepulsiveSprings(points, normals).energy(torch.zeros(4, 3))


def test_a_thin_walls_far_side_does_not_draw_a_hand_in():
    """Two points back to back, 2 mm apart: without a depth the far one pulls a vertex outside of the near one."""
    points, normals = np.array([[0.0, 0, 0], [0, 0, -0.002]]), np.array([[0.0, 0, 1], [0, 0, -1]])
    outside = np.array([[[0.0, 0.0, 0.001]]])
    without = RepulsiveSprings(points, normals).derivatives(outside).gradient[0, 0, 2]
    assert without > 0  # its force is downwards, into the wall
    near = RepulsiveSprings(points[:1], normals[:1]).derivatives(outside)
    ended = RepulsiveSprings(points, normals, depth=np.full(2, 0.001)).derivatives(outside)
    np.testing.assert_allclose(ended.gradient, near.gradient)
    np.testing.assert_allclose(ended.hessian, near.hessian)
    np.testing.assert_allclose(ended.energy, near.energy)
    with pytest.raises(InputError, match="depth"):
        RepulsiveSprings(points, normals, depth=np.zeros(2))
