"""Depth, disjointedness, contact and 'good' where the answer is known, and against Open3D."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.as_released import (
    contact_distance_as_released,
    in_contact_as_released_by_sign,
    in_contact_as_released_by_volume,
)
from grasp_nodes.evaluation.contact_metrics import (
    contact_accuracy,
    contact_agreement,
    contact_area,
    contact_percentage,
    contact_ratio,
    fingers_in_contact,
    in_contact,
    midpoint_upsampling,
    upsample,
)
from grasp_nodes.evaluation.good import is_good
from grasp_nodes.evaluation.intersection import intersection_volume
from grasp_nodes.evaluation.penetration import (
    disjointedness_distance,
    finger_of_vertices,
    fingertip_regions,
    hand_signed_distance,
    object_depth_in_hand,
    penetration_depth,
)
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.hand.keypoints import FINGERS, TIP_VERTICES
from grasp_nodes.objects.shapes import mug

CUBE = trimesh.creation.box((0.04, 0.04, 0.04))
BLOCK = Solid(CUBE.vertices, CUBE.faces)


def test_depth_of_points_in_a_block_and_of_hands_that_only_touch_or_stay_away():
    hands = np.array(
        [
            [[0.0, 0, 0.017], [0.1, 0, 0]],  # 3 mm below the top
            [[0.0, 0, 0.020], [0.1, 0, 0]],  # on the surface
            [[0.0, 0, 0.025], [0.1, 0, 0]],  # above
            [[np.nan, 0, 0], [0.0, 0, 0.0]],
        ]
    )
    signed = hand_signed_distance(hands, BLOCK)
    np.testing.assert_allclose(penetration_depth(signed), [0.003, 0, 0, np.nan], atol=1e-12)
    np.testing.assert_array_equal(in_contact(signed), [True, True, False, False])
    np.testing.assert_array_equal(in_contact(signed, 0.006), [True, True, True, False])
    assert contact_ratio(signed) == 0.5
    assert contact_percentage(signed) == 0.5
    assert contact_accuracy(signed, np.array([True, False, False, False])) == 0.5  # a frame with NaN is wrong


def test_a_point_in_one_of_two_overlapping_blocks_is_inside_next_to_the_face_of_the_other():
    both = trimesh.util.concatenate([CUBE, CUBE.copy().apply_translation((0.02, 0.0, 0.0))])
    hand = np.array([[[-0.003, 0.0, 0.0], [0.019, 0.0, 0.0], [0.043, 0.0, 0.0], [-0.021, 0.0, 0.0]]])
    signed = hand_signed_distance(hand, Solid(both.vertices, both.faces))
    np.testing.assert_allclose(signed, [[-0.003, -0.001, 0.003, 0.001]], atol=1e-12)


def test_depth_agrees_with_open3d_to_a_tenth_of_a_millimetre(hand):
    import open3d

    rng = np.random.default_rng(0)
    for mesh in (mug(), trimesh.creation.torus(0.04, 0.015)):
        scene = open3d.t.geometry.RaycastingScene()
        scene.add_triangles(
            open3d.core.Tensor(np.array(mesh.vertices, np.float32)), open3d.core.Tensor(np.array(mesh.faces, np.uint32))
        )
        hands = []
        for _ in range(6):
            posed = hand.posed(0.1 * rng.normal(size=45), rng.normal(size=3))
            hands.append(posed - posed[rng.integers(778)] + 0.9 * mesh.vertices[rng.integers(len(mesh.vertices))])
        found = penetration_depth(hand_signed_distance(np.array(hands), Solid(mesh.vertices, mesh.faces)))
        points = open3d.core.Tensor(np.array(hands, np.float32).reshape(-1, 3))
        distance = scene.compute_signed_distance(points, nsamples=5).numpy().reshape(len(hands), -1)
        np.testing.assert_allclose(found, np.maximum(-distance.min(axis=1), 0), atol=1e-4)
        assert found.max() > 0.002


def test_disjointedness_is_unsigned_and_only_of_fingertips():
    signed = np.array([[0.002, -0.004, 0.5, 0.003]])
    tips = [np.array([0]), np.array([1]), np.array([3])]
    assert disjointedness_distance(signed, tips)[0] == pytest.approx(0.003)


def test_fingers_and_fingertips_of_the_hand(hand):
    owner, tips = finger_of_vertices(hand.weights), fingertip_regions(hand.weights)
    for number, name in enumerate(FINGERS):
        assert owner[TIP_VERTICES[name]] == number
        assert TIP_VERTICES[name] in tips[number]
        assert (owner[tips[number]] == number).all()
    signed = np.ones((1, 778))
    signed[0, TIP_VERTICES["ring"]] = 0.0019
    signed[0, TIP_VERTICES["thumb"]] = 0.0021
    signed[0, np.flatnonzero(owner == -1)] = -0.001  # the palm is no finger
    assert fingers_in_contact(signed, owner).tolist() == [[False, False, False, True, False]]
    with pytest.raises(InputError, match=r"\(V, 16\)"):
        finger_of_vertices(np.ones((5, 3)))


def test_a_hand_on_the_surface_is_in_contact_but_not_in_the_released_code():
    lying = trimesh.creation.box((0.02, 0.02, 0.02)).apply_translation([0, 0, 0.030001])
    signed = hand_signed_distance(lying.vertices[None], BLOCK)
    volume = intersection_volume(lying.vertices[None], lying.faces, BLOCK)
    assert in_contact(signed)[0]
    assert not in_contact_as_released_by_volume(volume)[0]
    assert not in_contact_as_released_by_sign(signed)[0]


def test_precision_recall_and_f1_by_hand():
    true = np.array([[0.001, 0.001, 0.001, 0.01, 0.01]])
    found = np.array([[0.001, -0.02, 0.01, 0.001, 0.01]])
    agreement = contact_agreement(found, true)
    assert agreement.precision[0] == pytest.approx(2 / 3)
    assert agreement.recall[0] == pytest.approx(2 / 3)
    assert agreement.f1[0] == pytest.approx(2 / 3)
    nothing = contact_agreement(np.ones((1, 5)), true)
    assert np.isnan(nothing.precision[0])
    assert nothing.recall[0] == nothing.f1[0] == 0
    assert np.isnan(contact_agreement(np.ones((1, 5)), np.ones((1, 5))).f1[0])
    assert np.isnan(contact_agreement(np.full((1, 5), np.nan), true).recall[0])
    with pytest.raises(InputError, match=r"\(1, 5\)"):
        contact_agreement(np.ones((1, 4)), true)


def test_points_miss_a_contact_that_the_surface_has():
    # The released code measures to the object's points: inside, or between them, there is no contact.
    points = np.asarray(CUBE.vertices)
    touching, inside = np.array([[[0.0, 0.0, 0.0205]]]), np.array([[[0.0, 0.0, 0.0]]])
    for vertices in (touching, inside):
        assert (hand_signed_distance(vertices, BLOCK) < 0.002).all()
        assert not (contact_distance_as_released(vertices, points) < 0.002).any()


def test_upsampling_splits_faces_without_moving_the_surface():
    matrix, faces = midpoint_upsampling(CUBE.faces, len(CUBE.vertices), levels=2)
    finer = trimesh.Trimesh(upsample(matrix, np.stack([CUBE.vertices, 2 * CUBE.vertices]))[0], faces, process=False)
    assert len(faces) == 16 * len(CUBE.faces)
    assert finer.is_watertight
    assert finer.is_winding_consistent
    assert finer.volume == pytest.approx(CUBE.volume)
    assert finer.area == pytest.approx(CUBE.area)
    np.testing.assert_allclose(upsample(matrix, np.stack([CUBE.vertices, 2 * CUBE.vertices]))[1], 2 * finer.vertices)


def test_contact_area_of_a_plate_that_lies_on_the_block_and_overhangs_it():
    matrix, faces = midpoint_upsampling(CUBE.faces, len(CUBE.vertices), levels=5)
    plate = upsample(matrix, (CUBE.vertices * [2.0, 1.0, 0.25])[None]) + [0.0, 0.0, 0.0251]
    area = contact_area(plate, faces, hand_signed_distance(plate, BLOCK), threshold=0.001)
    # Of its 80 mm, 40 and a millimetre on each side lie on the block.
    assert area[0] == pytest.approx(0.042 * 0.04, rel=0.06)
    assert contact_area(plate + 1.0, faces, hand_signed_distance(plate + 1.0, BLOCK))[0] == 0


def test_good_needs_all_three_and_a_generated_pinch_is_none():
    depth = np.array([0.004, 0.006, 0.004, 0.004, np.nan])
    fingers = np.zeros((5, 5), bool)
    fingers[:, :3] = True
    fingers[2, 2] = False
    holds = np.array([True, True, True, False, True])
    assert is_good(depth, fingers, holds).tolist() == [True, False, False, False, False]
    assert is_good(depth, fingers, holds, kind="pinch").tolist() == [True, False, True, False, False]
    assert is_good(depth, fingers, holds, kind="tripod").tolist() == is_good(depth, fingers, holds).tolist()
    with pytest.raises(InputError, match="fingers"):
        is_good(depth, fingers[:, :4], holds)


def test_a_finger_through_a_thin_wall_is_found_from_the_objects_side():
    wall = trimesh.creation.box(extents=(0.004, 0.2, 0.2))
    finger = trimesh.creation.capsule(height=0.06, radius=0.008)
    finger.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [0, 1, 0]))
    finger.apply_translation(-finger.bounds.mean(axis=0))
    solid = Solid(np.array(wall.vertices), np.array(wall.faces), "wall")
    hands = np.stack([finger.vertices, finger.vertices + [0.1, 0, 0], np.full_like(finger.vertices, np.nan)])
    faces = np.array(finger.faces)
    depth = penetration_depth(hand_signed_distance(hands, solid))
    assert depth[0] <= 0.002 + 1e-9
    found = object_depth_in_hand(hands, faces, solid)
    # The deepest of the sampled points lies near the axis.
    assert 0.006 < found[0] <= 0.008
    assert found[1] == 0
    assert np.isnan(found[2])


def test_depth_from_both_sides_agrees_for_a_ball_in_a_thick_block():
    ball = trimesh.creation.icosphere(4, 0.01)
    block = trimesh.creation.box(extents=(0.1, 0.1, 0.1))
    solid = Solid(np.array(block.vertices), np.array(block.faces), "block")
    hands = (np.array(ball.vertices) + [0.05 + 0.01 - 0.003, 0.013, 0.007])[None]
    assert penetration_depth(hand_signed_distance(hands, solid))[0] == pytest.approx(0.003, abs=1e-4)
    assert object_depth_in_hand(hands, np.array(ball.faces), solid)[0] == pytest.approx(0.003, abs=6e-4)
