"""Cells, moments and distances on grids, against trees of points, numpy and scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import ConvexHull, cKDTree

from grasp_nodes.geometry.columns import bounds
from grasp_nodes.objects.clouds.cells import Neighbours, cell_numbers, thinned
from grasp_nodes.objects.clouds.distances import distance_from
from grasp_nodes.objects.clouds.moments import covariance, farthest, inside, measured, near_plane, votes


def scattered(seed, count, clumped):
    """Points about a sphere, or in a few clumps with some far away."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 3))
    if not clumped:
        return 0.05 * points / np.linalg.norm(points, axis=1)[:, None] + [0.1, -0.2, 0.6]
    return 0.01 * points + rng.choice([-0.1, 0.0, 0.2], size=(count, 3))


CLOUDS = st.builds(scattered, st.integers(0, 999), st.integers(2, 400), st.booleans())


@settings(max_examples=40, deadline=None)
@given(CLOUDS, st.floats(0.001, 0.05), st.integers(1, 9))
def test_neighbours_are_those_of_a_tree(points, reach, count):
    count = min(count, len(points) - 1)
    near = Neighbours(points, reach)
    tree = cKDTree(points)
    np.testing.assert_allclose(near.nearest(count), tree.query(points, np.arange(2, count + 2))[0], atol=1e-12)
    asked = np.concatenate([points + 0.9 * reach, points - [0, 0, 3 * reach], [[5.0, 5.0, 5.0]]])
    np.testing.assert_array_equal(near.within(asked, reach), tree.query(asked)[0] < reach)


@settings(max_examples=40, deadline=None)
@given(CLOUDS, st.floats(0.001, 0.5))
def test_one_point_of_each_cell_is_the_mean_of_those_in_it(points, voxel):
    cell = np.floor((points - points.min(axis=0)) / voxel).astype(np.int64)
    known, first, inverse = np.unique(cell, axis=0, return_index=True, return_inverse=True)
    number, count = cell_numbers(points, voxel)
    assert count == len(known)
    # Numbered in the order they first come.
    np.testing.assert_array_equal(number, np.argsort(np.argsort(first))[inverse.reshape(-1)])
    found = thinned(points, voxel)
    for k in range(count):
        np.testing.assert_allclose(found[k], points[number == k].mean(axis=0), atol=1e-12)


def test_no_points_are_thinned_to_none():
    assert thinned(np.zeros((0, 3)), 0.01).shape == (0, 3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.tuples(*[st.integers(1, 9)] * 3), st.sampled_from([0.01, 0.2, 0.9]))
def test_distances_on_a_grid_are_scipy_s(seed, shape, share):
    marked = np.random.default_rng(seed).random(shape) < share
    found = distance_from(marked)
    if marked.any():
        np.testing.assert_allclose(found, ndimage.distance_transform_edt(~marked), rtol=1e-6)
    else:
        assert found.min() > 1e5


@pytest.mark.parametrize("clumped", [False, True])
def test_moments_are_numpy_s(clumped):
    points = scattered(3, 500, clumped) + [0, 0, 40.0]
    np.testing.assert_array_equal(bounds(points), (points.min(axis=0), points.max(axis=0)))
    np.testing.assert_allclose(covariance(points), np.cov(points.T), rtol=1e-9, atol=1e-15)
    normal = np.array([0.6, 0.0, 0.8])
    offset = float(np.median(points @ normal))
    near = points[np.abs(points @ normal - offset) < 0.1]
    middle, spread = near_plane(points, normal, offset, 0.1)
    np.testing.assert_allclose(middle, near.mean(axis=0))
    np.testing.assert_allclose(spread, np.cov(near.T), rtol=1e-9, atol=1e-15)
    assert votes(points, normal[None], np.array([offset]), 0.1) == [len(near)]
    low, high = np.array([-0.1, -0.3, 40.0]), np.array([0.1, 0.1, 41.0])
    np.testing.assert_array_equal(inside(points, low, high), ((points >= low) & (points <= high)).all(axis=1))


def test_nothing_near_a_plane_is_not_a_number():
    middle, spread = near_plane(scattered(0, 10, False), np.array([0, 0, 1.0]), 9.0, 0.1)
    assert np.isnan(middle).all()
    assert np.isnan(spread).all()


def test_what_was_not_measured_is_left_out():
    points = np.array([[0, 0, 0], [1, 2, 3], [np.nan, 1, 1], [1, np.inf, 1], [0, 0, 5], [1, 1, -np.inf]], np.float32)
    np.testing.assert_array_equal(measured(points, 0.5), [[0.5, 1, 1.5], [0, 0, 2.5]])


def test_farthest_in_many_directions_are_corners_of_the_hull():
    points = np.random.default_rng(4).normal(size=(3000, 3)) + 100.0
    directions = np.random.default_rng(5).normal(size=(100, 3))
    chosen = farthest(points, directions)
    assert set(chosen) <= set(ConvexHull(points).vertices)
    assert set((points @ directions.T).argmax(axis=0)) == set(chosen)
