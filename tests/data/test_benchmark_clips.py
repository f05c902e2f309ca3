"""The benchmark's clips: possible motions, exact truth, pictures that agree with it, folders that are gone on with."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import open3d as o3d
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from grasp_nodes.cli.app import app
from grasp_nodes.data import benchmark_clips as clips
from grasp_nodes.data import benchmark_search, clip_production
from grasp_nodes.data.benchmark_clips import benchmark_clips, clip_requests
from grasp_nodes.data.benchmark_motion import MAX_FRAMES
from grasp_nodes.data.benchmark_objects import moved, open_hand, rest_frames
from grasp_nodes.data.benchmark_plan import ClipPlan, ClipRequest, mean_direction, pose_hands, view_of
from grasp_nodes.data.benchmark_search import find_plan
from grasp_nodes.data.benchmark_stage import BenchmarkStage
from grasp_nodes.data.clip_readers import open_clip
from grasp_nodes.data.resting import resting_poses
from grasp_nodes.data.skin import ArmLook, SkinnedArm
from grasp_nodes.data.visibility import visible_share
from grasp_nodes.errors import GraspNodesError, InputError
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.rendering import RayScene, RenderMesh, box_pixels, pixel_rays
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.registry import HELD_OUT_FAMILIES, family_mesh

REQUESTS = {
    "right": ClipRequest(0, 11, "right", "box", "thumb", "object", "carry"),
    "left": ClipRequest(1, 11, "left", "frustum", "back", "prop", "put_down"),
}
FEW = 2


@pytest.fixture(scope="module", params=list(REQUESTS))
def plan(request: pytest.FixtureRequest) -> ClipPlan:
    return find_plan(REQUESTS[request.param])


@pytest.fixture(scope="module")
def right_plan() -> ClipPlan:
    return find_plan(REQUESTS["right"])


def hand_in_object(plan: ClipPlan) -> np.ndarray:
    """(T, 778, 3) m."""
    objects = plan.object_poses()
    vertices = pose_hands(plan.hands()).vertices.numpy()
    return np.einsum("tvi,tij->tvj", vertices - objects[:, None, :3, 3], objects[:, :3, :3])


def distance_by_open3d(plan: ClipPlan, points: np.ndarray) -> np.ndarray:
    scene = o3d.t.geometry.RaycastingScene()
    tensor = o3d.core.Tensor
    scene.add_triangles(tensor(plan.vertices.astype(np.float32)), tensor(plan.faces.astype(np.uint32)))
    return scene.compute_signed_distance(tensor(points.astype(np.float32))).numpy()


# -- what is asked


def test_each_round_holds_every_share() -> None:
    requests = clip_requests(20, 0)
    assert Counter(one.view for one in requests) == clips.VIEWS
    assert Counter(one.side for one in requests) == clips.SIDES
    assert Counter(one.occlusion for one in requests) == clips.OCCLUSIONS
    assert Counter(one.course for one in requests) == clips.COURSES
    names = [one.object_name for one in requests]
    assert len(set(names)) == 20
    assert set(HELD_OUT_FAMILIES) <= set(names)


def test_a_clip_does_not_depend_on_their_number() -> None:
    assert clip_requests(40, 3)[:7] == clip_requests(7, 3)
    assert clip_requests(20, 3) != [*clip_requests(20, 4)]


def test_meshes_take_the_last_places() -> None:
    requests = clip_requests(5, 0, [Path("a.obj"), Path("b.obj")])
    assert [one.object_name for one in requests[3:]] == ["a.obj", "b.obj"]
    assert requests[:3] == clip_requests(3, 0)


@pytest.mark.parametrize(
    "arguments", [{"count": 0}, {"frames": 31}, {"seed": -1}, {"processes": 0}, {"count": 1, "meshes": ["a", "b"]}]
)
def test_wrong_arguments_are_named(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError, match=list(arguments)[-1]):
        benchmark_clips(**arguments)  # type: ignore[arg-type]


# -- motion


def test_same_request_same_plan(right_plan: ClipPlan) -> None:
    again = find_plan(right_plan.request)
    assert again.object_name == right_plan.object_name
    assert (again.object_poses() == right_plan.object_poses()).all()
    assert (again.hands().hand_pose == right_plan.hands().hand_pose).all()


def test_hand_is_never_deep_in_the_object_and_holds_it(plan: ClipPlan) -> None:
    """Signed distances by Open3D."""
    nearest = distance_by_open3d(plan, hand_in_object(plan)).min(axis=1)
    assert nearest.min() > -0.0021
    objects = plan.object_poses()
    held = np.abs(np.diff(objects, axis=0)).max(axis=(1, 2)) > 1e-6
    assert held.any()
    assert nearest[1:][held].max() < 0.002
    assert (nearest > 0.005).mean() >= 0.25
    assert BenchmarkStage(plan).contact(MAX_FRAMES).tolist() == (nearest < 0.005).tolist()


def test_object_moves_with_the_hand_and_rests_otherwise(plan: ClipPlan) -> None:
    objects = plan.object_poses()
    moving = np.abs(np.diff(objects, axis=0)).max(axis=(1, 2)) > 1e-9
    relative = np.linalg.inv(objects) @ rest_frames(plan.hands())
    changes = np.abs(np.diff(relative, axis=0)).max(axis=(1, 2))
    assert changes[moving].max() < 1e-9
    assert (~moving).any()
    T_world_camera = np.linalg.inv(plan.T_camera_world)
    heights = np.array(
        [(plan.vertices @ (T_world_camera @ one)[2, :3]).min() + (T_world_camera @ one)[2, 3] for one in objects]
    )
    assert heights.min() > -1e-6
    assert heights.max() > 0.03
    assert np.abs(heights[0 if plan.request.course == "carry" else -1]) < 1e-9


def test_nothing_jumps_and_nothing_enters_the_table(plan: ClipPlan) -> None:
    vertices = pose_hands(plan.hands()).vertices.numpy()
    assert np.linalg.norm(np.diff(vertices, axis=0), axis=2).max() < 0.10  # 1.5 m/s
    T_world_camera = np.linalg.inv(plan.T_camera_world)
    assert (vertices @ T_world_camera[2, :3] + T_world_camera[2, 3]).min() > 0.001
    turns = plan.object_poses()[:, :3, :3]
    cosines = (np.einsum("tij,tij->t", turns[1:], turns[:-1]) - 1) / 2
    assert np.rad2deg(np.arccos(np.clip(cosines, -1, 1))).max() < 20


def test_the_cut_at_the_elbow_is_never_seen(plan: ClipPlan) -> None:
    """The far end of the arm, 0.8 m behind the wrist, projects outside of the image or lies behind the camera."""
    output = pose_hands(plan.hands())
    look = ArmLook(wrist_bend=(*plan.wrist_bend,))
    arm = SkinnedArm(open_hand(plan.request.side), subdivisions=0, betas=plan.betas, look=look)
    for vertices, joints in zip(output.vertices.numpy(), output.joint_frames.numpy(), strict=True):
        skin = arm.vertices(vertices, joints[0])
        far = skin[np.linalg.norm(skin - joints[0][:3, 3], axis=1) > 0.79]
        assert len(far) >= 16
        pixels = plan.camera.project(far[far[:, 2] > 0.01])
        assert not ((pixels >= 0) & (pixels < [640, 480])).all(axis=1).any()


def test_put_down_is_carry_backwards(right_plan: ClipPlan) -> None:
    forward = right_plan.motion
    backward = replace(forward, course="put_down")
    for frame in (0, 9, 21):
        one, other = forward.at(frame), backward.at(MAX_FRAMES - 1 - frame)
        assert np.allclose(one.T_world_hand, other.T_world_hand, atol=1e-9)
        assert np.allclose(one.hand_pose, other.hand_pose, atol=1e-9)


def test_the_asked_side_is_seen(plan: ClipPlan) -> None:
    """By the palm's own geometry: knuckles, wrist and thumb of the posed hand, not the frame that the search uses."""
    keypoints = pose_hands(plan.hands()).keypoints.numpy()
    wrist, index, little = keypoints[:, 0], keypoints[:, 5], keypoints[:, 17]
    across = index - little
    out_of_back = np.cross(wrist - (index + little) / 2, across)
    if plan.request.side == "right":
        out_of_back = -out_of_back
    toward = -(index + little + wrist) / 3
    axes = {"back": out_of_back, "thumb": across}
    shares = {
        name: np.einsum("ti,ti->t", axis, toward) / np.linalg.norm(axis, axis=1) / np.linalg.norm(toward, axis=1)
        for name, axis in axes.items()
    }
    assert shares[plan.request.view].mean() > 0.4
    assert view_of(mean_direction(rest_frames(plan.hands()), plan.request.side), plan.request.side) == plan.request.view


def test_moved_hands_keep_their_shape() -> None:
    hands = find_plan(REQUESTS["left"]).hands(3)
    frames = rest_frames(hands)
    step = np.eye(4)
    step[:3, 3] = [0.1, -0.2, 0.3]
    step[:3, :3] = trimesh.transformations.rotation_matrix(2.0, [0.3, -0.5, 0.8])[:3, :3]
    before, after = pose_hands(hands).vertices.numpy(), pose_hands(moved(hands, step @ frames)).vertices.numpy()
    assert np.abs(before @ step[:3, :3].T + step[:3, 3] - after).max() < 1e-9


# -- pictures against truth


@pytest.fixture(scope="module")
def stage(right_plan: ClipPlan) -> BenchmarkStage:
    return BenchmarkStage(right_plan)


def test_pictures_agree_with_the_truth(stage: BenchmarkStage) -> None:
    frame = 20
    image, plan = stage.image(frame), stage.plan
    assert (BenchmarkStage(plan).image(frame).color == image.color).all()
    inner = pose_hands(plan.hands()).keypoints.numpy()[frame][[k for k in range(21) if k % 4 or k == 0]]
    pixels = np.round(plan.camera.project(inner)).astype(int)
    labels, depth = image.labels[pixels[:, 1], pixels[:, 0]], image.depth[pixels[:, 1], pixels[:, 0]]
    assert (depth < inner[:, 2]).all()  # the skin, or something in front of it
    assert np.isin(labels, (1, 2)).all()
    assert (labels == 1).sum() >= 8
    y, x = np.nonzero(cv2.erode((image.labels == 2).astype(np.uint8), np.ones((3, 3), np.uint8)))
    pose = plan.object_poses()[frame]
    local = (plan.camera.unproject(np.stack([x, y], axis=1), image.depth[y, x]) - pose[:3, 3]) @ pose[:3, :3]
    assert np.abs(distance_by_open3d(plan, local)).max() < 2e-4


def every_ray(camera: CameraModel) -> np.ndarray:
    return pixel_rays(camera, box_pixels((0, 0, camera.width, camera.height)))


def test_visible_share_of_the_hand_is_that_of_the_picture(stage: BenchmarkStage) -> None:
    """Hand pixels against those of the same skin alone."""
    truth, plan = stage.truth(MAX_FRAMES), stage.plan
    frame = int(np.argmin(truth.hand_visible))
    hand = (stage.image(frame).labels == 1).sum()
    output = pose_hands(plan.hands())
    arm = SkinnedArm(open_hand("right"), betas=plan.betas)
    vertices = arm.vertices(output.vertices[frame].numpy(), output.joint_frames[frame, 0].numpy())
    alone = RayScene([RenderMesh(vertices, arm.faces, np.ones(3))]).cast(every_ray(plan.camera))
    alone_pixels = (~arm.is_forearm[alone.triangle[alone.mesh == 0]]).sum()
    assert hand / alone_pixels == pytest.approx(truth.hand_visible[frame], abs=0.05)


def test_visible_share_of_a_covered_square() -> None:
    camera = CameraModel(np.array([[300.0, 0, 99.5], [0, 300, 99.5], [0, 0, 1]]), 200, 200)
    square = trimesh.creation.box((0.2, 0.2, 0.001)).apply_translation([0, 0, 1.0])
    cover = trimesh.creation.box((0.2, 0.2, 0.001)).apply_translation([0.05, 0, 0.9])
    meshes = [RenderMesh(one.vertices, one.faces, np.ones(3)) for one in (square, cover)]
    # The cover begins 0.05 m left of the middle, at depth 0.9: it hides what is right of -0.0555 m at depth 1.
    assert visible_share(camera, meshes[0], meshes[1:], 1) == pytest.approx((0.1 - 0.05 / 0.9) / 0.2, abs=0.02)
    assert visible_share(camera, meshes[0], [], 1) == 1.0


# -- lying on a table


def test_a_box_lies_on_its_six_sides() -> None:
    box = trimesh.creation.box((0.04, 0.06, 0.10))
    poses = resting_poses(Solid(box.vertices, box.faces))
    heights = [float((box.vertices @ pose[:3, :3].T + pose[:3, 3])[:, 2].max()) for pose in poses]
    assert np.round(heights, 6).tolist() == [0.04, 0.04, 0.06, 0.06, 0.1, 0.1]


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(["box", "bottle", "mug", "hammer", "vase", "glass"]), st.integers(0, 50))
def test_small_tilts_lift_a_resting_body(family: str, seed: int) -> None:
    """At rest the centre of mass is lower than after a turn about any horizontal axis: potential energy, no faces."""
    vertices, faces = family_mesh(f"{family}:{seed}")
    solid = Solid(vertices, faces)
    for pose in resting_poses(solid)[:3]:
        down = pose[2, :3]
        height = solid.center_of_volume @ down - (vertices @ down).min()
        for axis in (pose[0, :3], pose[1, :3], -pose[0, :3], -pose[1, :3]):
            tilted = down + 0.004 * axis
            tilted /= np.linalg.norm(tilted)
            assert solid.center_of_volume @ tilted - (vertices @ tilted).min() > height - 1e-6


# -- the folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right_plan: ClipPlan) -> Path:
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path))
    monkeypatch.setattr(clips, "find_plan", lambda _: right_plan)
    return tmp_path


def test_folder_holds_frames_truth_and_what_was_varied(cache: Path) -> None:
    calls: list[tuple[int, int]] = []
    (folder,) = benchmark_clips(1, FEW, progress=lambda *numbers: calls.append(numbers), processes=1)
    assert calls == [(0, 2), (1, 2), (2, 2)]
    source = open_clip(folder)
    assert (len(source), source.fps, source.has_depth, source.has_truth) == (FEW, 15, True, True)
    extra = source.info.extra
    assert extra["view"] == "thumb"
    assert extra["hand_side"] == "right"
    assert extra["family"] == "box"
    assert 0 <= extra["occluded_share"] <= 1
    assert 1 <= extra["noise"] <= 2
    plan = find_plan(REQUESTS["right"])
    frame = source.frame(1)
    state = source.truth(frame.stamp)
    assert state is not None
    assert np.allclose(state.objects[0].T_camera_object, plan.object_poses()[1])
    assert np.allclose(state.hands[0].keypoints, pose_hands(plan.hands()).keypoints[1].numpy())
    mesh = load_object(source.object_spec, source.object_id)
    assert np.abs(np.ptp(mesh.vertices, axis=0) - np.ptp(plan.vertices, axis=0)).max() < 1e-5
    exact = BenchmarkStage(plan).image(1)
    assert frame.depth is not None
    measured = frame.depth > 0
    assert np.median(np.abs(frame.depth - exact.depth)[measured]) < 0.004
    labels = source.labels(1)
    assert labels is not None
    assert (labels == exact.labels).all()

    # Once more: the cache answers. With a hole: only that frame is made.
    asked: list[int] = []
    real = clip_production._render_to_files

    def counted(job: clip_production.ClipJob, frame: int) -> None:
        asked.append(frame)
        real(job, frame)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_production, "_render_to_files", counted)
        assert benchmark_clips(1, FEW, processes=1) == [folder]
        assert asked == []
        before = (folder / "depth" / "000000.png").read_bytes()
        (work,) = (cache / "clips").glob("*.frames")
        (work / "depth" / "000000.png").unlink()
        folder.rename(folder.with_name("gone"))
        assert benchmark_clips(1, FEW, processes=1) == [folder]
        assert asked == [0]
        assert (folder / "depth" / "000000.png").read_bytes() == before

    answer = CliRunner().invoke(
        app, ["render-clips", "-o", str(cache / "out"), "--count", "1", "--frames", "2", "--processes", "1"]
    )
    assert answer.exit_code == 0
    assert "view thumb" in answer.output
    assert len(open_clip(cache / "out" / folder.name)) == FEW


def test_a_mesh_that_cannot_be_grasped_is_told_and_not_replaced(monkeypatch, tmp_path):
    class Ungraspable:
        kinds = ()

    monkeypatch.setattr(benchmark_search, "grasped_mesh", lambda *_: Ungraspable())
    monkeypatch.setattr(benchmark_search, "grasped_family", lambda *_: pytest.fail("nobody asked for a family"))
    (request,) = clip_requests(1, 0, [tmp_path / "table.obj"])
    with pytest.raises(GraspNodesError, match=r"table\.obj: no motion"):
        find_plan(request)
