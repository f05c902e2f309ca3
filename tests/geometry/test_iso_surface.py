"""Surfaces where a field is zero: of shapes whose area and volume are known, and of any field closed."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from grasp_nodes.geometry.iso_surface import surface_nets
from grasp_nodes.geometry.mesh import face_normals_and_areas, is_watertight, signed_volume


def test_ball_has_its_volume_its_area_and_outward_normals():
    origin, spacing = np.array([-0.06, -0.05, -0.07]), 0.0025
    nodes = origin + spacing * np.stack(np.meshgrid(*[np.arange(50)] * 3, indexing="ij"), axis=-1)
    vertices, faces = surface_nets(np.linalg.norm(nodes, axis=-1) - 0.04, origin, spacing)
    assert is_watertight(faces)
    assert abs(signed_volume(vertices, faces) / (4 / 3 * np.pi * 0.04**3) - 1) < 0.01
    normals, areas = face_normals_and_areas(vertices, faces)
    assert abs(areas.sum() / (4 * np.pi * 0.04**2) - 1) < 0.02
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 0.04, atol=2e-4)
    assert ((normals * vertices[faces].mean(axis=1)).sum(axis=1) > 0).all()


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, (5, 6, 4), elements=st.floats(-1, 1, width=16)))
def test_any_field_gives_a_closed_surface_with_two_faces_at_each_edge(values):
    field = np.pad(values, 1, constant_values=1.0)
    vertices, faces = surface_nets(field, np.zeros(3), 1.0)
    if not (field < 0).any():
        assert len(faces) == 0
        return
    assert is_watertight(faces)
    assert signed_volume(vertices, faces) > 0
