"""The contact map of shapes whose distances are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from grasp_nodes.contact.computation import compute_contact_map, soft_contact
from grasp_nodes.contact.contact_map import REGION_NOT_COMPUTED, ContactMap
from grasp_nodes.errors import InputError
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.objects.loading import make_object


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    """A flat box whose upper side is z = 0."""
    box = trimesh.creation.box(extents=(0.2, 0.2, 0.04))
    box.apply_translation([0, 0, -0.02])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_object(np.array(box.vertices), np.array(box.faces), "plate", num_points=3000)


RADIUS = 0.05
BALL = trimesh.creation.icosphere(4, RADIUS)


def ball_at(x: float, y: float, height: float) -> np.ndarray:
    """The ball whose lowest point is `height` above the plate."""
    return np.array(BALL.vertices) + np.array([x, y, RADIUS + height])


@pytest.mark.parametrize("height", [0.02, 0.0, -0.01])
def test_a_ball_over_a_plate(plate, height):
    vertices = ball_at(0.01, -0.02, height)
    result = compute_contact_map(vertices, np.array(BALL.faces), plate, hand_side="left", hand_track_id=7)
    centre = np.array([0.01, -0.02, RADIUS + height])
    expected = np.linalg.norm(plate.points - centre, axis=1) - RADIUS
    np.testing.assert_allclose(result.signed_distance, expected, atol=3e-4)
    upper = np.abs(vertices[:, :2]).max(axis=1) < 0.09
    above = upper & (vertices[:, 2] > -0.015)
    np.testing.assert_allclose(result.hand_signed_distance[above], vertices[above, 2], atol=1e-3)
    touched = result.contact > 0.5
    np.testing.assert_array_equal(touched, result.signed_distance < 0.005)
    np.testing.assert_array_equal(result.hand_contact > 0.5, result.hand_signed_distance < 0.005)
    assert touched.any() == (height < 0.005)
    assert (result.object_id, result.hand_side, result.hand_track_id) == ("plate", "left", 7)
    assert (result.region == REGION_NOT_COMPUTED).all()
    assert np.isnan(result.elasticity).all()
    assert result.contact.dtype == result.signed_distance.dtype == np.float32


def test_the_contact_threshold_is_where_contact_is_one_half(plate):
    vertices = ball_at(0, 0, 0.004)
    for threshold in (0.002, 0.01):
        result = compute_contact_map(vertices, np.array(BALL.faces), plate, threshold=threshold)
        assert result.contact_threshold == threshold
        order = np.argsort(result.signed_distance)
        assert (np.diff(result.contact[order]) <= 1e-6).all()
        np.testing.assert_array_equal(result.contact > 0.5, result.signed_distance < threshold)


def test_moving_hand_and_object_together_changes_nothing_and_topology_is_not_mixed_up(plate):
    ball = compute_contact_map(ball_at(0, 0, 0.001), np.array(BALL.faces), plate)
    box = trimesh.creation.box(extents=(0.05, 0.05, 0.05))
    box.apply_translation([0, 0, 0.026])
    flat = compute_contact_map(np.array(box.vertices), np.array(box.faces), plate)
    again = compute_contact_map(ball_at(0, 0, 0.001), np.array(BALL.faces), plate)
    np.testing.assert_array_equal(ball.signed_distance, again.signed_distance)
    # A flat hand touches more of the plate than a round one.
    assert (flat.contact > 0.5).sum() > (ball.contact > 0.5).sum()


@given(st.floats(-0.05, 0.05), st.floats(-0.05, 0.05), st.floats(0.001, 0.02))
def test_soft_contact_falls_and_stays_in_range(first, second, threshold):
    low, high = sorted((first, second))
    contact = soft_contact(np.array([low, high, threshold, 0.0, 2 * threshold]), threshold)
    assert ((contact >= 0) & (contact <= 1)).all()
    assert contact[0] >= contact[1]
    assert contact[2] == pytest.approx(0.5)
    assert contact[3] > 0.98
    assert contact[4] < 0.02


def test_bad_arguments_are_named(plate):
    with pytest.raises(InputError, match="threshold"):
        soft_contact(np.zeros(3), 0.0)
    vertices = ball_at(0, 0, 0)
    vertices[3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        compute_contact_map(vertices, np.array(BALL.faces), plate)
    with pytest.raises(InputError, match=r"ContactMap.contact: expected shape \(2,\)"):
        ContactMap("x", np.zeros((2, 3)), np.zeros(2), np.zeros(3), np.zeros(4), np.zeros(4), 0.005)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_flat_hand_on_a_plate_touches_with_the_regions_above_each_point(plate, side):
    model = load_hand_model(side, OPEN_HAND_FILE, torch.float64)
    anchors = HandAnchors.of_model(model)
    # Palm down, the lowest skin on the plate: the model's -y becomes -z.
    vertices = model.arrays.v_template @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    vertices -= [vertices[:, 0].mean(), vertices[:, 1].mean(), vertices[:, 2].min()]
    faces = closed_faces(model.arrays.faces)
    result = compute_contact_map(vertices, faces, plate, hand_side=side, anchors=anchors)
    positions = anchors.positions(torch.from_numpy(vertices)).numpy()
    on_top = np.abs(plate.points[:, 2]) < 1e-6
    for region in range(17):
        middle = vertices[anchors.vertex_region == region].mean(axis=0)[:2]
        below = on_top & (np.linalg.norm(plate.points[:, :2] - middle, axis=1) < 0.004)
        if below.any():
            assert (result.region[below] == region).mean() >= 0.5, region
    distance = np.full((len(plate.points), 17), np.inf)
    for anchor, region in enumerate(anchors.region):
        away = np.linalg.norm(plate.points - positions[anchor], axis=1)
        distance[:, region] = np.minimum(distance[:, region], away)
    nearest = distance[np.arange(len(distance)), result.region]
    expected = np.where(nearest < 0.02, 0.5 + 0.5 * np.cos(np.pi * nearest / 0.02), 0.0)
    np.testing.assert_allclose(result.elasticity, expected, atol=1e-5)
    assert result.elasticity.max() > 0.5
    assert not result.elasticity[result.signed_distance > 0.02].any()
    without = compute_contact_map(vertices, faces, plate, hand_side=side)
    assert (without.region == REGION_NOT_COMPUTED).all()
    assert np.isnan(without.elasticity).all()
