"""``grasp-nodes train fastgrasp-flow``: settings find their places, a stop is gone on from, the card says all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grasp_nodes.cli.training_flow import train
from grasp_nodes.cli.training_request import TrainingRequest
from grasp_nodes.data.grasp_files import write_grasps
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.learning.weights import read_weights
from grasp_nodes.synthesis.flow.trained import load_flow

OPTIONS = {"width": "32", "blocks": "1", "encoder": "[16]", "basis": "40", "validation": "0.5", "physical": "0.1"}


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path / "cache"))
    model, count, words = load_hand_model("right"), 40, np.full(40, "")
    coder = HandCoder(model)
    hands = coder.decode(0.1 * torch.randn(count, coder.size, generator=torch.Generator().manual_seed(0)))
    objects = [GraspedObject(f"box:{k}", f"family:box:{k}", category="box") for k in range(2)]
    grasps = LabelledGrasps(
        *("toy", hands, model.model_id, model.fingerprint, objects, np.arange(count) % 2, np.arange(count) % 5),
        *(words, words, np.zeros(count, np.int64)),
    )
    write_grasps(tmp_path / "toy.npz", grasps)
    return tmp_path / "toy.npz"


def silent(what: str, done: int, total: int) -> None:
    """No bar."""


def request(data, tmp_path, **changes) -> TrainingRequest:
    options = {**OPTIONS, **changes.pop("options", {})}
    given = {"steps": 4, "batch": 8, "device": "cpu", "command": "grasp-nodes train fastgrasp-flow", **changes}
    return TrainingRequest(tmp_path / "out", data, options=options, **given)


def test_a_short_training(data, tmp_path):
    outcome = train(request(data, tmp_path), silent)
    card = read_weights(outcome.weights).card
    assert card.method == "fastgrasp-flow"
    assert card.config["width"] == 32
    assert card.notes["loss"]["physical"] == 0.1
    assert card.data == "toy: 20 grasps of 1 objects"
    assert card.command == "grasp-nodes train fastgrasp-flow"
    assert {"loss", "depth_mm", "fingers", "promising"} <= set(card.metrics)
    network, _ = load_flow(load_hand_model("right"), outcome.weights)
    assert network.config.encoder == (16,)
    # All steps are done: the same command trains nothing, more steps go on.
    before = outcome.weights.read_bytes()
    train(request(data, tmp_path), silent)
    assert outcome.weights.read_bytes() == before
    train(request(data, tmp_path, steps=6), silent)
    assert read_weights(outcome.weights).card.notes["steps"] == 6


def test_what_cannot_be_trained(data, tmp_path):
    with pytest.raises(InputError, match="there is no such setting"):
        train(request(data, tmp_path, options={"wdith": "3"}), silent)
    with pytest.raises(InputError, match="do not occur"):
        train(request(data, tmp_path, options={"leave_out": "mug, box"}), silent)
    with pytest.raises(InputError, match="no grasps are left"):
        train(request(data, tmp_path, options={"leave_out": "box"}), silent)
    with pytest.raises(InputError, match="any_kind"):
        train(request(data, tmp_path, options={"any_kind": "2.0"}), silent)
