"""Holding: which frames it is in, and what it pulls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grasp_nodes.fitting.homan.holding import REACH, holding_loss, moving_frames
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid

CORNERS = 0.05 * np.array([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)])
RADIUS = 0.03


def poses(heights):
    result = np.tile(np.eye(4), (len(heights), 1, 1))
    result[:, 2, 3] = heights
    return result


def flags(text):
    return [letter == "m" for letter in text]


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([0.5] * 8, "........"),
        ([0.5, 0.5, 0.5, 0.51, 0.52, 0.53, 0.53, 0.53], "..mmmm.."),
        # A jump of one step and back at once is an error of the estimate, not a motion ...
        ([0.5, 0.5, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6], "........"),
        # ... noise is no motion, and a short pause in the air is still holding.
        ([0.5, 0.503, 0.5, 0.503, 0.5, 0.503, 0.5, 0.5], "........"),
        ([0.50, 0.51, 0.52, 0.52, 0.52, 0.52, 0.53, 0.54], "mmmmmmmm"),
        ([0.50, 0.51, 0.52, 0.52, 0.52, 0.52, 0.52, 0.52, 0.52, 0.53, 0.54], "mmm.....mmm"),
    ],
)
def test_frames_in_which_an_object_moves(heights, expected):
    assert moving_frames(poses(heights), CORNERS).tolist() == flags(expected)


def test_turning_on_the_spot_is_motion_and_a_lost_frame_is_none():
    angles = np.deg2rad([0, 0, 8, 16, 24, 24])
    turning = poses([0.5] * 6)
    turning[:, 0, 0] = turning[:, 1, 1] = np.cos(angles)
    turning[:, 1, 0], turning[:, 0, 1] = np.sin(angles), -np.sin(angles)
    assert moving_frames(turning, CORNERS).tolist() == flags(".mmmm.")
    lost = poses([0.5, np.nan, 0.5, 0.5])
    assert not moving_frames(lost, CORNERS).any()


@pytest.fixture(scope="module")
def ball():
    axis = np.linspace(-0.2, 0.2, 81)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    values = torch.tensor(np.linalg.norm(nodes, axis=-1) - RADIUS, dtype=torch.float32)
    return SignedDistanceGrid(values, torch.full((3,), -0.2), float(axis[1] - axis[0]))


def loss(ball, translation, local, object_translation, scale=None):
    zones = [torch.tensor([0]), torch.tensor([1]), torch.tensor([2])]
    eye = torch.eye(3).expand(len(local), 3, 3)
    one = torch.tensor(1.0)
    return holding_loss(
        local, one if scale is None else scale, eye, translation, zones, ball, eye, object_translation, one
    )


def test_the_nearest_zone_counts(ball):
    # Zones in front of the ball's surface by 3, 1 and 8 cm.
    local = torch.tensor([[[0.0, 0.0, -0.06], [0.0, 0.0, -0.04], [0.0, 0.0, -0.11]]])
    place = torch.zeros(1, 3)
    found = loss(ball, place, local, place)
    expected = REACH * np.tanh(0.01 / REACH)
    assert float(found) == pytest.approx(expected, rel=2e-3)


def test_only_the_place_of_the_hand_is_pulled_and_towards_the_object(ball):
    local = torch.tensor([[[0.0, 0.0, -0.06], [0.01, 0.0, -0.06], [0.0, 0.01, -0.06]]], requires_grad=True)
    translation = torch.zeros(1, 3, requires_grad=True)
    item = torch.zeros(1, 3, requires_grad=True)
    scale = torch.tensor(1.0, requires_grad=True)
    loss(ball, translation, local, item, scale).backward()
    assert translation.grad is not None
    assert float(translation.grad[0, 2]) < -0.5
    assert local.grad is None or not local.grad.any()
    assert item.grad is None
    assert scale.grad is None


def test_a_hand_that_touches_is_left_alone_and_no_frames_are_no_error(ball):
    touching = torch.tensor([[[0.0, 0.0, -0.029], [0.1, 0.0, 0.0], [0.0, 0.0, -0.2]]])
    assert float(loss(ball, torch.zeros(1, 3), touching, torch.zeros(1, 3))) == 0.0
    none = torch.zeros(0, 3)
    assert float(loss(ball, none, torch.zeros(0, 3, 3), none)) == 0.0
