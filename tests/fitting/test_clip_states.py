"""Tracks as states: against the hand model itself, and a ball whose distance is known in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from grasp_nodes.contact.interaction import FitStatus
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.clip_states import clip_states
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack, RivalTrack
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import Evidence

FRAMES = 4
RADIUS = 0.03
CAMERA = CameraModel(np.array([[400.0, 0, 159.5], [0, 400, 119.5], [0, 0, 1]]), 320, 240, is_metric=False)
EVIDENCE = [Evidence(1000 + k, CAMERA) for k in range(FRAMES)]


@pytest.fixture(scope="module")
def hand_models():
    return {"right": load_hand_model("right")}


@pytest.fixture(scope="module")
def ball():
    mesh = trimesh.creation.icosphere(3, RADIUS)
    axis = np.linspace(-0.2, 0.2, 101)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    values = torch.tensor(np.linalg.norm(nodes, axis=-1) - RADIUS, dtype=torch.float32)
    grid = SignedDistanceGrid(values, torch.full((3,), -0.2), float(axis[1] - axis[0]))
    directions = np.random.default_rng(0).normal(size=(300, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = (directions * RADIUS).astype(np.float32)
    return ObjectModel("ball", np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces), grid, points, points)


def hand_track(seen=(1, 1, 1, 1), lost=(0, 0, 0, 0)):
    params = HandParams.zeros(FRAMES)
    transl = torch.tensor([[0.0, 0.0, 0.5 + 0.01 * k] for k in range(FRAMES)])
    pose = 0.2 * torch.ones(FRAMES, 45)
    return HandTrack(
        replace(params, transl=transl, hand_pose=pose),
        np.array(seen, bool),
        np.array([0.9, 0.8, 0.7, 1.3]),
        np.array(lost, bool),
        track_id=7,
    )


def object_track(seen=(1, 1, 1, 1), lost=(0, 0, 0, 0), scale=1.0):
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    poses[:, :3, 3] = [[0.1, 0.0, 0.5 + 0.01 * k] for k in range(FRAMES)]
    rival = RivalTrack(poses + 0.0, 0.5)
    return ObjectTrack(
        "ball",
        poses,
        np.array(seen, bool),
        np.full(FRAMES, 0.6),
        np.where(np.array(seen, bool), 0.9, np.nan),
        np.array(lost, bool),
        scale=scale,
        rivals=(rival,),
    )


def test_states_hold_what_the_hand_model_says(hand_models, ball):
    track = hand_track()
    states = clip_states(EVIDENCE, [track], [object_track()], hand_models, {"ball": ball})
    assert [state.stamp for state in states] == [1000, 1001, 1002, 1003]
    for row, state in enumerate(states):
        posed = hand_models["right"](track.params[row : row + 1])
        (hand,) = state.hands
        assert np.allclose(hand.keypoints, posed.keypoints[0], atol=1e-6)
        assert hand.track_id == 7
        assert not hand.is_metric
        assert state.status == FitStatus.OK
        assert torch.equal(hand.params.hand_pose, track.params.hand_pose[row : row + 1])
        assert state.objects[0].T_camera_object[2, 3] == pytest.approx(0.5 + 0.01 * row)
    assert states[3].hands[0].score == 1.0


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_contact_is_measured_on_the_ball_of_the_fitted_size(hand_models, ball, scale):
    track = hand_track()
    found = object_track(scale=scale)
    state = clip_states(EVIDENCE, [track], [found], hand_models, {"ball": ball})[1]
    (contact,) = state.contact_maps
    vertices = hand_models["right"](track.params[1:2]).vertices[0].numpy()
    exact = np.linalg.norm(vertices - found.T_camera_object[1][:3, 3], axis=1) - scale * RADIUS
    near = np.abs(exact) < 0.1
    assert near.sum() > 100
    assert np.abs(contact.hand_signed_distance - exact)[near].max() < 5e-4
    assert np.allclose(np.linalg.norm(contact.points, axis=1), scale * RADIUS, rtol=1e-5)
    assert contact.contact_threshold == pytest.approx(0.005)
    assert ((contact.hand_contact > 0.5) == (contact.hand_signed_distance < 0.005)).all()
    assert (contact.object_id, contact.hand_side, contact.hand_track_id) == ("ball", "right", 7)
    assert state.objects[0].scale == pytest.approx(scale)


def test_the_status_says_what_supports_an_answer(hand_models, ball):
    hand = hand_track(seen=(1, 0, 0, 0), lost=(0, 0, 1, 1))
    item = object_track(seen=(1, 0, 1, 0), lost=(0, 0, 0, 1))
    states = clip_states(EVIDENCE, [hand], [item], hand_models, {"ball": ball})
    assert [state.status for state in states] == [FitStatus.OK, FitStatus.HELD, FitStatus.OK, FitStatus.NOTHING]
    assert [len(state.hands) for state in states] == [1, 1, 0, 0]
    assert [len(state.contact_maps) for state in states] == [1, 1, 0, 0]
    assert "hand not seen" in states[1].status_text
    assert "ball not seen" in states[1].status_text
    assert states[3].status_text == "no hand was found; ball not found"
    assert states[0].residuals == {"ball_iou": 0.9}
    assert states[1].residuals == {}


def test_tracks_of_another_length_or_without_a_model_are_refused(hand_models, ball):
    with pytest.raises(InputError, match="expected 4 frames as there is evidence, got 3"):
        clip_states(EVIDENCE, [hand_track().part(0, 3)], [], hand_models, {})
    with pytest.raises(InputError, match="'ball' was tracked, there are"):
        clip_states(EVIDENCE, [], [object_track()], hand_models, {"cup": ball})
    with pytest.raises(InputError, match="no model of that side"):
        clip_states(EVIDENCE, [hand_track()], [], {}, {})


def test_a_part_of_a_track_is_its_frames():
    hand, item = hand_track(seen=(1, 0, 1, 0)).part(1, 3), object_track(lost=(0, 0, 1, 0)).part(1, 3)
    assert len(hand) == len(item) == 2
    assert hand.params.transl[:, 2].tolist() == pytest.approx([0.51, 0.52])
    assert hand.seen.tolist() == [False, True]
    assert item.lost.tolist() == [False, True]
    assert item.rivals[0].T_camera_object[:, 2, 3].tolist() == pytest.approx([0.51, 0.52])
