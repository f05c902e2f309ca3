"""Columns and winding numbers against closed forms and Open3D."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from grasp_nodes.geometry.columns import bounds, common_lengths, mesh_columns, wound_lengths
from grasp_nodes.geometry.winding import winding_numbers

SPACING = 0.001


def columns(mesh: trimesh.Trimesh, low: np.ndarray, size: tuple[int, int]):
    return mesh_columns(mesh.vertices, mesh.faces, low, SPACING, size)


def test_the_volume_of_a_torus_is_the_analytic_one():
    torus = trimesh.creation.torus(0.04, 0.015, major_sections=160, minor_sections=80)
    found = columns(torus, np.array([-0.0601, -0.0602]), (122, 122))
    assert wound_lengths(found, 1).sum() * SPACING**2 == pytest.approx(2 * np.pi**2 * 0.04 * 0.015**2, rel=3e-3)
    assert wound_lengths(found, 2).sum() == 0
    # Ascending within each column, and as often out as in.
    assert found.step.sum() == 0
    first = np.zeros(len(found.height), bool)
    first[found.start[:-1][np.diff(found.start) > 0]] = True
    assert (np.diff(found.height)[~first[1:]] >= 0).all()


def test_two_overlapping_boxes_in_one_mesh_are_counted_once_and_their_overlap_twice():
    one = trimesh.creation.box((0.04, 0.04, 0.04))
    other = one.copy().apply_translation([0.0, 0.0, 0.03])
    both = trimesh.util.concatenate([one, other])
    found = columns(both, np.array([-0.0205, -0.0205]), (42, 42))
    assert wound_lengths(found, 1).sum() * SPACING**2 == pytest.approx(0.04**2 * 0.07)
    assert wound_lengths(found, 2).sum() * SPACING**2 == pytest.approx(0.04**2 * 0.01)


def test_common_length_of_nested_and_of_separate_intervals():
    outer = trimesh.creation.box((0.04, 0.04, 0.04))
    inner = trimesh.creation.box((0.04, 0.04, 0.01))
    above = inner.copy().apply_translation([0.0, 0.0, 0.05])
    low, size = np.array([-0.0205, -0.0205]), (42, 42)
    for first, second, expected in ((outer, inner, 0.01), (inner, outer, 0.01), (outer, above, 0.0)):
        length = common_lengths(columns(first, low, size), columns(second, low, size))
        assert length.max() == pytest.approx(expected)
        assert length.sum() * SPACING**2 == pytest.approx(0.04**2 * expected)


def test_winding_numbers_agree_with_open3d_and_see_a_mesh_in_itself():
    import open3d

    torus = trimesh.creation.torus(0.1, 0.03)
    points = np.random.default_rng(0).uniform(-0.15, 0.15, (3000, 3))
    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        open3d.core.Tensor(np.array(torus.vertices, np.float32)), open3d.core.Tensor(np.array(torus.faces, np.uint32))
    )
    inside = scene.compute_occupancy(open3d.core.Tensor(points.astype(np.float32)), nsamples=5).numpy() > 0.5
    found = winding_numbers(torus.vertices, torus.faces, points)
    assert (found == inside).mean() > 0.999
    twice = trimesh.util.concatenate([torus, torus])
    np.testing.assert_array_equal(winding_numbers(twice.vertices, twice.faces, points), 2 * found)


def test_bounds_are_those_of_numpy():
    points = np.random.default_rng(1).normal(size=(50, 3))
    np.testing.assert_array_equal(bounds(points), (points.min(axis=0), points.max(axis=0)))
