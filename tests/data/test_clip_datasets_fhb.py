from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.data.clip_datasets.depth_registration import register_depth
from grasp_nodes.data.clip_datasets.fhb import COLOR_CAMERA, DEPTH_CAMERA, T_COLOR_DEPTH, FhbSource
from grasp_nodes.data.clip_datasets.registry import ClipOptions, find_dataset
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.keypoints import KEYPOINT_NAMES
from tests.data import clip_dataset_doubles as doubles

# the README's order and numbers
JOINTS = (
    *("Wrist", "TMCP", "IMCP", "MMCP", "RMCP", "PMCP", "TPIP", "TDIP", "TTIP", "IPIP", "IDIP", "ITIP"),
    *("MPIP", "MDIP", "MTIP", "RPIP", "RDIP", "RTIP", "PPIP", "PDIP", "PTIP"),
)
FINGERS = {"T": "thumb", "I": "index", "M": "middle", "R": "ring", "P": "little"}
PARTS = {"MCP": "mcp", "PIP": "pip", "DIP": "dip", "TIP": "tip"}
THUMB = {"MCP": "cmc", "PIP": "mcp", "DIP": "ip", "TIP": "tip"}
CAM_EXTR = np.array(
    [
        [0.999988496304, -0.00468848412856, 0.000982563360594, 25.7],
        [0.00469115935266, 0.999985218048, -0.00273845880292, 1.22],
        [-0.000969709653873, 0.00274303671904, 0.99999576807, 3.902],
        [0, 0, 0, 1],
    ]
)
CAM_INTR = np.array([[1395.749023, 0, 935.732544], [0, 1395.749268, 540.681030], [0, 0, 1]])
SEQUENCE = "Subject_1/put_salt/1"


def write(root: Path, frames: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Points (frames, 21, 3) and poses (frames, 4, 4) as written, mm."""
    rng = np.random.default_rng(2)
    video = root / "Video_files" / SEQUENCE
    points = rng.normal(size=(frames, 21, 3)) * 40 + [0, 0, 450]
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = Rotation.random(frames, random_state=4).as_matrix()
    poses[:, :3, 3] = [20, -10, 430]
    for number in range(frames):
        doubles.write_image(video / "color" / f"color_{number:04d}.jpeg", np.full((1080, 1920, 3), 90, np.uint8))
        doubles.write_image(video / "depth" / f"depth_{number:04d}.png", np.full((480, 640), 800, np.uint16))
    skeletons = root / "Hand_pose_annotation_v1" / SEQUENCE / "skeleton.txt"
    skeletons.parent.mkdir(parents=True)
    np.savetxt(skeletons, np.column_stack([np.arange(frames) + 1, points.reshape(frames, 63)]), fmt="%.6f")
    objects = root / "Object_6D_pose_annotation_v1" / SEQUENCE / "object_pose.txt"
    objects.parent.mkdir(parents=True)
    columns = poses.transpose(0, 2, 1).reshape(frames, 16)  # M11 M21 M31 M41 M12 ...
    np.savetxt(objects, np.column_stack([np.arange(frames), columns]), fmt="%.9f")
    model = root / "Object_models/salt_model/salt_model.ply"
    model.parent.mkdir(parents=True)
    trimesh.creation.box((0.05, 0.05, 0.1)).export(model)
    return points, poses


def opened(root: Path) -> FhbSource:
    source = find_dataset("fhb").open(root, SEQUENCE)
    assert isinstance(source, FhbSource)
    return source


def test_points_and_objects_come_into_the_colour_camera(tmp_path: Path) -> None:
    points, poses = write(tmp_path)
    source = opened(tmp_path)
    assert find_dataset("fhb").sequences(tmp_path) == [SEQUENCE]
    np.testing.assert_allclose(source.camera.camera_k, CAM_INTR)
    vertices = np.random.default_rng(0).normal(size=(5, 3)) * 0.05
    for row, stamp in enumerate((0, 33333333)):
        keypoints = source.keypoints(stamp)
        assert keypoints is not None
        pixels = source.camera.project(keypoints)
        for joint, point in zip(JOINTS, points[row], strict=True):
            names = THUMB if joint[0] == "T" else PARTS
            name = "wrist" if joint == "Wrist" else f"{FINGERS[joint[0]]}_{names[joint[1:]]}"
            moved = CAM_EXTR @ [*point, 1.0]
            at = KEYPOINT_NAMES.index(name)
            np.testing.assert_allclose(keypoints[at], moved[:3] / 1000, atol=1e-8)
            projected = CAM_INTR @ moved[:3]
            np.testing.assert_allclose(pixels[at], projected[:2] / projected[2], atol=1e-4)
        truth = source.truth(stamp)
        assert truth is not None
        assert not truth.hands  # no MANO parameters
        transform = truth.objects[0].T_camera_object
        homogeneous = np.column_stack([vertices * 1000, np.ones(5)])
        expected = (CAM_EXTR @ poses[row] @ homogeneous.T).T[:, :3] / 1000
        np.testing.assert_allclose(vertices @ transform[:3, :3].T + transform[:3, 3], expected, atol=1e-8)
        assert truth.objects[0].object_id == source.object_id == "salt"
        assert Path(source.object_spec).is_file()


def test_depth_is_registered_to_the_colour_image(tmp_path: Path) -> None:
    write(tmp_path, 1)
    frame = opened(tmp_path).frame(0)
    assert frame.depth is not None
    assert frame.depth.shape == (1080, 1920)
    # A wall 0.8 m before the depth camera: its distance from the colour camera is that of a plane.
    normal = T_COLOR_DEPTH[:3, 2]
    offset = normal @ T_COLOR_DEPTH[:3, 3] + 0.8
    rows, columns = np.nonzero(frame.depth)
    rows, columns = rows[::7], columns[::7]
    rays = COLOR_CAMERA.unproject(np.stack([columns, rows], -1).astype(float), np.ones(len(rows)))
    assert np.abs(frame.depth[rows, columns] - offset / (rays @ normal)).max() < 0.8 * 2e-5 + 1e-5
    # Every colour pixel whose ray meets the wall well inside the depth image has a depth: no holes.
    rng = np.random.default_rng(8)
    grid = np.column_stack([rng.integers(0, 1920, 200_000), rng.integers(0, 1080, 200_000)]).astype(float)
    rays = COLOR_CAMERA.unproject(grid, np.ones(len(grid)))
    hits = rays * (offset / (rays @ normal))[:, None]
    seen = DEPTH_CAMERA.project((hits - T_COLOR_DEPTH[:3, 3]) @ T_COLOR_DEPTH[:3, :3])
    inside = ((seen > 1) & (seen < [638, 478])).all(1)
    outside = ((seen < -1.5) | (seen > [640.5, 480.5])).any(1)
    found = frame.depth[grid[:, 1].astype(int), grid[:, 0].astype(int)]
    assert (found[inside] > 0).all()
    assert (found[outside] == 0).all()
    assert inside.sum() > 100_000


def test_the_nearer_surface_hides_the_farther() -> None:
    camera = CameraModel(np.array([[100.0, 0, 15.5], [0, 100.0, 11.5], [0, 0, 1]]), 32, 24)
    depth = np.full((24, 32), 2.0, np.float32)
    depth[:, 20:] = 0.5  # moved 0.05 m to the left it covers 10 px, the wall 2.5
    moved = np.eye(4)
    moved[0, 3] = -0.05
    seen = register_depth(depth, camera, camera, moved)
    np.testing.assert_array_equal(seen[:, 10:22], np.float32(0.5))
    np.testing.assert_array_equal(seen[:, :9], np.float32(2.0))
    np.testing.assert_array_equal(seen[:, 23:], np.float32(0.0))
    assert not register_depth(np.zeros((24, 32), np.float32), camera, camera, moved).any()


def test_an_action_without_an_object_model_has_keypoints_alone(tmp_path: Path) -> None:
    folder = tmp_path / "Video_files/Subject_2/flip_sponge/1/color"
    doubles.write_image(folder / "color_0000.jpeg", np.zeros((1080, 1920, 3), np.uint8))
    source = find_dataset("fhb").open(tmp_path, "Subject_2/flip_sponge/1", ClipOptions(object_spec="family:box:1"))
    assert not source.has_truth
    assert not source.has_depth
    assert (source.truth(0), source.keypoints(0), source.frame(0).depth) == (None, None, None)
    assert source.object_spec == "family:box:1"


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"Video_files: .*hand_pose_action"):
        find_dataset("fhb").sequences(tmp_path)
    write(tmp_path, 1)
    with pytest.raises(InputError, match=r"no sequence 'Subject_9/x/1' there"):
        find_dataset("fhb").open(tmp_path, "Subject_9/x/1")
    depth = tmp_path / "Video_files" / SEQUENCE / "depth/depth_0000.png"
    doubles.write_image(depth, np.zeros((48, 64), np.uint16))
    with pytest.raises(InputError, match=r"depth_0000.png: expected 640x480 pixels, got 64x48"):
        opened(tmp_path).frame(0)
    path = tmp_path / "Hand_pose_annotation_v1" / SEQUENCE / "skeleton.txt"
    path.write_text("0 1 2 3\n")
    with pytest.raises(InputError, match=r"skeleton.txt: expected lines of 64 finite numbers, got 4"):
        opened(tmp_path)
    path.write_text("0 a b\n")
    with pytest.raises(InputError, match=r"skeleton.txt: expected lines of 64 numbers"):
        opened(tmp_path)
    path.unlink()
    (tmp_path / "Object_models/salt_model/salt_model.ply").unlink()
    with pytest.raises(MissingFileError, match=r"salt_model.ply: there is no such object model"):
        opened(tmp_path)
