"""The object's mesh against what misleads: distractors, drifting masks, occluders without a name, closed fists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import open3d
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from grasp_nodes.fitting import guided_object
from grasp_nodes.fitting.guided_following import GuidedFollower
from grasp_nodes.fitting.guided_object import initialise_guided_object, palm_poses
from grasp_nodes.fitting.object_choice import MOVES, SameSurface, choose_motion, rate, things_off_table
from grasp_nodes.fitting.object_fit import make_solver_mesh
from grasp_nodes.fitting.predicted_object import (
    HAND_LOSS,
    HAND_SHARE,
    MORE_SHARE,
    Prediction,
    Scene,
    predict,
    read_scenes,
    sight_by_depth,
)
from grasp_nodes.fitting.skin_or_object import HandObjectColors, relabelled
from grasp_nodes.fitting.thing_choice import choose_thing
from grasp_nodes.fitting.tracks import HandTrack
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.color_model import ColorModel, color_cells
from grasp_nodes.perception.evidence import HIDING, Evidence, HandEvidence, ObjectEvidence, ObservedFrame

CAMERA = CameraModel(np.array([[280.0, 0, 160], [0, 280.0, 120], [0, 0, 1]]), 320, 240)
FRAMES = 8
STEP = 66_666_667
TABLE = np.array([0.0, -0.8, -0.6, 0.48])
"""The plane (normal towards the camera, offset in m) that everything stands on."""


pytestmark = pytest.mark.usefixtures("cache")


def cast(vertices: np.ndarray, faces: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Depth (H, W), m, infinite where the mesh is not: Open3D's ray caster."""
    scene = open3d.t.geometry.RaycastingScene()
    moved = (vertices @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)
    scene.add_triangles(open3d.core.Tensor(moved), open3d.core.Tensor(np.asarray(faces).astype(np.uint32)))
    rays = np.concatenate([np.zeros((240, 320, 3)), unit_rays()], axis=-1).astype(np.float32)
    return scene.cast_rays(open3d.core.Tensor(rays))["t_hit"].numpy()


def unit_rays() -> np.ndarray:
    x, y = np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height))
    return CAMERA.unproject(np.stack([x, y], axis=-1).astype(float), np.ones(x.shape))


def table_depth() -> np.ndarray:
    along = unit_rays() @ TABLE[:3]
    return np.where(along < -1e-3, -TABLE[3] / np.minimum(along, -1e-3), 3.0).clip(max=3.0)


def box_at(size: Sequence[float], place: Sequence[float]) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = place
    box = trimesh.creation.box(size)
    return cast(np.array(box.vertices), np.array(box.faces), pose)


def motion(count: int = FRAMES) -> np.ndarray:
    """(T, 4, 4): at rest for three frames, then carried by 9 mm and turned by 0.06 rad per frame."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for t in range(count):
        s = max(0, t - 2)
        turned = Rotation.from_rotvec(np.array([0.3, 0.8, 0.5]) * 0.06 * s)
        poses[t, :3, :3] = (turned * Rotation.from_euler("xyz", [70, 25, 40], degrees=True)).as_matrix()
        poses[t, :3, 3] = [-0.03 + 0.008 * s, 0.03 - 0.004 * s, 0.42 + 0.002 * s]
    return poses


def box_of(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)


def frame_of(
    index: int,
    depth: np.ndarray | None,
    masks: Sequence[np.ndarray],
    hand: np.ndarray | None = None,
    color: np.ndarray | None = None,
) -> ObservedFrame:
    objects = tuple(ObjectEvidence("", 0.9 - 0.3 * k, box_of(m), m, k) for k, m in enumerate(masks) if m.any())
    points = np.zeros((21, 2), np.float32)
    hands = () if hand is None else (HandEvidence("right", 0.9, 0.9, box_of(hand), points, None, hand, 1),)
    measured = None
    if depth is not None:
        measured = (depth + np.random.default_rng(index).normal(0, 0.001, depth.shape)).astype(np.float32)
    return ObservedFrame(Evidence(index * STEP, CAMERA, hands, objects), measured, color)


def add_s(estimate: np.ndarray, truth: np.ndarray, points: np.ndarray) -> float:
    move = [points @ pose[:3, :3].T + pose[:3, 3] for pose in (estimate, truth)]
    return float(cKDTree(move[0]).query(move[1])[0].mean())


def errors(track, poses: np.ndarray, model: ObjectModel) -> np.ndarray:
    points = model.points.astype(float)
    return np.array([add_s(a, b, points) for a, b in zip(track.T_camera_object, poses, strict=True)])


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return np.count_nonzero(first & second) / np.count_nonzero(first | second)


def mask_of(frame: ObservedFrame, name: str) -> np.ndarray:
    return next(found.mask for found in frame.evidence.objects if found.object_id == name)


def test_a_distractor_that_the_segmenter_prefers_does_not_win(bracket):
    poses, frames, truth = motion(), [], []
    distractor = box_at((0.08, 0.05, 0.06), (0.12, 0.02, 0.5))
    for t, pose in enumerate(poses):
        own = cast(bracket.vertices, bracket.faces, pose)
        depth = np.minimum.reduce([own, distractor, table_depth()])
        truth.append(own == depth)
        frames.append(frame_of(t, depth, [distractor == depth]))
    track, guided = initialise_guided_object(bracket, frames)
    assert errors(track, poses, bracket).max() < 0.003
    assert not track.lost.any()
    for frame, mask in zip(guided, truth, strict=True):
        assert overlap(mask_of(frame, "bracket"), mask) > 0.85


def test_a_motion_that_goes_on_is_followed_and_a_wrong_one_searched(bracket, monkeypatch):
    poses, frames = motion(), []
    for t, pose in enumerate(poses):
        own = cast(bracket.vertices, bracket.faces, pose)
        frames.append(frame_of(t, np.minimum(own, table_depth()), [own < table_depth()]))
    earlier, _ = initialise_guided_object(bracket, frames[:5])
    searched = []

    def search(*args, **options):
        searched.append(True)
        return choose_motion(*args, **options)

    monkeypatch.setattr(guided_object, "choose_motion", search)
    kept, _ = initialise_guided_object(bracket, frames[2:], previous=earlier.part(2, 5))
    assert not searched
    turned = earlier.T_camera_object[2:5].copy()
    turned[:, :3, :3] = turned[:, :3, :3] @ Rotation.from_euler("x", 180, degrees=True).as_matrix()
    found, _ = initialise_guided_object(
        bracket, frames[2:], previous=replace(earlier.part(2, 5), T_camera_object=turned)
    )
    assert searched
    for track in (kept, found):
        assert errors(track, poses[2:], bracket).max() < 0.004
        assert track.seen.all()


def test_a_motion_that_lost_the_object_does_not_go_on(bracket, monkeypatch):
    """After the overlap and one frame more the bracket is elsewhere: the old pose is not hidden, it is contradicted."""
    poses, frames = motion(3), []
    poses = np.concatenate([poses, np.tile(poses[-1:], (7, 1, 1))])
    poses[4:, 0, 3] += 0.14
    for t, pose in enumerate(poses):
        own = cast(bracket.vertices, bracket.faces, pose)
        frames.append(frame_of(t, np.minimum(own, table_depth()), [own < table_depth()]))
    earlier, _ = initialise_guided_object(bracket, frames[:3])
    searched = []

    def search(*args, **options):
        searched.append(True)
        return choose_motion(*args, **options)

    monkeypatch.setattr(guided_object, "choose_motion", search)
    found, _ = initialise_guided_object(bracket, frames, previous=earlier)
    assert searched
    assert np.median(errors(found, poses, bracket)) < 0.004


def test_before_a_moving_camera_a_change_of_place_is_no_merit(bracket):
    """Until the third frame the bracket rests, then it moves, or the camera does."""
    poses, frames = motion(), []
    for t, pose in enumerate(poses):
        own = cast(bracket.vertices, bracket.faces, pose)
        frames.append(frame_of(t, np.minimum(own, table_depth()), [own < table_depth()]))
    mesh = make_solver_mesh(bracket)
    follower = GuidedFollower(mesh, read_scenes(frames))
    rotation = poses[0, :3, :3]
    followed = follower.follow(0, (rotation, rotation @ mesh.centre + poses[0, :3, 3]))
    every = np.ones(len(frames), bool)
    plain = rate(followed)
    assert plain == rate(followed, (), every)
    still = rate(followed, (), ~every)
    assert plain - MOVES <= still < plain - 0.5 * MOVES
    assert rate(followed, (), np.arange(len(frames)) < 3) == pytest.approx(still, abs=0.005)


def test_drifting_masks_are_put_right(bracket):
    poses, frames, truth = motion(), [], []
    for t, pose in enumerate(poses):
        own = cast(bracket.vertices, bracket.faces, pose)
        truth.append(own < table_depth())
        drifted = np.roll(truth[-1], (3 * t, -6 * t), axis=(0, 1))
        frames.append(frame_of(t, np.minimum(own, table_depth()), [drifted]))
    track, guided = initialise_guided_object(bracket, frames)
    assert overlap(mask_of(frames[-1], ""), truth[-1]) < 0.3
    assert errors(track, poses, bracket).max() < 0.003
    assert min(overlap(mask_of(f, "bracket"), mask) for f, mask in zip(guided, truth, strict=True)) > 0.85


def test_something_without_a_name_in_front_does_not_pull_the_pose(bracket):
    poses, frames, visible = motion(), [], []
    for t, pose in enumerate(poses):
        own = cast(bracket.vertices, bracket.faces, pose)
        post = box_at((0.025, 0.2, 0.01), (-0.05 + 0.012 * t, 0.0, 0.3))
        depth = np.minimum.reduce([own, post, table_depth()])
        visible.append((own, post, own == depth))
        # The segmenter takes the post for a part of the object.
        frames.append(frame_of(t, depth, [(own == depth) | (np.isfinite(post) & np.isfinite(own))]))
    track, guided = initialise_guided_object(bracket, frames)
    assert errors(track, poses, bracket).max() < 0.004
    for frame, (own, post, seen) in zip(guided, visible, strict=True):
        assert overlap(mask_of(frame, "bracket"), seen) > 0.8
        covered = np.isfinite(own) & np.isfinite(post)
        assert np.count_nonzero(mask_of(frame, HIDING) & covered) > 0.8 * np.count_nonzero(covered)


def test_a_hidden_object_goes_with_the_hand_that_hides_it(bracket):
    model = load_hand_model("right")
    poses = motion(10)
    frames = []
    for t, pose in enumerate(poses):
        own = cast(bracket.vertices, bracket.faces, pose)
        fist = np.full((240, 320), np.inf)
        if 4 <= t < 9:
            fist = box_at((0.18, 0.18, 0.02), pose[:3, 3] + [0, 0, -0.08])
        depth = np.minimum.reduce([own, fist, table_depth()])
        hand = (fist == depth) if np.isfinite(fist).any() else None
        frames.append(frame_of(t, depth, [own == depth], hand))
    # The wrist is rigid to the object from the frame on in which that moves.
    offset = np.linalg.inv(poses[2]) @ np.array([[1, 0, 0, 0.05], [0, 1, 0, -0.06], [0, 0, 1, 0.35], [0, 0, 0, 1.0]])
    wrists = poses @ offset
    params = HandParams.zeros(len(poses))
    orient = torch.from_numpy(Rotation.from_matrix(wrists[:, :3, :3]).as_rotvec().astype(np.float32))
    params = HandParams(orient, params.hand_pose, params.betas, params.transl, params.scale, "right")
    joints, _ = model.joints(params)
    transl = torch.from_numpy(wrists[:, :3, 3].astype(np.float32)) - joints[:, 0]
    params = HandParams(orient, params.hand_pose, params.betas, transl, params.scale, "right")
    flags = np.ones(len(poses), bool)
    hands = [HandTrack(params, flags, flags * 1.0, ~flags, 1)]
    np.testing.assert_allclose(palm_poses(hands, {"right": model})[0][:, :3, 3], wrists[:, :3, 3], atol=1e-5)
    carried, _ = initialise_guided_object(bracket, frames, hands, {"right": model})
    assert not carried.seen[5:8].any()
    assert errors(carried, poses, bracket).max() < 0.006


def test_what_agrees_hides_and_contradicts_is_told_apart_by_depth(bracket):
    mesh = make_solver_mesh(bracket)
    pose = motion()[0]
    centre = pose[:3, :3] @ mesh.centre + pose[:3, 3]
    prediction = predict(mesh, CAMERA, pose[:3, :3], centre)
    assert prediction is not None
    own = cast(bracket.vertices, bracket.faces, pose)
    covered = np.isfinite(own)
    np.testing.assert_allclose(np.count_nonzero(prediction.depth), np.count_nonzero(covered), rtol=0.02)
    right = covered & (np.arange(320) > np.flatnonzero(covered.any(axis=0)).mean())
    none = np.zeros_like(covered)
    for shift, kind in ((0.0, "agreeing"), (-0.05, "hidden"), (0.05, "against")):
        depth = np.where(covered, own + np.where(right, shift, 0.0), 1.0).astype(np.float32)
        sighting = sight_by_depth(prediction, Scene(CAMERA, depth, covered, none), 0.014)
        expected = {"agreeing": np.count_nonzero(covered & ~right), "hidden": 0, "against": 0}
        expected[kind] += np.count_nonzero(right)
        for name, count in expected.items():
            assert abs(getattr(sighting, name) - count) < 0.06 * np.count_nonzero(covered)
        assert (sighting.score > 0.9) == (kind != "against")


def test_pixels_of_hands_and_beyond_the_silhouette_count_less():
    expected = np.zeros((60, 80), np.float32)
    expected[10:40, 20:60] = 0.6
    measured = np.full_like(expected, 1.0)
    measured[10:40, 20:60] = 0.6
    measured[40:50, 20:60] = 0.605  # hangs together with it
    measured[52:58, 20:60] = 0.605  # does not
    measured[10:20, 20:30] = 0.5  # in front
    measured[10:20, 30:40] = 0.0
    hand = np.zeros_like(expected, bool)
    hand[20:30, 20:30] = True  # at the object's depth
    hand[30:40, 20:30] = True
    measured[30:40, 20:30] = 0.59  # as far in front as a finger
    hand[40:50, 50:60] = True
    measured[:10] = np.nan
    raised = (measured > 0) & (measured < 1)
    scene = Scene(CAMERA, np.nan_to_num(measured), raised, hand)
    sighting = sight_by_depth(Prediction((slice(0, 60), slice(0, 80)), expected, 1200), scene, 0.014)
    assert sighting.agreeing == 800 + HAND_SHARE * 100
    assert sighting.against == MORE_SHARE * 300 + HAND_LOSS * 100
    assert sighting.hidden == 100
    shown = measured == np.float32(0.6)
    shown[40:50, 20:50] = True
    assert np.array_equal(sighting.visible, shown)
    hiding = hand & ~shown
    hiding[10:20, 20:40] = True
    assert np.array_equal(sighting.hiding, hiding)


def test_a_pose_that_is_off_is_settled_by_one_frame(bracket):
    pose = motion()[0]
    own = cast(bracket.vertices, bracket.faces, pose)
    mesh = make_solver_mesh(bracket)
    scenes = read_scenes([frame_of(0, np.minimum(own, table_depth()), [])])
    turned = Rotation.from_rotvec([0.08, -0.06, 0.1]).as_matrix() @ pose[:3, :3]
    start = (turned, pose[:3, :3] @ mesh.centre + pose[:3, 3] + [0.006, -0.005, 0.008])
    (_, centre), sighting = GuidedFollower(mesh, scenes).settle(0, start)
    assert sighting is not None
    assert sighting.score > 0.9
    assert np.linalg.norm(centre - pose[:3, :3] @ mesh.centre - pose[:3, 3]) < 0.002


def test_things_off_the_table_are_separate(bracket):
    own = cast(bracket.vertices, bracket.faces, motion()[0])
    other = box_at((0.05, 0.05, 0.05), (0.14, 0.02, 0.5))
    wall = np.where(np.arange(240)[:, None] < 20, 0.9, np.inf)
    depth = np.minimum.reduce([own, other, table_depth(), np.broadcast_to(wall, own.shape)])
    raised = depth < table_depth() - 1e-6
    things = things_off_table(Scene(CAMERA, depth.astype(np.float32), raised, np.zeros_like(raised)), 0.15)
    for mask in (own == depth, other == depth):
        assert max(overlap(thing, mask) for thing in things) > 0.9
    assert not any(thing[5, 160] for thing in things)


def test_a_ball_in_patchy_depth_wins_over_what_shows_only_through_gaps(cache):
    """Noisy stereo: half of the ball is not measured; slivers behind an unmeasured wall fit a ball exactly."""
    model = load_object("sphere:0.08", "ball")
    generator = np.random.default_rng(0)
    frames, poses = [], []
    for index in range(4):
        pose, behind = np.eye(4), np.eye(4)
        pose[:3, 3] = -0.1 + 0.01 * index, -0.06, 0.6
        behind[:3, 3] = 0.22 + 0.01 * index, -0.12, 0.8
        near, far = (cast(model.vertices, model.faces, each) for each in (pose, behind))
        depth = np.minimum(near, table_depth())
        patchy = np.kron(generator.random((40, 54)) < 0.4, np.ones((6, 6)))[:240, :320] > 0
        # Depth of the ball is off by more than its noise in a few patches, as of stereo at slanted surfaces.
        depth = np.where(np.isfinite(near) & patchy, 0.0, depth)
        wrong = np.kron(generator.random((40, 54)) < 0.12, np.ones((6, 6)))[:240, :320] > 0
        depth = np.where(np.isfinite(near) & wrong, depth + 0.08 * (depth > 0), depth)
        window = np.isfinite(far)
        rows = np.arange(240)[:, None]
        sliver = window & (rows > np.flatnonzero(window.any(axis=1)).min() + 8)
        depth = np.where(window, np.where(sliver, 0.0, far), depth)
        frame = frame_of(index, depth, [])
        frames.append(replace(frame, depth=np.where(depth > 0, frame.depth, 0.0).astype(np.float32)))
        poses.append(pose)
    track, _ = initialise_guided_object(model, frames)
    assert track.seen.all()
    apart = np.linalg.norm(track.T_camera_object[:, :3, 3] - np.array(poses)[:, :3, 3], axis=1)
    assert apart.max() < 0.01


def test_turned_copies_of_a_ball_are_one_and_those_of_a_bracket_are_not(bracket):
    ball = load_object("sphere:0.1", "ball")
    here, turned = Rotation.identity(), Rotation.from_rotvec([1.0, 0.7, -0.4])
    for model, alike in ((ball, True), (bracket, False)):
        same = SameSurface(make_solver_mesh(model))
        assert same.is_ball is alike
        assert same((here.as_matrix(), np.zeros(3)), (turned.as_matrix(), np.zeros(3))) is alike
        assert not same((here.as_matrix(), np.zeros(3)), (here.as_matrix(), np.array([0.0, 0.0, 0.3])))


def test_noisy_depth_with_hundreds_of_pieces_gives_few_things_the_largest_among_them():
    generator = np.random.default_rng(1)
    depth, raised = np.full((240, 320), 0.6, np.float32), np.zeros((240, 320), bool)
    for y in range(6, 230, 16):
        for x in range(6, 310, 16):
            raised[y : y + 12, x : x + 12] = True
            depth[y : y + 12, x : x + 12] = generator.uniform(0.5, 0.7)
    raised[100:160, 100:160], depth[100:160, 100:160] = True, 0.55
    scene = Scene(CAMERA, depth, raised, np.zeros_like(raised))
    things = things_off_table(scene, 0.25)
    assert 1 <= len(things) <= 12
    block = np.zeros_like(raised)
    block[100:160, 100:160] = True
    assert max(overlap(thing, block) for thing in things) > 0.9


def test_colours_give_a_sleeved_fingertip_to_the_hand_and_the_object_back():
    skin, blue = np.array([200, 150, 120], np.uint8), np.array([30, 40, 160], np.uint8)
    color = np.full((60, 80, 3), 90, np.uint8)
    color[10:40, 10:40], color[40:46, 10:40], color[20:30, 30:40] = skin, skin, blue
    hand = np.zeros((60, 80), bool)
    hand[10:40, 10:40] = True
    models = []
    for shade in (skin, blue):
        model = ColorModel()
        model.learn(color_cells(np.tile(shade, (20, 20, 1))).reshape(-1))
        models.append(model)
    raised = np.ones_like(hand)
    scene = Scene(CAMERA, np.ones(hand.shape, np.float32), raised, hand, color_cells(color))
    found = relabelled(scene, HandObjectColors(*models)).hand
    assert found[41, 15:35].all()
    assert not found[22:28, 32:38].any()
    assert found[12:18, 12:38].all()
    assert HandObjectColors(*models).alikeness < 0.1


def test_without_depth_what_the_hand_moves_wins_over_what_stands_beside(bracket):
    poses, frames = motion(), []
    beside = np.isfinite(box_at((0.06, 0.05, 0.06), (0.11, 0.02, 0.5)))
    for t, pose in enumerate(poses):
        mask = np.isfinite(cast(bracket.vertices, bracket.faces, pose))
        rows, columns = np.nonzero(mask)
        hand = np.zeros_like(mask)
        hand[max(int(rows.min()) - 30, 0) : rows.min(), columns.min() : columns.max()] = True
        frames.append(frame_of(t, None, [beside & ~mask, mask], hand))
    chosen, rated = choose_thing(bracket, frames)
    assert [thing.track_id for thing in rated] == [1, 0]
    assert all(len(frame.evidence.objects) == 1 for frame in chosen)
    track, _ = initialise_guided_object(bracket, frames, use_depth=False)
    assert errors(track, poses, bracket).mean() < 0.02


def test_frames_without_anything_are_lost(bracket):
    frames = [frame_of(t, table_depth(), []) for t in range(4)]
    track, guided = initialise_guided_object(bracket, frames)
    assert track.lost.all()
    assert not track.seen.any()
    assert len(guided) == 4
