"""Loop subdivision against trimesh's, which subdivides vertices directly."""

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from grasp_nodes.geometry.subdivision import loop_subdivision


def open_mesh():
    """A tube that is open at one end."""
    mesh = trimesh.creation.cylinder(0.05, 0.1, sections=12).subdivide().subdivide()
    mesh.vertices[:, 2] += 0.1 * mesh.vertices[:, 0]
    return trimesh.Trimesh(mesh.vertices, mesh.faces[mesh.face_normals[:, 2] < 0.9])


@pytest.mark.parametrize("mesh", [trimesh.creation.icosphere(1), open_mesh()], ids=["closed", "open"])
@pytest.mark.parametrize("levels", [1, 2])
def test_same_surface_as_trimesh(mesh, levels):
    matrix, faces = loop_subdivision(mesh.faces, len(mesh.vertices), levels)
    vertices, expected_faces = trimesh.remesh.subdivide_loop(mesh.vertices, mesh.faces, iterations=levels)
    ours = matrix @ mesh.vertices
    assert ours.shape == vertices.shape
    assert faces.shape == expected_faces.shape
    distance, match = cKDTree(vertices).query(ours)
    assert distance.max() < 1e-12
    areas = trimesh.Trimesh(ours, faces, process=False).area_faces
    expected = trimesh.Trimesh(vertices, expected_faces, process=False).area_faces
    assert np.allclose(np.sort(areas), np.sort(expected))
    assert len(np.unique(match)) == len(ours)


def test_moves_with_the_mesh():
    """Rows add up to one, so that subdivision commutes with every affine map."""
    mesh = open_mesh()
    matrix, _ = loop_subdivision(mesh.faces, len(mesh.vertices), 2)
    rng = np.random.default_rng(0)
    linear, shift = rng.normal(size=(3, 3)), rng.normal(size=3)
    assert np.allclose(matrix @ (mesh.vertices @ linear + shift), (matrix @ mesh.vertices) @ linear + shift)


def test_winding_is_kept():
    mesh = trimesh.creation.icosphere(1)
    matrix, faces = loop_subdivision(mesh.faces, len(mesh.vertices), 1)
    assert trimesh.Trimesh(matrix @ mesh.vertices, faces, process=False).volume > 0
