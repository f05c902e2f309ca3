from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.fitting.hand_holding import brought_to_objects
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object

CAMERA = CameraModel(np.array([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]]), 640, 480)
MODELS = {"right": load_hand_model("right")}
BLOCK = load_object("box:0.10,0.10,0.04", "block", resolution=48)
FACING = Rotation.from_euler("xyz", [0, 0, -90], degrees=True).as_matrix() @ np.array(
    [[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]
)
"""Back of the hand to the camera."""
COUNT = 10


def held(moves=True, gap=0.0):
    """A flat hand that lies on a block behind it, `gap` m from it, and carries it sideways."""
    model = MODELS["right"]
    turn = Rotation.from_matrix(FACING).as_rotvec()
    way = 0.01 * np.arange(COUNT) if moves else np.zeros(COUNT)
    places = np.stack([way - 0.05, np.full(COUNT, 0.05), np.full(COUNT, 0.6)], axis=1)
    zeros = HandParams.zeros(COUNT, "right", torch.float32)
    params = HandParams(
        torch.tensor(np.tile(turn, (COUNT, 1)), dtype=torch.float32),
        zeros.hand_pose,
        zeros.betas,
        torch.tensor(places, dtype=torch.float32),
        zeros.scale,
        "right",
    )
    with torch.no_grad():
        vertices = model(params.to(dtype=model.dtype)).vertices.numpy()
    nothing, everything = np.zeros(COUNT, bool), np.ones(COUNT, bool)
    hand = HandTrack(params, everything, np.ones(COUNT), nothing)
    poses = np.tile(np.eye(4), (COUNT, 1, 1))
    poses[:, :2, 3] = vertices.mean(axis=1)[:, :2]
    poses[:, 2, 3] = vertices[..., 2].max(axis=1) + 0.02 + gap
    block = ObjectTrack("block", poses, everything, np.ones(COUNT), np.ones(COUNT), nothing)
    return hand, block, vertices


def scaled(hand, factor):
    params = hand.params
    return HandTrack(
        HandParams(
            params.global_orient,
            params.hand_pose,
            params.betas,
            factor * params.transl,
            factor * params.scale,
            params.side,
        ),
        hand.seen,
        hand.score,
        hand.lost,
    )


@pytest.mark.parametrize("wrong", [0.75, 0.9, 1.0, 1.12, 1.3])
def test_a_hand_that_carries_something_has_its_distance(wrong):
    hand, block, vertices = held()
    (found,) = brought_to_objects(MODELS, [scaled(hand, wrong)], [block], {"block": BLOCK}, CAMERA)
    assert found.params.transl[:, 2].numpy() == pytest.approx(0.6, rel=0.03)
    model = MODELS["right"]
    with torch.no_grad():
        placed = model(found.params.to(dtype=model.dtype)).vertices.numpy()
    np.testing.assert_allclose(CAMERA.project(placed[3]), CAMERA.project(vertices[3]), atol=0.05)


def test_a_thing_that_lies_still_is_not_held():
    hand, block, _ = held(moves=False)
    (found,) = brought_to_objects(MODELS, [scaled(hand, 1.12)], [block], {"block": BLOCK}, CAMERA)
    assert float(found.params.scale[0]) == pytest.approx(1.12)


def test_before_a_moving_camera_nothing_is_known_to_be_carried():
    hand, block, _ = held()
    for moves, size in ((np.ones(COUNT, bool), 1.12), (np.arange(COUNT) > 6, 1.0)):
        (found,) = brought_to_objects(MODELS, [scaled(hand, 1.12)], [block], {"block": BLOCK}, CAMERA, moves)
        assert float(found.params.scale[0]) == pytest.approx(size, rel=0.03)


def test_a_thing_that_moves_elsewhere_is_not_held():
    hand, block, _ = held()
    block.T_camera_object[:, 1, 3] -= 0.3
    (found,) = brought_to_objects(MODELS, [scaled(hand, 1.12)], [block], {"block": BLOCK}, CAMERA)
    assert float(found.params.scale[0]) == pytest.approx(1.12)


def test_objects_without_model_or_answer_say_nothing():
    hand, block, _ = held()
    start = scaled(hand, 1.12)
    lost = ObjectTrack("block", block.T_camera_object, block.seen, block.score, block.iou, np.ones(COUNT, bool))
    for track, models in ((block, {}), (lost, {"block": BLOCK})):
        (found,) = brought_to_objects(MODELS, [start], [track], models, CAMERA)
        assert float(found.params.scale[0]) == pytest.approx(1.12)
