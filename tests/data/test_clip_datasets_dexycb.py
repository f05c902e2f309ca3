from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy.spatial.transform import Rotation

from grasp_nodes.data.clip_datasets.dexycb import DexYcbSource
from grasp_nodes.data.clip_datasets.registry import ClipOptions, find_dataset
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.parameters import Side
from tests.data import clip_dataset_doubles as doubles

SUBJECT, SEQUENCE, SERIAL = "20200709-subject-01", "20200709_141754", "836212060125"
VIEW = f"{SUBJECT}/{SEQUENCE}/{SERIAL}"
INTRINSICS = {"fx": 614.0, "fy": 613.5, "ppx": 320.5, "ppy": 239.0}
BETAS = np.random.default_rng(5).normal(size=10)
# manopth's fingertips, which the annotators took
TIPS = {"right": [745, 317, 444, 556, 673], "left": [745, 317, 445, 556, 673]}
ORDER = [0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20]


class Writer:
    """Writes one view as the toolkit reads it."""

    def __init__(self, root: Path, side: Side, frames: int = 3) -> None:
        self.root, self.side, self.rng = root, side, np.random.default_rng(11)
        self.vertices: dict[int, np.ndarray] = {}
        self.meta = {
            "serials": [SERIAL],
            "num_frames": frames,
            "extrinsics": "20200702_151821",
            "ycb_ids": [2, 8, 21],
            "ycb_grasp_ind": 1,
            "mano_sides": [side],
            "mano_calib": ["20200514-subject-01_left"],
        }
        self.folder = root / VIEW
        self.folder.mkdir(parents=True)
        self.yaml(root / SUBJECT / SEQUENCE / "meta.yml", self.meta)
        self.yaml(
            root / "calibration/intrinsics" / f"{SERIAL}_640x480.yml",
            {"color": INTRINSICS, "depth": {**INTRINSICS, "fx": 1.0}},
        )
        self.yaml(root / "calibration/mano_20200514-subject-01_left/mano.yml", {"betas": BETAS.tolist()})
        doubles.write_mesh(root / "models/009_gelatin_box/textured_simple.obj")

    @staticmethod
    def yaml(path: Path, content: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))

    def frame(self, number: int, seen: bool = True) -> dict[str, np.ndarray]:
        model = doubles.hand_models()[self.side]
        pose_m = np.concatenate(
            [
                self.rng.normal(size=3),
                self.rng.normal(size=45) * 0.3,
                [0.02, 0.05, 0.8] + self.rng.normal(size=3) * 0.02,
            ]
        )
        # manopth: components about the mean pose
        bends = model.arrays.hands_mean + pose_m[3:48] @ model.arrays.hands_components
        hand = doubles.posed(self.side, np.concatenate([pose_m[:3], bends]), BETAS, pose_m[48:])
        self.vertices[number] = hand.vertices[0].numpy()
        joints = np.concatenate([hand.joints[0].numpy(), self.vertices[number][TIPS[self.side]]])[ORDER]
        pixels = (
            joints
            @ np.array(
                [
                    [INTRINSICS["fx"], 0, INTRINSICS["ppx"]],
                    [0, INTRINSICS["fy"], INTRINSICS["ppy"]],
                    [0, 0, 1],
                ]
            ).T
        )
        poses = np.zeros((3, 3, 4), np.float32)
        for row in range(3):
            poses[row, :, :3] = Rotation.random(random_state=row).as_matrix()
            poses[row, :, 3] = [0.1 * row, 0.0, 0.9]
        label = {
            "seg": np.repeat(np.array([0, 2, 8, 21, 255], np.uint8), 61440).reshape(480, 640),
            "pose_y": poses,
            "pose_m": pose_m[None].astype(np.float32) if seen else np.zeros((1, 51), np.float32),
            "joint_3d": joints[None].astype(np.float32) if seen else np.full((1, 21, 3), -1, np.float32),
            "joint_2d": (pixels[None, :, :2] / pixels[None, :, 2:]).astype(np.float32),
        }
        np.savez_compressed(self.folder / f"labels_{number:06d}.npz", **label)
        doubles.write_image(self.folder / f"color_{number:06d}.jpg", np.full((480, 640, 3), (200, 40, 10), np.uint8))
        depth = np.full((480, 640), 1234, np.uint16)
        depth[0] = 0
        doubles.write_image(self.folder / f"aligned_depth_to_color_{number:06d}.png", depth)
        return label


def opened(root: Path, **options: Any) -> DexYcbSource:
    source = find_dataset("dexycb").open(root, VIEW, ClipOptions(doubles.hand_models(), **options))
    assert isinstance(source, DexYcbSource)
    return source


@pytest.mark.parametrize("side", doubles.SIDES)
def test_hands_count_from_the_mean_pose(tmp_path: Path, side: Side) -> None:
    writer = Writer(tmp_path, side)
    labels = [writer.frame(number) for number in range(3)]
    source = opened(tmp_path)
    assert find_dataset("dexycb").sequences(tmp_path) == [VIEW]
    assert source.side == side
    assert len(source) == 3
    for number, frame in enumerate(source):
        assert frame.stamp == round(number * 1e9 / 30)
        truth = source.truth(frame.stamp)
        assert truth is not None
        hand, item = truth.hands[0], truth.objects[0]
        assert hand.params.side == side
        with torch.no_grad():
            vertices = doubles.hand_models()[side](hand.params).vertices[0].numpy()
        np.testing.assert_allclose(vertices, writer.vertices[number], atol=2e-6)
        joints = [k for k in range(21) if k not in (4, 8, 12, 16, 20)]
        annotated = source.keypoints(frame.stamp)
        np.testing.assert_allclose(hand.keypoints[joints], annotated[joints], atol=2e-6)
        np.testing.assert_allclose(source.camera.project(annotated), labels[number]["joint_2d"][0], atol=2e-3)
        np.testing.assert_allclose(item.T_camera_object[:3], labels[number]["pose_y"][1])
        assert item.object_id == source.object_id == "009_gelatin_box"
        assert frame.depth is not None
        assert frame.depth[0].max() == 0
        np.testing.assert_allclose(frame.depth[1:], 1.234)
        assert frame.color[100, 100, 0] > 150 > 60 > frame.color[100, 100, 2]
        np.testing.assert_array_equal(source.labels(number), labels[number]["seg"])


def test_a_frame_without_a_hand_keeps_its_object(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "right", 1)
    writer.frame(0, seen=False)
    source = opened(tmp_path)
    truth = source.truth(0)
    assert truth is not None
    assert (len(truth.hands), len(truth.objects)) == (0, 1)
    assert source.keypoints(0) is None


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"dex-ycb\.github\.io"):
        find_dataset("dexycb").sequences(tmp_path)
    writer = Writer(tmp_path, "left", 1)
    label = writer.frame(0)
    with pytest.raises(InputError, match=f"no sequence '{SUBJECT}' there; .*{VIEW}"):
        find_dataset("dexycb").open(tmp_path, SUBJECT)
    path = writer.folder / "labels_000000.npz"
    np.savez(path, **{**label, "pose_m": np.ones((1, 48), np.float32)})
    with pytest.raises(InputError, match=r"labels_000000.npz: pose_m: expected shape \(1, 51\), got \(1, 48\)"):
        opened(tmp_path).truth(0)
    np.savez(path, pose_m=label["pose_m"])
    with pytest.raises(InputError, match="expected the field pose_y"):
        opened(tmp_path).truth(0)
    path.unlink()
    with pytest.raises(MissingFileError, match=r"labels_000000.npz"):
        opened(tmp_path).truth(0)
    (writer.folder / "color_000000.jpg").unlink()
    with pytest.raises(MissingFileError, match=r"color_000000.jpg"):
        opened(tmp_path).frame(0)
    meta = tmp_path / SUBJECT / SEQUENCE / "meta.yml"
    writer.yaml(meta, {**writer.meta, "ycb_grasp_ind": 3})
    with pytest.raises(InputError, match="ycb_grasp_ind"):
        opened(tmp_path)
    writer.yaml(meta, {**writer.meta, "mano_sides": []})
    with pytest.raises(InputError, match="mano_sides: expected a list"):
        opened(tmp_path)
    meta.write_text("!!python/object/apply:os.getcwd []")
    with pytest.raises(InputError, match="not valid YAML"):
        opened(tmp_path)
    writer.yaml(meta, writer.meta)
    (tmp_path / "calibration/intrinsics" / f"{SERIAL}_640x480.yml").unlink()
    with pytest.raises(MissingFileError, match=r"640x480.yml"):
        opened(tmp_path)
