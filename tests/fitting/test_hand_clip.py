from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.fitting import hand_clip
from grasp_nodes.fitting.doubted_depth import distance_factor
from grasp_nodes.fitting.hand_clip import initialise_hands
from grasp_nodes.fitting.hand_configuration import between, configurations_of, params_of
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints, pose_vertices
from grasp_nodes.fitting.hand_skeleton import make_hand_skeleton
from grasp_nodes.fitting.hand_views import hand_views
from grasp_nodes.fitting.landmark_reading import load_landmark_reader
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.perception.boxes import box_of_points
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObservedFrame

CAMERA = CameraModel(np.array([[400.0, 0, 159.5], [0, 400.0, 119.5], [0, 0, 1]]), 320, 240)
FACING = Rotation.from_euler("xyz", [0, 0, -90], degrees=True).as_matrix() @ np.array(
    [[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]
)
"""Back of the hand to the camera, fingers up."""
STEP = 33_333_333
MODELS = {side: load_hand_model(side) for side in ("right", "left")}
SKELETONS = {side: make_hand_skeleton(model) for side, model in MODELS.items()}


def true_hand(t, side="right", scale=1.0):
    """A hand that moves, turns and closes smoothly."""
    skeleton = SKELETONS[side]
    close = 0.5 + 0.5 * np.sin(2 * np.pi * 0.4 * t)
    opened, closed = (
        skeleton.angles((10, 10, 6), (5, 8, 8, -10, 0)),
        skeleton.angles((45, 55, 35), (12, 22, 25, -35, 5)),
    )
    facing = FACING if side == "right" else np.diag([-1.0, 1, 1]) @ FACING @ np.diag([-1.0, 1, 1])
    turn = Rotation.from_rotvec([0.3 * np.sin(t), 0.4 * np.sin(0.8 * t), 0.3 * t]).as_matrix()
    wrist = np.array([0.02 * np.sin(2 * t), 0.07 - 0.02 * t, 0.62 + 0.04 * np.sin(t)])
    return HandConfiguration(turn @ facing, wrist, opened + close * (closed - opened), scale)


def render(side, configuration):
    """Depth and mask by splatting a dense sampling of the skin; exact to a fraction of a millimetre."""
    vertices, _ = pose_vertices(SKELETONS[side], configuration)
    weights = np.array([(i, j, 8 - i - j) for i in range(9) for j in range(9 - i)]) / 8
    points = np.einsum("wk,fkc->fwc", weights, vertices[MODELS[side].faces.numpy()]).reshape(-1, 3)
    columns, rows = np.round(CAMERA.project(points)).astype(int).T
    depth = np.full((CAMERA.height, CAMERA.width), np.inf)
    inside = (columns >= 0) & (columns < CAMERA.width) & (rows >= 0) & (rows < CAMERA.height)
    np.minimum.at(depth, (rows[inside], columns[inside]), points[inside, 2])
    return np.where(np.isfinite(depth), depth, 0).astype(np.float32), np.isfinite(depth)


def clip(count=10, side="right", scale=1.0, depth=True, noise=1.0, seed=0, track_id=1, named=None, start=0):
    """Frames of a hand with noisy landmarks; depth and masks of it alone."""
    rng = np.random.default_rng(seed)
    frames, truth = [], []
    for index in range(start, start + count):
        configuration = true_hand(index * STEP * 1e-9, side, scale)
        points = pose_keypoints(SKELETONS[side], configuration, landmarks=True)
        pixels = (CAMERA.project(points) + rng.normal(0, noise, (21, 2))).astype(np.float32)
        image, mask = render(side, configuration) if depth else (None, None)
        relative = (points - points.mean(axis=0)).astype(np.float32)
        hand = HandEvidence(named or side, 0.95, 0.95, box_of_points(pixels, 0.1), pixels, relative, mask, track_id)
        frames.append(ObservedFrame(Evidence(index * STEP, CAMERA, (hand,)), image))
        truth.append(pose_keypoints(SKELETONS[side], configuration))
    return frames, np.array(truth)


def changed(frame, **changes):
    hand = replace(frame.evidence.hands[0], **changes)
    return replace(frame, evidence=replace(frame.evidence, hands=(hand,)))


def without_hand(frame):
    return replace(frame, evidence=replace(frame.evidence, hands=()))


def errors_mm(track, truth):
    model = MODELS[track.params.side]
    with torch.no_grad():
        found = model(track.params.to(dtype=model.dtype)).keypoints.numpy()
    return 1e3 * np.linalg.norm(found - truth, axis=-1).mean(axis=1)


@pytest.mark.parametrize("side", ["right", "left"])
def test_configurations_and_parameters_say_the_same(side):
    hands = [true_hand(t, side, 1.07) for t in (0.0, 0.5, 1.5)]
    params = params_of(SKELETONS[side], hands)
    back = configurations_of(SKELETONS[side], params)
    model = MODELS[side]
    with torch.no_grad():
        keypoints = model(params.to(dtype=model.dtype)).keypoints.numpy()
    for hand, same, points in zip(hands, back, keypoints, strict=True):
        np.testing.assert_allclose(points, pose_keypoints(SKELETONS[side], hand), atol=2e-4)
        np.testing.assert_allclose(same.rotation, hand.rotation, atol=1e-5)
        np.testing.assert_allclose(same.wrist, hand.wrist, atol=1e-6)
        np.testing.assert_allclose(same.angles, hand.angles, atol=1e-4)


def test_between_is_exact_at_its_ends_and_half_way():
    first, last = true_hand(0.0), true_hand(1.0)
    np.testing.assert_allclose(between(first, last, 0.0).rotation, first.rotation, atol=1e-12)
    np.testing.assert_allclose(between(first, last, 1.0).rotation, last.rotation, atol=1e-12)
    middle = between(first, last, 0.5)
    np.testing.assert_allclose(middle.rotation @ first.rotation.T, last.rotation @ middle.rotation.T, atol=1e-12)
    np.testing.assert_allclose(middle.wrist, (first.wrist + last.wrist) / 2, atol=1e-12)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_clip_with_depth_is_followed_within_millimetres(side):
    frames, truth = clip(side=side, scale=1.05)
    (track,) = initialise_hands(MODELS, frames)
    assert track.params.side == side
    assert track.seen.all()
    assert not track.lost.any()
    assert errors_mm(track, truth).max() < 6.0
    assert float(track.params.scale[0]) == pytest.approx(1.05, abs=0.04)
    assert (track.params.scale == track.params.scale[0]).all()


def test_depth_carries_a_hand_over_frames_without_landmarks():
    frames, truth = clip(12)
    for index in range(4, 9):
        frames[index] = changed(frames[index], score=0.3, keypoints=frames[3].evidence.hands[0].keypoints)
    (track,) = initialise_hands(MODELS, frames)
    assert track.seen.all()
    assert errors_mm(track, truth).max() < 7.0


def test_the_first_frames_are_reached_from_behind():
    frames, truth = clip(8)
    for index in range(3):
        frames[index] = changed(frames[index], score=0.3, keypoints=frames[3].evidence.hands[0].keypoints)
    (track,) = initialise_hands(MODELS, frames)
    assert track.seen.all()
    assert errors_mm(track, truth).max() < 7.0


def test_frames_without_any_evidence_are_interpolated_and_not_seen():
    frames, truth = clip(12)
    for index in (5, 6, 7):
        frames[index] = without_hand(frames[index])
    (track,) = initialise_hands(MODELS, frames)
    assert [bool(seen) for seen in track.seen] == [index not in (5, 6, 7) for index in range(12)]
    assert not track.lost.any()
    assert errors_mm(track, truth).max() < 10.0
    assert track.score[6] < track.score[4]


def test_a_hand_that_left_the_image_is_lost_after_a_while():
    frames, _ = clip(24)
    frames = [frame if index < 4 else without_hand(frame) for index, frame in enumerate(frames)]
    (track,) = initialise_hands(MODELS, frames)
    assert not track.lost[:10].any()
    assert track.lost[-3:].all()
    assert (track.score[track.lost] == 0).all()


def test_wild_landmarks_of_single_frames_are_passed_over():
    frames, truth = clip(10)
    rng = np.random.default_rng(3)
    for index in (3, 7):
        wild = frames[index].evidence.hands[0].keypoints + rng.normal(0, 25, (21, 2)).astype(np.float32)
        frames[index] = changed(frames[index], keypoints=wild)
    (track,) = initialise_hands(MODELS, frames)
    assert errors_mm(track, truth).max() < 8.0


def test_depth_tells_the_side_against_the_vote():
    frames, truth = clip(8, side="right", named="left")
    (track,) = initialise_hands(MODELS, frames)
    assert track.params.side == "right"
    assert errors_mm(track, truth).max() < 8.0


def bled(frames, reach):
    """Depth that runs off by `reach` (m) over the hand's height, more in every second frame, and is of no hand."""
    bad = []
    for index, frame in enumerate(frames):
        mask = frame.evidence.hands[0].mask
        rows = np.nonzero(mask)[0]
        slope = (np.arange(len(mask)) - rows.mean()) / np.ptp(rows) * reach * (1 + index % 2)
        middle = np.median(frame.depth[mask])
        bad.append(replace(frame, depth=np.where(mask, middle + slope[:, None], 0).astype(np.float32)))
    return bad


def test_depth_that_is_not_of_the_hand_does_not_win_over_sure_landmarks(caplog):
    frames, truth = clip(8)
    with caplog.at_level("INFO", logger="grasp_nodes.fitting.hand_clip"):
        (track,) = initialise_hands(MODELS, bled(frames, 0.25))
    assert "followed without depth" in caplog.text
    assert track.params.side == "right"
    assert track.seen.all()
    assert track.without_depth
    assert errors_mm(track, truth).max() < 70.0


def test_depth_of_the_hand_is_not_doubted(caplog):
    with caplog.at_level("INFO", logger="grasp_nodes.fitting.hand_clip"):
        initialise_hands(MODELS, clip(6)[0])
    assert not caplog.text


@pytest.mark.parametrize(("farther", "spread", "expected"), [(1.08, 0.06, 1.04), (1.08, 0.0, 1.0), (1.5, 0.06, 1.0)])
def test_doubted_depth_tells_size_as_far_as_hands_differ(farther, spread, expected):
    frames, _ = clip(5)
    hands = [next(iter(frame.evidence.hands)) for frame in frames]
    views = hand_views([replace(frame, depth=farther * frame.depth) for frame in frames], hands, True, 0.5)
    found = {row: true_hand(row * STEP * 1e-9) for row in range(5)}
    assert distance_factor(SKELETONS["right"], found, views, spread) == pytest.approx(expected, abs=0.004)


def test_single_frames_of_the_wrong_side_do_not_matter():
    frames, _ = clip(8, depth=False)
    frames[2] = changed(frames[2], side="left")
    (track,) = initialise_hands(MODELS, frames, use_depth=False)
    assert track.params.side == "right"


def test_an_alternative_that_fits_better_is_taken():
    frames, truth = clip(10)
    for index in (4, 5):
        right_one = frames[index].evidence.hands[0].keypoints
        mirrored = (right_one * [-1, 1] + [2 * right_one[:, 0].mean(), 0]).astype(np.float32)
        frames[index] = changed(frames[index], keypoints=mirrored, alternatives=(right_one,))
    (track,) = initialise_hands(MODELS, frames)
    assert errors_mm(track, truth).max() < 7.0
    assert track.score[[4, 5]].min() > 0.7


@pytest.mark.parametrize("seed", [0, 1])
def test_without_depth_the_size_of_the_model_tells_the_distance(seed):
    frames, truth = clip(10, depth=False, seed=seed)
    (track,) = initialise_hands(MODELS, frames, use_depth=False)
    assert track.seen.all()
    assert float(track.params.scale[0]) == 1.0
    # Landmarks err by 1 px = 1.5 mm; how large the hand is, is not known: its distance errs by a thirtieth.
    assert errors_mm(track, truth).max() < 21.0


def test_depth_is_ignored_where_it_shall_be():
    frames, _ = clip(6)
    bare = [replace(frame, depth=None) for frame in frames]
    (first,) = initialise_hands(MODELS, frames, use_depth=False)
    (second,) = initialise_hands(MODELS, bare)
    np.testing.assert_array_equal(first.params.transl.numpy(), second.params.transl.numpy())


def test_the_next_window_keeps_size_side_and_answers():
    frames, truth = clip(14, scale=1.06)
    (first,) = initialise_hands(MODELS, frames[:8])
    overlap = first.part(5, 8)
    (second,) = initialise_hands(MODELS, frames[5:], previous=(overlap,))
    assert float(second.params.scale[0]) == float(first.params.scale[0])
    np.testing.assert_allclose(second.params.transl[:3], overlap.params.transl, atol=1e-5)
    assert errors_mm(second, truth[5:]).max() < 7.0


def test_a_reader_of_another_hand_is_named(caplog, monkeypatch):
    reader = replace(load_landmark_reader(), hand_fingerprint="f" * 64)
    monkeypatch.setattr(hand_clip, "load_landmark_reader", lambda: reader)
    with caplog.at_level("INFO", logger="grasp_nodes.fitting.hand_clip"):
        initialise_hands(MODELS, clip(2, depth=False)[0])
    assert "another hand (ffffffffffff)" in caplog.text


def test_two_hands_are_two_tracks():
    right, _ = clip(6)
    left, _ = clip(6, side="left", track_id=2, depth=False)
    frames = [
        replace(one, evidence=replace(one.evidence, hands=(*one.evidence.hands, *other.evidence.hands)))
        for one, other in zip(right, left, strict=True)
    ]
    tracks = initialise_hands(MODELS, frames, use_depth=False)
    assert [(track.track_id, track.params.side) for track in tracks] == [(1, "right"), (2, "left")]
    only = initialise_hands({"right": MODELS["right"]}, frames, use_depth=False)
    assert only[0].track_id == 1
    assert all(track.params.side == "right" for track in only)


def test_no_hands_no_tracks():
    frames, _ = clip(3, depth=False)
    assert initialise_hands(MODELS, [without_hand(frame) for frame in frames]) == []
    assert initialise_hands(MODELS, []) == []


def test_a_clip_of_one_frame():
    frames, truth = clip(1)
    (track,) = initialise_hands(MODELS, frames)
    assert len(track) == 1
    assert errors_mm(track, truth).max() < 8.0
