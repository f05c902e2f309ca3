"""Streams of a made-up hand beside a ball: the newest frame is answered, steadily, and what is lost is found again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.contact.interaction import FitStatus
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.acceleration import mean_accelerations
from grasp_nodes.fitting.given_poses import GivenPoses, starts_of
from grasp_nodes.fitting.hand_configuration import params_of
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints, pose_vertices
from grasp_nodes.fitting.hand_skeleton import make_hand_skeleton
from grasp_nodes.fitting.streaming import StreamingFitter, StreamingOptions
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObjectEvidence

CAMERA = CameraModel(np.array([[400.0, 0, 159.5], [0, 400, 119.5], [0, 0, 1]]), 320, 240)
RADIUS = 0.035
START, STEP = 1_000_000_000, 33_333_333
BACK_TO_CAMERA = Rotation.from_euler("z", -90, degrees=True).as_matrix() @ np.array(
    [[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]
)


@pytest.fixture(scope="module")
def hands():
    return {side: load_hand_model(side) for side in ("right", "left")}


@pytest.fixture(scope="module")
def skeleton(hands):
    return make_hand_skeleton(hands["right"])


@pytest.fixture(scope="module")
def ball():
    import trimesh

    mesh = trimesh.creation.icosphere(3, RADIUS)
    axis = np.linspace(-0.06, 0.06, 41)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    values = torch.tensor(np.linalg.norm(nodes, axis=-1) - RADIUS, dtype=torch.float32)
    directions = np.random.default_rng(0).normal(size=(500, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return ObjectModel(
        "ball",
        np.asarray(mesh.vertices, np.float32),
        np.asarray(mesh.faces, np.int64),
        SignedDistanceGrid(values, torch.full((3,), -0.06), float(axis[1] - axis[0])),
        (directions * RADIUS).astype(np.float32),
        directions.astype(np.float32),
    )


def true_hand(skeleton, t, size=1.0):
    angles = skeleton.angles((30, 35, 20), (10, 15, 15, -20, 0))
    return HandConfiguration(BACK_TO_CAMERA, np.array([0.003 * t - 0.04, -0.03, 0.5]), angles, size)


def place_of(center):
    pose = np.eye(4)
    pose[:3, 3] = center
    return pose


def frame(skeleton, t, *, noise=1.0, size=1.0, ball_at=None, with_hand=True, with_depth=True, ball_seen=True):
    """Evidence and depth; the landmarks of each frame are off by `noise` px, each by itself."""
    hand = true_hand(skeleton, t, size)
    to_hand, to_ball = np.full((240, 320), np.inf), np.full((240, 320), np.inf)
    if with_hand:
        vertices, _ = pose_vertices(skeleton, hand)
        weights = np.array([(i, j, 10 - i - j) for i in range(11) for j in range(11 - i)]) / 10
        faces = load_hand_model(skeleton.side).faces.numpy()
        points = np.einsum("wk,fkc->fwc", weights, vertices[faces]).reshape(-1, 3)
        u, v = np.round(CAMERA.project(points)).astype(int).T
        seen = (u >= 0) & (u < 320) & (v >= 0) & (v < 240)
        np.minimum.at(to_hand, (v[seen], u[seen]), points[seen, 2])
    if ball_at is not None:
        columns, rows = np.meshgrid(np.arange(320), np.arange(240))
        rays = np.concatenate([CAMERA.normalise(np.stack([columns, rows], -1)), np.ones((240, 320, 1))], -1)
        a, b = (rays**2).sum(-1), rays @ ball_at
        inside = b**2 - a * (ball_at @ ball_at - RADIUS**2)
        to_ball = np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)
    nearest = np.minimum(to_hand, to_ball)
    depth = np.where(np.isfinite(nearest), nearest, 0).astype(np.float32)
    points = pose_keypoints(skeleton, hand, landmarks=True)
    pixels = (CAMERA.project(points) + np.random.default_rng(t).normal(0, noise, (21, 2))).astype(np.float32)
    box = np.concatenate([pixels.min(0), pixels.max(0)])
    relative = (points - points.mean(0)).astype(np.float32)
    mask = np.isfinite(to_hand) & (to_hand <= to_ball)
    seen_hand = HandEvidence(skeleton.side, 0.9, 0.9, box, pixels, relative, mask, 1)
    ball_mask = np.isfinite(to_ball) & (to_ball < to_hand)
    found = ObjectEvidence("ball", 0.9, np.array([0, 0, 1, 1], np.float32), ball_mask, 1)
    shown = ball_at is not None and ball_seen
    evidence = Evidence(START + t * STEP, CAMERA, (seen_hand,) if with_hand else (), (found,) if shown else ())
    return evidence, depth if with_depth else None


def errors(states, skeleton, start=0, size=1.0):
    truth = [pose_keypoints(skeleton, true_hand(skeleton, t + start, size)) for t in range(len(states))]
    return [
        float(np.linalg.norm(state.hands[0].keypoints - points, axis=1).mean())
        for state, points in zip(states, truth, strict=True)
    ]


@pytest.mark.parametrize("with_depth", [True, False], ids=["depth", "colour"])
def test_a_window_is_steadier_and_no_worse_than_frames_by_themselves(hands, skeleton, with_depth):
    frames = [frame(skeleton, t, noise=3.0, with_depth=with_depth) for t in range(24)]
    jerks, misses = [], []
    for window in (1, 10):
        fitter = StreamingFitter(None, hands, StreamingOptions(window=window))
        states = [fitter.update(*one) for one in frames]
        assert [state.stamp for state in states] == [evidence.stamp for evidence, _ in frames]
        assert all(state.status == FitStatus.OK for state in states)
        steady = slice(5, None)
        jerks.append(
            float(
                np.nanmean(
                    mean_accelerations([s.stamp for s in states], [s.hands[0].keypoints for s in states])[steady]
                )
            )
        )
        misses.append(float(np.mean(errors(states, skeleton)[steady])))
    assert jerks[1] < 0.8 * jerks[0]  # the true motion has none
    assert misses[1] < 1.05 * misses[0]


def test_a_turn_of_the_motion_is_followed_at_once(hands, skeleton):
    """No lag: where a hand stops abruptly, its answers stop as well."""
    fitter = StreamingFitter(None, hands)
    for t in range(12):
        fitter.update(*frame(skeleton, t))
    still = []
    for t in range(12, 18):
        evidence, depth = frame(skeleton, 12, noise=1.0)
        still.append(fitter.update(replace(evidence, stamp=START + t * STEP), depth))
    truth = pose_keypoints(skeleton, true_hand(skeleton, 12))
    assert all(np.linalg.norm(state.hands[0].keypoints - truth, axis=1).mean() < 0.008 for state in still)


def test_one_hand_has_one_shape(hands, skeleton):
    fitter = StreamingFitter(None, hands)
    states = [fitter.update(*frame(skeleton, t, size=1.08)) for t in range(24)]
    sizes = [float(state.hands[0].params.scale[0]) for state in states]
    assert np.ptp(sizes[15:]) < 1e-5
    assert sizes[-1] == pytest.approx(1.08, abs=0.04)
    assert all((state.hands[0].params.betas == states[0].hands[0].params.betas).all() for state in states)


def test_what_is_lost_is_found_again_where_it_is_then(hands, skeleton):
    fitter = StreamingFitter(None, hands)
    for t in range(5):
        fitter.update(*frame(skeleton, t))
    held = [fitter.update(*frame(skeleton, t, with_hand=False)) for t in range(5, 8)]
    assert {state.status for state in held} == {FitStatus.HELD}
    found = [fitter.update(*frame(skeleton, t)) for t in range(26, 29)]  # far from where it was
    assert all(state.status == FitStatus.OK for state in found)
    assert max(errors(found, skeleton, start=26)) < 0.01


def test_reset_and_stamps_that_go_back_begin_anew(hands, skeleton):
    fresh = StreamingFitter(None, hands).update(*frame(skeleton, 0))
    for forget in (lambda fitter: fitter.reset(), lambda fitter: None):
        fitter = StreamingFitter(None, hands)
        for t in range(10, 14):
            fitter.update(*frame(skeleton, t))
        forget(fitter)
        again = fitter.update(*frame(skeleton, 0))
        np.testing.assert_array_equal(again.hands[0].keypoints, fresh.hands[0].keypoints)


def ball_in_hand(skeleton, t):
    """Where a ball lies that the fingers of the true hand touch, and goes with it."""
    points = pose_keypoints(skeleton, true_hand(skeleton, t))
    return points[[8, 12, 16]].mean(0) + np.array([0.0, RADIUS + 0.002, 0.0])


def test_object_that_cannot_be_seen_moves_with_the_hand_that_holds_it(ball, hands, skeleton):
    apart = {}
    for window in (1, 10):
        fitter = StreamingFitter(ball, hands, StreamingOptions(window=window))
        for t in range(8):
            fitter.update(*frame(skeleton, t, ball_at=ball_in_hand(skeleton, t)))
        for t in range(8, 16):
            state = fitter.update(*frame(skeleton, t, ball_at=ball_in_hand(skeleton, t), ball_seen=False))
        apart[window] = np.linalg.norm(state.objects[0].T_camera_object[:3, 3] - ball_in_hand(skeleton, 15))
        again = fitter.update(*frame(skeleton, 16, ball_at=ball_in_hand(skeleton, 16)))
        assert again.objects[0].score > 0.5
        assert np.linalg.norm(again.objects[0].T_camera_object[:3, 3] - ball_in_hand(skeleton, 16)) < 0.005
    assert apart[1] > 0.015
    assert apart[10] < 0.008


def test_holding_is_counted_anew_after_a_pose_that_tells_nothing(ball, hands, skeleton):
    fitter = StreamingFitter(ball, hands)
    for t in range(5):
        fitter.update(*frame(skeleton, t, ball_at=ball_in_hand(skeleton, t)))
    assert [grip.frames for grip in fitter._grips.values()] == [5]
    fitter._object = replace(fitter._object, score=0.3)
    fitter._learn_grips(set(fitter._hands))
    assert not fitter._grips


def test_object_that_is_only_near_stays_where_it_was(ball, hands, skeleton):
    fitter = StreamingFitter(ball, hands)
    resting = np.array([0.1, -0.05, 0.55])
    for t in range(6):
        fitter.update(*frame(skeleton, t, ball_at=resting))
    for t in range(6, 12):
        state = fitter.update(*frame(skeleton, t, ball_at=resting, ball_seen=False))
    assert np.linalg.norm(state.objects[0].T_camera_object[:3, 3] - resting) < 0.005


def test_given_object_pose_starts_the_fit(ball, hands, skeleton):
    """A pose that the images confirm is taken over in rotation as well, of which a ball shows nothing."""
    turn = Rotation.from_rotvec([0.4, -0.8, 0.3]).as_matrix()
    given = place_of([0.09, 0.01, 0.52])
    given[:3, :3] = turn
    evidence, depth = frame(skeleton, 0, ball_at=np.array([0.092, 0.008, 0.52]))
    state = StreamingFitter(ball, hands).update(evidence, depth, GivenPoses(T_camera_object=given))
    found = state.objects[0].T_camera_object
    assert np.linalg.norm(found[:3, 3] - [0.092, 0.008, 0.52]) < 0.003
    assert Rotation.from_matrix(found[:3, :3] @ turn.T).magnitude() < 0.2


def test_given_object_pose_that_is_wrong_does_not_lead_astray(ball, hands, skeleton):
    evidence, depth = frame(skeleton, 0, ball_at=np.array([0.09, 0.01, 0.52]))
    wrong = GivenPoses(T_camera_object=place_of([-0.1, 0.1, 0.9]))
    state = StreamingFitter(ball, hands).update(evidence, depth, wrong)
    assert np.linalg.norm(state.objects[0].T_camera_object[:3, 3] - [0.09, 0.01, 0.52]) < 0.003


def test_given_hand_pose_leads_the_fingers_where_landmarks_are_bad(hands, skeleton):
    misses = []
    truth = pose_keypoints(skeleton, true_hand(skeleton, 0))
    for given in ((), (params_of(skeleton, [true_hand(skeleton, 0)]),)):
        evidence, depth = frame(skeleton, 0, noise=8.0)
        state = StreamingFitter(None, hands).update(evidence, depth, GivenPoses(given))
        misses.append(np.linalg.norm(state.hands[0].keypoints - truth, axis=1).mean())
    assert misses[1] < 0.8 * misses[0]


def test_given_hands_go_to_what_was_seen_near_them(hands, skeleton):
    evidence, _ = frame(skeleton, 0)
    seen = evidence.hands[0]
    near, far = (params_of(skeleton, [true_hand(skeleton, t)]) for t in (1, 60))
    models = {"right": hands["right"]}
    assert starts_of([seen], [far, near], CAMERA, models)[0][1] is near
    assert starts_of([seen], [far], CAMERA, models) == [(seen, None)]
    other = replace(seen, side="left")
    assert starts_of([other], [near], CAMERA, models)[0][1] is None
    behind = replace(near, transl=-near.transl)
    assert starts_of([seen], [behind], CAMERA, models)[0][1] is None


def test_window_without_frames_is_refused():
    with pytest.raises(InputError, match="window"):
        StreamingOptions(window=0)
