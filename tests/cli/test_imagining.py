"""``grasp-nodes imagine`` on a network that dreams of one ball, both trainings, and maps for image generators."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from grasp_nodes.cli.app import app
from grasp_nodes.cli.conditioning_maps import conditioning_maps, parse_maps
from grasp_nodes.cli.training_jhod import train, train_object_part
from grasp_nodes.cli.training_request import TrainingRequest
from grasp_nodes.data.grasp_files import read_grasps, write_grasps
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.mesh import is_watertight
from grasp_nodes.geometry.rendering import RenderMesh
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.learning.weights import read_weights
from grasp_nodes.objects.loading import load_mesh, load_object
from grasp_nodes.synthesis.jhod.trained import load_jhod


def test_pairs_with_their_files(ball_dreams, tmp_path):
    output = tmp_path / "out"
    arguments = ["imagine", "-n", "2", "--steps", "2", "--device", "cpu", "-o", str(output), "--json"]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    summary = json.loads(ran.output.strip().splitlines()[-1])
    assert {"n", "valid_share", "good", "penetration_cm3", "coverage", "minimum_matching"} <= set(summary)
    assert summary["n"] == 2
    assert summary["watertight_share"] == 1.0
    report = json.loads((output / "imagined.json").read_text())
    for row in report["pairs"]:
        assert row["extent"] == pytest.approx(2 * ball_dreams, rel=0.1)
        assert row["volume"] == pytest.approx(4 / 3 * np.pi * ball_dreams**3, rel=0.2)
    grasps = read_grasps(output / "grasps.npz")
    vertices, faces, _ = load_mesh(grasps.objects[1].mesh)
    assert is_watertight(faces)
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), ball_dreams, atol=0.004)
    assert cv2.imread(str(output / "imagined.png")).shape[1] > 500
    maps = CliRunner().invoke(
        app,
        ["render", str(output / "grasps.npz"), "--maps", "mask,depth", "--size", "64", "-o", str(tmp_path / "m.png")],
    )
    assert maps.exit_code == 0, maps.output
    assert set(np.unique(cv2.imread(str(tmp_path / "m-000-mask.png"), 0))) == {0, 128, 255}
    assert cv2.imread(str(tmp_path / "m-001-depth.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint16


def test_an_object_for_a_hand(ball_dreams, tmp_path):
    hand = tmp_path / "hand.json"
    hand.write_text(json.dumps({"transl": [0.0, 0.0, 0.1]}))
    arguments = ["imagine", "-n", "1", "--steps", "2", "--no-judge", "-o", str(tmp_path / "out"), "--hand", str(hand)]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    np.testing.assert_allclose(read_grasps(tmp_path / "out" / "grasps.npz").hands.transl, [[0, 0, 0.1]], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--surface", "poisson"], "expected alpha or enclosed"),
        (["--paper", "--steps", "4"], "leave --steps out"),
        (["--device", "tpu"], "expected auto, cpu or cuda"),
        (["--steps", "2", "--hand", "nowhere.npz"], "there is no such file"),
    ],
)
def test_wrong_options(ball_dreams, tmp_path, options, message):
    ran = CliRunner().invoke(app, ["imagine", "-o", str(tmp_path / "out"), *options])
    assert isinstance(ran.exception, InputError | MissingFileError)
    assert message in str(ran.exception)


def test_without_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("GRASP_NODES_WEIGHTS", str(tmp_path))
    (tmp_path / "other.safetensors").touch()
    ran = CliRunner().invoke(app, ["imagine", "-o", str(tmp_path / "out")])
    if isinstance(ran.exception, MissingFileError):  # none are installed
        assert "grasp-nodes train jhod-objects" in str(ran.exception)


def silent(what: str, done: int, total: int) -> None:
    """No bar."""


def test_both_trainings(tmp_path, monkeypatch):
    """Objects first, then the diffusion on them; the cards say of what, and another auto-encoder is refused."""
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path / "cache"))
    model, count, words = load_hand_model("right"), 24, np.full(24, "")
    coder = HandCoder(model)
    hands = coder.decode(0.1 * torch.randn(count, coder.size, generator=torch.Generator().manual_seed(0)))
    objects = [GraspedObject(f"box:{k}", f"family:box:{k}", category="box") for k in range(2)]
    grasps = LabelledGrasps(
        *("toy", hands, model.model_id, model.fingerprint, objects, np.arange(count) % 2, np.arange(count) % 5),
        *(words, words, np.zeros(count, np.int64)),
    )
    write_grasps(tmp_path / "toy.npz", grasps)
    small = {"points": "128", "width": "8", "grid": "4", "voxel_width": "4", "procedural": "3", "validation": "0.4"}
    given = {"steps": 3, "batch": 4, "device": "cpu", "command": "grasp-nodes train jhod-objects"}
    made = train_object_part(TrainingRequest(tmp_path / "out", options=small, **given), silent)
    assert {"chamfer_mm", "f_1_percent"} <= set(made.card["metrics"])
    options = {
        **dict.fromkeys(("width", "feedforward"), "16"),
        **dict.fromkeys(("layers", "variants"), "1"),
        **dict.fromkeys(("heads", "procedural"), "2"),
        "points": "128",
        "hidden": "8",
        "token": "4",
        "validation": "0.5",
        "asynchronous": "false",
    }
    request = TrainingRequest(tmp_path / "out", tmp_path / "toy.npz", options=options, **given)
    outcome = train(request, silent)
    card = read_weights(outcome.weights).card
    assert card.data == "toy: 12 grasps; 2 objects alone"
    assert card.notes["loss"]["asynchronous"] is False
    assert card.notes["plain_batch"] == 1
    assert {"loss", "joint_hand", "depth_mm", "promising"} <= set(card.metrics)
    assert load_jhod(model, tmp_path / "out").network.config.token == 4
    before = outcome.weights.read_bytes()
    train(request, silent)  # all steps are done
    assert outcome.weights.read_bytes() == before
    with pytest.raises(InputError, match="points 64: the auto-encoder's objects have 128"):
        train(TrainingRequest(tmp_path / "out", tmp_path / "toy.npz", options={**options, "points": "64"}), silent)
    monkeypatch.setenv("GRASP_NODES_WEIGHTS", str(tmp_path / "out" / "none"))
    with pytest.raises(MissingFileError, match="there is no such folder"):
        train(TrainingRequest(tmp_path / "elsewhere", tmp_path / "toy.npz", options=options), silent)


def test_maps_of_a_ball():
    ball = load_object("sphere:0.05")
    mesh = RenderMesh(ball.vertices + np.array([0, 0, 0.5], np.float32), ball.faces, np.ones(3))
    camera = CameraModel(np.array([[200.0, 0, 31.5], [0, 200.0, 31.5], [0, 0, 1]]), 64, 64)
    maps = conditioning_maps([mesh], [77], camera, ["depth", "normals", "edges", "mask"], threads=1)
    rows, columns = np.mgrid[:64, :64] - 31.5
    inside = np.hypot(rows, columns) < 19  # 20 px is its radius, a little more by perspective
    outside = np.hypot(rows, columns) > 22
    assert (maps["mask"][inside] == 77).all()
    assert not maps["mask"][outside].any()
    assert maps["depth"][31, 31] > 65000
    assert not maps["depth"][outside].any()
    np.testing.assert_allclose(maps["normals"][31, 31], [128, 128, 255], atol=4)
    np.testing.assert_allclose(maps["normals"][31, 45], [127.5 * (1 + 0.66), 128, 127.5 * 1.75], atol=12)  # right
    assert maps["normals"][18, 31, 1] > 200  # above
    assert not maps["edges"][np.hypot(rows, columns) < 14].any()
    assert maps["edges"][31].any()
    with pytest.raises(InputError, match="expected some of depth, normals, edges, mask"):
        parse_maps("depth,colour")
