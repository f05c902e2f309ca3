"""``grasp-nodes train jointdiffusion|keypoint``, ``refine`` and ``evaluate-refinement``, in tiny sizes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from grasp_nodes.cli import evaluating_refinement, refinement_evaluation, training_choir
from grasp_nodes.cli.evaluating_refinement import evaluate_refinement, markdown_page
from grasp_nodes.cli.refinement_evaluation import Asked, RefinementEvaluation, read_rows
from grasp_nodes.cli.refining import Request, refine
from grasp_nodes.cli.training import METHODS, train_method
from grasp_nodes.cli.training_request import TrainingRequest
from grasp_nodes.data.grasp_files import read_grasps, write_grasps
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.evaluation.refinement_metrics import RefinementJudge
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.learning.weights import WEIGHTS_VARIABLE, read_weights, save_weights
from grasp_nodes.objects.loading import load_object


@pytest.fixture
def grasps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of twelve flat hands over two balls, a cache of its own, networks that take no time."""
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    model, count = load_hand_model("right"), 12
    objects = [GraspedObject(name, f"sphere:{radius}", category="ball") for name, radius in (("a", 0.03), ("b", 0.04))]
    generator = torch.Generator().manual_seed(0)
    hands = HandParams.zeros(count)
    over = torch.tensor([0.1, 0.04, 0.0]) + 0.005 * torch.randn(count, 3, generator=generator)
    hands = replace(hands, transl=over, betas=0.3 * torch.randn(count, 10, generator=generator))
    words, index = np.full(count, ""), np.arange(count) % 2
    columns = (objects, index, np.full(count, -1), words, words, np.zeros(count, np.int64))
    write_grasps(tmp_path / "toy.npz", LabelledGrasps("toy", hands, model.model_id, model.fingerprint, *columns))
    sizes = {"head": 8, "context": 16, "time": 16, "noise_steps": 20}
    joint = {"channels": (8, 8), "attention": (False, False), "encoder": (8, 8), "tokens": 16, "token_layers": 1}
    branch = {"contact_width": 16, "contact_blocks": 1}
    monkeypatch.setattr(training_choir, "SMALL_JOINT", replace(training_choir.SMALL_JOINT, **sizes, **joint, **branch))
    keypoint = replace(training_choir.SMALL_KEYPOINT, points=32, width=16, blocks=1, encoder_width=32, **sizes)
    monkeypatch.setattr(training_choir, "SMALL_KEYPOINT", keypoint)
    return tmp_path / "toy.npz"


def trained(name: str, folder: Path, data: Path, **options: str) -> int:
    options = {"validation": "0.5", **options}
    request = TrainingRequest(folder, data, steps=2, batch=4, device="cpu", options=options, command="the command")
    return train_method(name, request, as_json=False)


def test_from_training_to_refined_grasps_and_their_table(
    grasps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "weights"
    assert {"jointdiffusion", "keypoint"} <= set(METHODS)
    for name in ("jointdiffusion", "keypoint"):
        assert trained(name, folder, grasps) == 0
        card = read_weights(folder / f"{name}.safetensors").card
        assert card.method == name
        assert card.notes["division"] == "both"
    assert card.hand_fingerprint == load_hand_model("right").fingerprint
    # One object's grasps, refined.
    own = read_grasps(grasps)
    write_grasps(tmp_path / "one.npz", replace(own.of_object(0), objects=own.objects[:1]), "float32")
    request = Request(tmp_path / "one.npz", "sphere:0.03", tmp_path / "better.npz", weights=folder, json=True)
    capsys.readouterr()
    assert refine(request) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    better = read_grasps(tmp_path / "better.npz")
    assert len(better) == report["grasps"] == 6
    off = (better.hands.transl - own.of_object(0).hands.transl).norm(dim=1)
    assert float(off.mean()) > 1e-4
    # The table of all methods; a second run has nothing left to do.
    asked = Asked(8, 1, 2, level=1, validation=0.5)
    table = evaluating_refinement.Request(tmp_path / "table", asked, data=grasps, weights=folder, as_json=True)
    assert evaluate_refinement(table) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["method"] for row in rows] == list(refinement_evaluation.METHODS)
    assert all(row["n"] == 2 and np.isfinite(row["mpjpe"]) for row in rows)
    page = (tmp_path / "table" / "refinement.md").read_text()
    assert "| JointDiffusion | 27.69 |" in page
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "table" / "parts").glob("*.json")}
    assert evaluate_refinement(table) == 0
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "table" / "parts").glob("*.json")}


def test_methods_without_weights_are_left_out_and_said(grasps: Path, tmp_path: Path) -> None:
    model = load_hand_model("right")
    evaluation = RefinementEvaluation(model, read_grasps(grasps), Asked(4, 1, 2, validation=0.5), tmp_path / "none")
    assert "grasp-nodes train keypoint" in str(evaluation.missing("keypoint"))
    assert evaluation.missing("geo") is None
    page = markdown_page(read_rows(tmp_path, evaluation, []), evaluation.asked, "toy", {"keypoint": "no weights"})
    assert "Not here: `keypoint` (no weights)" in page
    with pytest.raises(InputError, match="expected some of input"):
        evaluation.missing("magic")


def test_weights_that_saw_the_held_out_hands_are_not_measured_on_them(grasps: Path, tmp_path: Path) -> None:
    assert trained("keypoint", tmp_path / "w", grasps, division="objects") == 0
    model, asked = load_hand_model("right"), Asked(4, 1, 2, division="hands", validation=0.5)
    evaluation = RefinementEvaluation(model, read_grasps(grasps), asked, tmp_path / "w")
    assert "of division=objects, have seen what is held out by hands" in str(evaluation.missing("keypoint"))

    def why(folder: Path, **change: Any) -> str | None:
        return RefinementEvaluation(model, read_grasps(grasps), replace(asked, **change), folder).missing("keypoint")

    assert why(tmp_path / "w", division="objects") is None
    assert "held out 0.5 of toy, less than validation=0.6" in str(
        why(tmp_path / "w", division="objects", validation=0.6)
    )
    # Of a file that does not say what was held out nothing is believed; one of other grasps has seen none of these.
    weights = read_weights(tmp_path / "w" / "keypoint.safetensors")
    for name, change in (("unsaid", {"notes": {}}), ("others", {"notes": {}, "data": "elsewhere: 7 grasps"})):
        card = replace(weights.card, **change)
        save_weights(tmp_path / name / "keypoint.safetensors", weights.tensors, card)
    assert "division=None" in str(why(tmp_path / "unsaid"))
    assert why(tmp_path / "others") is None
    with pytest.raises(InputError, match=r"division: expected objects, hands, .*contactpose-subjects.*'both'"):
        replace(asked, division="both")


def test_weights_of_another_hand_are_left_out_and_the_others_measured(
    grasps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained("keypoint", tmp_path / "w", grasps) == 0
    file = tmp_path / "w" / "keypoint.safetensors"
    weights = read_weights(file)
    save_weights(file, weights.tensors, replace(weights.card, hand_fingerprint="0" * 64))
    asked = Asked(2, 1, 2, level=1, validation=0.5)
    table = evaluating_refinement.Request(tmp_path / "table", asked, data=grasps, weights=tmp_path / "w", as_json=True)
    capsys.readouterr()
    assert evaluate_refinement(table) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(report["left_out"]) == ["keypoint"]
    assert "hand model of fingerprint 000000000000" in report["left_out"]["keypoint"]
    assert {row["method"] for row in report["rows"]} == set(refinement_evaluation.METHODS) - {"keypoint"}
    assert all(row["n"] == 2 for row in report["rows"])
    with pytest.raises(InputError, match=r"method keypoint: .*hand model of fingerprint 000000000000"):
        evaluate_refinement(replace(table, methods="keypoint"))


def test_what_cannot_be_refined_is_refused(grasps: Path, tmp_path: Path) -> None:
    request = Request(grasps, "sphere:0.03", tmp_path / "out.npz", "geo")
    with pytest.raises(InputError, match="several objects"):
        refine(request)
    own = read_grasps(grasps)
    write_grasps(tmp_path / "one.npz", replace(own.of_object(1), objects=own.objects), "float32")
    with pytest.raises(InputError, match="--method magic: expected one of jointdiffusion"):
        refine(replace(request, grasps=tmp_path / "one.npz", method="magic"))
    with pytest.raises(MissingFileError, match="grasp-nodes train"):
        refine(replace(request, grasps=tmp_path / "one.npz", method="keypoint", weights=tmp_path))
    assert refine(replace(request, grasps=tmp_path / "one.npz")) == 0


def test_unknown_settings_are_listed(grasps: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--set colour.*modality=both"):
        trained("jointdiffusion", tmp_path / "w", grasps, colour="red")
    with pytest.raises(InputError, match="modality"):
        trained("jointdiffusion", tmp_path / "w", grasps, modality="sideways")


def test_the_judge_tells_a_perfect_answer_and_a_moved_one() -> None:
    model, ball = load_hand_model("right"), load_object("sphere:0.03")
    hands = replace(HandParams.zeros(1), transl=torch.tensor([[0.1, 0.035, 0.0]]))
    judge, solid = RefinementJudge(model), Solid.of(ball)
    perfect = judge(hands, hands, solid)
    assert perfect.mpjpe[0] == 0
    moved = judge(replace(hands, transl=hands.transl + torch.tensor([0.003, 0.0, 0.004])), hands, solid)
    assert moved.mpjpe[0] == pytest.approx(5.0, abs=1e-3)
    assert moved.root_aligned[0] == pytest.approx(0.0, abs=1e-3)
    far = judge(replace(hands, transl=hands.transl + 0.2), hands, solid)
    assert far.f1[0] == far.precision[0] == far.recall[0] == far.volume[0] == 0
    inside = judge(replace(hands, transl=hands.transl - torch.tensor([0.0, 0.01, 0.0])), hands, solid)
    assert inside.volume[0] > perfect.volume[0]
