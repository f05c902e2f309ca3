"""Winding numbers against containment tests of trimesh and closed forms."""

from __future__ import annotations

import numpy as np
import trimesh

from grasp_nodes.geometry.winding import winding_number_grid


def nodes(origin, spacing, size):
    index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), axis=-1)
    return np.asarray(origin) + spacing * index


def test_sphere_and_its_reverse():
    sphere = trimesh.creation.icosphere(3, 1.0)
    vertices, faces = np.array(sphere.vertices), np.array(sphere.faces)
    size, origin, spacing = (20, 21, 22), np.full(3, -1.21), 0.123
    distance = np.linalg.norm(nodes(origin, spacing, size), axis=-1)
    winding = winding_number_grid(vertices, faces, origin, spacing, size)
    assert (winding[distance < 0.98] == 1).all()
    assert (winding[distance > 1.0] == 0).all()
    np.testing.assert_array_equal(winding_number_grid(vertices, faces[:, ::-1], origin, spacing, size), -winding)


def test_rays_through_edges_and_corners_count_once():
    # A box of whole coordinates: every ray through its rim runs along edges and vertices.
    box = trimesh.creation.box(extents=(4, 4, 4))
    winding = winding_number_grid(np.array(box.vertices), np.array(box.faces), np.full(3, -4.0), 1.0, (9, 9, 9))
    assert winding.min() == 0
    assert winding.max() == 1
    assert (winding[3:6, 3:6, 3:6] == 1).all()
    outside = np.abs(nodes(np.full(3, -4.0), 1.0, (9, 9, 9))).max(axis=-1) > 2
    assert (winding[outside] == 0).all()


def test_a_shell_is_hollow_and_an_overlap_counts_twice():
    outer, inner = trimesh.creation.icosphere(3, 1.0), trimesh.creation.icosphere(3, 0.5)
    vertices = np.concatenate([outer.vertices, inner.vertices])
    size, origin, spacing = (25, 25, 25), np.full(3, -1.19), 0.1
    distance = np.linalg.norm(nodes(origin, spacing, size), axis=-1)
    for inner_faces, core in ((inner.faces[:, ::-1], 0), (inner.faces, 2)):
        faces = np.concatenate([outer.faces, inner_faces + len(outer.vertices)])
        winding = winding_number_grid(vertices, faces, origin, spacing, size)
        assert (winding[distance < 0.48] == core).all()
        assert (winding[(distance > 0.5) & (distance < 0.98)] == 1).all()


def test_a_grid_that_cuts_the_mesh_sees_the_faces_above_it():
    sphere = trimesh.creation.icosphere(3, 1.0)
    winding = winding_number_grid(np.array(sphere.vertices), np.array(sphere.faces), np.full(3, -0.31), 0.1, (7, 7, 7))
    assert (winding == 1).all()
