"""Regions and anchors of the open hand against trimesh's rays, distances to the links, and the mirror image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import axis_angle_to_matrix
from grasp_nodes.hand.anatomy import keypoints_at_rest
from grasp_nodes.hand.anchors import (
    CARPAL,
    FINGERTIP_REGIONS,
    NUM_ANCHORS,
    PALM_METACARPAL,
    REGION_NAMES,
    HandAnchors,
    anchors_of,
    control_points,
)
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import FINGERS, TIP_VERTICES, WRIST_LOOP
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams

SIDES = ("right", "left")
MODELS = {side: load_hand_model(side, OPEN_HAND_FILE, torch.float64) for side in SIDES}
ANCHORS = {side: HandAnchors.of_model(MODELS[side]) for side in SIDES}
ARRAYS = MODELS["right"].arrays
REST = torch.from_numpy(ARRAYS.v_template)


@pytest.mark.parametrize("side", SIDES)
def test_counts_are_the_papers(side):
    anchors = ANCHORS[side]
    assert len(REGION_NAMES) == len(set(REGION_NAMES)) == 17
    assert list(np.bincount(anchors.region)) == [1, 1, 3] * 5 + [4, 3]
    # CPF's released order: thumb, then for each finger palm, phalanges, tip.
    assert list(anchors.region) == [
        *(0, 1, 2, 2, 2),
        *(15, 16, 3, 4, 5, 5, 5),
        *(15, 6, 7, 8, 8, 8),
        *(15, 16, 9, 10, 11, 11, 11),
        *(15, 16, 12, 13, 14, 14, 14),
    ]
    table = anchors.anchors_of_region
    assert sorted(table[table >= 0]) == list(range(NUM_ANCHORS))
    for region, row in enumerate(table):
        assert set(anchors.region[row[row >= 0]]) == {region}


def test_every_vertex_is_in_the_region_of_its_nearest_control_point():
    keypoints = keypoints_at_rest(ARRAYS.J_regressor @ ARRAYS.v_template, ARRAYS.v_template)
    points = control_points(keypoints)
    assert list(points.region[[0, 5, 10, 15, 20]]) == [CARPAL] * 5
    assert list(points.region[[4, 9, 14, 19]]) == [PALM_METACARPAL] * 4
    np.testing.assert_allclose(points.position[8], (keypoints[7] + keypoints[8]) / 2)  # the tip of the index finger
    np.testing.assert_allclose(points.position[9], keypoints[0] + 2 / 3 * (keypoints[9] - keypoints[0]))
    nearest = cKDTree(points.position).query(ARRAYS.v_template)[1]
    np.testing.assert_array_equal(ANCHORS["right"].vertex_region, points.region[nearest])
    for finger, region in zip(FINGERS, FINGERTIP_REGIONS, strict=True):
        assert ANCHORS["right"].vertex_region[TIP_VERTICES[finger]] == region
        assert TIP_VERTICES[finger] in ANCHORS["right"].fingertips[FINGERS.index(finger)]
    assert (ANCHORS["right"].vertex_region[list(WRIST_LOOP)] == CARPAL).all()


def test_anchors_lie_on_the_skin_of_their_region_and_face_the_palm():
    anchors = ANCHORS["right"]
    positions = anchors.positions(REST).numpy()
    skin = trimesh.Trimesh(ARRAYS.v_template, ARRAYS.faces, process=False)
    _, distance, face = skin.nearest.on_surface(positions)
    assert distance.max() < 1e-8
    assert (np.abs(np.sort(skin.faces[face], axis=1) - np.sort(anchors.faces, axis=1)).sum(axis=1) == 0).mean() > 0.9
    assert (anchors.weights >= 0).all()
    assert (anchors.weights.sum(axis=1) <= 1 + 1e-12).all()
    normals = skin.face_normals[face]
    fingers = ~np.isin(anchors.region, [0, 1, 2])
    assert (normals[fingers, 1] < 0.2).all()  # the palm looks along -y; tips lean forward
    assert np.median(normals[fingers, 1]) < -0.8
    corner_regions = anchors.vertex_region[anchors.faces]
    assert (corner_regions == anchors.region[:, None]).any(axis=1).all()


def test_the_first_skin_that_the_ray_meets_counts():
    """Single anchors against trimesh's ray caster."""
    anchors = ANCHORS["right"]
    keypoints = keypoints_at_rest(ARRAYS.J_regressor @ ARRAYS.v_template, ARRAYS.v_template)
    skin = trimesh.Trimesh(ARRAYS.v_template, ARRAYS.faces, process=False)
    positions = anchors.positions(REST).numpy()
    for anchor, start, end, share in ((7, 5, 6, 0.5), (12, 0, 9, 2 / 3), (19, 0, 13, 1 / 3), (27, 17, 18, 0.5)):
        origin = keypoints[start] + share * (keypoints[end] - keypoints[start])
        along = (keypoints[end] - keypoints[start]) / np.linalg.norm(keypoints[end] - keypoints[start])
        down = np.array([0.0, -1.0, 0.0]) + along * along[1]
        hits, _, _ = skin.ray.intersects_location([origin], [down])
        first = hits[np.linalg.norm(hits - origin, axis=1).argmin()]
        np.testing.assert_allclose(positions[anchor], first, atol=1e-9)


@pytest.mark.parametrize("cone_base", [0.006, None])
def test_three_anchors_stand_evenly_around_the_pad_of_each_fingertip(cone_base):
    anchors = HandAnchors.of_model(MODELS["right"], cone_base=cone_base)
    keypoints = keypoints_at_rest(ARRAYS.J_regressor @ ARRAYS.v_template, ARRAYS.v_template)
    positions = anchors.positions(REST).numpy()
    for finger, region in enumerate(FINGERTIP_REGIONS):
        apex = keypoints[3 + 4 * finger : 5 + 4 * finger].mean(axis=0)
        rays = positions[anchors.region == region] - apex
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        between = (rays * np.roll(rays, 1, axis=0)).sum(axis=1)
        np.testing.assert_allclose(between, between[0], atol=1e-9)  # generatrices of one cone, equally apart
        along = keypoints[4 + 4 * finger] - keypoints[3 + 4 * finger]
        assert rays[0] @ along > 0 > (rays[1:] @ along).max()


def test_the_left_hand_is_the_mirror_image():
    np.testing.assert_array_equal(ANCHORS["left"].vertex_region, ANCHORS["right"].vertex_region)
    left = ANCHORS["left"].positions(torch.from_numpy(MODELS["left"].arrays.v_template)).numpy()
    np.testing.assert_allclose(left * [-1, 1, 1], ANCHORS["right"].positions(REST).numpy(), atol=1e-12)


def test_anchors_move_with_the_skin_and_are_differentiable():
    anchors, model = ANCHORS["right"], MODELS["right"]
    generator = torch.Generator().manual_seed(0)
    params = HandParams.zeros(2, dtype=torch.float64)
    params = replace(params, hand_pose=0.3 * torch.randn(2, 45, generator=generator, dtype=torch.float64))
    vertices = model(params).vertices
    positions = anchors.positions(vertices)
    v1, v2, v3 = (vertices[:, anchors.faces[:, k]] for k in range(3))
    x1, x2 = torch.from_numpy(anchors.weights).unsqueeze(-1).unbind(1)
    torch.testing.assert_close(positions, (1 - x1 - x2) * v1 + x1 * v2 + x2 * v3)

    turn = axis_angle_to_matrix(torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64))
    torch.testing.assert_close(anchors.positions(vertices @ turn.T + 0.2), positions @ turn.T + 0.2)

    def of_pose(pose):
        return anchors.positions(model(replace(params, hand_pose=pose)).vertices)[:, ::5]

    assert torch.autograd.gradcheck(of_pose, params.hand_pose.clone().requires_grad_(), fast_mode=True)


def test_another_shape_has_anchors_of_its_own():
    betas = np.zeros(10)
    betas[0] = 2.0
    shaped = HandAnchors.of_model(MODELS["right"], betas)
    assert list(np.bincount(shaped.region)) == [1, 1, 3] * 5 + [4, 3]
    assert (shaped.vertex_region == ANCHORS["right"].vertex_region).mean() > 0.9
    assert anchors_of(MODELS["right"]) is anchors_of(MODELS["right"])


def test_what_is_no_whole_hand_is_refused():
    with pytest.raises(InputError, match="sub-set"):
        HandAnchors.of_model(MODELS["right"].vertex_subset([0, 1, 2]))
    with pytest.raises(InputError, match=r"keypoints \(21, 3\)"):
        control_points(np.zeros((16, 3)))
    palm = ARRAYS.v_template[ARRAYS.faces].mean(axis=1)[:, 1] < np.median(ARRAYS.v_template[:, 1])
    faces = ARRAYS.faces.copy()
    faces[palm] = 0  # triangles without area: a hand that is open below
    with pytest.raises(InputError, match="meets no skin"):
        HandAnchors.of_model(HandModel(replace(ARRAYS, faces=faces), torch.float64))
