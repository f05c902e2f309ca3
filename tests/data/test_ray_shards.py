"""A Ray cluster makes the same set as one process does, also when one of its workers is killed in the middle."""

from __future__ import annotations

from pathlib import Path

import pytest

from grasp_nodes.data.grasp_set import assemble
from grasp_nodes.data.ray_workers import RayWorkers
from grasp_nodes.data.shards import JOB, ShardFolder, make_shards, settings_here
from grasp_nodes.data.workers import WorkerProcesses, WorkError, Workers
from grasp_nodes.errors import InputError, MissingDependencyError

HERE = Path(__file__).resolve().parent
OBJECTS, GRASPS = 8, 60


def made(path: Path, workers: Workers) -> tuple[dict[str, str], bytes]:
    """What failed, and the bytes of the set."""
    settings = settings_here(OBJECTS, GRASPS, 3, "synthesis_double:synthesize_grasps")
    folder = ShardFolder(path)
    with folder.opened(settings):
        failed = make_shards(folder, settings, lambda: workers, lambda progress: None)
    return failed, assemble(path).path.read_bytes()


@pytest.mark.slow
@pytest.mark.processes
def test_a_cluster_of_two_workers_one_of_them_killed_makes_the_same_set(tmp_path, monkeypatch, caplog):
    ray = pytest.importorskip("ray", reason="the scale extra is not installed")
    monkeypatch.syspath_prepend(str(HERE))
    one, expected = made(tmp_path / "one", WorkerProcesses(JOB, 1))
    monkeypatch.setenv("DOUBLE_SHORT", "")  # a local cluster takes over this environment
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv("DOUBLE_KILLS", str(marks))
    monkeypatch.setenv("DOUBLE_KILLED", "sphere:0")
    monkeypatch.setenv("DOUBLE_FAILS", "capsule:0")
    try:
        cluster = RayWorkers(JOB, "local", 2)
    except WorkError as error:
        pytest.skip(f"Ray gives its own processes 15 s to start, this machine is too busy: {error}")
    two, _ = made(tmp_path / "two", cluster)
    assert one == {}
    assert list(two) == ["capsule:0"]
    assert "no grasp of capsule:0, as ordered" in two["capsule:0"]
    assert [mark.name for mark in marks.iterdir()] == ["sphere-0"]
    assert "sphere:0: its Ray worker was lost" in caplog.text
    assert not ray.is_initialized()
    # What failed is made by the next run, here without a cluster.
    monkeypatch.delenv("DOUBLE_FAILS")
    three, content = made(tmp_path / "two", WorkerProcesses(JOB, 1))
    assert three == {}
    assert content == expected


def test_an_address_without_a_cluster_is_refused_at_once():
    pytest.importorskip("ray", reason="the scale extra is not installed")
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(InputError, match=rf"--ray {address}: nothing answers there .*ray start --head"):
            RayWorkers(JOB, address)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"grasp_nodes\[scale\]"):
        RayWorkers(JOB, "local")
