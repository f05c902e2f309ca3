"""Lofts, lathe work, rounded corners and lattices against solid geometry."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from grasp_nodes.geometry.mesh import is_watertight, signed_volume
from grasp_nodes.objects.surfaces import (
    altitudes,
    box_lattice,
    divided,
    length_of,
    loft_loop,
    revolve,
    rounded,
    tidied,
    without_needles,
)


def test_a_revolved_cone_has_the_volume_of_its_pyramid():
    mesh = revolve(np.array([[0, 0], [0.03, 0], [0.01, 0.05], [0, 0.05]]), 12)
    share = 12 / 2 * np.sin(2 * np.pi / 12)  # area of a regular 12-gon over that of radius squared
    expected = share * 0.05 / 3 * (0.03**2 + 0.03 * 0.01 + 0.01**2)
    assert is_watertight(mesh.faces)
    assert signed_volume(mesh.vertices, mesh.faces) == pytest.approx(expected, rel=1e-12)


def test_a_closed_loft_is_a_torus_that_looks_outward():
    around, turn = np.arange(40) * 2 * np.pi / 40, np.arange(24) * 2 * np.pi / 24
    out = 0.04 + 0.01 * np.cos(turn)
    rings = np.stack(
        [
            out * np.cos(around)[:, None],
            out * np.sin(around)[:, None],
            np.broadcast_to(0.01 * np.sin(turn), (40, 24)),
        ],
        axis=-1,
    )
    mesh = loft_loop(rings)
    assert is_watertight(mesh.faces)
    assert mesh.euler_number == 0
    assert signed_volume(mesh.vertices, mesh.faces) == pytest.approx(2 * np.pi**2 * 0.04 * 0.01**2, rel=0.03)


def test_rounded_corners_are_arcs_that_touch_their_sides():
    path = rounded(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]), 0.3)
    np.testing.assert_allclose(path[[0, 1, -2, -1]], [[0, 0], [0.7, 0], [1, 0.3], [1, 1]], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(path[1:-1] - [0.7, 0.3], axis=1), 0.3, rtol=1e-12)
    sharp = rounded(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]), 50.0)  # no room for such an arc
    assert sharp.min() >= 0
    assert sharp.max() <= 1
    straight = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    np.testing.assert_allclose(rounded(straight, 0.2), straight)


def test_divided_lines_keep_their_corners_and_length():
    path = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.25]])
    fine = divided(path, 0.3)
    assert len(fine) == 4 + 1 + 1
    assert np.linalg.norm(np.diff(fine, axis=0), axis=1).max() <= 0.3
    assert length_of(fine) == pytest.approx(1.25)
    assert any((fine == [1.0, 0.0]).all(axis=1))


def test_a_lattice_is_the_box_it_was_cut_from():
    vertices, faces = box_lattice(np.linspace(0, 1, 3), np.array([0.0, 0.1, 2.0]), np.linspace(-1, 2, 5))
    assert is_watertight(faces)
    assert signed_volume(vertices, faces) == pytest.approx(6.0)
    assert len(faces) == 2 * 2 * (2 * 2 + 2 * 4 + 4 * 2)


def test_tidying_a_union_keeps_the_solid_and_cuts_long_triangles():
    parts = [trimesh.creation.box((0.02, 0.02, 0.2)), trimesh.creation.cylinder(0.0301, 0.011, sections=61)]
    union = trimesh.boolean.union(parts, engine="manifold")
    mesh = tidied(union)
    assert is_watertight(mesh.faces)
    assert signed_volume(mesh.vertices, mesh.faces) == pytest.approx(union.volume, rel=2e-3)
    np.testing.assert_allclose(mesh.bounds, union.bounds, atol=1e-4)
    assert union.edges_unique_length.max() > 0.05
    assert mesh.edges_unique_length.max() < 0.02


def test_altitudes_are_those_of_the_triangle():
    vertices = np.array([[0.0, 0, 0], [4, 0, 0], [0, 3, 0], [0.5, 0, 0]])
    np.testing.assert_allclose(altitudes(vertices, np.array([[0, 1, 2], [0, 3, 1]])), [2.4, 0.0], atol=1e-12)


def test_a_needle_is_turned_into_its_neighbour():
    """A vertex that lies almost on an edge of a box's face."""
    box = trimesh.creation.box((0.02, 0.02, 0.02))
    vertices, faces = np.array(box.vertices), np.array(box.faces)
    a, b, c = faces[0]
    lengths = [np.linalg.norm(vertices[i] - vertices[j]) for i, j in ((a, b), (b, c), (c, a))]
    a, b, c = np.roll(faces[0], -int(np.argmax(lengths)))  # a-b is the diagonal
    near = 0.5 * (vertices[a] + vertices[b]) + 1e-5 * (vertices[c] - 0.5 * (vertices[a] + vertices[b]))
    vertices = np.concatenate([vertices, [near]])
    faces = np.concatenate([faces[1:], [[a, b, 8], [b, c, 8], [c, a, 8]]])
    assert altitudes(vertices, faces).min() < 2e-7
    mended = without_needles(vertices, faces)
    assert is_watertight(mended)
    assert altitudes(vertices, mended).min() > 5e-3
    assert signed_volume(vertices, mended) == pytest.approx(0.02**3, rel=1e-4)
    np.testing.assert_array_equal(without_needles(vertices, mended), mended)
