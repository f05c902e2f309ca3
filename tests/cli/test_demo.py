"""The demo's last line and exit code, with the nodes replaced by what they leave behind."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from grasp_nodes.cli import demo
from grasp_nodes.data import rendered_clips
from grasp_nodes.errors import GraspNodesError, InputError

REPORT = {"frames_in": 90, "frames_out": 90, "found_share": 1.0, "fps": 12.5, "complete": True}


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the nodes will write and return; `seen` is what they were given."""
    plan: dict[str, Any] = {"text": json.dumps(REPORT), "code": 0, "seen": {}, "rendered": []}

    def launch_file(_path: Path, arguments: Mapping[str, str]) -> int:
        plan["seen"] = dict(arguments)
        if plan["text"] is not None:
            Path(arguments["report_file"]).write_text(plan["text"])
        sys.stdout.write("a node's log line\n")
        return int(plan["code"])

    monkeypatch.setattr(demo, "launch_file", launch_file)
    monkeypatch.setattr(demo, "find_launch_file", lambda name: Path(f"{name}.launch.py"))

    def default_clip(frames: int, seed: int, progress: Callable[[int, int], None]) -> Path:
        plan["rendered"].append((frames, seed))
        progress(frames, frames)
        return Path("clip")

    monkeypatch.setattr(rendered_clips, "default_clip", default_clip)
    return plan


def test_the_last_line_is_the_report(nodes: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.run_demo({"frames": "90"}) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == REPORT
    assert nodes["seen"]["frames"] == "90"
    assert nodes["rendered"] == [(90, 0)]


@pytest.mark.parametrize("frames", [{}, {"frames": "0"}])
def test_no_number_of_frames_means_all(nodes: dict[str, Any], frames: dict[str, str]) -> None:
    demo.run_demo({**frames, "seed": "3"})
    assert nodes["rendered"] == [(rendered_clips.MAX_FRAMES, 3)]


@pytest.mark.parametrize("arguments", [{"frames": "many"}, {"seed": "-1"}, {"frames": "1.5"}])
def test_numbers_are_checked_before_anything_starts(nodes: dict[str, Any], arguments: dict[str, str]) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        demo.run_demo(arguments)
    assert nodes["seen"] == {}


def test_a_source_of_the_user_is_not_rendered(nodes: dict[str, Any]) -> None:
    demo.run_demo({"source": "clip.mp4"})
    assert nodes["rendered"] == []
    assert nodes["seen"]["source"] == "clip.mp4"


def test_the_report_stays_where_the_user_wants_it(nodes: dict[str, Any], tmp_path: Path) -> None:
    kept = tmp_path / "report.json"
    kept.write_text("of an earlier run")
    assert demo.run_demo({"report_file": str(kept)}) == 0
    assert json.loads(kept.read_text()) == REPORT


def test_a_node_that_failed_fails_the_demo(nodes: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    nodes["code"] = 1
    assert demo.run_demo({}) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == REPORT


@pytest.mark.parametrize("report", [{**REPORT, "complete": False}, {**REPORT, "frames_out": 0}])
def test_a_demo_that_was_cut_off_or_saw_nothing_fails(nodes: dict[str, Any], report: dict[str, Any]) -> None:
    nodes["text"] = json.dumps(report)
    assert demo.run_demo({}) == 1


@pytest.mark.parametrize(("text", "said"), [(None, "without a report"), ("{", "not JSON"), ("[1]", "list")])
def test_a_missing_or_broken_report_is_explained(nodes: dict[str, Any], text: str | None, said: str) -> None:
    nodes["text"] = text
    with pytest.raises(GraspNodesError, match=said):
        demo.run_demo({})


def test_an_old_report_is_not_taken_for_a_new_one(nodes: dict[str, Any], tmp_path: Path) -> None:
    old = tmp_path / "report.json"
    old.write_text(json.dumps(REPORT))
    nodes["text"] = None
    with pytest.raises(GraspNodesError, match="without a report"):
        demo.run_demo({"report_file": str(old)})
