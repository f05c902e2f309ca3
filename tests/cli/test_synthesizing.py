"""``grasp-nodes synthesize`` as a user calls it: the last line, the exit codes, Ctrl-C, and what a kill leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from grasp_nodes.cli import app as app_module
from grasp_nodes.cli import synthesizing
from grasp_nodes.data.grasp_files import content_sha256, read_grasps
from grasp_nodes.data.shards import Progress
from grasp_nodes.hand.files import load_hand_arrays

ROOT = Path(__file__).resolve().parents[2]
DOUBLE = ROOT / "tests" / "data"
ENGINE = "synthesis_double:synthesize_grasps"
SIZE = ("--objects", "6", "--grasps", "40")
WITH_DOUBLE = (
    "from grasp_nodes.cli import synthesizing\n"
    f"synthesizing.ENGINE = {ENGINE!r}\n"
    "from grasp_nodes.cli.app import main\n"
    "main()\n"
)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command in this process with the stand-in for the synthesis: exit code, stdout, stderr."""
    monkeypatch.syspath_prepend(str(DOUBLE))
    monkeypatch.setattr(synthesizing, "ENGINE", ENGINE)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["grasp-nodes", "synthesize", *words])
        with pytest.raises(SystemExit) as ended:
            app_module.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def started(folder: Path, **environment: str) -> subprocess.Popen[str]:
    """The command in a process group of its own, with two workers."""
    return subprocess.Popen(
        [sys.executable, "-c", WITH_DOUBLE, "synthesize", "-o", str(folder), *SIZE, "--workers", "2", "--json"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{DOUBLE}", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition, seconds: float = 200.0):
    """What the condition gives, once it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain")


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The worker processes, without multiprocessing's own helper."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_the_last_line_tells_what_was_made(call, tmp_path):
    code, out, err = call("-o", str(tmp_path / "set"), *SIZE, "--seed", "4", "--workers", "1", "--json")
    assert code == 0
    row = json.loads(out.splitlines()[-1])
    grasps = read_grasps(Path(row["file"]), load_hand_arrays("right").fingerprint)
    assert len(grasps) == row["grasps"] == 40
    assert row["content_sha256"] == content_sha256(grasps)
    assert row["objects"] == 6
    assert row["seed"] == 4
    assert row["failed"] == {}
    assert row["bytes"] == Path(row["file"]).stat().st_size
    assert "accepted 0/40" in err


def test_other_settings_and_bad_numbers_are_bad_usage(call, tmp_path):
    assert call("-o", str(tmp_path / "set"), *SIZE, "--workers", "1")[0] == 0
    code, _, err = call("-o", str(tmp_path / "set"), *SIZE, "--seed", "1")
    assert code == 2
    assert "seed 0 instead of 1" in err
    assert len(err.splitlines()) == 1
    for words in (("--objects", "0"), ("--grasps", "0"), ("--seed", "-1"), ("--workers", "0")):
        assert call("-o", str(tmp_path / "other"), *words)[0] == 2
    assert not (tmp_path / "other").exists()


def test_an_object_that_fails_is_listed_and_the_code_is_1(call, tmp_path, monkeypatch):
    monkeypatch.setenv("DOUBLE_FAILS", "sphere:0")
    code, out, err = call("-o", str(tmp_path / "set"), *SIZE, "--workers", "1", "--json")
    assert code == 1
    row = json.loads(out.splitlines()[-1])
    assert list(row["failed"]) == ["sphere:0"]
    assert row["grasps"] == 40
    assert "ArithmeticError: no grasp of sphere:0, as ordered" in err
    assert "the same command tries them again" in err


def test_a_folder_that_cannot_be_written_is_one_line(call, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = call("-o", str(tmp_path / "file" / "set"), *SIZE)
    assert code == 1
    assert re.fullmatch(r"grasp-nodes: .*file/set: cannot be written \(Not a directory\).*\n", err)


@pytest.mark.processes
def test_ctrl_c_ends_soon_and_the_same_command_goes_on(call, tmp_path):
    process = started(tmp_path / "set", DOUBLE_SLEEP="1.5")
    try:
        wait_for(lambda: list((tmp_path / "set" / "shards").glob("*.npz")))
        workers = workers_of(process)
        assert len(workers) == 2
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
        begin = time.monotonic()
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - begin < 30
    finally:
        process.kill()
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert "the same command goes on from there" in " ".join(err.split())
    assert not any(worker.is_running() for worker in workers)
    assert not list((tmp_path / "set").rglob("*.part"))
    kept = {path.name: path.read_bytes() for path in (tmp_path / "set" / "shards").glob("*.npz")}
    assert 1 <= len(kept) < 6

    assert call("-o", str(tmp_path / "set"), *SIZE, "--workers", "1")[0] == 0
    assert all((tmp_path / "set" / "shards" / name).read_bytes() == content for name, content in kept.items())
    assert call("-o", str(tmp_path / "whole"), *SIZE, "--workers", "1")[0] == 0
    assert (tmp_path / "set" / "grasps.npz").read_bytes() == (tmp_path / "whole" / "grasps.npz").read_bytes()


@pytest.mark.processes
def test_workers_end_after_whoever_started_them_was_killed(tmp_path):
    process = started(tmp_path / "set", DOUBLE_SLEEP="0.5")
    try:
        wait_for(lambda: list((tmp_path / "set" / "shards").glob("*.npz")))
        workers = workers_of(process)
    finally:
        process.kill()
        process.communicate()
    wait_for(lambda: not any(worker.is_running() for worker in workers))


def test_rate_and_time_left_count_from_where_this_run_began(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(synthesizing.time, "monotonic", lambda: now[0])
    clock = synthesizing._Clock()
    assert clock.words(Progress(1000, 5000, 8, 40, 0)) == ("0/min", "time left unknown", "objects 8/40")
    now[0] += 60.0
    assert clock.words(Progress(1800, 5000, 14, 40, 1)) == ("800/min", "0:04:00 left", "objects 14/40, 1 failed")
    now[0] += 60.0
    assert clock.words(Progress(5100, 5000, 40, 40, 0))[1] == "0:00:00 left"
