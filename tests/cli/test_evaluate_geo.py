"""``grasp-nodes evaluate-geo``: a few grasps, gone on with, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grasp_nodes.cli.app import app
from grasp_nodes.cli.evaluating_geo import Request, evaluate_geo, markdown_page
from grasp_nodes.cli.generators import parse_method
from grasp_nodes.cli.geo_evaluation import METRICS, Asked, GeoEvaluation, Job, Sweep, best_weights, is_measured
from grasp_nodes.data.grasp_set import open_grasps
from grasp_nodes.data.perturbed_grasps import PoseNoise
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.keypoints import FINGER_JOINTS

ASKED = ["--grasps", "2", "--per-object", "2", "--simulated", "0", "--seed", "1", "--threads", "1", "--json"]


def test_a_run_is_measured_once_and_its_rows_compare_with_the_start(tmp_path: Path) -> None:
    command = ["evaluate-geo", "-o", str(tmp_path), *ASKED, "--variants"]
    first = CliRunner().invoke(app, [*command, "truth"], catch_exceptions=False)
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    second = CliRunner().invoke(app, [*command, "truth,geo"], catch_exceptions=False)
    assert first.exit_code == second.exit_code == 0
    assert all(path.stat().st_mtime_ns == when for path, when in parts.items())
    rows = {row["variant"]: row for row in json.loads(second.stdout.splitlines()[-1])["rows"]}
    assert set(rows) == {"perturbed", "truth", "geo"}
    assert all(row["n"] == 2 for row in rows.values())
    assert rows["truth"]["hand_mm"] == 0.0
    assert rows["perturbed"]["pd_ratio"] == 1.0
    assert rows["geo"]["hand_mm"] < rows["perturbed"]["hand_mm"]
    assert rows["geo"]["displacement_cm"] is None
    assert "55.77" in (tmp_path / "geo.md").read_text()


def test_dropped_grasps_are_spread_and_not_taken_for_measured_where_nothing_can_drop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_hand_model("right")
    asked = Asked(grasps=8, per_object=2, simulated=6)
    evaluation = GeoEvaluation(model, open_grasps(model.fingerprint), asked, PoseNoise())
    shares = [evaluation.simulated_of(number) for number in range(4)]
    assert sum(shares) == 6
    assert set(shares) == {1, 2}
    path = tmp_path / "part.json"
    assert not is_measured(path, 0)
    path.write_text(json.dumps({"penetration_mm": [1.0, 2.0]}))
    for installed in (True, False):
        monkeypatch.setattr("grasp_nodes.cli.geo_evaluation.can_drop", lambda installed=installed: installed)
        assert is_measured(path, 2) == (not installed)
        assert is_measured(path, 0)
    path.write_text(json.dumps({"penetration_mm": [1.0, 2.0], "displacement_cm": [0.1]}))
    assert is_measured(path, 2)


def test_baselines_are_compared_at_their_best_weight() -> None:
    def row(variant: str, ratio: float, hand: float) -> dict[str, object]:
        metrics = (
            "object_mm",
            "penetration_mm",
            "volume_cm3",
            "disjointedness_mm",
            "touching_mm",
            "anatomy",
            "seconds",
        )
        ratios = dict.fromkeys(("pd_ratio", "siv_ratio", "dd_ratio", "touching_ratio", "sd_ratio"), ratio)
        base = {"variant": variant, "what": "", "n": 8, "simulated": 0, "displacement_cm": None, "hand_mm": hand}
        return {**base, **dict.fromkeys(metrics, ratio), **ratios}

    rows = [
        row("geo", 0.4, 9.0),
        row("obman_300", 0.9, 20.0),
        row("obman_12000", 0.3, 22.0),
        row("vanilla_30", 0.8, 23.0),
    ]
    assert {kind: best["variant"] for kind, best in best_weights(rows).items()} == {
        "obman": "obman_12000",
        "vanilla": "vanilla_30",
    }
    page = markdown_page(rows, Asked())
    assert "`obman_12000`. Oracle GeO is better than it in HE mm and worse in PD mm, SIV cm3, DD mm, L_anat" in page
    assert "*unperturbed* grasp" in page
    assert "Of PD, SIV, DD and SD, obman is worse in 0 of 3." in page
    assert page.index("Oracle") < page.index("| variant")


def test_sweeps_are_of_some_objects_and_choose_what_all_are_measured_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is written whole: main table, sweeps and the paper's."""
    sweeps = (Sweep("Weights", ("perturbed", "obman_300", "obman_1200")), Sweep("Strength", ("geo", "krpl_0.004")))
    monkeypatch.setattr("grasp_nodes.cli.evaluating_geo.SWEEPS", sweeps)
    monkeypatch.setattr("grasp_nodes.cli.evaluating_geo.MEASURED", ("truth", "perturbed"))
    run = []

    def metrics(_: GeoEvaluation, name: str, job: Job) -> dict[str, list[float]]:
        run.append(name)
        value = {"obman_300": 2.0, "obman_1200": 1.0}.get(name, 4.0)
        return {metric: [value] * len(job.start) for metric in (*METRICS, "seconds")}

    monkeypatch.setattr(GeoEvaluation, "run", metrics)
    asked = Asked(grasps=6, per_object=2, simulated=0, swept=2)
    assert evaluate_geo(Request(tmp_path, asked)) == 0
    count = {name: run.count(name) for name in set(run)}
    assert count == {"perturbed": 3, "obman_300": 1, "obman_1200": 3, "geo": 1, "krpl_0.004": 1, "truth": 3}
    page = (tmp_path / "geo.md").read_text()
    main, weights, strength, paper = page.split("\n## ")
    assert "obman_1200: " in main
    assert "obman_300: " not in main
    assert "obman_300: " in weights
    assert "krpl_0.004: " in strength
    assert "principal components" in paper


def test_what_touches_is_told_by_the_true_grasp_and_a_twist_is_of_the_thumb() -> None:
    model = load_hand_model("right")
    evaluation = GeoEvaluation(model, open_grasps(model.fingerprint), Asked(2, 2, 0), PoseNoise())
    job = evaluation.job(0)
    truth, start = evaluation.run("truth", job), evaluation.run("perturbed", job)
    assert max(truth["touching_mm"]) < 5.0
    assert min(truth["disjointedness_mm"]) > max(truth["touching_mm"])
    assert start["touching_mm"] != truth["touching_mm"]
    change = (evaluation._refined("twisted", job)[0].hand_pose - job.truth.hand_pose).abs().reshape(2, 15, 3).amax(2)
    moved = {joint for joint in range(15) if float(change[:, joint].max()) > 0.1}
    assert moved == {joint - 1 for joint in FINGER_JOINTS["thumb"][1:]}
    costs = [sum(evaluation.run(name, job)["anatomy"]) for name in ("twisted", "twisted_projected")]
    assert costs[1] < 0.7 * costs[0]


def test_unknown_variants_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nonsense.*vanilla"):
        evaluate_geo(Request(tmp_path, Asked(), "geo,nonsense"))


def test_methods_can_be_refined_with_geo() -> None:
    found = parse_method("jhod+rank8+geo")
    assert (found.base, found.rank, found.geo, found.polish) == ("jhod", 8, True, False)
    assert str(found) == "jhod+rank8+geo"
    for wrong in ("jhod+geo+polish", "jhod+polish+geo", "+geo"):
        with pytest.raises(InputError, match=r"\+geo"):
            parse_method(wrong)
