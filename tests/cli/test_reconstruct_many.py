"""``grasp-nodes reconstruct --many``: what a list says, who does what, and that nothing is lost or done twice."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grasp_nodes.cli import reconstructing_many
from grasp_nodes.cli.app import app
from grasp_nodes.cli.reconstruction.many import ManyResults, read_list
from grasp_nodes.cli.reconstruction.setup import Request
from grasp_nodes.data.workers import WorkerProcesses
from grasp_nodes.errors import InputError, MissingFileError


def clips(folder, *names):
    for name in names:
        (folder / name).mkdir(parents=True)
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["reconstruct", *map(str, arguments)])


@pytest.fixture
def stand_in(monkeypatch):
    job = "tests.cli.reconstruction_double:counting_job"
    monkeypatch.setattr(reconstructing_many, "JOB", job)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def begun(output):
    return {path.parent.name: len(path.read_text()) for path in output.glob("*/begun")}


def test_killed_worker_loses_nothing_and_doubles_nothing(tmp_path, stand_in):
    clips(tmp_path / "clips", "a", "b", "c_dies", "d_fails", "e_once")
    output = tmp_path / "out"
    result = run("--many", tmp_path / "clips", "-o", output, "--workers", 2, "--json")
    assert result.exit_code == 1, result.output
    total = json.loads(result.stdout.strip().splitlines()[-1])
    assert (total["clips"], total["done"], total["failed"], total["frames"]) == (5, 4, 1, 12)
    assert total["tried_again"] == 2
    assert begun(output) == {"a": 1, "b": 1, "c_dies": 2, "d_fails": 2, "e_once": 2}
    summary = json.loads((output / "summary.json").read_text())
    assert sorted(row["name"] for row in summary["rows"]) == ["a", "b", "c_dies", "e_once"]
    assert "no such luck" in summary["failures"]["d_fails"]
    page = (output / "summary.md").read_text()
    assert page.count("| a |") == 1
    assert "| a | 3 | 50% | 4 | [sheet](a/sheet.png) |" in page
    again, failed = page.split("## Done at a further attempt")[1].split("## Failed")
    assert "- c_dies: its process ended (signal 9)" in again
    assert "- e_once: " in again
    assert again.count("- ") == 2
    assert "- d_fails: " in failed
    lost = {row["name"]: row.get("lost_attempts") for row in summary["rows"]}
    assert lost["a"] is lost["b"] is None
    assert ["only the first time" in reason for reason in lost["e_once"]] == [True]
    again = run("--many", tmp_path / "clips", "-o", output, "--workers", 2)
    assert again.exit_code == 1
    assert begun(output) == {"a": 1, "b": 1, "c_dies": 2, "d_fails": 4, "e_once": 2}, "only what failed is tried again"
    assert "c_dies: its process ended" in (output / "summary.md").read_text(), "what was lost is still told"
    other = run("--many", tmp_path / "clips", "-o", output, "--workers", 2, "--seed", 1, "--frames", 2)
    assert other.exit_code == 1
    assert begun(output)["a"] == 2, "another request is not answered by the old answer"


def test_list_says_what_differs(tmp_path):
    clips(tmp_path, "a/clip", "b/clip", "c")
    (tmp_path / "mug.obj").write_text("")
    lines = ["a/clip object=mug.obj fov=70  # the first", "", '"b/clip" seed=3 frames=5']
    text = "\n".join([*lines, "c name=third object=sphere:0.1 object=box:1,1,1"])
    (tmp_path / "list.txt").write_text(text)
    common = Request("", tmp_path / "out", ("cylinder:0.1,0.2",), seed=1)
    jobs = {job.name: job.request for job in read_list(tmp_path / "list.txt", common)}
    assert set(jobs) == {"a__clip", "b__clip", "third"}
    first, second, third = jobs["a__clip"], jobs["b__clip"], jobs["third"]
    assert (first.clip, first.objects, first.field_of_view) == (
        str(tmp_path / "a/clip"),
        (str(tmp_path / "mug.obj"),),
        70,
    )
    assert (second.objects, second.seed, second.frames) == (("cylinder:0.1,0.2",), 3, 5)
    assert third.objects == ("sphere:0.1", "box:1,1,1")
    assert third.output == tmp_path / "out/third"
    assert len({job.key for job in read_list(tmp_path / "list.txt", common)}) == 3


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        ("nowhere", MissingFileError, r"line 1: clip 'nowhere': not found"),
        ("c color=red", InputError, r"line 1: expected name=.* got 'color=red'"),
        ("c seed=many", InputError, "seed: expected a number, got 'many'"),
        ("c name=../up", InputError, r"name=\.\./up"),
        ("c name=results", InputError, "other than results"),
        ('c "name', InputError, "No closing quotation"),
        ("# nothing", InputError, "holds no clip"),
        ("c name=x\nc name=x", InputError, "several clips are called x"),
    ],
)
def test_bad_lists_are_refused_with_the_line(tmp_path, line, kind, reason):
    clips(tmp_path, "c")
    (tmp_path / "list.txt").write_text(line + "\n")
    with pytest.raises(kind, match=reason):
        read_list(tmp_path / "list.txt", Request("", tmp_path / "out"))


def test_answer_that_is_damaged_counts_as_none(tmp_path):
    clips(tmp_path, "c")
    (tmp_path / "list.txt").write_text("c\n")
    job = read_list(tmp_path / "list.txt", Request("", tmp_path / "out"))[0]
    results = ManyResults(tmp_path / "out")
    assert results.of(job) is None
    results.keep(job.name, json.dumps({"key": job.key}).encode())
    assert results.of(job) == {"key": job.key}
    results.keep(job.name, b'{"key": ')
    assert results.of(job) is None


def test_workers_are_processes_unless_a_cluster_is_named():
    team = reconstructing_many.Team(workers=3).gather()
    assert isinstance(team, WorkerProcesses)
    assert team.room() == 3
    team.close()
