from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.data.clip_datasets.ho3d import Ho3dSource
from grasp_nodes.data.clip_datasets.registry import ClipOptions, find_dataset
from grasp_nodes.errors import InputError, MissingFileError
from tests.data import clip_dataset_doubles as doubles

FLIP = np.array([1.0, -1.0, -1.0])
CAMERA_K = np.array([[614.6, 0.0, 320.3], [0.0, 614.1, 241.6], [0.0, 0.0, 1.0]])
OBJECT = "006_mustard_bottle"
UNIT = 0.00012498664727900177
HEIGHT, WIDTH = 24, 32


class Writer:
    """Writes sequences as the authors' scripts read them; `points` are the hand's vertices, OpenGL's axes."""

    def __init__(self, root: Path, suffix: str = ".png") -> None:
        self.root, self.suffix, self.rng = root, suffix, np.random.default_rng(3)
        self.points: dict[int, np.ndarray] = {}
        self.joints: dict[int, np.ndarray] = {}
        self.colors: dict[int, np.ndarray] = {}
        self.depths: dict[int, np.ndarray] = {}
        doubles.write_mesh(root / "models" / OBJECT / "textured_simple.obj")

    def frame(self, sequence: str, number: int, **changes: Any) -> dict[str, Any]:
        pose, betas = self.rng.normal(size=48) * 0.4, self.rng.normal(size=10)
        transl = np.array([0.05, -0.02, -0.5]) + self.rng.normal(size=3) * 0.02
        hand = doubles.posed("right", pose, betas, transl)
        tips = hand.keypoints[0, [4, 8, 12, 16, 20]]
        self.points[number] = hand.vertices[0].numpy()
        self.joints[number] = torch.cat([hand.joints[0], tips]).numpy()
        meta = {
            "handPose": pose.astype(np.float32),
            "handTrans": transl.astype(np.float32),
            "handBeta": betas.astype(np.float32),
            "handJoints3D": self.joints[number].astype(np.float32),
            "objRot": self.rng.normal(size=(3, 1)),
            "objTrans": np.array([0.02, 0.03, -0.55]),
            "objName": OBJECT,
            "objLabel": 5,
            "camMat": CAMERA_K,
            "objCorners3DRest": np.zeros((8, 3)),
            **changes,
        }
        counts = self.rng.integers(1, 60000, (HEIGHT, WIDTH))
        self.depths[number] = counts * UNIT
        self.colors[number] = doubles.noise(self.rng, HEIGHT, WIDTH)
        coded = np.stack([counts % 256, counts // 256, np.zeros_like(counts)], -1).astype(np.uint8)
        folder = self.root / sequence
        doubles.write_image(folder / "rgb" / f"{number:04d}{self.suffix}", self.colors[number])
        doubles.write_image(folder / "depth" / f"{number:04d}.png", coded)
        (folder / "meta").mkdir(exist_ok=True)
        (folder / "meta" / f"{number:04d}.pkl").write_bytes(pickle.dumps(meta, protocol=2))
        return meta


def empty_meta() -> dict[str, None]:
    names = ("handPose", "handTrans", "handBeta", "handJoints3D", "objRot", "objTrans", "objName", "camMat")
    return dict.fromkeys(names)


def opened(root: Path, sequence: str = "ABF10", **options: Any) -> Ho3dSource:
    source = find_dataset("ho3d").open(root, sequence, ClipOptions(doubles.hand_models(), **options))
    assert isinstance(source, Ho3dSource)
    return source


def test_a_part_of_a_sequence_has_its_frames_alone(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    for number in range(6):
        writer.frame("train/ABF10", number)
    part = opened(tmp_path, "train/ABF10:2-4")
    assert part.numbers == [2, 3, 4]
    assert part.stamps[0] == opened(tmp_path).stamps[2]
    assert opened(tmp_path, "ABF10:4-9", frames=1).numbers == [4]
    with pytest.raises(InputError, match=r"no frames 7 to 9; there are 0 to 5"):
        opened(tmp_path, "ABF10:7-9")
    with pytest.raises(InputError, match=r"expected a range of frames such as evaluation/MPM10:30-450"):
        opened(tmp_path, "ABF10:7")


def test_hands_and_objects_come_from_opengl_axes(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    metas = {number: writer.frame("train/ABF10", number) for number in (0, 1, 3)}
    source = opened(tmp_path)
    assert find_dataset("ho3d").sequences(tmp_path) == ["train/ABF10"]
    frames = list(source)
    assert [frame.stamp for frame in frames] == [0, 33333333, 100000000]
    corners = np.random.default_rng(0).normal(size=(8, 3)) * 0.1
    for frame, (number, meta) in zip(frames, metas.items(), strict=True):
        truth = source.truth(frame.stamp)
        assert truth is not None
        hand, item = truth.hands[0], truth.objects[0]
        with torch.no_grad():
            vertices = doubles.hand_models()["right"](hand.params).vertices[0].numpy()
        np.testing.assert_allclose(vertices, writer.points[number] * FLIP, atol=1e-6)
        annotated = source.keypoints(frame.stamp)
        assert annotated is not None
        np.testing.assert_allclose(hand.keypoints, annotated, atol=1e-6)
        # the authors project points of OpenGL's axes like this
        pixels = (writer.joints[number] * FLIP) @ CAMERA_K.T
        wrist, thumb = 0, [13, 14, 15, 16]
        expected = pixels[:, :2] / pixels[:, 2:]
        np.testing.assert_allclose(source.camera.project(hand.keypoints)[:5], expected[[wrist, *thumb]], atol=1e-3)
        turned = Rotation.from_rotvec(meta["objRot"].ravel()).apply(corners) + meta["objTrans"]
        transform = item.T_camera_object
        np.testing.assert_allclose(corners @ transform[:3, :3].T + transform[:3, 3], turned * FLIP, atol=1e-9)
        assert np.linalg.det(transform[:3, :3]) == pytest.approx(1.0)
        assert item.object_id == source.object_id == OBJECT
        assert item.mesh_resource == str(tmp_path / "models" / OBJECT / "textured_simple.obj")
        assert frame.color is not None
        np.testing.assert_array_equal(frame.color, writer.colors[number])
        assert frame.depth is not None
        np.testing.assert_allclose(frame.depth, writer.depths[number], rtol=1e-6)
    assert source.truth(1) is None
    np.testing.assert_array_equal(source.camera.camera_k, CAMERA_K)


def test_version_3_has_jpg_images_and_frames_can_be_limited(tmp_path: Path) -> None:
    writer = Writer(tmp_path, ".jpg")
    for number in range(3):
        writer.frame("train/MC1", number)
    source = opened(tmp_path, "train/MC1", frames=2)
    assert len(source) == len(list(source)) == 2
    assert source.frame(1).depth is not None


def test_a_frame_without_annotations_has_no_truth(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.frame("train/ABF10", 0, **empty_meta())
    writer.frame("train/ABF10", 1)
    source = opened(tmp_path)
    assert source.truth(0) is None
    assert source.keypoints(0) is None
    assert source.truth(33333333) is not None


def test_the_evaluation_part_knows_wrist_box_and_object(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    for number in range(2):
        meta = writer.frame("evaluation/SM1", number)
        for name in ("handPose", "handTrans", "handBeta"):
            meta.pop(name)
        meta |= {"handJoints3D": writer.joints[number][0], "handBoundingBox": [3, 4, 20, 21]}
        (tmp_path / "evaluation/SM1/meta" / f"{number:04d}.pkl").write_bytes(pickle.dumps(meta, protocol=2))
    source = opened(tmp_path, "SM1")
    truth = source.truth(0)
    assert truth is not None
    assert not truth.hands
    assert truth.objects[0].object_id == OBJECT
    assert source.keypoints(0) is None
    np.testing.assert_allclose(source.wrist(0), writer.joints[0][0] * FLIP)
    np.testing.assert_array_equal(source.hand_box(0), [3, 4, 20, 21])
    (tmp_path / "evaluation.txt").write_text("AP10/0000\nSM1/0001\n")
    listed = [np.zeros((21, 3)), writer.joints[1]]
    (tmp_path / "evaluation_xyz.json").write_text(json.dumps([one.tolist() for one in listed]))
    source = opened(tmp_path, "SM1")
    assert source.keypoints(0) is None
    found = source.keypoints(33333333)
    np.testing.assert_allclose(found[:5], writer.joints[1][[0, 13, 14, 15, 16]] * FLIP)
    (tmp_path / "evaluation.txt").write_text("SM1/0001\n")
    with pytest.raises(InputError, match=r"evaluation_xyz.json: expected shape \(1, 21, 3\)"):
        opened(tmp_path, "SM1")
    (tmp_path / "evaluation.txt").write_text("SM1/0001\nSM1\n")
    with pytest.raises(InputError, match=r"evaluation.txt: expected lines such as SM1/0000, got 'SM1'"):
        opened(tmp_path, "SM1")


def test_numbers_that_are_not_finite_are_no_annotation(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.frame("train/ABF10", 0, objTrans=np.array([0.0, np.nan, 0.5]))
    writer.frame("train/ABF10", 1, handTrans=np.array([np.nan, 0.0, 0.5]))
    source = opened(tmp_path)
    first, second = (source.truth(stamp) for stamp in source.stamps)
    assert (len(first.hands), len(first.objects)) == (1, 0)
    assert (len(second.hands), len(second.objects)) == (0, 1)


def test_without_mano_the_truth_has_the_object_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRASP_NODES_HAND_MODEL", raising=False)
    Writer(tmp_path).frame("train/ABF10", 0)
    with caplog.at_level(logging.WARNING):
        source = find_dataset("ho3d").open(tmp_path, "ABF10")
    assert "mano.is.tue.mpg.de" in caplog.text
    truth = source.truth(0)
    assert truth is not None
    assert (len(truth.hands), len(truth.objects)) == (0, 1)
    assert source.keypoints(0).shape == (21, 3)


def test_another_hand_model_than_the_annotators_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = Writer(tmp_path)
    meta = writer.frame("train/ABF10", 0)
    meta["handJoints3D"] = meta["handJoints3D"] + 0.02
    (tmp_path / "train/ABF10/meta/0000.pkl").write_bytes(pickle.dumps(meta))
    with caplog.at_level(logging.WARNING):
        opened(tmp_path).truth(0)
    assert "35 mm from the annotated ones" in caplog.text


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_bad_input_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match=r"github.com/shreyashampali/ho3d"):
        find_dataset("ho3d").sequences(tmp_path / "absent")
    with pytest.raises(MissingFileError, match=r"train: there is no such folder"):
        find_dataset("ho3d").sequences(tmp_path)
    writer = Writer(tmp_path)
    meta = writer.frame("train/ABF10", 0)
    with pytest.raises(InputError, match=r"no sequence 'ABF99' there; .*train/ABF10"):
        opened(tmp_path, "ABF99")
    path = tmp_path / "train/ABF10/meta/0000.pkl"
    path.write_bytes(pickle.dumps({**meta, "handPose": np.zeros(45)}))
    with pytest.raises(InputError, match=r"0000.pkl: handPose: expected 48 numbers, got shape \(45,\)"):
        opened(tmp_path).truth(0)
    path.write_bytes(pickle.dumps({**meta, "camMat": np.eye(4)}))
    with pytest.raises(InputError, match=r"camMat: expected shape \(3, 3\), got \(4, 4\)"):
        opened(tmp_path)
    path.write_bytes(pickle.dumps({"evil": Evil()}))
    with pytest.raises(InputError, match="refused"):
        opened(tmp_path)
    assert not (tmp_path / "ran").exists()
    path.write_bytes(pickle.dumps(meta))
    (tmp_path / "train/ABF10/depth/0000.png").unlink()
    with pytest.raises(MissingFileError, match=r"depth/0000.png: .*HO-3D"):
        opened(tmp_path).frame(0)
    (tmp_path / "models" / OBJECT / "textured_simple.obj").unlink()
    with pytest.raises(MissingFileError, match="YCB-Video 3D Models"):
        opened(tmp_path)
    assert opened(tmp_path, object_spec="family:bottle:3").object_spec == "family:bottle:3"
