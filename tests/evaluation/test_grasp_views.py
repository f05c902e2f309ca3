"""Cameras that are found from the hand's skin."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from grasp_nodes.evaluation.grasp_views import AZIMUTHS, framed_camera, hand_axes, view_rotation
from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import TIP_VERTICES, closed_faces
from grasp_nodes.hand.parameters import HandParams


@pytest.mark.parametrize("side", ["right", "left"])
def test_axes_turn_with_the_hand(side: str) -> None:
    model = load_hand_model("left" if side == "left" else "right", OPEN_HAND_FILE, dtype=torch.float64)
    with torch.no_grad():
        rest = model(HandParams.zeros(1, model.side, torch.float64)).vertices[0].numpy()
    faces = closed_faces(model.faces.numpy())
    axes = hand_axes(rest, faces)
    assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-9)
    thumb, along, out = axes
    tips = {name: rest[vertex] for name, vertex in TIP_VERTICES.items()}
    assert (tips["middle"] - rest.mean(axis=0)) @ along > 0.05
    assert (tips["thumb"] - tips["little"]) @ thumb > 0.05
    assert out[1] < -0.9
    turned = random_rotations(1, torch.Generator().manual_seed(3)).double().numpy()[0]
    assert np.allclose(hand_axes(rest @ turned.T + 0.3, faces), axes @ turned.T, atol=1e-9)


def test_two_cameras_see_the_palm_one_the_back_and_all_are_upright() -> None:
    axes = np.eye(3)
    rotations = [view_rotation(axes, float(azimuth)) for azimuth in AZIMUTHS]
    for rotation in rotations:
        assert np.allclose(rotation @ rotation.T, np.eye(3))
        assert np.linalg.det(rotation) == pytest.approx(1.0)
        assert rotation[1, 1] < -0.9, "the fingers must point up, against the camera's y"
    facing = [-rotation[2] @ axes[2] for rotation in rotations]
    assert facing[0] > 0.3
    assert facing[1] < -0.8
    assert facing[2] > 0.3
    assert -rotations[0][2] @ axes[0] > 0.8, "the first one must see the thumb"
    level = [rotation[2, [0, 2]] / np.linalg.norm(rotation[2, [0, 2]]) for rotation in rotations]
    assert all(a @ b == pytest.approx(-0.5) for a, b in itertools.combinations(level, 2))


@pytest.mark.parametrize("seed", range(4))
def test_a_framed_scene_fills_the_picture(seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(50, 3)) * [0.1, 0.05, 0.2] + 3
    shift, camera = framed_camera(points, 100, margin=0.1)
    pixels = camera.project(points + shift)
    assert pixels.min() == pytest.approx(9.5)
    assert pixels.max() == pytest.approx(89.5)
    assert (pixels.min(axis=0) + pixels.max(axis=0)) / 2 == pytest.approx([49.5, 49.5])
