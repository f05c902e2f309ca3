"""ObMan: tiny files written in its format; hands and objects placed in the camera's frame by scipy."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.data.grasp_readers.contact_filter import object_mesh
from grasp_nodes.data.grasp_readers.obman import POSE_READINGS, read_obman
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams

CLASS, SCALES = "02876657", (0.125, 0.15, 0.125, 0.125, 0.1)
COUNT = len(SCALES)
PRINCIPAL, FROM_MEAN, VECTORS, VECTORS_FROM_MEAN = POSE_READINGS


@pytest.fixture(scope="module")
def hand() -> HandModel:
    """The open hand, which stands for MANO."""
    return load_hand_model("right", dtype=torch.float64)


class ObMan:
    """A folder of ObMan with five samples of the training split, and ShapeNet beside it."""

    def __init__(self, root: Path, hand: HandModel, reading: str = PRINCIPAL, scaled: bool = True) -> None:
        rng = np.random.default_rng(6)
        self.root, self.meta = root / "obman", root / "obman" / "train" / "meta"
        self.meta.mkdir(parents=True)
        models = root / "ShapeNetCore.v2" / CLASS / "1071fa" / "models"
        models.mkdir(parents=True)
        trimesh.creation.box((0.4, 0.5, 0.9)).export(models / "model_normalized.obj")
        arrays, numbers = hand.arrays, rng.normal(0, 0.5, (COUNT, 45))
        flat = {PRINCIPAL: numbers @ arrays.hands_components, VECTORS: numbers}
        flat |= {FROM_MEAN: flat[PRINCIPAL] + arrays.hands_mean, VECTORS_FROM_MEAN: numbers + arrays.hands_mean}
        zeros = HandParams.zeros(COUNT, dtype=torch.float64)
        params = HandParams(
            torch.from_numpy(Rotation.random(COUNT, random_state=1).as_rotvec()),
            torch.from_numpy(flat[reading]),
            zeros.betas,
            torch.from_numpy(rng.uniform(-0.1, 0.1, (COUNT, 3))),
            zeros.scale,
        )
        self.in_object = hand(params).vertices.numpy()
        self.samples = []
        for k in range(COUNT):
            turn, place = Rotation.random(random_state=20 + k).as_matrix(), rng.uniform(-0.5, 0.5, 3)
            affine = np.eye(4)
            affine[:3, :3], affine[:3, 3] = turn * (SCALES[k] if scaled else 1.0), place
            self.samples.append(
                {
                    "side": "right",
                    "hand_pose": numbers[k : k + 1],
                    "pca_pose": numbers[k : k + 1],
                    "shape": np.zeros(10, np.float32),
                    "trans": rng.normal(size=3).astype(np.float32),
                    "verts_3d": (self.in_object[k] @ turn.T + place).astype(np.float32),
                    "coords_3d": np.zeros((21, 3), np.float32),
                    "affine_transform": affine.astype(np.float32),
                    "class_id": CLASS,
                    "sample_id": "1071fa",
                    "obj_path": "/somewhere/model_normalized.obj",
                    "obj_scale": SCALES[k],
                    "grasp_quality": 0.5 + k,
                    "grasp_epsilon": 0.1,
                    "grasp_volume": np.float64(2.0),
                }
            )
        self.write()

    def write(self) -> None:
        for k, sample in enumerate(self.samples):
            (self.meta / f"{100 + k:08d}.pkl").write_bytes(pickle.dumps(sample, 2 + k % 3))


@pytest.mark.parametrize("reading", list(POSE_READINGS))
@pytest.mark.parametrize("scaled", [True, False])
def test_hands_are_seen_from_the_object_however_the_pose_is_meant(
    tmp_path: Path, hand: HandModel, reading: str, scaled: bool
) -> None:
    obman = ObMan(tmp_path, hand, reading, scaled)
    grasps = read_obman(obman.root, hand, splits=["train"])
    assert reading in grasps.attributes["pose"]
    posed = hand(grasps.hands.to(torch.float64)).vertices.numpy()
    np.testing.assert_allclose(posed, obman.in_object, atol=2e-6)
    assert grasps.metrics["vertex_residual"].max() < 1e-6
    assert grasps.frame.tolist() == [100, 101, 102, 103, 104]
    assert set(grasps.sequence) == {"train"}
    np.testing.assert_allclose(grasps.metrics["graspit_quality"], 0.5 + np.arange(COUNT))


def test_objects_are_meshes_at_a_size(tmp_path: Path, hand: HandModel) -> None:
    obman = ObMan(tmp_path, hand)
    grasps = read_obman(obman.root, hand, splits=["train"])
    names = [grasps.objects[k].name for k in grasps.object_index]
    assert names == [f"{CLASS}/1071fa@{scale:g}" for scale in SCALES]
    assert len(grasps.objects) == 3
    for one in grasps.objects:
        vertices, _ = object_mesh(one)
        np.testing.assert_allclose(np.ptp(vertices, axis=0), one.scale * np.array([0.4, 0.5, 0.9]))
        assert (one.category, one.split) == (CLASS, "train")


def test_the_object_lies_where_the_samples_put_it(tmp_path: Path, hand: HandModel) -> None:
    """The distance of hand and object is that of the camera's frame."""
    obman = ObMan(tmp_path, hand)
    grasps = read_obman(obman.root, hand, splits=["train"])
    mesh = trimesh.creation.box((0.4, 0.5, 0.9))
    for k, sample in enumerate(obman.samples):
        affine, vertices = np.asarray(sample["affine_transform"], np.float64), np.asarray(sample["verts_3d"])
        in_camera = mesh.vertices @ affine[:3, :3].T + affine[:3, 3]
        apart = np.linalg.norm(vertices[:, None] - in_camera, axis=2)
        posed = hand(grasps[np.array([k])].hands.to(torch.float64)).vertices.numpy()[0]
        seen, _ = object_mesh(grasps.objects[grasps.object_index[k]])
        np.testing.assert_allclose(
            np.sort(np.linalg.norm(posed[:, None] - seen, axis=2), axis=1), np.sort(apart, axis=1), atol=5e-6
        )


def test_left_hands_misfits_and_rows_that_are_not_numbers_are_counted(tmp_path: Path, hand: HandModel) -> None:
    obman = ObMan(tmp_path, hand)
    obman.samples[0]["side"] = "left"
    obman.samples[1]["verts_3d"] = np.asarray(obman.samples[1]["verts_3d"]) * 2.0
    obman.samples[2]["pca_pose"] = np.full((1, 45), np.nan)
    obman.samples[4]["affine_transform"] = np.full((4, 4), np.nan)
    obman.write()
    grasps = read_obman(obman.root, hand, splits=["train"])
    assert grasps.frame.tolist() == [103]
    dropped = {name: grasps.attributes[name] for name in grasps.attributes if name.endswith("dropped")}
    assert dropped == {"left_hands_dropped": "1", "misfits_dropped": "1", "not_finite_dropped": "2"}


def test_another_hand_model_is_refused(tmp_path: Path, hand: HandModel) -> None:
    obman = ObMan(tmp_path, hand)
    for sample in obman.samples:
        sample["verts_3d"] = np.random.default_rng(0).normal(0, 0.1, (778, 3))
    obman.write()
    with pytest.raises(InputError, match="fits none of the hands"):
        read_obman(obman.root, hand, splits=["train"])


def test_grasps_without_shapenet_have_no_meshes(tmp_path: Path, hand: HandModel) -> None:
    obman = ObMan(tmp_path, hand)
    (tmp_path / "ShapeNetCore.v2").rename(tmp_path / "elsewhere")
    assert {one.mesh for one in read_obman(obman.root, hand, splits=["train"]).objects} == {""}
    found = read_obman(obman.root, hand, splits=["train"], shapenet_folder=tmp_path / "elsewhere", every=2)
    assert len(found) == 3
    assert all(Path(one.mesh).is_file() for one in found.objects)
    with pytest.raises(MissingFileError, match=r"ShapeNetCore\.v2"):
        read_obman(obman.root, hand, splits=["train"], shapenet_folder=tmp_path / "nowhere")
    obman.samples[0]["sample_id"] = "../../../secret"
    obman.write()
    with pytest.raises(InputError, match="names an object outside of"):
        read_obman(obman.root, hand, splits=["train"], shapenet_folder=tmp_path / "elsewhere")


class Payload:
    """Makes a file when a pickle is obeyed."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch obeyed",)


def test_a_hostile_sample_is_refused_and_nothing_runs(
    tmp_path: Path, hand: HandModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    obman = ObMan(tmp_path, hand)
    obman.samples[3]["trans"] = Payload()
    obman.write()
    with pytest.raises(InputError, match=r"00000103\.pkl: refused.*system"):
        read_obman(obman.root, hand, splits=["train"])
    assert not (tmp_path / "obeyed").exists()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("verts_3d", np.zeros((21, 3)), r"verts_3d: expected shape \(778, 3\)"),
        (
            "affine_transform",
            np.diag([0.3, 0.3, 0.3, 1.0]),
            "affine_transform: expected a rotation times 1 or obj_scale",
        ),
        ("affine_transform", np.diag([1.0, 1.0, 2.0, 1.0]), "affine_transform: expected a rotation"),
        ("pca_pose", np.zeros(30), "pca_pose: expected 45 numbers"),
        ("pca_pose", "flat", "pca_pose: expected 45 numbers"),
        ("obj_scale", None, "obj_scale"),
    ],
)
def test_broken_samples_are_named(tmp_path: Path, hand: HandModel, field: str, value: object, message: str) -> None:
    obman = ObMan(tmp_path, hand)
    obman.samples[2][field] = value
    obman.write()
    with pytest.raises(InputError, match=rf"00000102\.pkl: {message}"):
        read_obman(obman.root, hand, splits=["train"])


def test_what_is_missing_says_where_it_comes_from(tmp_path: Path, hand: HandModel) -> None:
    obman = ObMan(tmp_path, hand)
    with pytest.raises(MissingFileError, match=r"ObMan comes from https://www\.di\.ens\.fr"):
        read_obman(obman.root, hand)  # only the training split is there
    with pytest.raises(InputError, match="expected splits of train, val, test"):
        read_obman(obman.root, hand, splits=["all"])
