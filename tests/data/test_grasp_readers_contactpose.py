from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.data.grasp_readers.contactpose import contact_map_path, read_contactpose
from grasp_nodes.data.grasp_readers.splits import split_of
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams


def hand_model(side: Any = "right") -> HandModel:
    return load_hand_model(side, OPEN_HAND_FILE, torch.float64)


def pose_dict(transform: np.ndarray) -> dict[str, list[float]]:
    x, y, z, w = Rotation.from_matrix(transform[:3, :3]).as_quat()
    return {"translation": transform[:3, 3].tolist(), "rotation": [w, x, y, z]}


def random_transform(rng: np.random.Generator) -> np.ndarray:
    transform = np.eye(4)
    transform[:3, :3] = Rotation.random(random_state=int(rng.integers(1 << 30))).as_matrix()
    transform[:3, 3] = rng.normal(size=3) * 0.2
    return transform


class Writer:
    """Writes recordings and knows where each hand's vertices are against its object."""

    def __init__(self, data: Path) -> None:
        self.data, self.rng = data, np.random.default_rng(0)
        self.vertices: dict[tuple[str, str, str], np.ndarray] = {}

    def record(
        self,
        session: str,
        name: str,
        hands: tuple[str, ...] = ("right",),
        moving: bool = False,
        num_pca: int = 15,
        **changes: Any,
    ) -> None:
        fits: list[dict[str, Any]] = []
        notes: dict[str, Any] = {"hands": [], "frames": [{"hTo": [None, None]} for _ in range(3)], "cameras": {}}
        for number, side in enumerate(("left", "right")):
            pose, betas = self.rng.normal(size=3 + num_pca), self.rng.normal(size=10)
            hand_to_mano = random_transform(self.rng)
            object_to_hand = [random_transform(self.rng) if moving else np.eye(4) for _ in range(3)]
            for frame, transform in zip(notes["frames"], object_to_hand, strict=True):
                frame["hTo"][number] = pose_dict(transform)
            fit = {
                "pose": pose.tolist(),
                "betas": betas.tolist(),
                "valid": side in hands,
                "mTc": pose_dict(hand_to_mano),
            }
            fits.append({**fit, **(changes if side == "right" else {})})
            notes["hands"].append({"valid": side in hands, "moving": moving, "joints": [[0.0] * 3] * 21})
            self.vertices[session, name, side] = self.posed(side, pose, betas, hand_to_mano @ object_to_hand[2])
        folder = self.data / "contactpose_data" / session / name
        folder.mkdir(parents=True)
        (folder / "annotations.json").write_text(json.dumps(notes))
        (folder / f"mano_fits_{num_pca}.json").write_text(json.dumps(fits))

    def posed(self, side: Any, pose: np.ndarray, betas: np.ndarray, object_to_mano: np.ndarray) -> np.ndarray:
        """(778, 3) in the object's frame: the fit posed in MANO's frame, then its points moved."""
        model = hand_model(side)
        arrays = model.arrays
        full = arrays.hands_mean + pose[3:] @ arrays.hands_components[: len(pose) - 3]
        orient, bends, shape = (torch.tensor(column[None]) for column in (pose[:3], full, betas))
        params = HandParams(orient, bends, shape, torch.zeros(1, 3).double(), torch.ones(1).double(), side)
        points = model(params).vertices[0].numpy()
        return (points - object_to_mano[:3, 3]) @ object_to_mano[:3, :3]


def test_hands_are_where_the_fits_say_in_the_frame_of_the_object(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.record("full3_use", "mug")
    writer.record("full3_handoff", "scissors", moving=True)
    writer.record("full12_use", "mug", hands=("left", "right"))
    writer.record("full45_use", "apple", hands=("left",))
    writer.record("full45_use", "hands")
    model = hand_model()
    grasps = read_contactpose(tmp_path, model, frame=2)
    assert [(str(s), grasps.objects[k].name) for s, k in zip(grasps.sequence, grasps.object_index, strict=True)] == [
        ("full3_handoff", "scissors"),
        ("full3_use", "mug"),
    ]
    assert list(grasps.subject) == ["3", "3"]
    vertices = model(grasps.hands.to(torch.float64)).vertices.numpy()
    for row, (session, name) in enumerate((("full3_handoff", "scissors"), ("full3_use", "mug"))):
        np.testing.assert_allclose(vertices[row], writer.vertices[session, name, "right"], atol=1e-6)
    assert list(split_of(grasps, "contactpose-subjects")) == ["train", "train"]

    both = read_contactpose(tmp_path, model, only_one_hand=False)
    assert sorted(both.sequence) == ["full12_use", "full3_handoff", "full3_use"]
    left = read_contactpose(tmp_path / "contactpose_data", hand_model("left"), "left")
    assert [str(one) for one in left.sequence] == ["full45_use"]
    vertices = hand_model("left")(left.hands.to(torch.float64)).vertices.numpy()
    np.testing.assert_allclose(vertices[0], writer.vertices["full45_use", "apple", "left"], atol=1e-6)


def test_choices_of_fits_intents_and_participants(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.record("full1_use", "mug", num_pca=10)
    writer.record("full2_use", "mug")
    writer.record("full2_handoff", "mug")
    ten = read_contactpose(tmp_path, hand_model(), num_pca=10)
    assert list(ten.sequence) == ["full1_use"]
    assert ten.attributes["without_fit"] == "2"
    vertices = hand_model()(ten.hands.to(torch.float64)).vertices.numpy()
    np.testing.assert_allclose(vertices[0], writer.vertices["full1_use", "mug", "right"], atol=1e-6)
    assert list(read_contactpose(tmp_path, hand_model(), intents=["handoff"]).sequence) == ["full2_handoff"]
    with pytest.raises(InputError, match="nothing to read is left"):
        read_contactpose(tmp_path, hand_model(), participants=[7])


def test_objects_are_metric_whichever_mesh_was_downloaded(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.record("full1_use", "mug")
    writer.record("full2_use", "bowl")
    writer.record("full3_use", "knife")
    (tmp_path / "object_models").mkdir()
    trimesh.creation.box((80, 90, 100)).export(tmp_path / "object_models" / "mug.ply")
    trimesh.creation.box((0.08, 0.09, 0.1)).export(tmp_path / "contactpose_data/full2_use/bowl/bowl.ply")
    grasps = read_contactpose(tmp_path, hand_model())
    of_name = {one.name: one for one in grasps.objects}
    assert of_name["mug"].scale == 0.001
    assert of_name["bowl"].scale == 1
    assert Path(of_name["bowl"].mesh).is_file()
    assert of_name["knife"].mesh == ""
    row = list(grasps.sequence).index("full2_use")
    assert contact_map_path(grasps, row) == tmp_path / "contactpose_data/full2_use/bowl/bowl.ply"


def test_hands_that_are_not_finite_are_counted_and_left_out(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.record("full1_use", "mug", betas=[float("nan")] * 10)
    writer.record("full2_use", "mug")
    writer.record("full3_use", "mug", mTc={"translation": [0, 0, 0], "rotation": [0, 0, 0, 0]})
    grasps = read_contactpose(tmp_path, hand_model())
    assert list(grasps.subject) == ["2"]
    assert grasps.attributes["not_finite_dropped"] == "2"


def test_what_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"contactpose\.cc\.gatech\.edu"):
        read_contactpose(tmp_path / "nowhere", hand_model())
    with pytest.raises(MissingFileError, match=r"contactpose\.cc\.gatech\.edu"):
        read_contactpose(tmp_path, hand_model())
    writer = Writer(tmp_path)
    writer.record("full1_use", "mug", pose=[0.0] * 7)
    with pytest.raises(InputError, match=r"full1_use/mug.*expected 18 numbers, got 7"):
        read_contactpose(tmp_path, hand_model())
    fits = tmp_path / "contactpose_data/full1_use/mug/mano_fits_15.json"
    whole = json.loads(fits.read_text())
    fits.write_text(json.dumps([whole[0], {**whole[1], "pose": ["wide open"] * 18}]))
    with pytest.raises(InputError, match=r"full1_use/mug.*could not convert"):
        read_contactpose(tmp_path, hand_model())
    fits.write_text("[")
    with pytest.raises(InputError, match=r"mano_fits_15.json: not readable as JSON"):
        read_contactpose(tmp_path, hand_model())
    with pytest.raises(InputError, match="left hand"):
        read_contactpose(tmp_path, hand_model("left"), "right")
