"""``grasp-nodes evaluate-geo``: a few grasps, gone on with, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grasp_nodes.cli.app import app
from grasp_nodes.cli.evaluating_geo import Request, evaluate_geo
from grasp_nodes.cli.generators import parse_method
from grasp_nodes.cli.geo_evaluation import Asked
from grasp_nodes.errors import InputError

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
