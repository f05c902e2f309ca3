"""A generator of the open hand makes grasps of a user's hand, and says that they were carried over."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.hand.arrays import mirror
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.files import load_hand_arrays, load_hand_model, mano_entries, save_npz
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.loading import load_object
from grasp_nodes.synthesis.flow.network import FlowConfig, FlowNetwork
from grasp_nodes.synthesis.flow.trained import METHOD, save_flow
from grasp_nodes.synthesis.named_methods import make_named_method
from grasp_nodes.synthesis.registry import make_method

SIDES: tuple[Side, ...] = ("right", "left")


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> dict[Side, HandModel]:
    """A hand a tenth larger, out of files in MANO's format."""
    folder = tmp_path_factory.mktemp("user")
    own = load_hand_arrays("right")
    right = replace(own, v_template=1.1 * own.v_template, shapedirs=1.1 * own.shapedirs, model_id="my_hand")
    for arrays in (right, mirror(right)):
        save_npz(folder / f"MANO_{arrays.side.upper()}.npz", mano_entries(arrays))
    return {side: load_hand_model(side, folder) for side in SIDES}


def save_untrained(folder: Path, model: HandModel) -> None:
    save_flow(folder / f"{METHOD}.safetensors", FlowNetwork(HandCoder(model), FlowConfig(width=16, blocks=1, basis=32)))


def test_grasps_are_of_the_users_hand_and_it_is_said(
    users: dict[Side, HandModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save_untrained(tmp_path, load_hand_model("right"))
    monkeypatch.setenv("GRASP_NODES_WEIGHTS", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        method = make_named_method(METHOD, users)
    assert "carried over" in caplog.text
    assert method.name == f"{METHOD} (open_hand_v1 -> {users['right'].model_id})"
    assert method.generator is not None
    ball = load_object("sphere:0.035", resolution=32)
    found = method.generator.generate(ball, 3, 1).grasps
    assert [one.hand.model_fingerprint for one in found] == 3 * [users["right"].fingerprint]
    # Scored as they are on that hand.
    vertices = users["right"](found[0].hand.params).vertices[0].detach().numpy()
    depth = max(0.035 - float(np.linalg.norm(vertices, axis=1).min()), 0.0)
    assert found[0].metrics["penetration_depth"] == pytest.approx(depth, abs=1e-3)


def test_rows_of_tables_and_a_third_hand_stay_refused(
    users: dict[Side, HandModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRASP_NODES_WEIGHTS", str(tmp_path))
    save_untrained(tmp_path, load_hand_model("right"))
    with pytest.raises(InputError, match="was trained with the hand model of fingerprint"):
        make_method(METHOD, users)
    third = HandModel(replace(users["right"].arrays, v_template=1.05 * users["right"].arrays.v_template))
    save_untrained(tmp_path, third)
    with pytest.raises(InputError, match="was trained with the hand model of fingerprint"):
        make_named_method(METHOD, users)
