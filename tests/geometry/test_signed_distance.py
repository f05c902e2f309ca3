"""The signed distance grid against analytic shapes, finite differences and its own two implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid


def sphere_distance(p):
    return np.linalg.norm(p, axis=-1) - 0.05


def box_distance(p):
    q = np.abs(p) - np.array([0.03, 0.05, 0.02])
    return np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(axis=-1), 0)


def capsule_distance(p):
    along = np.clip(p[..., 2], -0.04, 0.04)
    return np.linalg.norm(p - np.stack([0 * along, 0 * along, along], axis=-1), axis=-1) - 0.03


def capsule_mesh():
    mesh = trimesh.creation.capsule(radius=0.03, height=0.08, count=(64, 64))
    mesh.apply_translation([0, 0, -mesh.bounds.mean(axis=0)[2]])
    return mesh


SHAPES = {
    "sphere": (trimesh.creation.icosphere(5, 0.05), sphere_distance),
    "box": (trimesh.creation.box(extents=(0.06, 0.1, 0.04)), box_distance),
    "capsule": (capsule_mesh(), capsule_distance),
}


@pytest.fixture(scope="module", params=list(SHAPES))
def shape(request):
    mesh, distance = SHAPES[request.param]
    return SignedDistanceGrid.from_mesh(np.array(mesh.vertices), np.array(mesh.faces), resolution=48), distance


def test_analytic_shapes_inside_and_out(shape):
    grid, distance = shape
    low, high = grid.origin.numpy(), grid.upper.numpy()
    points = np.random.default_rng(0).uniform(low, high, (3000, 3))
    error = np.abs(grid(torch.from_numpy(points)).numpy() - distance(points))
    # Linear interpolation errs where the distance bends: on the medial axis by up to a cell, elsewhere far less.
    assert np.median(error) < 0.05 * grid.spacing
    assert error.max() < grid.spacing
    near = np.abs(distance(points)) < 0.005
    assert error[near].max() < 0.3 * grid.spacing


def test_beyond_the_grid_it_grows_to_the_true_distance(shape):
    grid, distance = shape
    directions = np.random.default_rng(1).normal(size=(500, 3))
    points = directions / np.linalg.norm(directions, axis=1, keepdims=True) * 0.4
    got, expected = grid(torch.from_numpy(points)).numpy(), distance(points)
    # At most the way from the box's nearest point to the surface is counted twice; it never falls short.
    assert (got > expected - 1e-3).all()
    assert (got < expected + 0.05).all()
    line = np.linspace(0.02, 0.3, 400)[:, None] * np.array([[0.6, 0.0, 0.8]])
    steps = np.abs(np.diff(grid(torch.from_numpy(line)).numpy())) / np.linalg.norm(np.diff(line, axis=0), axis=1)
    assert steps.max() < 1.3


def test_gradient_is_that_of_finite_differences_and_points_outward(shape):
    grid, _ = shape
    grid = grid.to(dtype=torch.float64)
    points = torch.from_numpy(np.random.default_rng(2).uniform(-0.1, 0.1, (400, 3)))
    gradient = grid.gradient(points)
    step = 1e-7
    numeric = torch.stack(
        [(grid(points + step * e) - grid(points - step * e)) / (2 * step) for e in torch.eye(3, dtype=torch.float64)],
        dim=-1,
    )
    close = (gradient - numeric).abs().max(dim=-1).values < 1e-5
    # A step across a cell's border mixes two slopes: rare.
    assert close.double().mean() > 0.99
    outward = torch.nn.functional.normalize(points[close], dim=-1)
    far = grid(points[close]) > 0.005
    assert ((gradient[close] * outward).sum(-1)[far] > 0).all()


def test_numpy_and_torch_agree(shape):
    grid, _ = shape
    grid64 = grid.to(dtype=torch.float64)
    points = np.random.default_rng(3).uniform(-0.15, 0.15, (2000, 3))
    distance, gradient = grid.query(points)
    np.testing.assert_allclose(distance, grid64(torch.from_numpy(points)).numpy(), atol=1e-6)
    expected = grid64.gradient(torch.from_numpy(points)).numpy()
    assert (np.abs(gradient - expected).max(axis=1) < 1e-4).mean() > 0.999


def test_points_that_are_no_numbers_give_none(shape):
    """Many of them, because what lies beside the grid in memory may look like a distance."""
    grid, _ = shape
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (300, 3))
    expected, _ = grid.query(points)
    broken = points.copy()
    broken[np.arange(0, 300, 2), np.arange(0, 300, 2) % 3] = np.nan
    distance, gradient = grid.query(broken)
    assert np.isnan(distance[::2]).all()
    assert np.isnan(gradient[::2]).all()
    np.testing.assert_array_equal(distance[1::2], expected[1::2])


def test_gradcheck():
    grid = SignedDistanceGrid(torch.randn(4, 5, 6, dtype=torch.float64), torch.tensor([-0.1, 0.0, 0.1]), 0.05)
    points = torch.rand(20, 3, dtype=torch.float64) * 0.4 - 0.15
    assert torch.autograd.gradcheck(grid, points.requires_grad_(True), eps=1e-8, atol=1e-5)


def test_nodes_are_reproduced_exactly_and_batches_keep_shape():
    values = torch.randn(3, 4, 5, dtype=torch.float64)
    origin = torch.tensor([0.01, -0.02, 0.03])
    grid = SignedDistanceGrid(values, origin, 0.01)
    index = torch.stack(torch.meshgrid(*[torch.arange(n) for n in values.shape], indexing="ij"), dim=-1)
    points = origin.double() + 0.01 * index.double()
    torch.testing.assert_close(grid(points), values)
    assert grid(points.float()).dtype == torch.float32


def test_untidy_meshes_have_the_right_inside():
    # Two boxes that run into each other, as scanned parts do: inside of either is inside.
    first = trimesh.creation.box(extents=(0.1, 0.04, 0.04))
    second = trimesh.creation.box(extents=(0.04, 0.1, 0.04))
    both = trimesh.util.concatenate([first, second])
    grid = SignedDistanceGrid.from_mesh(np.array(both.vertices), np.array(both.faces), resolution=40)
    points = np.random.default_rng(0).uniform(-0.06, 0.06, (2000, 3))
    inside = ((np.abs(points) < [0.05, 0.02, 0.02]).all(1)) | ((np.abs(points) < [0.02, 0.05, 0.02]).all(1))
    distance, _ = grid.query(points)
    clear = np.abs(distance) > grid.spacing
    np.testing.assert_array_equal((distance < 0)[clear], inside[clear])


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match="values"):
        SignedDistanceGrid(torch.zeros(1, 2, 2), torch.zeros(3), 0.1)
    with pytest.raises(InputError, match="spacing"):
        SignedDistanceGrid(torch.zeros(2, 2, 2), torch.zeros(3), 0.0)
    with pytest.raises(InputError, match="points"):
        SignedDistanceGrid(torch.zeros(2, 2, 2), torch.zeros(3), 0.1)(torch.zeros(4, 2))


def test_compiled_pass_and_grid_sample_agree_in_value_and_gradient(shape):
    grid, _ = shape
    points = np.random.default_rng(5).uniform(-0.15, 0.15, (4, 500, 3)).astype(np.float32)
    results = []
    for distance in (grid, grid.by_grid_sample):
        leaf = torch.from_numpy(points.copy()).requires_grad_(True)
        value = distance(leaf)
        (3 * value).sum().backward()
        results.append((value.detach().numpy(), leaf.grad.numpy()))
    np.testing.assert_allclose(results[0][0], results[1][0], atol=2e-6)
    close = np.abs(results[0][1] - results[1][1]).max(axis=-1) < 1e-3
    assert close.mean() > 0.995  # a point on the border of two cells may take either one's slope
