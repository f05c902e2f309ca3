from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.fitting.hand_kinematics import (
    HandConfiguration,
    keypoint_jacobian,
    pose_keypoints,
    pose_vertices,
    vertex_jacobian,
)
from grasp_nodes.fitting.hand_skeleton import dof_values, load_keypoint_offsets, make_hand_skeleton
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams

SIDES = ("right", "left")


@pytest.fixture(scope="module", params=SIDES)
def hand(request):
    model = load_hand_model(request.param, dtype=torch.float64)
    return model, make_hand_skeleton(model)


def some_configuration(skeleton, seed=0, scale=1.07):
    rng = np.random.default_rng(seed)
    angles = rng.uniform(skeleton.low, skeleton.high)
    rotation = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    return HandConfiguration(rotation, rng.normal(size=3) * 0.1 + [0, 0, 0.6], angles, scale)


def as_params(model, skeleton, configuration):
    """The same hand in MANO's terms: translation is added after scaling about the model's origin."""
    transl = configuration.wrist - configuration.scale * skeleton.joints[0]
    values = {
        "global_orient": Rotation.from_matrix(configuration.rotation).as_rotvec(),
        "hand_pose": skeleton.hand_pose(configuration.angles),
        "transl": transl,
    }
    params = HandParams.zeros(1, model.side, torch.float64)
    tensors = {name: torch.tensor(value)[None] for name, value in values.items()}
    return dataclasses.replace(params, **tensors, scale=torch.tensor([configuration.scale], dtype=torch.float64))


@pytest.mark.parametrize("seed", range(4))
def test_kinematics_agree_with_the_hand_model(hand, seed):
    model, skeleton = hand
    configuration = some_configuration(skeleton, seed)
    output = model(as_params(model, skeleton, configuration))
    keypoints = pose_keypoints(skeleton, configuration)
    joints = [0, 1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19]
    truth = output.keypoints[0].numpy()
    np.testing.assert_allclose(keypoints[joints], truth[joints], atol=1e-9)
    np.testing.assert_allclose(keypoints, truth, atol=2e-3)  # tips are skinned vertices in the model
    vertices, normals = pose_vertices(skeleton, configuration)
    error = np.linalg.norm(vertices - output.vertices[0].numpy(), axis=1)
    assert error.max() < 2e-3  # joints with the smallest weights are left out
    assert np.median(error) < 3e-4
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-9)


def perturbed(configuration, index, step):
    if index < 3:
        turn = Rotation.from_rotvec(step * np.eye(3)[index]).as_matrix()
        return configuration._replace(rotation=turn @ configuration.rotation)
    if index < 6:
        return configuration._replace(wrist=configuration.wrist + step * np.eye(3)[index - 3])
    if index == 6 + len(configuration.angles):
        return configuration._replace(scale=configuration.scale * np.exp(step))
    angles = configuration.angles.copy()
    angles[index - 6] += step
    return configuration._replace(angles=angles)


@pytest.mark.parametrize("landmarks", [False, True])
def test_keypoint_derivatives_are_finite_differences(hand, landmarks):
    _, skeleton = hand
    configuration = some_configuration(skeleton, 5)
    _, jacobian = keypoint_jacobian(skeleton, configuration, landmarks)
    step = 1e-6
    for index in range(jacobian.shape[2]):
        ahead = pose_keypoints(skeleton, perturbed(configuration, index, step), landmarks)
        behind = pose_keypoints(skeleton, perturbed(configuration, index, -step), landmarks)
        np.testing.assert_allclose(jacobian[:, :, index], (ahead - behind) / (2 * step), atol=1e-8)


def test_vertex_derivatives_are_finite_differences(hand):
    _, skeleton = hand
    configuration = some_configuration(skeleton, 7)
    step = 1e-6
    for vertex in (0, 100, 320, 444, 671, 744, 700):
        point, jacobian = vertex_jacobian(skeleton, configuration, vertex)
        np.testing.assert_allclose(point, pose_vertices(skeleton, configuration)[0][vertex], atol=1e-12)
        for index in range(jacobian.shape[1]):
            ahead = pose_vertices(skeleton, perturbed(configuration, index, step))[0][vertex]
            behind = pose_vertices(skeleton, perturbed(configuration, index, -step))[0][vertex]
            np.testing.assert_allclose(jacobian[:, index], (ahead - behind) / (2 * step), atol=1e-8)


def test_the_left_hand_is_the_mirror_image():
    right, left = (make_hand_skeleton(load_hand_model(side, dtype=torch.float64)) for side in SIDES)
    angles = np.random.default_rng(1).uniform(right.low, right.high)
    still = HandConfiguration(np.eye(3), right.joints[0], angles)
    mirrored = HandConfiguration(np.eye(3), left.joints[0], angles)
    for landmarks in (False, True):
        ours, theirs = pose_keypoints(right, still, landmarks), pose_keypoints(left, mirrored, landmarks)
        np.testing.assert_allclose(ours * [-1, 1, 1], theirs, atol=1e-9)


def test_positive_bends_close_the_fingers(hand):
    """Every finger's tip moves to the palm's side, which is -y."""
    _, skeleton = hand
    closed = skeleton.angles((40, 45, 30), (20, 20, 25, -30, 0))
    flat = HandConfiguration(np.eye(3), skeleton.joints[0], np.zeros(skeleton.num_dofs))
    tips = [4, 8, 12, 16, 20]
    change = pose_keypoints(skeleton, flat._replace(angles=closed))[tips] - pose_keypoints(skeleton, flat)[tips]
    assert (change[1:, 1] < -0.02).all()
    assert change[0, 1] < -0.005


def test_angles_survive_the_way_through_the_pose(hand):
    _, skeleton = hand
    angles = np.random.default_rng(3).uniform(skeleton.low, skeleton.high)
    back = dof_values(skeleton, torch.tensor(skeleton.hand_pose(angles)))
    np.testing.assert_allclose(back, angles, atol=1e-9)
    assert (skeleton.low < skeleton.high).all()


def test_offsets_have_their_shapes():
    offsets = load_keypoint_offsets()
    assert offsets.offsets.shape == (21, 3)
    assert np.abs(offsets.offsets).max() < 0.05
    assert (offsets.skin_depth > 0).all()
