"""Symmetries of shapes whose symmetries are known."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.objects.registry import family_mesh
from grasp_nodes.objects.symmetry import rotation_symmetries


def _angles_about(turns: np.ndarray, axis: int) -> np.ndarray:
    keeps = np.abs(turns[:, axis, axis] - 1) < 1e-6
    return np.unique(np.round(np.rad2deg(Rotation.from_matrix(turns[keeps]).magnitude())))


def test_a_box_has_the_four_turns_of_a_box() -> None:
    mesh = trimesh.creation.box((0.05, 0.09, 0.16))
    turns = rotation_symmetries(np.array(mesh.vertices), np.array(mesh.faces))
    expected = [np.diag(d) for d in ([1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1])]
    assert len(turns) == 4
    for one in expected:
        assert np.abs(turns - one).max(axis=(1, 2)).min() < 1e-9


def test_a_cone_turns_about_its_axis_only() -> None:
    mesh = trimesh.creation.cone(0.04, 0.12, sections=64)
    mesh.apply_translation(-mesh.bounds.mean(axis=0))
    turns = rotation_symmetries(np.array(mesh.vertices), np.array(mesh.faces))
    assert len(turns) == 24
    assert len(_angles_about(turns, 2)) == 13  # 0, 15, ..., 180


def test_a_cylinder_can_be_turned_over_too() -> None:
    mesh = trimesh.creation.cylinder(0.03, 0.14, sections=96)
    turns = rotation_symmetries(np.array(mesh.vertices), np.array(mesh.faces))
    assert len(turns) == 48


def test_a_handle_leaves_no_turn_about_the_axis() -> None:
    turns = rotation_symmetries(*family_mesh("mug:0"))
    assert Rotation.from_matrix(turns).magnitude().max() < np.deg2rad(31)


@pytest.mark.parametrize("name", ["hammer:3", "bottle:1", "phone:0"])
def test_every_symmetry_leaves_the_surface_where_it_is(name: str) -> None:
    vertices, faces = family_mesh(name)
    turns = rotation_symmetries(vertices, faces)
    np.testing.assert_allclose(turns[0], np.eye(3), atol=1e-12)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    points = mesh.sample(300, seed=1)
    diameter = np.linalg.norm(np.ptp(vertices, axis=0))
    for turn in turns[:: max(1, len(turns) // 6)]:
        _, distance, _ = trimesh.proximity.closest_point(mesh, points @ turn.T)
        assert distance.mean() < 0.016 * diameter
