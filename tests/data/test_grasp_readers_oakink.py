from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.data.grasp_readers.contact_filter import object_mesh
from grasp_nodes.data.grasp_readers.oakink_image import read_oakink_image
from grasp_nodes.data.grasp_readers.oakink_shape import read_oakink_shape
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams


def hand_model() -> HandModel:
    return load_hand_model("right", OPEN_HAND_FILE, torch.float64)


def posed(pose: np.ndarray, betas: np.ndarray, transl: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (778, 3), joints (16, 3) and keypoints (21, 3) of one hand with 16 axis-angle rotations."""
    orient, bends, shape, shift = (torch.tensor(column[None]) for column in (pose[:3], pose[3:], betas, transl))
    params = HandParams(orient, bends, shape, shift, torch.ones(1).double())
    output = hand_model()(params)
    return output.vertices[0].numpy(), output.joints[0].numpy(), output.keypoints[0].numpy()


def wxyz(rotations: np.ndarray) -> np.ndarray:
    """(N, 4) quaternions, real part first, of (N, 3) axis-angle."""
    return Rotation.from_rotvec(rotations).as_quat()[:, [3, 0, 1, 2]]


def random_transform(rng: np.random.Generator) -> np.ndarray:
    transform = np.eye(4)
    transform[:3, :3] = Rotation.random(random_state=int(rng.integers(1 << 30))).as_matrix()
    transform[:3, 3] = rng.normal(size=3) * 0.3
    return transform


def write_mesh(path: Path, scale: float = 1.0) -> None:
    """A box that is not centred."""
    path.parent.mkdir(parents=True, exist_ok=True)
    box = trimesh.creation.box((0.06, 0.08, 0.1))
    box.apply_translation((0.02, -0.03, 0.05))
    box.apply_scale(scale)
    box.export(path)


def split_by_hand(object_id: str) -> str:
    remainder = int(hashlib.md5(object_id.encode()).hexdigest(), 16) % 10
    return "train" if remainder < 8 else "val" if remainder == 8 else "test"


class ShapeWriter:
    def __init__(self, root: Path) -> None:
        self.root, self.rng = root, np.random.default_rng(1)
        self.vertices: list[np.ndarray] = []
        self.meta: dict[str, dict[str, Any]] = {"object_id.json": {}, "virtual_object_id.json": {}}

    def grasp(self, folder: str, source: str | None = None, quaternions: bool = False, **changes: Any) -> None:
        """tsl places the hand whose wrist joint was put into the origin."""
        pose, betas, tsl = self.rng.normal(size=48) * 0.5, self.rng.normal(size=10), self.rng.normal(size=3) * 0.1
        vertices, joints, _ = posed(pose, betas, np.zeros(3))
        self.vertices.append(vertices - joints[0] + tsl)
        stored = wxyz(pose.reshape(16, 3)).astype(np.float32) if quaternions else pose.astype(np.float32)
        target = self.root / "shape/oakink_shape_v2" / folder
        target.mkdir(parents=True, exist_ok=True)
        data = {"pose": stored, "shape": betas.astype(np.float32), "tsl": tsl.astype(np.float32), **changes}
        (target / "hand_param.pkl").write_bytes(pickle.dumps(data))
        if source is not None:
            (target / "source.txt").write_text(source)

    def mesh(self, object_id: str, name: str, virtual: bool, scale: float = 1.0, ending: str = "obj") -> None:
        self.meta["virtual_object_id.json" if virtual else "object_id.json"][object_id] = {"name": name, "attr": []}
        folder = "OakInkVirtualObjectsV2" if virtual else "OakInkObjectsV2"
        write_mesh(self.root / "shape" / folder / name / "align_ds" / f"{name}_align.{ending}", scale)

    def finish(self) -> Path:
        for name, content in self.meta.items():
            path = self.root / "shape/metaV2" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
        return self.root


def shape_set(root: Path) -> ShapeWriter:
    writer = ShapeWriter(root)
    writer.grasp("bottle/A16012/0cc013118e", "pass1/A16012_0001_0003/2021-10-02-12-00-00/dom")
    writer.grasp("bottle/A16012/0cc013118e/s16101")
    writer.grasp("mug/C90001/ffc0ffee00", "pass2/C90001_0004_0001_0007/2021-10-03-09-30-00/alt_alt", quaternions=True)
    writer.mesh("A16012", "bottle_7", virtual=False)
    writer.mesh("s16101", "bottle_s101", virtual=True, scale=1000, ending="ply")
    writer.mesh("C90001", "mug_1", virtual=False)
    return writer


def test_shape_hands_are_placed_by_their_wrist(tmp_path: Path) -> None:
    writer = shape_set(tmp_path)
    grasps = read_oakink_shape(writer.finish(), hand_model())
    names = [grasps.objects[k].name for k in grasps.object_index]
    vertices = hand_model()(grasps.hands.to(torch.float64)).vertices.numpy()
    for name, expected in zip(("A16012", "s16101", "C90001"), writer.vertices, strict=True):
        np.testing.assert_allclose(vertices[names.index(name)], expected, atol=2e-6)
    assert {one.name: (one.category, one.split) for one in grasps.objects} == {
        "A16012": ("bottle", split_by_hand("A16012")),
        "s16101": ("bottle", split_by_hand("s16101")),
        "C90001": ("mug", split_by_hand("C90001")),
    }
    rows = {name: (str(grasps.subject[k]), str(grasps.sequence[k])) for k, name in enumerate(names)}
    assert rows["A16012"] == ("0003", "A16012_0001_0003/2021-10-02-12-00-00")
    assert rows["s16101"] == rows["A16012"]
    assert rows["C90001"] == ("0007", "C90001_0004_0001_0007/2021-10-03-09-30-00")  # the receiver


def test_shape_objects_are_centred_and_metric(tmp_path: Path) -> None:
    grasps = read_oakink_shape(shape_set(tmp_path).finish() / "shape", hand_model())
    for one in grasps.objects:
        vertices, _ = object_mesh(one)
        np.testing.assert_allclose(vertices.min(0), [-0.03, -0.04, -0.05], atol=1e-6)
        np.testing.assert_allclose(vertices.max(0), [0.03, 0.04, 0.05], atol=1e-6)


def test_shape_choices(tmp_path: Path) -> None:
    root = shape_set(tmp_path).finish()
    assert {one.name for one in read_oakink_shape(root, hand_model(), recorded_only=True).objects} == {
        "A16012",
        "C90001",
    }
    assert {one.name for one in read_oakink_shape(root, hand_model(), categories=["mug"]).objects} == {"C90001"}
    assert {one.name for one in read_oakink_shape(root, hand_model(), intents=["handover"]).objects} == {"C90001"}
    total = 0
    for split in ("train", "val", "test"):
        expected = {name for name in ("A16012", "s16101", "C90001") if split_by_hand(name) == split}
        if expected:
            assert {one.name for one in read_oakink_shape(root, hand_model(), splits=[split]).objects} == expected
        total += len(expected)
    assert total == 3


def test_shape_bad_rows_and_files(tmp_path: Path) -> None:
    writer = shape_set(tmp_path)
    writer.grasp("bottle/A16012/0cc013118e/s16102", tsl=np.full(3, np.nan))
    root = writer.finish()
    grasps = read_oakink_shape(root, hand_model())
    assert len(grasps) == 3
    assert grasps.attributes["not_finite_dropped"] == "1"

    writer.grasp("bottle/A16012/0cc013118e/s16103")  # an object without a mesh
    without = {one.name: one.mesh for one in read_oakink_shape(root, hand_model()).objects}
    assert without["s16103"] == ""
    assert without["A16012"]

    writer.grasp("bottle/A16012/0cc013118e/s16104", pose=np.zeros(45))
    with pytest.raises(InputError, match=r"s16104/hand_param.pkl: pose: expected shape \(48\), got \(45,\)"):
        read_oakink_shape(root, hand_model())
    file = tmp_path / "shape/oakink_shape_v2/bottle/A16012/0cc013118e/s16104/hand_param.pkl"
    file.write_bytes(pickle.dumps({"pose": print}))
    with pytest.raises(InputError, match=r"s16104/hand_param.pkl: refused.*builtins.print"):
        read_oakink_shape(root, hand_model())
    with pytest.raises(MissingFileError, match=r"oakink\.net"):
        read_oakink_shape(tmp_path / "shape/metaV2", hand_model())


class ImageWriter:
    """Two sequences seen by two cameras, with tensors of torch in the annotations as in the published files."""

    def __init__(self, root: Path) -> None:
        self.annotations, self.rng = root / "image/anno", np.random.default_rng(2)
        self.cameras = [random_transform(self.rng) for _ in range(2)]
        self.listed: list[list[Any]] = []
        self.vertices: dict[tuple[str, int, int], np.ndarray] = {}
        for object_id in ("A01001", "C12001"):
            write_mesh(root / f"image/obj/{object_id}.obj")

    def frame(self, sequence: str, person: int, frame: int, **changes: Any) -> None:
        pose, betas = self.rng.normal(size=48) * 0.5, self.rng.normal(size=10)
        object_to_world = random_transform(self.rng)
        vertices, _, keypoints = posed(pose, betas, self.rng.normal(size=3) * 0.2)
        rotation, shift = object_to_world[:3, :3], object_to_world[:3, 3]
        self.vertices[sequence, person, frame] = (vertices - shift) @ rotation
        for camera, world_to_camera in enumerate(self.cameras):
            self.listed.append([sequence, person, frame, camera])
            name = f"{sequence.replace('/', '__')}__{person}__{frame}__{camera}.pkl"
            info = {
                "hand_anno": {
                    "hand_pose": torch.tensor(wxyz(pose.reshape(16, 3)), dtype=torch.float32).reshape(1, 64),
                    "hand_shape": torch.tensor(betas, dtype=torch.float32),
                    "hand_tsl": torch.zeros(3),
                },
                "cam_extr": torch.tensor(world_to_camera, dtype=torch.float32),
            }
            joints = keypoints @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
            content = {
                "general_info": info,
                "hand_j": joints.astype(np.float32),
                "obj_transf": (world_to_camera @ object_to_world).astype(np.float32),
                **changes,
            }
            for kind, value in content.items():
                path = self.annotations / kind / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pickle.dumps(value))

    def finish(self) -> None:
        (self.annotations / "seq_all.json").write_text(json.dumps(self.listed))
        for path, rows in (
            ("split/split2/seq_test.json", [row for row in self.listed if row[0].startswith("C12001")]),
            ("split_train_val/split2/example_split_train.json", [r for r in self.listed if r[0].startswith("A01001")]),
        ):
            (self.annotations / path).parent.mkdir(parents=True, exist_ok=True)
            (self.annotations / path).write_text(json.dumps(rows))


def image_set(root: Path) -> ImageWriter:
    writer = ImageWriter(root)
    writer.frame("A01001_0001_0000/2021-09-26-19-59-58", 0, 30)
    writer.frame("A01001_0001_0000/2021-09-26-19-59-58", 0, 31)
    writer.frame("C12001_0004_0002_0005/2021-09-27-10-00-00", 0, 12)
    writer.frame("C12001_0004_0002_0005/2021-09-27-10-00-00", 1, 12)
    writer.finish()
    return writer


def test_image_hands_are_where_they_were_against_the_object(tmp_path: Path) -> None:
    writer = image_set(tmp_path)
    grasps = read_oakink_image(tmp_path, hand_model())
    assert len(grasps) == 4  # each instant once, whatever the number of cameras
    vertices = hand_model()(grasps.hands.to(torch.float64)).vertices.numpy()
    people = {}
    for row in range(len(grasps)):
        sequence, frame = str(grasps.sequence[row]), int(grasps.frame[row])
        person = 1 if grasps.subject[row] == "0005" else 0
        people[sequence, person, frame] = str(grasps.subject[row])
        np.testing.assert_allclose(vertices[row], writer.vertices[sequence, person, frame], atol=2e-6)
    assert sorted(people.values()) == ["0000", "0000", "0002", "0005"]
    assert grasps.metrics["annotated_joint_error"].max() < 1e-5
    centred, _ = object_mesh(grasps.objects[0])
    np.testing.assert_allclose(centred.max(0), [0.03, 0.04, 0.05], atol=1e-6)


def test_image_choices_and_splits(tmp_path: Path) -> None:
    image_set(tmp_path)
    test = read_oakink_image(tmp_path, hand_model(), split="test")
    assert [(one.name, one.split) for one in test.objects] == [("C12001", "test")]
    train = read_oakink_image(tmp_path, hand_model(), split="train", every=2)
    assert [(int(frame), train.objects[0].split) for frame in train.frame] == [(30, "train")]
    assert set(read_oakink_image(tmp_path, hand_model(), intents=["handover"]).frame) == {12}
    with pytest.raises(MissingFileError, match=r"example_split_val.json.*oakink\.net"):
        read_oakink_image(tmp_path, hand_model(), split="val")
    with pytest.raises(InputError, match="nothing to read is left"):
        read_oakink_image(tmp_path, hand_model(), objects=["Y00000"])


def test_image_bad_annotations_and_another_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = ImageWriter(tmp_path)
    writer.frame("A01001_0001_0000/2021-09-26-19-59-58", 0, 1)
    writer.frame("A01001_0001_0000/2021-09-26-19-59-58", 0, 2, hand_j=np.full((21, 3), np.nan))
    writer.finish()
    grasps = read_oakink_image(tmp_path, hand_model())
    assert list(grasps.frame) == [1]
    assert grasps.attributes["not_finite_dropped"] == "1"
    assert "is not the one that was annotated with" not in caplog.text

    stretched = np.zeros((21, 3)) + np.arange(21)[:, None] * 0.01
    writer.frame("A01001_0001_0000/2021-09-26-19-59-58", 0, 1, hand_j=stretched)
    read_oakink_image(tmp_path, hand_model())
    assert "is not the one that was annotated with" in caplog.text

    writer.frame("A01001_0001_0000/2021-09-26-19-59-58", 0, 1, hand_j=np.zeros((16, 3)))
    with pytest.raises(InputError, match=r"hand_j/A01001_0001_0000__2021-09-26-19-59-58__0__1__0.pkl"):
        read_oakink_image(tmp_path, hand_model())
