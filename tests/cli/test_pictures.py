"""What `grasp-nodes render` draws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.cli import pictures
from grasp_nodes.contact.interaction import HandObjectTrajectory, ObjectState
from grasp_nodes.data.clip_files import ClipInfo, ClipTruth, write_clip_info, write_image, write_truth
from grasp_nodes.data.clip_readers import ClipSource
from grasp_nodes.data.trajectory_files import RecordedTrajectory, write_trajectory
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.keypoints import KEYPOINT_NAMES
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.viewer.pictures import captioned

SIZE = 160


def drawn(tmp_path: Path, what: str, side: str = "right") -> np.ndarray:
    """Mask of what was drawn, (SIZE, 2 SIZE)."""
    output = tmp_path / "picture.png"
    pictures.draw(what, output, SIZE, side, 1.0)
    image = cv2.imread(str(output))
    assert image is not None
    return (image < 250).any(axis=2)


def test_a_sphere_covers_the_disc_of_its_projection(tmp_path: Path) -> None:
    mask = drawn(tmp_path, "sphere:0.04")
    assert mask.shape == (SIZE, 2 * SIZE)
    # A sphere of radius r at distance d has a silhouette of radius f r / sqrt(d^2 - r^2); here d = 1.05 r / sin(a/2).
    half = pictures.FIELD_OF_VIEW / 2
    radius = SIZE / 2 / np.tan(half) / np.sqrt((1.05 / np.sin(half)) ** 2 - 1)
    for view in (mask[:, :SIZE], mask[:, SIZE:]):
        assert view.sum() == pytest.approx(np.pi * radius**2, rel=0.02)


def test_the_poses_differ_and_fill_the_picture(tmp_path: Path) -> None:
    masks = {pose: drawn(tmp_path, f"hand:{pose}") for pose in pictures.HAND_POSES}
    for mask in masks.values():
        assert 0.08 < mask.mean() < 0.7
        assert not mask[[0, -1]].any()
    assert (masks["flat"] != masks["fist"]).mean() > 0.05
    assert (masks["grasp"] != masks["fist"]).mean() > 0.05


def tips_to_wrist(params: HandParams) -> np.ndarray:
    keypoints = load_hand_model(params.side)(params).keypoints[0].numpy()
    tips = [index for index, name in enumerate(KEYPOINT_NAMES) if index in (8, 12, 16, 20)]
    return np.linalg.norm(keypoints[tips] - keypoints[0], axis=1)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_fist_is_closed_and_a_grasp_half_closed(side: str) -> None:
    flat, grasp, fist = (tips_to_wrist(pictures.named_hand(pose, side)) for pose in ("flat", "grasp", "fist"))  # type: ignore[arg-type]
    assert (fist < 0.7 * flat).all()
    assert (grasp < 0.95 * flat).all()
    assert (fist < grasp).all()


def test_the_left_fist_mirrors_the_right() -> None:
    np.testing.assert_allclose(
        tips_to_wrist(pictures.named_hand("fist", "left")),
        tips_to_wrist(pictures.named_hand("fist", "right")),
        atol=1e-5,
    )


def test_a_clip_is_a_sheet_of_its_frames(tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    (clip / "color").mkdir(parents=True)
    camera = CameraModel(np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]]), 64, 48)
    shades = [20, 120, 220]
    for index, shade in enumerate(shades):
        write_image(clip / "color" / f"{index:06d}.png", np.full((48, 64, 3), shade, np.uint8))
    write_clip_info(clip, ClipInfo(len(shades), 30.0, camera))
    pictures.draw(str(clip), tmp_path / "sheet.png", 96, "right", 1.0)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert sheet.shape == (96, 4 * 128, 3)
    assert sheet[48, 64::128].tolist() == [[shade] * 3 for shade in [*shades, 0]]


def test_the_truth_is_drawn_where_it_projects_to(tmp_path: Path, truth_clip: Path) -> None:
    clip = ClipSource(truth_clip)
    state = clip.truth(clip.first_stamp)
    assert state is not None
    sheet = pictures.clip_sheet(truth_clip, clip.camera.height)
    drawn = (sheet[:, : clip.camera.width] != 128).any(axis=2)
    u, v = clip.camera.project(state.hands[0].keypoints).round().astype(int).T
    assert drawn[v, u].all()
    assert 0.02 < drawn.mean() < 0.5


@pytest.fixture
def truth_clip(tmp_path: Path) -> Path:
    """One grey frame with a flat hand half a metre in front of the camera."""
    folder = tmp_path / "clip"
    (folder / "color").mkdir(parents=True)
    camera = CameraModel(np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]]), 320, 240)
    write_image(folder / "color" / "000000.png", np.full((240, 320, 3), 128, np.uint8))
    write_clip_info(folder, ClipInfo(1, 30.0, camera))
    model = load_hand_model("right")
    params = replace(
        HandParams.zeros(1), transl=torch.tensor([[0.0, 0.0, 0.5]]), global_orient=torch.tensor([[1.5, 0.0, 0.0]])
    )
    frames = model(params).joint_frames[0].numpy().astype(np.float64)
    poses = np.concatenate([frames[:, :3, 3], Rotation.from_matrix(frames[:, :3, :3]).as_quat()], axis=1)
    write_truth(
        folder,
        ClipTruth(
            stamps=np.array([1_000_000_000]),
            **{name: getattr(params, name).numpy().astype(np.float64) for name in pictures.FIELDS},
            side="right",
            keypoints=model(params).keypoints.numpy().astype(np.float64),
            T_camera_object=np.eye(4)[None],
            object_id="none",
            hand_visible=np.ones(1),
            model_id=model.model_id,
            model_fingerprint=model.fingerprint,
            joint_poses=poses[None],
        ),
    )
    return folder


def some_hands(count: int) -> HandParams:
    generator = torch.Generator().manual_seed(3)
    zeros = HandParams.zeros(count, "left")
    values = {name: torch.randn(getattr(zeros, name).shape, generator=generator) * 0.3 for name in pictures.FIELDS}
    return HandParams(**{**values, "scale": 1 + values["scale"] ** 2}, side="left")


def test_parameters_come_back_from_both_formats(tmp_path: Path) -> None:
    params = some_hands(3)
    arrays = {name: getattr(params, name).numpy() for name in pictures.FIELDS}
    np.savez(tmp_path / "hands.npz", side="left", **arrays)
    (tmp_path / "hands.json").write_text(json.dumps({"side": "left", **{k: v.tolist() for k, v in arrays.items()}}))
    for name in ("hands.npz", "hands.json"):
        back = pictures.read_hand_params(tmp_path / name)
        assert back.side == "left"
        for field in pictures.FIELDS:
            torch.testing.assert_close(getattr(back, field), getattr(params, field))


def test_one_hand_may_come_without_a_batch(tmp_path: Path) -> None:
    (tmp_path / "hand.json").write_text(json.dumps({"hand_pose": [0.1] * 45, "scale": 1.2}))
    back = pictures.read_hand_params(tmp_path / "hand.json")
    assert len(back) == 1
    assert back.hand_pose[0, 7] == pytest.approx(0.1)
    assert back.scale.tolist() == pytest.approx([1.2])
    assert drawn(tmp_path, str(tmp_path / "hand.json")).any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "list"),
        ("{}", "global_orient"),
        ('{"hand_pose": [1, 2]}', "hand_pose"),
        ('{"hand_pose": "bent"}', "hand_pose"),
        ('{"side": "both", "scale": 1}', "both"),
    ],
)
def test_bad_parameters_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "hand.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        pictures.read_hand_params(path)


def test_a_pickle_in_an_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hand.npz"
    np.savez(path, hand_pose=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="Python objects"):
        pictures.read_hand_params(path)
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match=r"hand\.npz"):
        pictures.read_hand_params(path)


def test_a_trajectory_is_drawn_where_it_projects_to(tmp_path: Path, truth_clip: Path) -> None:
    clip = ClipSource(truth_clip)
    state = clip.truth(clip.first_stamp)
    assert state is not None
    ball = np.eye(4)
    ball[:3, 3] = [0.1, -0.08, 0.5]
    state = replace(state, objects=(ObjectState("ball", ball, mesh_resource="sphere:0.03"),))
    path = tmp_path / "trajectory.npz"
    write_trajectory(path, RecordedTrajectory(HandObjectTrajectory("x", [state] * 3), clip.camera, 30.0))
    pictures.draw(str(path), tmp_path / "sheet.png", clip.camera.height, "right", 1.0)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert sheet.shape[0] == 2 * clip.camera.height  # three states in two columns
    # A picture and its caption, a tenth as high, share the height.
    scale = clip.camera.height / captioned(np.zeros((clip.camera.height, 100, 3), np.uint8), "").shape[0]
    drawn = (sheet < 250).any(axis=2)
    points = np.concatenate([state.hands[0].keypoints, ball[None, :3, 3]])
    u, v = (clip.camera.project(points) * scale).round().astype(int).T
    assert drawn[v, u].all()


def test_a_trajectory_of_another_hand_or_without_states_is_refused(tmp_path: Path, truth_clip: Path) -> None:
    clip = ClipSource(truth_clip)
    state = clip.truth(clip.first_stamp)
    assert state is not None
    other = replace(state, objects=(), hands=(replace(state.hands[0], model_fingerprint="0" * 64),))
    path = tmp_path / "trajectory.npz"
    for states, said in (([other], "GRASP_NODES_HAND_MODEL"), ([], "no states")):
        write_trajectory(path, RecordedTrajectory(HandObjectTrajectory("x", states), clip.camera, 30.0))
        with pytest.raises(InputError, match=said):
            pictures.draw(str(path), tmp_path / "sheet.png", 96, "right", 1.0)
