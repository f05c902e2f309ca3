"""``grasp-nodes transfer-contact``: contact of a written trajectory, said of the other hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from grasp_nodes.cli.app import app
from grasp_nodes.cli.transferring_contact import transfer_contact
from grasp_nodes.contact.computation import compute_contact_map
from grasp_nodes.contact.hand_states import hand_states
from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandObjectTrajectory, ObjectState
from grasp_nodes.data.trajectory_files import RecordedTrajectory, read_trajectory, write_trajectory
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.files import load_hand_arrays, load_hand_model, mano_entries, save_npz
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object

CAMERA = CameraModel(np.array([[500.0, 0, 159.5], [0, 500.0, 119.5], [0, 0, 1]]), 320, 240)


@pytest.fixture
def trajectory(tmp_path: Path) -> Path:
    """One frame: a ball in a right hand's palm; one without contact."""
    model, ball = load_hand_model("right"), load_object("sphere:0.03")
    hand = hand_states(HandParams.zeros(1), model)[0]
    pose = np.eye(4)
    pose[:3, 3] = hand.keypoints[[0, 9]].mean(axis=0) + [0, -0.042, 0]
    with torch.no_grad():
        vertices = model(hand.params).vertices[0].double().numpy() - pose[:3, 3]
    contact = compute_contact_map(vertices, closed_faces(model.arrays.faces), ball, anchors=anchors_of(model))
    states = [
        HandObjectState(0, "camera", [hand], [ObjectState("ball", pose)], [contact], status=FitStatus.OK),
        HandObjectState(33, "camera", [hand], [], [], status=FitStatus.OK),
    ]
    path = tmp_path / "trajectory.npz"
    write_trajectory(path, RecordedTrajectory(HandObjectTrajectory("clip", states), CAMERA, 30.0))
    return path


def test_contact_is_said_of_the_other_hand(trajectory: Path, tmp_path: Path) -> None:
    """The left hand is the mirror image: each vertex keeps its value, and the object's points theirs."""
    output = tmp_path / "new" / "left.npz"
    words = ["transfer-contact", str(trajectory), "-o", str(output), "--other-side"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert "1 contact maps (right" in done.stdout
    before, after = (read_trajectory(path).trajectory.states for path in (trajectory, output))
    assert [len(state.hands) for state in after] == [0, 0]
    assert [len(state.contact_maps) for state in after] == [1, 0]
    old, new = before[0].contact_maps[0], after[0].contact_maps[0]
    assert new.hand_side == "left"
    assert old.hand_contact.max() > 0
    np.testing.assert_allclose(new.hand_contact, old.hand_contact, atol=1e-3)
    np.testing.assert_array_equal(new.region, old.region)
    np.testing.assert_array_equal(after[0].objects[0].T_camera_object, before[0].objects[0].T_camera_object)


def test_what_cannot_be_carried_is_told(trajectory: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        transfer_contact(tmp_path / "nosuch.npz", tmp_path / "x.npz", None, None, mirror=False)
    recorded = read_trajectory(trajectory)
    empty = tmp_path / "empty.npz"
    states = recorded.trajectory.states[1:]
    write_trajectory(empty, RecordedTrajectory(HandObjectTrajectory("clip", states), CAMERA, 30.0))
    with pytest.raises(InputError, match="no contact map"):
        transfer_contact(empty, tmp_path / "x.npz", None, None, mirror=False)


@pytest.fixture
def longer_hand(tmp_path: Path) -> Path:
    """A folder with the open hand, a tenth larger, in MANO's format: another model with another fingerprint."""
    for side in ("right", "left"):
        arrays = load_hand_arrays("right" if side == "right" else "left")
        entries = mano_entries(replace(arrays, v_template=1.1 * arrays.v_template))
        kept = {name: value for name, value in entries.items() if name not in ("fingerprint", "model_id")}
        save_npz(tmp_path / f"MANO_{side.upper()}.npz", kept)
    return tmp_path


def test_contact_is_said_of_another_model(trajectory: Path, longer_hand: Path, tmp_path: Path) -> None:
    """The same hand, larger, has the same places in every region: each vertex keeps its value."""
    output = tmp_path / "larger.npz"
    words = ["transfer-contact", str(trajectory), "-o", str(output), "--to", str(longer_hand)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert load_hand_model("right", longer_hand).model_id in done.stdout
    old, new = (read_trajectory(path).trajectory.states[0].contact_maps[0] for path in (trajectory, output))
    assert old.hand_contact.max() > 0
    np.testing.assert_allclose(new.hand_contact, old.hand_contact, atol=1e-3)
    np.testing.assert_array_equal(new.region, old.region)


def test_the_hand_that_it_was_made_with_must_be_named(trajectory: Path, longer_hand: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fingerprints differ.*--from"):
        transfer_contact(trajectory, tmp_path / "x.npz", str(longer_hand), None, mirror=False)
    assert not (tmp_path / "x.npz").exists()
