"""Mesh arrays against trimesh and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from grasp_nodes.errors import InputError
from grasp_nodes.geometry import mesh


def split_everywhere(shape: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray]:
    """The same surface with three own vertices per face, as STL stores it."""
    return np.array(shape.triangles).reshape(-1, 3), np.arange(3 * len(shape.faces)).reshape(-1, 3)


def test_merging_restores_a_split_mesh():
    box = trimesh.creation.box()
    vertices, faces = split_everywhere(box)
    assert not mesh.is_watertight(faces)
    vertices, faces = mesh.merge_vertices(vertices, faces)
    assert len(vertices) == 8
    assert mesh.is_watertight(faces)
    assert mesh.signed_volume(vertices, faces) == pytest.approx(1.0)


def test_merging_within_a_tolerance_drops_what_collapses():
    sphere = trimesh.creation.icosphere(2, 1.0)
    vertices, faces = split_everywhere(sphere)
    vertices = vertices + np.random.default_rng(0).uniform(-1e-6, 1e-6, vertices.shape)
    faces = np.concatenate([faces, faces[:5], [[0, 0, 1]]])
    merged, merged_faces = mesh.merge_vertices(vertices, faces, tolerance=1e-5)
    assert len(merged) == len(sphere.vertices)
    assert len(merged_faces) == len(sphere.faces)
    assert mesh.is_watertight(merged_faces)


def test_edges_know_their_faces():
    sphere = trimesh.creation.icosphere(2)
    faces = np.array(sphere.faces)
    edges = mesh.mesh_edges(faces)
    assert len(edges.vertices) == len(faces) * 3 // 2
    assert (edges.counts == 2).all()
    for side in range(2):
        corners = faces[edges.faces[:, side]]
        assert (corners[:, :, None] == edges.vertices[:, None, :]).any(axis=1).all()
    assert (edges.faces[:, 0] != edges.faces[:, 1]).all()
    for corner in range(3):
        pair = np.sort(faces[:, [corner, (corner + 1) % 3]], axis=1)
        np.testing.assert_array_equal(edges.vertices[edges.face_edges[:, corner]], pair)
    opened = mesh.mesh_edges(faces[1:])
    assert (opened.faces[:, 1] == -1).sum() == 3


def test_watertightness_needs_every_face_and_one_orientation():
    faces = np.array(trimesh.creation.icosphere(1).faces)
    assert mesh.is_watertight(faces)
    assert not mesh.is_watertight(faces[:-1])
    turned = faces.copy()
    turned[3] = turned[3, ::-1]
    assert not mesh.is_watertight(turned)
    assert not mesh.is_watertight(np.concatenate([faces, faces[:1]]))


def test_a_hole_is_a_loop_that_a_fan_closes():
    cylinder = trimesh.creation.cylinder(radius=1.0, height=2.0, sections=12)
    faces = np.array(cylinder.faces)
    top = (cylinder.face_normals[:, 2] > 0.9) & (cylinder.triangles_center[:, 2] > 0.5)
    bottom = (cylinder.face_normals[:, 2] < -0.9) & (cylinder.triangles_center[:, 2] < -0.5)
    loops = mesh.boundary_loops(faces[~(top | bottom)])
    assert sorted(len(loop) for loop in loops) == [12, 12]
    caps = [np.stack([np.full(10, loop[0]), loop[1:-1], loop[2:]], axis=1) for loop in loops]
    closed = np.concatenate([faces[~(top | bottom)], *caps])
    assert mesh.is_watertight(closed)
    assert mesh.signed_volume(cylinder.vertices, closed) == pytest.approx(cylinder.volume)


def test_normals_agree_with_trimesh():
    torus = trimesh.creation.torus(1.0, 0.3)
    vertices, faces = np.array(torus.vertices), np.array(torus.faces)
    normals, areas = mesh.face_normals_and_areas(vertices, faces)
    np.testing.assert_allclose(normals, torus.face_normals, atol=1e-9)
    np.testing.assert_allclose(areas, torus.area_faces, atol=1e-12)
    assert (np.sum(mesh.vertex_normals(vertices, faces) * torus.vertex_normals, axis=1) > 0.999).all()


def test_vertex_normal_of_a_cube_points_along_its_diagonal():
    # Weighted by angle, the triangulation of the sides does not matter.
    box = trimesh.creation.box()
    normals = mesh.vertex_normals(np.array(box.vertices), np.array(box.faces))
    np.testing.assert_allclose(normals, np.array(box.vertices) / np.sqrt(0.75), atol=1e-9)


def test_samples_lie_on_the_surface_and_are_uniform():
    box = trimesh.creation.box(extents=(0.1, 0.2, 0.4))
    vertices, faces = np.array(box.vertices), np.array(box.faces)
    points, normals, face = mesh.sample_surface(vertices, faces, 20000, seed=5)
    side = np.abs(points) / (0.5 * np.array([0.1, 0.2, 0.4]))
    np.testing.assert_allclose(side.max(axis=1), 1.0, atol=1e-9)
    np.testing.assert_allclose((points * normals).sum(1), np.abs((vertices[faces[face, 0]] * normals).sum(1)))
    share = np.bincount(np.abs(normals).argmax(axis=1), minlength=3) / len(points)
    area = np.array([0.2 * 0.4, 0.1 * 0.4, 0.1 * 0.2])
    np.testing.assert_allclose(share, area / area.sum(), atol=0.002)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=0.003)
    again, _, _ = mesh.sample_surface(vertices, faces, 20000, seed=5)
    np.testing.assert_array_equal(points, again)
    other, _, _ = mesh.sample_surface(vertices, faces, 20000, seed=6)
    assert np.abs(points - other).max() > 1e-3


def test_arrays_that_are_no_mesh_are_refused():
    vertices, faces = np.zeros((4, 3)), np.array([[0, 1, 2]])
    for bad_vertices, bad_faces, words in (
        (vertices, np.array([[0, 1, 4]]), "faces name vertices"),
        (vertices[:, :2], faces, "expected vertices"),
        (vertices, np.zeros((0, 3), int), "no triangles"),
        (np.full((4, 3), np.nan), faces, "NaN"),
    ):
        with pytest.raises(InputError, match=words):
            mesh.check_mesh(bad_vertices, bad_faces)
    with pytest.raises(InputError, match="no area"):
        mesh.sample_surface(vertices, faces, 3, seed=0)
