"""The clip folder: what is written is read, and what is wrong is named."""

import json
import os
import struct
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest

from grasp_nodes.data.clip_files import (
    ClipInfo,
    ClipTruth,
    read_clip_info,
    read_color,
    read_depth,
    read_truth,
    write_clip_info,
    write_image,
    write_truth,
)
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.camera import CameraModel

CAMERA = CameraModel(np.array([[50.0, 0, 15.5], [0, 51, 11.5], [0, 0, 1]]), 32, 24, np.array([0.1, 0, 0, 0, 0]))


def make_truth(frames):
    rng = np.random.default_rng(0)
    return ClipTruth(
        stamps=np.arange(frames) * 33_333_333 + 7,
        global_orient=rng.normal(size=(frames, 3)),
        hand_pose=rng.normal(size=(frames, 45)),
        betas=np.zeros((frames, 10)),
        transl=rng.normal(size=(frames, 3)),
        scale=np.ones(frames),
        side="left",
        keypoints=rng.normal(size=(frames, 21, 3)),
        T_camera_object=np.tile(np.eye(4), (frames, 1, 1)),
        object_id="cup",
        hand_visible=rng.uniform(size=frames),
        model_id="m",
        model_fingerprint="f",
        joint_poses=rng.normal(size=(frames, 16, 7)),
    )


def test_info_round_trip(tmp_path):
    info = ClipInfo(3, 29.97, CAMERA, 0.0005, {"cup": "objects/cup.obj"}, {"seed": 5})
    write_clip_info(tmp_path, info)
    back = read_clip_info(tmp_path)
    assert (back.frames, back.fps, back.depth_unit, dict(back.objects)) == (
        3,
        29.97,
        0.0005,
        {"cup": "objects/cup.obj"},
    )
    assert back.extra["seed"] == 5
    assert (back.camera.camera_k == CAMERA.camera_k).all()
    assert (back.camera.distortion == CAMERA.distortion).all()
    assert (back.camera.width, back.camera.height) == (32, 24)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.json"]


def test_truth_round_trip(tmp_path):
    truth = make_truth(4)
    write_truth(tmp_path, truth)
    back = read_truth(tmp_path, 4)
    for name in ("stamps", "hand_pose", "keypoints", "T_camera_object", "joint_poses", "hand_visible"):
        assert (getattr(back, name) == getattr(truth, name)).all()
    assert (back.side, back.object_id) == ("left", "cup")
    with np.load(tmp_path / "truth.npz", allow_pickle=False) as file:
        assert "keypoints" in file.files


def test_no_truth_is_none(tmp_path):
    assert read_truth(tmp_path, 3) is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": "other"}, "format"),
        ({"format_version": 99}, "format_version 99"),
        ({"camera": {}}, "camera_k"),
        ({"fps": 0}, "positive"),
        ({"fps": float("inf")}, "positive"),
        ({"frames": float("inf")}, "OverflowError"),
        ({"frames": 10**13}, "frames must be"),
        ({"depth_unit": -1.0}, "positive"),
        ({"depth_unit": 0.0}, "positive"),
        ({"depth_unit": float("inf")}, "positive"),
        ({"objects": {"cup": "../cup.obj"}}, "inside the clip's folder"),
        ({"objects": {"cup": "/etc/cup.obj"}}, "inside the clip's folder"),
        ({"camera": {"camera_k": [[0] * 3] * 3, "width": 2, "height": 2}}, "not calibrated"),
        ({"camera": 3}, "TypeError"),
    ],
)
def test_bad_info_is_named(tmp_path, change, expected):
    write_clip_info(tmp_path, ClipInfo(3, 30, CAMERA))
    content = json.loads((tmp_path / "clip.json").read_text()) | change
    (tmp_path / "clip.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=expected):
        read_clip_info(tmp_path)


def test_broken_or_missing_info_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"clip\.json"):
        read_clip_info(tmp_path)
    for content in ("{", "[" * 100_000):
        (tmp_path / "clip.json").write_text(content)
        with pytest.raises(InputError, match="JSON"):
            read_clip_info(tmp_path)


@pytest.mark.parametrize("name", ["keypoints", "stamps"])
def test_missing_truth_array_is_named(tmp_path, name):
    write_truth(tmp_path, make_truth(4))
    with np.load(tmp_path / "truth.npz") as file:
        arrays = {key: file[key] for key in file.files if key != name}
    np.savez(tmp_path / "truth.npz", **arrays)
    with pytest.raises(InputError, match=name):
        read_truth(tmp_path, 4)


def test_truth_of_another_length_is_named(tmp_path):
    write_truth(tmp_path, make_truth(4))
    with pytest.raises(InputError, match=r"stamps: expected numbers \(5,\)"):
        read_truth(tmp_path, 5)


@pytest.mark.parametrize("poses", [np.full((3, 16, 7), np.nan), np.full((3, 16, 7), "x"), np.zeros((3, 16, 6))])
def test_joint_poses_that_are_none_are_named(tmp_path, poses):
    write_truth(tmp_path, replace(make_truth(3), joint_poses=poses))
    with pytest.raises(InputError, match="joint_poses"):
        read_truth(tmp_path, 3)


def test_pickled_truth_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    np.savez(tmp_path / "truth.npz", stamps=np.array([Evil()], dtype=object))
    with pytest.raises(InputError, match="Python objects"):
        read_truth(tmp_path, 1)
    assert not (tmp_path / "evil").exists()


def test_depth_keeps_its_unit_and_its_holes(tmp_path):
    counts = np.array([[0, 1, 65535], [1000, 2, 3]], np.uint16)
    write_image(tmp_path / "d.png", counts)
    depth = read_depth(tmp_path / "d.png", 0.0001)
    assert depth.dtype == np.float32
    assert depth == pytest.approx(counts * 0.0001, abs=1e-6)
    assert depth[0, 0] == 0


def test_colours_keep_their_order(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 0] = 200
    write_image(tmp_path / "c.png", image)
    assert (read_color(tmp_path / "c.png") == image).all()
    assert cv2.imread(str(tmp_path / "c.png"))[0, 0].tolist() == [0, 0, 200]


def png_that_claims(width, height):
    """A small PNG whose header speaks of `width` x `height` pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(100))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_damaged_images_are_named(tmp_path):
    path = tmp_path / "x.png"
    with pytest.raises(MissingFileError, match=r"x\.png"):
        read_color(path)
    for content in (b"", b"not a picture", png_that_claims(60_000, 60_000)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"x\.png"):
            read_color(path)
    write_image(path, np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="16 bits"):
        read_depth(path, 0.001)
