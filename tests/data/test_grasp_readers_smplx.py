"""The hand of GRAB's whole bodies, against smplx with a body of random joints in SMPL-X's own file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.data.grasp_readers.grab import read_grab
from grasp_nodes.data.grasp_readers.smplx_hand import find_smplx_model, hand_of_body
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel

smplx = pytest.importorskip("smplx", reason="the smplx extra is not installed")

VERTICES, JOINTS, COUNT, COMPONENTS = 10475, 55, 4, 24
PARENTS = (
    *(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15),
    *(20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38),
    *(21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53),
)
WRIST = {"left": 20, "right": 21}


@pytest.fixture(scope="module")
def hand() -> HandModel:
    """The open hand, which stands for MANO."""
    return load_hand_model("right", dtype=torch.float64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, hand: HandModel) -> Path:
    """SMPLX_MALE.npz with object arrays in it, as the published ones have; vertices 0-9 hang on the right wrist."""
    rng = np.random.default_rng(0)
    target = tmp_path_factory.mktemp("models") / "smplx"
    target.mkdir()
    regressor = np.zeros((JOINTS, VERTICES), np.float32)
    for joint in range(JOINTS):
        regressor[joint, rng.choice(VERTICES, 8, replace=False)] = 1 / 8
    weights = np.zeros((VERTICES, JOINTS), np.float32)
    weights[:, 0] = 1
    for side, first in (("right", 0), ("left", 10)):
        weights[first : first + 10] = np.eye(JOINTS)[WRIST[side]]
    arrays = hand.arrays
    np.savez(
        target / "SMPLX_MALE.npz",
        v_template=rng.normal(size=(VERTICES, 3)).astype(np.float32),
        f=np.zeros((20, 3), np.uint32),
        shapedirs=np.zeros((VERTICES, 3, 20), np.float32),
        posedirs=np.zeros((VERTICES, 3, 9 * (JOINTS - 1)), np.float32),
        J_regressor=regressor,
        weights=weights,
        kintree_table=np.array([[4294967295, *PARENTS[1:]], range(JOINTS)], np.uint32),
        lmk_faces_idx=np.zeros(51, np.int64),
        lmk_bary_coords=np.full((51, 3), 1 / 3),
        dynamic_lmk_faces_idx=np.zeros((79, 17), np.int64),
        dynamic_lmk_bary_coords=np.full((79, 17, 3), 1 / 3),
        hands_meanr=arrays.hands_mean,
        hands_meanl=-arrays.hands_mean,
        hands_componentsr=arrays.hands_components,
        hands_componentsl=arrays.hands_components[::-1],
        joint2num={"Pelvis": 0},
    )
    return target.parent


@pytest.fixture(scope="module")
def template() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(VERTICES, 3)).astype(np.float32).astype(np.float64)


@pytest.fixture(scope="module")
def body() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    sizes = {"global_orient": 3, "body_pose": 63, "transl": 3}
    sizes |= {"right_hand_pose": COMPONENTS, "left_hand_pose": COMPONENTS}
    return {name: rng.normal(size=(COUNT, size)).astype(np.float32) for name, size in sizes.items()}


@pytest.fixture(scope="module")
def output(folder: Path, template: np.ndarray, body: dict[str, np.ndarray]):
    """What smplx makes of the bodies, called as GRAB's own scripts do."""
    model = smplx.create(
        str(folder), "smplx", gender="male", v_template=template, num_pca_comps=COMPONENTS, batch_size=COUNT, ext="npz"
    )
    with torch.no_grad():
        return model(**{name: torch.from_numpy(value) for name, value in body.items()}, return_full_pose=True)


@pytest.mark.parametrize("side", ["right", "left"])
def test_wrist_and_fingers_are_those_of_smplx(folder, template, body, output, side) -> None:
    model = find_smplx_model(folder, "male")
    orientation, wrist, pose = hand_of_body(model, template, body, side)
    np.testing.assert_allclose(wrist, output.joints[:, WRIST[side]].numpy(), atol=2e-5)
    fingers = {"left": slice(75, 120), "right": slice(120, 165)}[side]
    np.testing.assert_allclose(pose, output.full_pose[:, fingers].numpy(), atol=1e-5)
    ids = {"right": slice(0, 10), "left": slice(10, 20)}[side]
    rest = template[ids] - model.regressor[WRIST[side]] @ template
    moved = np.einsum("tij,vj->tvi", orientation, rest) + wrist[:, None]
    np.testing.assert_allclose(moved, output.vertices[:, ids].numpy(), atol=2e-5)


def test_a_sequence_read_from_its_body(tmp_path, hand, folder, template, body, output) -> None:
    """Hands posed in the world from smplx's wrist, then seen from the object."""
    meshes = tmp_path / "tools"
    meshes.mkdir()
    trimesh.creation.box((0.06, 0.08, 0.1)).export(meshes / "cup.ply")
    trimesh.Trimesh(hand.arrays.v_template, hand.faces.numpy(), process=False).export(
        meshes / "s1_rhand.ply", vertex_normal=False
    )
    trimesh.Trimesh(template, np.array([[0, 1, 2]]), process=False).export(meshes / "s1.ply", vertex_normal=False)
    turns, transl = Rotation.random(COUNT, random_state=9), np.random.default_rng(4).normal(size=(COUNT, 3))
    (tmp_path / "grab" / "s1").mkdir(parents=True)
    np.savez(
        tmp_path / "grab" / "s1" / "cup_lift.npz",
        gender="male",
        framerate=120.0,
        body={"params": body, "vtemp": "tools/s1.ply"},
        rhand={"params": {}, "vtemp": "tools/s1_rhand.ply"},
        object={"params": {"global_orient": turns.as_rotvec(), "transl": transl}, "object_mesh": "tools/cup.ply"},
        contact={"object": np.full((COUNT, 3), 22, np.uint8)},
    )
    with pytest.raises(MissingFileError, match=r"https://smpl-x\.is\.tue\.mpg\.de"):
        read_grab(tmp_path, hand, framerate=None, hand_from="smplx")
    grasps = read_grab(tmp_path, hand, framerate=None, hand_from="smplx", smplx_folder=folder)
    joints, frames = hand.joints(grasps.hands.to(torch.float64))
    world = output.joints[:, 21].numpy()
    seen = np.einsum("tij,tj->ti", turns.as_matrix(), world - transl)  # GRAB's objects are v @ R + t
    np.testing.assert_allclose(joints[:, 0].numpy(), seen, atol=2e-5)
    orientation, _, pose = hand_of_body(find_smplx_model(folder, "male"), template, body, "right")
    np.testing.assert_allclose(frames[:, 0, :3, :3].numpy(), turns.as_matrix() @ orientation, atol=1e-5)
    np.testing.assert_allclose(grasps.hands.hand_pose.numpy(), pose, atol=1e-6)
    assert float(grasps.hands.betas.abs().max()) < 1e-3


def test_what_is_no_smplx_is_named(tmp_path, folder, template, body) -> None:
    np.savez(tmp_path / "SMPLX_FEMALE.npz", kintree_table=np.zeros((2, 24)))
    with pytest.raises(InputError, match=r"SMPLX_FEMALE\.npz: kintree_table: expected shape \(2, 55\)"):
        find_smplx_model(tmp_path, "female")
    with pytest.raises(MissingFileError, match=r"SMPLX_NEUTRAL\.npz"):
        find_smplx_model(tmp_path, "neutral")
    with pytest.raises(InputError, match="has 10475 vertices, the subject's body 5"):
        hand_of_body(find_smplx_model(folder, "male"), template[:5], body, "right")
