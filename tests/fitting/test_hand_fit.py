from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.hand_fit import HandFitOptions, HandFitter
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints, pose_vertices
from grasp_nodes.fitting.hand_observation import observe_hand
from grasp_nodes.fitting.hand_skeleton import make_hand_skeleton
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.perception.evidence import HandEvidence

CAMERA = CameraModel(np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]]), 640, 480)
FACING = Rotation.from_euler("xyz", [0, 0, -90], degrees=True).as_matrix() @ np.array(
    [[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]
)
"""Back of the hand to the camera, fingers up."""


@pytest.fixture(scope="module", params=["right", "left"])
def model(request):
    return load_hand_model(request.param)


def true_hand(skeleton, t=0.0, scale=1.0):
    """A hand that moves, turns and closes smoothly."""
    close = 0.5 + 0.5 * np.sin(2 * np.pi * 0.4 * t)
    open_hand = skeleton.angles((10, 10, 6), (5, 8, 8, -10, 0))
    closed = skeleton.angles((45, 55, 35), (12, 22, 25, -35, 5))
    facing = FACING if skeleton.side == "right" else np.diag([-1.0, 1, 1]) @ FACING @ np.diag([-1.0, 1, 1])
    turn = Rotation.from_rotvec([0.3 * np.sin(t), 0.4 * np.sin(0.8 * t), 0.3 * t]).as_matrix()
    wrist = np.array([0.02 * np.sin(2 * t), 0.08 - 0.02 * t, 0.62 + 0.04 * np.sin(t)])
    return HandConfiguration(turn @ facing, wrist, open_hand + close * (closed - open_hand), scale)


def render_depth(skeleton, model, configuration):
    """Depth and mask by splatting a dense sampling of the front-facing skin; exact to a fraction of a millimetre."""
    vertices, _ = pose_vertices(skeleton, configuration)
    corners = vertices[model.faces.numpy()]
    weights = np.array([(i, j, 14 - i - j) for i in range(15) for j in range(15 - i)]) / 14
    points = np.einsum("wk,fkc->fwc", weights, corners).reshape(-1, 3)
    columns, rows = np.round(CAMERA.project(points)).astype(int).T
    depth = np.full((CAMERA.height, CAMERA.width), np.inf)
    inside = (columns >= 0) & (columns < CAMERA.width) & (rows >= 0) & (rows < CAMERA.height)
    np.minimum.at(depth, (rows[inside], columns[inside]), points[inside, 2])
    mask = np.isfinite(depth)
    return np.where(mask, depth, 0).astype(np.float32), mask


def evidence(skeleton, configuration, noise=2.0, seed=0, mask=None):
    rng = np.random.default_rng(seed)
    points = pose_keypoints(skeleton, configuration, landmarks=True)
    relative = (points - points.mean(axis=0) + rng.normal(0, 0.004, points.shape)).astype(np.float32)
    pixels = CAMERA.project(points)
    pixels = (pixels + rng.normal(0, noise, pixels.shape)).astype(np.float32)
    box = np.concatenate([pixels.min(0), pixels.max(0)])
    return HandEvidence(skeleton.side, 0.95, 0.95, box, pixels, relative, mask, 1)


def error_mm(fitter, fit, truth):
    estimate = pose_keypoints(fitter.skeleton, fit.configuration)
    return 1e3 * np.linalg.norm(estimate - pose_keypoints(fitter.skeleton, truth), axis=1).mean()


def test_a_pose_is_recovered_from_landmarks_and_skin(model):
    skeleton = make_hand_skeleton(model)
    for t in (0.0, 0.7, 2.0):
        truth = true_hand(skeleton, t)
        depth, mask = render_depth(skeleton, model, truth)
        fitter = HandFitter(model)
        fit = fitter.update(CAMERA, evidence(skeleton, truth, seed=int(10 * t), mask=mask), depth)
        assert fit.is_initial
        assert error_mm(fitter, fit, truth) < 6.0
        assert fit.skin_error < 0.002


def test_without_depth_the_hands_size_tells_the_distance(model):
    skeleton = make_hand_skeleton(model)
    errors, shape_errors = [], []
    for seed, t in enumerate(np.linspace(0, 2.2, 6)):
        truth = true_hand(skeleton, t)
        fitter = HandFitter(model)
        fit = fitter.update(CAMERA, evidence(skeleton, truth, noise=1.0, seed=seed))
        errors.append(error_mm(fitter, fit, truth))
        estimate, exact = (pose_keypoints(skeleton, c) for c in (fit.configuration, truth))
        shape_errors.append(1e3 * np.linalg.norm(estimate - estimate[0] - exact + exact[0], axis=1).mean())
        assert np.isnan(fit.skin_error)
        assert fit.configuration.scale == pytest.approx(1.0, abs=1e-3)
    assert np.median(errors) < 45.0  # 7 % of the distance
    assert np.median(shape_errors) < 22.0


def test_following_is_smoother_than_frames_alone(model):
    skeleton = make_hand_skeleton(model)
    follower = HandFitter(model, HandFitOptions(size_spread=0.0))
    followed, alone, initial = [], [], 0
    for frame in range(25):
        truth = true_hand(skeleton, frame / 30)
        depth, mask = render_depth(skeleton, model, truth)
        seen = evidence(skeleton, truth, noise=4.0, seed=frame, mask=mask)
        fit = follower.update(CAMERA, seen, depth, stamp=frame * 33_333_333)
        initial += fit.is_initial
        exact = pose_keypoints(skeleton, truth)
        followed.append(pose_keypoints(skeleton, fit.configuration) - exact)
        single = HandFitter(model).update(CAMERA, seen, depth)
        alone.append(pose_keypoints(skeleton, single.configuration) - exact)
    assert initial == 1
    jitter = [np.linalg.norm(np.diff(errors, axis=0), axis=-1).mean() for errors in (followed, alone)]
    assert jitter[0] < 0.8 * jitter[1]
    assert np.linalg.norm(followed, axis=-1).mean() < 0.006


def test_the_hands_size_is_found_with_depth_and_then_kept():
    model = load_hand_model("right")
    skeleton = make_hand_skeleton(model)
    fitter = HandFitter(model, HandFitOptions(size_frames=6))
    scales = []
    for frame in range(10):
        truth = true_hand(skeleton, frame / 30, scale=1.06)
        depth, mask = render_depth(skeleton, model, truth)
        seen = evidence(skeleton, truth, noise=1.5, seed=frame, mask=mask)
        scales.append(fitter.update(CAMERA, seen, depth, stamp=frame * 33_333_333).configuration.scale)
    assert scales[-1] == pytest.approx(1.06, abs=0.025)
    assert np.ptp(scales[7:]) < 1e-4
    fixed = HandFitter(model, HandFitOptions(size_spread=0.0))
    assert fixed.update(CAMERA, seen, depth).configuration.scale == pytest.approx(1.0, abs=1e-3)


def test_images_without_depth_do_not_end_the_search_for_the_size():
    """A depth camera starts late and drops images; what is learned from the others counts all the same."""
    model = load_hand_model("right")
    skeleton = make_hand_skeleton(model)
    fitter = HandFitter(model, HandFitOptions(size_frames=6))
    scales = []
    for frame in range(12):
        truth = true_hand(skeleton, frame / 30, scale=1.06)
        depth, mask = render_depth(skeleton, model, truth)
        if frame in (0, 5):
            depth = np.zeros_like(depth)
        seen = evidence(skeleton, truth, noise=1.5, seed=frame, mask=mask)
        scales.append(fitter.update(CAMERA, seen, depth, stamp=frame * 33_333_333).configuration.scale)
    assert scales[0] == pytest.approx(1.0, abs=1e-3)
    assert scales[5] == pytest.approx(1.06, abs=0.04)
    assert scales[-1] == pytest.approx(1.06, abs=0.025)
    assert np.ptp(scales[9:]) < 1e-4


def test_a_hand_that_jumps_is_looked_for_anew():
    model = load_hand_model("right")
    skeleton = make_hand_skeleton(model)
    fitter = HandFitter(model)
    first, second = true_hand(skeleton, 0.0), true_hand(skeleton, 2.4)
    second = second._replace(wrist=second.wrist + [0.15, 0.05, 0.1])
    fitter.update(CAMERA, evidence(skeleton, first), None, stamp=0)
    depth, mask = render_depth(skeleton, model, second)
    fit = fitter.update(CAMERA, evidence(skeleton, second, mask=mask), depth, stamp=33_333_333)
    assert fit.is_initial
    assert error_mm(fitter, fit, second) < 8.0
    late = fitter.update(CAMERA, evidence(skeleton, second, mask=mask), depth, stamp=2_000_000_000)
    assert late.is_initial


def test_stamps_that_go_back_start_anew(model):
    skeleton = make_hand_skeleton(model)
    fitter = HandFitter(model)
    truth = true_hand(skeleton)
    fitter.update(CAMERA, evidence(skeleton, truth), None, stamp=10**9)
    assert fitter.update(CAMERA, evidence(skeleton, truth), None, stamp=0).is_initial


def test_parameters_give_the_same_keypoints(model):
    """What goes out as MANO parameters is what was fitted."""
    skeleton = make_hand_skeleton(model)
    truth = true_hand(skeleton, 1.0)
    depth, mask = render_depth(skeleton, model, truth)
    fitter = HandFitter(model)
    fit = fitter.update(CAMERA, evidence(skeleton, truth, mask=mask), depth)
    assert fit.params.side == model.side
    with torch.no_grad():
        keypoints = model(fit.params).keypoints[0].numpy()
    np.testing.assert_allclose(keypoints, pose_keypoints(skeleton, fit.configuration), atol=2e-3)


def test_angles_stay_within_reach_of_the_limits():
    model = load_hand_model("right")
    skeleton = make_hand_skeleton(model)
    rng = np.random.default_rng(0)
    pixels = rng.uniform([250, 150], [400, 330], (21, 2)).astype(np.float32)
    nonsense = HandEvidence("right", 0.5, 0.5, np.array([250, 150, 400, 330], np.float32), pixels)
    angles = HandFitter(model).update(CAMERA, nonsense).configuration.angles
    assert (angles > skeleton.low - 0.35).all()
    assert (angles < skeleton.high + 0.35).all()


def test_bad_evidence_is_named():
    model = load_hand_model("right")
    skeleton = make_hand_skeleton(model)
    seen = evidence(skeleton, true_hand(skeleton))
    broken = seen.keypoints.copy()
    broken[3] = np.nan
    with pytest.raises(InputError, match="keypoints"):
        HandFitter(model).update(CAMERA, replace(seen, keypoints=broken))
    heap = np.full((21, 2), 200.0, np.float32)
    with pytest.raises(InputError, match="no hand in front of the camera"):
        HandFitter(model).update(CAMERA, replace(seen, keypoints=heap, keypoints_3d=None))
    with pytest.raises(InputError, match="depth"):
        HandFitter(model).update(CAMERA, seen, np.zeros((10, 10), np.float32))
    with pytest.raises(InputError, match="wrist_change"):
        HandFitOptions(wrist_change=0.0)


def test_depth_without_any_value_is_no_depth():
    model = load_hand_model("right")
    skeleton = make_hand_skeleton(model)
    seen = evidence(skeleton, true_hand(skeleton), mask=np.ones((480, 640), bool))
    for depth in (np.zeros((480, 640), np.float32), np.full((480, 640), np.nan, np.float32)):
        observation = observe_hand(CAMERA, seen, depth)
        assert not observation.has_depth
        assert np.isfinite(HandFitter(model).update(CAMERA, seen, depth).configuration.wrist).all()
