"""The default clip: the motion is possible, the truth is exact, the pictures agree with it."""

import os
from dataclasses import replace

import cv2
import numpy as np
import open3d as o3d
import pytest
import torch
import trimesh

from grasp_nodes.data import clip_production, rendered_clips
from grasp_nodes.data.clip_readers import open_clip
from grasp_nodes.data.depth_sensor import measured_depth
from grasp_nodes.data.motion import CLOSE, OPEN, ClipVariation, clip_pose, minimum_jerk
from grasp_nodes.data.rendered_clips import default_clip
from grasp_nodes.data.skin import SkinnedArm
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object

FPS = rendered_clips.FPS
FEW = 3


@pytest.fixture(scope="module")
def stage():
    return rendered_clips._stage(0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("GRASP_NODES_CACHE")
    os.environ["GRASP_NODES_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["GRASP_NODES_CACHE"]
    else:
        os.environ["GRASP_NODES_CACHE"] = before


@pytest.fixture(scope="module")
def clip(cache):
    calls = []
    folder = default_clip(FEW, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, FEW) for done in range(FEW + 1)]
    return folder


@pytest.fixture(scope="module")
def motion(stage):
    """Hand vertices and mug poses of every second frame, world frame."""
    rows = []
    for frame in range(0, rendered_clips.MAX_FRAMES, 2):
        pose = clip_pose(frame / FPS, stage.grasp, stage.variation)
        params = replace(HandParams.zeros(1, dtype=torch.float64), hand_pose=torch.from_numpy(pose.hand_pose[None]))
        with torch.no_grad():
            rest = stage.model(params).vertices[0].numpy()
        rows.append((frame, pose, rest @ pose.T_world_hand[:3, :3].T + pose.T_world_hand[:3, 3]))
    return rows


def turned(second, first):
    """deg between two (4, 4) poses."""
    return np.rad2deg(np.arccos(np.clip((np.trace(second[:3, :3] @ first[:3, :3].T) - 1) / 2, -1, 1)))


# -- motion


def test_hand_and_mug_do_not_enter_the_table(motion, stage):
    for _, pose, vertices in motion:
        assert vertices[:, 2].min() > 0.001
        placed = stage.mug.vertices @ pose.T_world_mug[:3, :3].T + pose.T_world_mug[:3, 3]
        assert placed[:, 2].min() > -1e-9


def test_hand_does_not_enter_the_mug(motion, stage):
    """Measured by Open3D against the mug with its cavity filled: the thumb must not have slipped through the wall."""
    top = stage.mug.bounds[1, 2]
    filling = trimesh.creation.cylinder(0.035, top - 0.001, sections=64).apply_translation([0, 0, top / 2])
    solid = trimesh.boolean.union([stage.mug, filling], engine="manifold")
    scene = o3d.t.geometry.RaycastingScene()
    tensor = o3d.core.Tensor
    scene.add_triangles(tensor(solid.vertices.astype(np.float32)), tensor(solid.faces.astype(np.uint32)))
    held = []
    for frame, pose, vertices in motion:
        local = (vertices - pose.T_world_mug[:3, 3]) @ pose.T_world_mug[:3, :3]
        depth = -scene.compute_signed_distance(tensor(local.astype(np.float32))).numpy().min()
        assert depth < 0.003
        if CLOSE[1] <= frame / FPS <= OPEN[0]:
            held.append(depth)
    assert max(held) < 0.0018
    assert min(held) > -0.001  # and it does touch


def test_all_fingers_hold_the_mug(stage):
    assert stage.grasp.touching.all()
    assert stage.grasp.penetration < 0.0015


def test_mug_stands_still_at_both_ends_and_moves_with_the_hand(motion):
    first, last = motion[0][1].T_world_mug, motion[-1][1].T_world_mug
    assert np.allclose(first, last, atol=1e-9)
    assert np.allclose(first[:3, 2], [0, 0, 1])
    held = [pose for frame, pose, _ in motion if CLOSE[1] <= frame / FPS <= OPEN[0]]
    relative = np.stack([np.linalg.inv(pose.T_world_mug) @ pose.T_world_hand for pose in held])
    assert np.abs(relative - relative[0]).max() < 1e-9


def test_first_three_seconds_reach_grasp_lift_and_turn(motion):
    early = [pose.T_world_mug for frame, pose, _ in motion if frame < 90]
    assert max(pose[2, 3] for pose in early) > 0.06
    assert max(turned(pose, early[0]) for pose in early) > 20


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_turns_stay_within_fifty_degrees_and_nothing_jumps(stage, seed):
    variation = ClipVariation.of_seed(seed)
    poses = [clip_pose(frame / FPS, stage.grasp, variation) for frame in range(rendered_clips.MAX_FRAMES)]
    assert max(turned(pose.T_world_mug, poses[0].T_world_mug) for pose in poses) < 50
    places = np.stack([pose.T_world_hand[:3, 3] for pose in poses])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert steps.max() < 0.04  # 1.2 m/s
    assert np.abs(np.diff(np.stack([pose.hand_pose for pose in poses]), axis=0)).max() < 0.15


def test_minimum_jerk_starts_and_ends_at_rest():
    times = np.linspace(0.9, 2.1, 2001)
    values = np.array([minimum_jerk(time, 1.0, 2.0) for time in times])
    velocity = np.gradient(values, times)
    acceleration = np.gradient(velocity, times)
    assert (values[0], values[-1]) == (0, 1)
    for edge in (1.0, 2.0):
        near = np.abs(times - edge) < 2e-3
        assert np.abs(velocity[near]).max() < 1e-3
        assert np.abs(acceleration[near]).max() < 0.3
    assert velocity.max() == pytest.approx(1.875, rel=1e-3)  # peak of the minimum-jerk profile


# -- pictures against truth


@pytest.fixture(scope="module")
def pictures(stage):
    return {frame: stage.image(frame) for frame in (0, 45, 80)}


def test_visible_keypoints_lie_on_hand_pixels(stage, pictures):
    for frame, image in pictures.items():
        inner = stage.hand(frame).keypoints[[k for k in range(21) if k not in (4, 8, 12, 16, 20)]]  # tips lie on edges
        pixels = np.round(stage.camera.project(inner)).astype(int)
        depth = image.depth[pixels[:, 1], pixels[:, 0]]
        labels = image.labels[pixels[:, 1], pixels[:, 0]]
        assert (depth < inner[:, 2]).all()  # the skin, or something in front of it
        assert (labels == 1).sum() >= 11


def test_depth_of_the_mug_is_that_of_its_mesh(stage, pictures):
    for frame, image in pictures.items():
        placed = stage.object_pose(frame)
        y, x = np.nonzero(cv2.erode((image.labels == 2).astype(np.uint8), np.ones((3, 3), np.uint8)))
        points = stage.camera.unproject(np.stack([x, y], axis=1), image.depth[y, x])
        local = (points - placed[:3, 3]) @ placed[:3, :3]
        _, distance, _ = trimesh.proximity.closest_point_naive(stage.mug, local[:: max(1, len(local) // 60)])
        assert np.abs(distance).max() < 2e-4


def test_table_is_a_plane_below_the_mug(stage, pictures):
    image = pictures[0]
    y, x = np.nonzero(image.labels == 4)
    points = stage.camera.unproject(np.stack([x, y], axis=1), image.depth[y, x])
    T_world_camera = np.linalg.inv(stage.T_camera_world)
    assert np.abs(points @ T_world_camera[2, :3] + T_world_camera[2, 3]).max() < 1e-9


def test_mug_casts_a_contact_shadow(stage, pictures):
    """The table next to the foot is darker than a hand's breadth away."""
    image = pictures[0]
    T_camera_object = stage.object_pose(0)
    world_right = stage.T_camera_world[:3, 0]

    def brightness(distance):
        place = T_camera_object[:3, 3] + world_right * distance
        x, y = np.round(stage.camera.project(place)).astype(int)
        assert image.labels[y, x] == 4
        return image.color[y - 3 : y + 4, x - 2 : x + 3].mean()

    assert brightness(0.045) < 0.9 * brightness(0.16)


def test_same_seed_same_pixels_other_seed_other_pixels(stage, pictures):
    assert (stage.image(45).color == pictures[45].color).all()
    assert (rendered_clips._Stage(1, stage.model, stage.mug, stage.grasp).image(45).color != pictures[45].color).any()


def test_network_finds_the_hand(stage, pictures):
    model_files = pytest.importorskip("grasp_nodes.perception.model_files")
    pytest.importorskip("ai_edge_litert")
    if model_files.find_hand_models() is None:
        pytest.skip("the hand-landmark models are not in the cache")
    from grasp_nodes.geometry.camera import Frame
    from grasp_nodes.perception.hand_landmarks import LandmarkerOptions, LitertHandLandmarker

    landmarker = LitertHandLandmarker(LandmarkerOptions(max_hands=1), model_files.find_hand_models())
    for frame, image in pictures.items():
        landmarker.reset()
        hands = landmarker.detect(Frame(0, image.color, stage.camera))
        assert len(hands) == 1
        assert hands[0].side == "right"
        truth = stage.camera.project(stage.hand(frame).keypoints)
        assert np.linalg.norm(hands[0].keypoints - truth, axis=1).mean() < 25


# -- depth camera


def test_depth_noise_and_holes():
    depth = np.full((200, 200), 0.65)
    depth[:, 100:] = 1.3
    counts = measured_depth(depth, np.random.default_rng(0))
    near, far = counts[:, :98] * rendered_clips.DEPTH_UNIT, counts[:, 102:] * rendered_clips.DEPTH_UNIT
    assert near.mean() == pytest.approx(0.65, abs=1e-4)
    assert near.std() == pytest.approx(np.hypot(0.001, 0.001 / 12**0.5), rel=0.03)
    assert far.std() == pytest.approx(np.hypot(0.004, 0.001 / 12**0.5), rel=0.03)
    assert 0.3 < (counts[:, 99:101] == 0).mean() < 0.7
    assert (counts[:, :98] > 0).all()
    assert (measured_depth(np.array([[np.inf, 0.0, 70.0]]), np.random.default_rng(0)) == 0).all()


# -- the folder


def test_clip_folder_has_frames_and_truth(clip, stage):
    source = open_clip(clip)
    assert (len(source), source.fps, source.has_depth, source.has_truth) == (FEW, 30, True, True)
    frames = list(source)
    image = stage.image(1)
    assert np.abs(frames[1].color.astype(int) - image.color).mean() < 3
    solid = np.abs(frames[1].depth - image.depth)[frames[1].depth > 0]
    assert np.median(solid) < 0.003
    assert (source.labels(1) == image.labels).all()
    assert source.hand_visible(1) > 0.9
    mug = load_object(source.object_spec, source.object_id)
    assert mug.vertices[:, 2].max() == pytest.approx(stage.mug.bounds[1, 2], abs=1e-5)


def test_truth_is_the_hand_models_answer(clip):
    source = open_clip(clip)
    model = load_hand_model("right", OPEN_HAND_FILE, torch.float64)
    for frame in source:
        state = source.truth(frame.stamp)
        assert state.stamp == frame.stamp
        (hand,), (found,) = state.hands, state.objects
        assert hand.model_fingerprint == model.fingerprint
        output = model(hand.params)
        assert np.abs(output.keypoints[0].numpy() - hand.keypoints).max() < 1e-9
        assert np.abs(output.joints[0].numpy() - hand.joint_poses[:, :3]).max() < 1e-9
        assert np.allclose(np.linalg.norm(hand.joint_poses[:, 3:], axis=1), 1)
        assert np.allclose(found.T_camera_object[:3, :3] @ found.T_camera_object[:3, :3].T, np.eye(3))
        assert found.object_id == source.object_id == "mug"
    assert source.truth(frame.stamp + 1) is None


def test_truth_without_joint_poses_is_completed(clip, tmp_path):
    names = ("clip.json", "color", "depth", "objects")
    for name in names:
        (tmp_path / name).symlink_to(clip / name)
    with np.load(clip / "truth.npz") as file:
        arrays = {name: file[name] for name in file.files}
    expected = arrays.pop("joint_poses")
    np.savez(tmp_path / "truth.npz", **arrays)
    poses = np.stack([state.hands[0].joint_poses for state in open_clip(tmp_path).trajectory.states])
    assert np.allclose(poses[..., :3], expected[..., :3])
    assert np.allclose(np.abs((poses[..., 3:] * expected[..., 3:]).sum(axis=-1)), 1)
    np.savez(tmp_path / "truth.npz", **(arrays | {"model_fingerprint": np.array("other")}))
    with pytest.raises(InputError, match="other"):
        _ = open_clip(tmp_path).trajectory


def test_cached_frames_serve_a_shorter_clip_and_an_interrupted_one(clip, cache, monkeypatch):
    shorter = default_clip(FEW - 1)
    for name in ("color/000001.jpg", "depth/000001.png", "labels/000001.png"):
        assert (shorter / name).read_bytes() == (clip / name).read_bytes()
    assert len(open_clip(shorter)) == FEW - 1

    def no_rendering(*_):
        raise AssertionError("rendered again")

    monkeypatch.setattr(clip_production, "_render_to_files", no_rendering)
    assert default_clip(FEW) == clip
    (work,) = (cache / "clips").glob("*.frames")
    (work / "depth" / "000000.png").unlink()
    asked = []

    def pretended_rendering(_, frame):
        asked.append(frame)

    monkeypatch.setattr(clip_production, "_render_to_files", pretended_rendering)
    with pytest.raises(FileNotFoundError):  # the hole is still there
        default_clip(1)
    assert asked == [0]
    assert not list((cache / "clips").glob("*-1"))


@pytest.mark.parametrize("arguments", [{"frames": 0}, {"frames": 151}, {"seed": -1}])
def test_impossible_clips_are_refused(arguments):
    with pytest.raises(InputError, match=next(iter(arguments))):
        default_clip(**arguments)


# -- skin


def test_left_arm_is_the_mirror_of_the_right():
    arms, skins = [], []
    for side in ("right", "left"):
        model = load_hand_model(side, OPEN_HAND_FILE, torch.float64)
        arm = SkinnedArm(model, subdivisions=0)
        output = model(HandParams.zeros(1, side, torch.float64))
        arms.append(arm)
        skins.append(arm.vertices(output.vertices[0].numpy(), output.joint_frames[0, 0].numpy()))
    assert np.allclose(skins[0] * [-1, 1, 1], skins[1], atol=1e-7)
    assert np.allclose(arms[0].colors, arms[1].colors, atol=1e-6)
    for arm, skin in zip(arms, skins, strict=True):
        mesh = trimesh.Trimesh(skin, arm.faces, process=False)
        assert mesh.is_winding_consistent
        elbow = skin[-16:].mean(axis=0)  # seen from the open end, a body with outward faces has positive volume
        assert trimesh.Trimesh(skin - elbow, arm.faces, process=False).volume > 1e-3


def test_palm_has_creases_and_back_has_nails():
    model = load_hand_model("right", OPEN_HAND_FILE, torch.float64)
    arm = SkinnedArm(model)
    output = model(HandParams.zeros(1, dtype=torch.float64))
    skin = arm.vertices(output.vertices[0].numpy(), output.joint_frames[0, 0].numpy())
    normals = trimesh.Trimesh(skin, arm.faces, process=False).vertex_normals
    hand = skin[:, 0] < 0.09
    brightness = arm.colors.mean(axis=1)
    palm, back = hand & (normals[:, 1] < -0.5), hand & (normals[:, 1] > 0.5)
    dark = brightness < 0.85 * np.median(brightness[palm])
    assert 0.005 < dark[palm].mean() < 0.15
    assert not dark[back].any()
    assert (arm.colors[back] == [0.86, 0.66, 0.60]).all(axis=1).sum() > 50
    assert arm.is_forearm.any()
    centers = skin[arm.faces].mean(axis=1)
    assert centers[arm.is_forearm, 0].min() > centers[~arm.is_forearm, 0].max() - 0.02


def test_another_motion_needs_another_render_version(stage):
    """Cached pictures are found by `RENDER_VERSION`: a motion that changes without it gets the truth of other pictures.

    Where this fails after a change of grasp, motion or hand, raise the version and write the new places down.
    """
    version, thumb, index, little, mug = (
        2,
        [0.0334, -0.0996, 0.6207],
        [0.0743, -0.0584, 0.5641],
        [0.0662, 0.0010, 0.5849],
        [0.0450, 0.0011, 0.6206],
    )
    assert version == rendered_clips.RENDER_VERSION
    np.testing.assert_allclose(stage.hand(60).keypoints[[4, 8, 20]], [thumb, index, little], atol=3e-4)
    np.testing.assert_allclose(stage.object_pose(60)[:3, 3], mug, atol=3e-4)
