"""Distances to meshes against trimesh, Open3D and analytic shapes."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.mesh_distance import MeshDistance


def bent_tube() -> trimesh.Trimesh:
    """A closed mesh with thin and concave parts."""
    torus = trimesh.creation.torus(0.1, 0.02, major_sections=40, minor_sections=16)
    torus.vertices[:, 2] += 0.4 * torus.vertices[:, 0] ** 2 + 0.2 * torus.vertices[:, 1]
    return torus


SHAPES = {
    "box": trimesh.creation.box(extents=(0.1, 0.2, 0.05)),
    "sphere": trimesh.creation.icosphere(3, 0.1),
    "tube": bent_tube(),
    "tetrahedron": trimesh.Trimesh(
        [[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]], [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_distance_and_sign_agree_with_trimesh_and_open3d(name):
    import open3d

    shape = SHAPES[name]
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (1500, 3))
    distance, closest, face = MeshDistance(shape.vertices, shape.faces).signed(points)
    expected_closest, expected, _ = trimesh.proximity.closest_point_naive(shape, points)
    np.testing.assert_allclose(np.abs(distance), expected, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(closest - points, axis=1), expected, atol=1e-12)
    unique = np.linalg.norm(closest - expected_closest, axis=1) < 1e-9
    assert unique.mean() > 0.99
    corners = np.array(shape.vertices)[np.array(shape.faces)[face]]
    barycentric = trimesh.triangles.points_to_barycentric(corners, closest)
    assert barycentric.min() > -1e-6
    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        open3d.core.Tensor(np.array(shape.vertices, np.float32)), open3d.core.Tensor(np.array(shape.faces, np.uint32))
    )
    inside = scene.compute_occupancy(open3d.core.Tensor(points.astype(np.float32)), nsamples=5).numpy() > 0.5
    far = np.abs(distance) > 1e-6
    np.testing.assert_array_equal((distance < 0)[far], inside[far])


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_list_of_neighbours_gives_the_same_answer(seed):
    rng = np.random.default_rng(seed)
    shape = SHAPES["tube"]
    start, end = rng.uniform(-0.2, 0.2, (2, 3))
    points = start + np.linspace(0, 1, 100)[:, None] * (end - start)
    points[50:] = points[rng.permutation(50)]
    mesh = MeshDistance(shape.vertices, shape.faces)
    np.testing.assert_allclose(mesh.signed(points, coherent=True)[0], mesh.signed(points)[0], atol=1e-12)


def test_box_in_closed_form_at_faces_edges_and_corners():
    shape = trimesh.creation.box(extents=(0.2, 0.2, 0.2))
    points = np.array([[0.3, 0, 0], [0.2, 0.2, 0], [0.2, 0.2, 0.2], [0, 0, 0], [0.09, 0.05, 0], [0.1, 0.1, 0.1]])
    expected = [0.2, 0.1 * np.sqrt(2), 0.1 * np.sqrt(3), -0.1, -0.01, 0.0]
    np.testing.assert_allclose(MeshDistance(shape.vertices, shape.faces).signed(points)[0], expected, atol=1e-12)


def test_one_triangle_and_points_on_it():
    mesh = MeshDistance(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
    points = np.array([[0.2, 0.2, 0.0], [0.2, 0.2, -0.5], [-1, -1, 0], [2, 0, 0], [1, 1, 0]])
    distance, closest, face = mesh.unsigned(points)
    np.testing.assert_allclose(distance, [0, 0.5, np.sqrt(2), 1, np.sqrt(0.5)], atol=1e-12)
    np.testing.assert_allclose(closest[-1], [0.5, 0.5, 0])
    assert (face == 0).all()


@pytest.mark.parametrize("corners", [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_a_triangle_without_area_is_the_segment_that_it_covers(corners):
    places = np.array([[-1.0, 0, 0], [1, 0, 0], [0.25, 0, 0]])
    mesh = MeshDistance(places[corners], np.array([[0, 1, 2]]))
    points = np.array([[0.5, 0.3, 0.4], [-0.5, 0, 2], [3, 0, 0], [-1, -1, 0], [0.0, 0, 0]])
    np.testing.assert_allclose(mesh.unsigned(points)[0], [0.5, 2, 2, 1, 0], atol=1e-12)


def test_a_bad_mesh_is_refused():
    with pytest.raises(InputError):
        MeshDistance(np.zeros((2, 3)), np.array([[0, 1, 2]]))
