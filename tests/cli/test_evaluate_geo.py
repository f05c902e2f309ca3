"""``grasp-nodes evaluate-geo``: a few grasps, gone on with, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grasp_nodes.cli.app import app
from grasp_nodes.cli.evaluating_geo import Request, evaluate_geo, markdown_page
from grasp_nodes.cli.generators import parse_method
from grasp_nodes.cli.geo_evaluation import Asked, GeoEvaluation, best_weights, is_measured
from grasp_nodes.data.grasp_set import open_grasps
from grasp_nodes.data.perturbed_grasps import PoseNoise
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model

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
        metrics = ("object_mm", "penetration_mm", "volume_cm3", "disjointedness_mm", "anatomy", "seconds")
        ratios = dict.fromkeys(("pd_ratio", "siv_ratio", "dd_ratio"), ratio)
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
    assert page.index("Oracle") < page.index("| variant")


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
