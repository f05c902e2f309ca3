from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.contact.interaction import FitStatus
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.frame_fitter import FrameFitter, FrameFitterOptions
from grasp_nodes.fitting.hand_contact import ObjectSurface, contact_terms
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints, pose_vertices
from grasp_nodes.fitting.hand_skeleton import make_hand_skeleton
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObjectEvidence

CAMERA = CameraModel(np.array([[400.0, 0, 159.5], [0, 400, 119.5], [0, 0, 1]]), 320, 240)
RADIUS = 0.035
BACK_TO_CAMERA = Rotation.from_euler("z", -90, degrees=True).as_matrix() @ np.array(
    [[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]
)
STEP = 33_333_333


@pytest.fixture(scope="module")
def ball():
    """A ball whose signed distance is known in closed form."""
    import trimesh

    mesh = trimesh.creation.icosphere(3, RADIUS)
    vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int64)
    axis = np.linspace(-0.06, 0.06, 41)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    values = torch.tensor(np.linalg.norm(nodes, axis=-1) - RADIUS, dtype=torch.float32)
    grid = SignedDistanceGrid(values, torch.full((3,), -0.06), float(axis[1] - axis[0]))
    directions = np.random.default_rng(0).normal(size=(500, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points, normals = (directions * RADIUS).astype(np.float32), directions.astype(np.float32)
    return ObjectModel("ball", vertices, faces, grid, points, normals)


@pytest.fixture(scope="module")
def hands():
    return {side: load_hand_model(side) for side in ("right", "left")}


def scene(skeleton, t, with_hand=True, with_ball=True):
    """Evidence and depth of a hand beside a ball; also the true configuration and T_camera_object."""
    angles = skeleton.angles((30, 35, 20), (10, 15, 15, -20, 0))
    hand = HandConfiguration(BACK_TO_CAMERA, np.array([0.005 * t - 0.03, 0.06, 0.5]), angles)
    place = np.eye(4)
    place[:3, 3] = [0.09 - 0.004 * t, 0.0, 0.52]
    columns, rows = np.meshgrid(np.arange(320), np.arange(240))
    rays = np.concatenate([CAMERA.normalise(np.stack([columns, rows], -1)), np.ones((240, 320, 1))], -1)
    a, b = (rays**2).sum(-1), rays @ place[:3, 3]
    inside = b**2 - a * (place[:3, 3] @ place[:3, 3] - RADIUS**2)
    to_ball = np.where((inside > 0) & with_ball, (b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)
    to_hand = np.full((240, 320), np.inf)
    if with_hand:
        vertices, _ = pose_vertices(skeleton, hand)
        weights = np.array([(i, j, 10 - i - j) for i in range(11) for j in range(11 - i)]) / 10
        faces = load_hand_model(skeleton.side).faces.numpy()
        points = np.einsum("wk,fkc->fwc", weights, vertices[faces]).reshape(-1, 3)
        u, v = np.round(CAMERA.project(points)).astype(int).T
        seen = (u >= 0) & (u < 320) & (v >= 0) & (v < 240)
        np.minimum.at(to_hand, (v[seen], u[seen]), points[seen, 2])
    nearest = np.minimum(to_ball, to_hand)
    depth = np.where(np.isfinite(nearest), nearest, 0).astype(np.float32)
    hand_mask, ball_mask = np.isfinite(to_hand) & (to_hand <= to_ball), np.isfinite(to_ball) & (to_ball < to_hand)
    points = pose_keypoints(skeleton, hand, landmarks=True)
    pixels = (CAMERA.project(points) + np.random.default_rng(t).normal(0, 1, (21, 2))).astype(np.float32)
    box = np.concatenate([pixels.min(0), pixels.max(0)])
    relative = (points - points.mean(0)).astype(np.float32)
    hand_evidence = HandEvidence(skeleton.side, 0.9, 0.9, box, pixels, relative, hand_mask, 1)
    ball_evidence = ObjectEvidence("object", 0.9, np.array([0, 0, 1, 1], np.float32), ball_mask, 1)
    evidence = Evidence(
        1_000_000_000 + t * STEP,
        CAMERA,
        (hand_evidence,) if with_hand else (),
        (ball_evidence,) if with_ball else (),
    )
    return evidence, depth, hand, place


def test_hand_object_and_contact_come_out(ball, hands):
    skeleton = make_hand_skeleton(hands["right"])
    fitter = FrameFitter(ball, hands)
    for t in range(5):
        evidence, depth, hand, place = scene(skeleton, t)
        state = fitter.update(evidence, depth)
    assert state.status == FitStatus.OK
    assert state.stamp == evidence.stamp
    assert state.frame_id == CAMERA.frame_id
    (found,), (item,), (contact,) = state.hands, state.objects, state.contact_maps
    assert np.linalg.norm(found.keypoints - pose_keypoints(skeleton, hand), axis=1).mean() < 0.008
    assert np.linalg.norm(item.T_camera_object[:3, 3] - place[:3, 3]) < 0.003
    assert item.object_id == contact.object_id == "ball"
    assert found.joint_poses.shape == (16, 7)
    np.testing.assert_allclose(found.joint_poses[0, :3], found.keypoints[0], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.joint_poses[:, 3:], axis=1), 1.0, atol=1e-6)
    assert (found.model_id, found.model_fingerprint) == (hands["right"].model_id, hands["right"].fingerprint)
    # the map's distances are those of the hand and ball that were given out
    vertices = hands["right"](found.params).vertices[0].detach().numpy()
    to_ball = np.linalg.norm(vertices - item.T_camera_object[:3, 3], axis=1) - RADIUS
    near = np.abs(to_ball) < 0.02
    np.testing.assert_allclose(contact.hand_signed_distance[near], to_ball[near], atol=1e-3)
    assert {"object_iou", "right_hand_1_landmark_rms_m", "right_hand_1_skin_m"} <= set(state.residuals)


def test_what_is_lost_is_repeated_and_then_forgotten(ball, hands):
    skeleton = make_hand_skeleton(hands["right"])
    fitter = FrameFitter(ball, hands, FrameFitterOptions(hold_time=0.1))
    states = [fitter.update(*scene(skeleton, t)[:2]) for t in range(3)]
    lost = [fitter.update(*scene(skeleton, t, with_hand=False)[:2]) for t in range(3, 9)]
    assert [state.status for state in lost[:3]] == [FitStatus.HELD] * 3
    np.testing.assert_array_equal(lost[0].hands[0].keypoints, states[-1].hands[0].keypoints)
    assert lost[1].hands[0].score < lost[0].hands[0].score < states[-1].hands[0].score
    assert "hand not seen" in lost[0].status_text
    assert lost[-1].status == FitStatus.OK  # the ball alone
    assert not lost[-1].hands
    gone = [fitter.update(*scene(skeleton, t, with_hand=False, with_ball=False)[:2]) for t in range(9, 16)]
    assert gone[0].status == FitStatus.HELD
    assert gone[0].objects[0].score < lost[-1].objects[0].score
    assert gone[-1].status == FitStatus.NOTHING
    assert not gone[-1].objects


def test_nothing_is_said_before_anything_was_seen(ball, hands):
    skeleton = make_hand_skeleton(hands["right"])
    state = FrameFitter(ball, hands).update(*scene(skeleton, 0, with_hand=False, with_ball=False)[:2])
    assert state.status == FitStatus.NOTHING
    assert (state.hands, state.objects, state.contact_maps) == ((), (), ())
    assert state.status_text


def test_warming_up_leaves_nothing_behind(ball, hands):
    skeleton = make_hand_skeleton(hands["right"])
    warm, cold = FrameFitter(ball, hands), FrameFitter(ball, hands)
    warm.warm_up()
    evidence, depth, _, _ = scene(skeleton, 0)
    ours, theirs = warm.update(evidence, depth), cold.update(evidence, depth)
    np.testing.assert_array_equal(ours.hands[0].keypoints, theirs.hands[0].keypoints)
    np.testing.assert_allclose(ours.objects[0].T_camera_object, theirs.objects[0].T_camera_object, atol=1e-9)


def test_hands_alone_need_no_object(hands):
    skeleton = make_hand_skeleton(hands["left"])
    state = FrameFitter(None, hands).update(*scene(skeleton, 0)[:2])
    assert state.status == FitStatus.OK
    assert state.hands[0].params.side == "left"
    assert state.objects == ()


def test_a_track_whose_side_turns_is_one_hand(hands):
    skeleton = make_hand_skeleton(hands["right"])
    fitter = FrameFitter(None, hands)
    evidence, depth, _, _ = scene(skeleton, 0)
    fitter.update(evidence, depth)
    turned = replace(evidence, stamp=evidence.stamp + STEP, hands=(replace(evidence.hands[0], side="left"),))
    state = fitter.update(turned, depth)
    assert [hand.params.side for hand in state.hands] == ["left"]


def test_hands_of_low_score_and_of_unknown_models_are_left_out(hands):
    skeleton = make_hand_skeleton(hands["right"])
    evidence, depth, _, _ = scene(skeleton, 0)
    doubtful = replace(evidence, hands=(replace(evidence.hands[0], score=0.1),))
    assert not FrameFitter(None, hands).update(doubtful, depth).hands
    assert not FrameFitter(None, {"left": hands["left"]}).update(evidence, depth).hands
    unknown = replace(evidence, hands=(replace(evidence.hands[0], side="unknown"),))
    assert FrameFitter(None, hands).update(unknown, depth).hands[0].params.side == "right"


def test_a_false_hit_costs_neither_the_object_nor_the_other_hand(ball, hands):
    skeleton = make_hand_skeleton(hands["right"])
    fitter = FrameFitter(ball, hands)
    evidence, depth, _, _ = scene(skeleton, 0)
    heap = replace(
        evidence.hands[0], side="left", track_id=7, keypoints=np.full((21, 2), 200, np.float32), keypoints_3d=None
    )
    state = fitter.update(replace(evidence, hands=(heap, *evidence.hands)), depth)
    assert [hand.track_id for hand in state.hands] == [evidence.hands[0].track_id]
    assert len(state.objects) == len(state.contact_maps) == 1
    assert state.status == FitStatus.OK


def test_a_stamp_that_jumps_back_starts_anew(ball, hands):
    skeleton = make_hand_skeleton(hands["right"])
    fitter = FrameFitter(ball, hands)
    fitter.update(*scene(skeleton, 5)[:2])
    evidence, depth, _, _ = scene(skeleton, 0, with_hand=False, with_ball=False)
    assert fitter.update(evidence, depth).status == FitStatus.NOTHING


def test_penetrating_vertices_are_pushed_out_and_near_fingers_drawn(ball, hands):
    """Each plane asks for exactly the signed distance that its vertex is away from the surface."""
    skeleton = make_hand_skeleton(hands["right"])
    _, _, hand, place = scene(skeleton, 0)
    vertices, _ = pose_vertices(skeleton, hand)
    place[:3, 3] = vertices[320] + [0, 0, RADIUS - 0.004]  # the tip of the index finger dips in
    planes = contact_terms(skeleton, hand, ObjectSurface(ball, place))
    distance = np.linalg.norm(vertices - place[:3, 3], axis=1) - RADIUS
    inside = set(np.flatnonzero((distance < -5e-4) & ~skeleton.on_rim))
    assert inside
    assert inside <= set(planes.vertices)
    asked = planes.offsets - (planes.normals * vertices[planes.vertices]).sum(axis=1)
    np.testing.assert_allclose(asked, -distance[planes.vertices], atol=6e-4)
    away = place.copy()
    away[:3, 3] += [0, 0, 0.3]
    assert not len(contact_terms(skeleton, hand, ObjectSurface(ball, away)).vertices)


def test_options_and_models_are_checked(ball):
    with pytest.raises(InputError, match="hand_models"):
        FrameFitter(ball, {})
    with pytest.raises(InputError, match="held_decay"):
        FrameFitterOptions(held_decay=2.0)
    with pytest.raises(InputError, match="contact_threshold"):
        FrameFitterOptions(contact_threshold=0.0)
