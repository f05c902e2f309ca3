"""Crops of recorded sequences, from clip folders with exact truth and from a folder in HO-3D's own format."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from grasp_nodes.contact.hand_states import hand_states
from grasp_nodes.contact.interaction import HandObjectState, ObjectState
from grasp_nodes.data.clip_datasets.fhb import KEYPOINTS, T_COLOR_DEPTH
from grasp_nodes.data.frame_source import FrameSourceBase
from grasp_nodes.data.source_crops import recorded_crops, source_crops
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from tests.data import clip_dataset_doubles as doubles
from tests.data import test_clip_datasets_fhb as fhb
from tests.data.test_clip_datasets_ho3d import Writer

CAMERA = CameraModel(np.array([[400.0, 0, 159.5], [0, 410.0, 119.5], [0, 0, 1]]), 320, 240)


class Recording(FrameSourceBase):
    """Two frames: a hand at the object, and a hand far from it."""

    has_truth = True

    def __init__(self, model: HandModel) -> None:
        super().__init__(30.0, CAMERA)
        self.model, self.object_spec, self.object_id = model, "sphere:0.03", "ball"

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Frame]:
        for stamp in range(2):
            yield Frame(stamp, self.image(stamp), CAMERA)

    def hand(self, stamp: int) -> HandParams:
        side = 1.0 if self.model.side == "right" else -1.0
        transl = torch.tensor([[0.02 * side, 0.01 + 0.2 * stamp, 0.6]])
        return replace(HandParams.zeros(1, self.model.side), transl=transl)

    def place(self) -> np.ndarray:
        """Of the ball: below the palm."""
        pose = np.eye(4)
        vertices = self.model(self.hand(0)).vertices[0].numpy()
        pose[:3, 3] = vertices.mean(axis=0) + [0.0, -0.038, 0.0]
        return pose

    def image(self, stamp: int) -> np.ndarray:
        """White where a vertex of the hand is, on black."""
        image = np.zeros((240, 320, 3), np.uint8)
        for x, y in CAMERA.project(self.model(self.hand(stamp)).vertices[0].detach().numpy()):
            cv2.circle(image, (round(float(x)), round(float(y))), 2, (255, 255, 255), -1)
        return image

    def truth(self, stamp: int) -> HandObjectState:
        hand = hand_states(self.hand(stamp), self.model)[0]
        return HandObjectState(stamp, "camera", (hand,), (ObjectState("ball", self.place()),))


@pytest.fixture(scope="module")
def models() -> dict[Side, HandModel]:
    return {"right": load_hand_model("right"), "left": load_hand_model("left")}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("seed", [None, 3])
def test_the_crop_s_hand_is_where_its_pixels_are(models: dict[Side, HandModel], side: Side, seed: int | None) -> None:
    found = source_crops(Recording(models[side]), models, 96, seed)
    assert found is not None
    crops, thing = found
    assert len(crops) == 1  # the other frame shows no grasp
    with torch.no_grad():
        vertices = models["right"](crops.hands()).vertices[0].numpy()
    pixels = vertices[:, :2] / vertices[:, 2:] * crops.focal[0] + 47.5
    inside = ((pixels > 1) & (pixels < 94)).all(axis=1)
    assert inside.mean() > 0.95
    x, y = np.rint(pixels[inside]).astype(int).T
    assert (crops.images[0][y, x, 0] > 60).mean() > 0.97
    assert (crops.images[0] > 60).mean() < 0.6
    assert np.abs(thing.vertices.min(axis=0) + thing.vertices.max(axis=0)).max() < 1e-6


class TwoSides(Recording):
    """A right hand, and in the second frame a left one in its place."""

    def __init__(self, right: HandModel, left: HandModel) -> None:
        super().__init__(right)
        self.left = left

    def truth(self, stamp: int) -> HandObjectState:
        found = super().truth(0)
        return found if stamp == 0 else replace(found, hands=Recording(self.left).truth(0).hands)


def test_frames_of_the_other_hand_are_left_out_and_counted(
    models: dict[Side, HandModel], caplog: pytest.LogCaptureFixture
) -> None:
    found = source_crops(TwoSides(models["right"], models["left"]), models, 64)
    assert found is not None
    assert len(found[0]) == 1
    assert "ball: 1 frames are left out: their hand is not the right one" in caplog.text


def test_left_hands_come_with_mirrored_objects(models: dict[Side, HandModel]) -> None:
    """The hand's distance to the object's middle is that of the recording."""
    for side in ("right", "left"):
        source = Recording(models[side])
        found = source_crops(source, models, 64)
        assert found is not None
        crops = found[0]
        with torch.no_grad():
            joints = models["right"](crops.hands()).joints[0].numpy()
            truth = models[side](source.hand(0)).joints[0].numpy()
        distance = np.linalg.norm(joints - crops.T_camera_object[0, :3, 3], axis=1)
        np.testing.assert_allclose(distance, np.linalg.norm(truth - source.place()[:3, 3], axis=1), atol=1e-5)
        assert np.linalg.det(crops.T_camera_object[0, :3, :3]) == pytest.approx(1.0, abs=1e-5)


def test_a_recording_without_truth_or_of_another_hand_is_refused(models: dict[Side, HandModel]) -> None:
    source = Recording(models["right"])
    source.has_truth = False
    with pytest.raises(InputError, match="true poses"):
        source_crops(source, models, 64)
    with pytest.raises(InputError, match="not among the models"):
        source_crops(Recording(models["right"]), {"left": models["left"]}, 64)


def test_places_without_recordings_are_refused(tmp_path: Path, models: dict[Side, HandModel]) -> None:
    with pytest.raises(InputError, match=r"clip\.json"):
        recorded_crops(tmp_path, "", models, 64)
    with pytest.raises(MissingFileError):
        recorded_crops(tmp_path, "ho3d", models, 64)


def test_sequences_in_the_format_of_ho3d_become_crops(tmp_path: Path) -> None:
    """Each crop's hand is as far from its object as the annotation says, vertex by vertex."""
    writer, distances = Writer(tmp_path), {}
    for sequence, numbers in (("train/ABF10", (0, 1, 2)), ("train/MC1", (3, 4))):
        for number in numbers:
            meta = writer.frame(sequence, number)
            meta["objTrans"] = writer.points[number].mean(axis=0)  # so near that they touch
            path = tmp_path / sequence / "meta" / f"{number:04d}.pkl"
            path.write_bytes(pickle.dumps(meta, protocol=2))
            distances[number] = np.linalg.norm(writer.points[number] - meta["objTrans"], axis=1)
    models = doubles.hand_models()
    training, validation, objects = recorded_crops(tmp_path, "ho3d", models, 48)
    assert (len(training), len(validation), len(objects)) == (3, 2, 1)
    for crops, numbers in ((training, (0, 1, 2)), (validation, (3, 4))):
        assert crops.images.shape[1:] == (48, 48, 3)
        with torch.no_grad():
            vertices = models["right"](crops.hands().to(torch.float64)).vertices.numpy()
        found = np.linalg.norm(vertices - crops.T_camera_object[:, None, :3, 3], axis=2)
        for row, number in enumerate(numbers):
            np.testing.assert_allclose(found[row], distances[number], atol=1e-5)
    np.testing.assert_allclose(np.ptp(objects[0].vertices, axis=0), [0.06, 0.08, 0.1], atol=1e-6)


def test_hands_of_fhb_are_those_that_have_its_keypoints(tmp_path: Path, models: dict[Side, HandModel]) -> None:
    """Written in the data set's order and frame, mm; any hand model does; points that are no hand are left out."""
    frames = 4
    fhb.write(tmp_path, frames)
    model = models["right"]
    rng = np.random.default_rng(5)
    hands = HandParams(
        torch.tensor([[0.3, 0.1 * k, -0.2] for k in range(frames)]),
        torch.from_numpy(rng.normal(0, 0.1, (frames, 45)).astype(np.float32)) + model.hands_mean.float(),
        torch.full((frames, 10), 0.3),
        torch.tensor([[0.01 * k, 0.02, 0.45] for k in range(frames)]),
        torch.ones(frames),
    )
    with torch.no_grad():
        output = model(hands.to(dtype=model.dtype))
    keypoints = output.keypoints.double().numpy()
    points = np.empty_like(keypoints)
    points[:, KEYPOINTS] = (keypoints - T_COLOR_DEPTH[:3, 3]) @ T_COLOR_DEPTH[:3, :3]
    points[3] = rng.normal(0, 0.05, (21, 3)) + [0, 0, 0.45]
    rows = np.column_stack([np.arange(frames), 1000 * points.reshape(frames, 63)])
    np.savetxt(tmp_path / "Hand_pose_annotation_v1" / fhb.SEQUENCE / "skeleton.txt", rows, fmt="%.6f")
    poses = np.tile(np.eye(4), (frames, 1, 1))
    palm = keypoints[:, [0, 5, 9, 17]].mean(axis=1)
    poses[:, :3, 3] = 1000 * (palm - T_COLOR_DEPTH[:3, 3]) @ T_COLOR_DEPTH[:3, :3]
    columns = poses.transpose(0, 2, 1).reshape(frames, 16)
    path = tmp_path / "Object_6D_pose_annotation_v1" / fhb.SEQUENCE / "object_pose.txt"
    np.savetxt(path, np.column_stack([np.arange(frames), columns]), fmt="%.9f")
    training, validation, objects = recorded_crops(tmp_path, "fhb", models, 48)
    assert len(training) + len(validation) == 3
    assert [one.object_id for one in objects] == ["salt_model"]
    with torch.no_grad():
        crops = training.hands().to(dtype=model.dtype)
        found = model(crops).vertices.double().numpy()
    for row in range(len(training)):
        true = np.linalg.norm(output.vertices[row].double().numpy() - palm[row], axis=1)
        told = np.linalg.norm(found[row] - training.T_camera_object[row, :3, 3], axis=1)
        assert np.abs(told - true).mean() < 2e-3
