"""Shared volumes against closed forms and against manifold3d's exact booleans."""

from __future__ import annotations

import manifold3d
import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.as_released import intersection_volume_as_released
from grasp_nodes.evaluation.intersection import intersection_volume, solid_intersection_volume
from grasp_nodes.evaluation.self_penetration import self_intersection_volume
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.objects.shapes import mug


def box(extents: tuple[float, float, float], at: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> trimesh.Trimesh:
    return trimesh.creation.box(extents).apply_translation(at)


def solid(mesh: trimesh.Trimesh) -> Solid:
    return Solid(mesh.vertices, mesh.faces)


def shared(first: trimesh.Trimesh, second: trimesh.Trimesh) -> float:
    return float(intersection_volume(first.vertices[None], first.faces, solid(second))[0])


def test_boxes_in_their_own_frame_share_the_exact_volume():
    assert shared(box((0.02, 0.03, 0.04), (0.01, 0, 0)), box((0.02, 0.02, 0.02))) == pytest.approx(
        0.01 * 0.02 * 0.02, rel=2e-3
    )


@pytest.mark.parametrize("distance", [0.03, 0.05, 0.0585])
def test_the_lens_of_two_spheres(distance):
    radius = 0.03
    first = trimesh.creation.icosphere(6, radius)
    second = first.copy().apply_translation([0.6 * distance, 0.8 * distance, 0.0])
    height = radius - distance / 2
    lens = 2 * np.pi * height**2 * (3 * radius - height) / 3
    # The mesh lies a little inside its sphere.
    assert shared(first, second) == pytest.approx(lens, rel=0.02 if height > 0.001 else 0.1)


def test_a_body_inside_another_shares_all_of_itself_and_bodies_apart_nothing():
    inner = trimesh.creation.icosphere(4, 0.01)
    assert shared(inner, box((0.05, 0.05, 0.05))) == pytest.approx(inner.volume, rel=2e-3)
    assert shared(box((0.05, 0.05, 0.05)), inner) == pytest.approx(inner.volume, rel=2e-3)
    assert shared(inner, box((0.05, 0.05, 0.05), (0.2, 0, 0))) == 0
    # Overlapping bounding boxes, empty hole.
    assert shared(inner, trimesh.creation.torus(0.04, 0.015)) == 0


def test_a_tiny_overlap_is_measured_too():
    assert shared(box((0.02, 0.02, 0.02)), box((0.02, 0.02, 0.02), (0.0192, 0.0193, 0.0194))) == pytest.approx(
        0.0008 * 0.0007 * 0.0006, rel=0.02
    )


def test_hands_and_objects_agree_with_the_exact_boolean(hand):
    rng = np.random.default_rng(0)
    objects = [
        mug(),
        trimesh.creation.torus(0.04, 0.015),
        trimesh.creation.box((0.05, 0.07, 0.1)),
        trimesh.creation.cylinder(0.03, 0.12),
        trimesh.creation.icosphere(4, 0.04),
    ]
    compared = 0
    for trial in range(15):
        mesh = objects[trial % len(objects)]
        vertices = hand.posed(0.05 * rng.normal(size=45), rng.normal(size=3))
        vertices = vertices - vertices[rng.integers(778)] + 0.8 * mesh.vertices[rng.integers(len(mesh.vertices))]
        if self_intersection_volume(vertices[None], hand.faces)[0] > 1e-10:
            continue  # the boolean counts what overlaps itself twice
        exact = (_manifold(vertices, hand.faces) ^ _manifold(mesh.vertices, mesh.faces)).volume()
        ours = intersection_volume(vertices[None], hand.faces, Solid(mesh.vertices, mesh.faces))[0]
        assert ours == pytest.approx(exact, rel=0.01, abs=1e-10)
        compared += exact > 1e-8
    assert compared >= 8


def _manifold(vertices: np.ndarray, faces: np.ndarray) -> manifold3d.Manifold:
    return manifold3d.Manifold(
        manifold3d.Mesh64(np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(faces, np.uint64))
    )


def test_turning_the_scene_changes_nothing(hand):
    mesh = mug()
    vertices = hand.posed(np.zeros(45)) + mesh.vertices[100] - hand.posed(np.zeros(45))[320]
    turn = Rotation.from_rotvec([0.4, -1.2, 0.3]).as_matrix()
    straight = intersection_volume(vertices[None], hand.faces, solid(mesh))[0]
    turned = intersection_volume(vertices[None] @ turn.T, hand.faces, Solid(mesh.vertices @ turn.T, mesh.faces))[0]
    assert straight > 1e-7
    assert turned == pytest.approx(straight, rel=0.02)


def test_a_hand_that_overlaps_itself_counts_once():
    one = box((0.02, 0.02, 0.02))
    both = trimesh.util.concatenate([one, one.copy().apply_translation([0.0, 0.0, 0.01])])
    assert shared(both, box((0.1, 0.1, 0.1))) == pytest.approx(0.02 * 0.02 * 0.03, rel=5e-3)


def test_siv_counts_voxels_of_the_cube_over_the_longest_side():
    # 80 voxels of 1 mm along z: a box whose voxels are known by counting.
    plate = solid(box((0.02, 0.04, 0.08)))
    finger = box((0.1, 0.1, 0.01), (0.0, 0.0, 0.04))
    found = solid_intersection_volume(finger.vertices[None], finger.faces, plate)[0]
    assert found == pytest.approx(20 * 40 * 5 * 1e-9)
    # A third of a voxel more meets no further centre.
    finger = box((0.1, 0.1, 0.01), (0.0, 0.0, 0.03966))
    assert solid_intersection_volume(finger.vertices[None], finger.faces, plate)[0] == pytest.approx(found)


def test_voxels_approach_the_exact_volume(hand):
    mesh = trimesh.creation.icosphere(4, 0.04)
    vertices = (hand.posed(np.zeros(45)) - hand.posed(np.zeros(45))[320] + [0.0, 0.02, 0.0])[None]
    exact = intersection_volume(vertices, hand.faces, solid(mesh))[0]
    assert solid_intersection_volume(vertices, hand.faces, solid(mesh))[0] == pytest.approx(exact, rel=0.02)


def test_the_released_code_sees_several_times_the_volume_of_a_fingertip_and_nothing_deep_inside():
    wall = solid(box((0.1, 0.1, 0.02)))
    # Half a cubic centimetre of fingertip, 4 mm deep.
    finger = box((0.0112, 0.0112, 0.02), (0.0, 0.0, 0.016))
    exact = 0.0112**2 * 0.004
    assert intersection_volume(finger.vertices[None], finger.faces, wall)[0] == pytest.approx(exact, rel=0.01)
    assert intersection_volume_as_released(finger.vertices[None], finger.faces, wall)[0] > 1.5 * exact
    inside = box((0.02, 0.02, 0.02))
    block = solid(box((0.1, 0.1, 0.1)))
    assert intersection_volume(inside.vertices[None], inside.faces, block)[0] == pytest.approx(8e-6, rel=0.01)
    assert intersection_volume_as_released(inside.vertices[None], inside.faces, block)[0] == 0


def test_a_hand_with_nan_is_nan_and_the_others_keep_their_value():
    cube = box((0.02, 0.02, 0.02))
    hands = np.stack([cube.vertices, np.full_like(cube.vertices, np.nan), cube.vertices])
    for measure in (intersection_volume, solid_intersection_volume, intersection_volume_as_released):
        found = measure(hands, cube.faces, solid(box((0.04, 0.04, 0.04))))
        assert np.isnan(found).tolist() == [False, True, False]
        assert found[0] == found[2]


def test_open_and_inverted_meshes_are_refused_with_the_remedy(hand):
    cube = box((0.02, 0.02, 0.02))
    with pytest.raises(InputError, match=r"not closed.*close_mesh"):
        Solid(cube.vertices, cube.faces[:-1])
    with pytest.raises(InputError, match="inwards"):
        Solid(cube.vertices, cube.faces[:, ::-1])
    with pytest.raises(InputError, match="NaN"):
        Solid(np.full((8, 3), np.nan), cube.faces)
    with pytest.raises(InputError, match="closed_faces"):
        intersection_volume(hand.posed(np.zeros(45))[None], hand.model.faces.numpy(), solid(cube))
    with pytest.raises(InputError, match=r"\(B, V, 3\)"):
        intersection_volume(cube.vertices, cube.faces, solid(cube))


def test_the_centre_of_volume_is_that_of_trimesh_and_not_of_the_vertices():
    mesh = trimesh.creation.cone(0.03, 0.1)
    dense = mesh.copy().subdivide(face_index=np.arange(10))
    for one in (mesh, mug()):
        assert solid(one).volume == pytest.approx(one.volume)
        np.testing.assert_allclose(solid(one).center_of_volume, one.center_mass, atol=1e-9)
    assert np.linalg.norm(dense.vertices.mean(axis=0) - mesh.vertices.mean(axis=0)) > 1e-3
