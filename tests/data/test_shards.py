"""Shards: the set depends on its settings alone, whatever happens to those who make it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from grasp_nodes.data import grasp_set, shards
from grasp_nodes.data.grasp_files import mesh_sha256, read_grasps
from grasp_nodes.data.grasp_set import OPEN_GRASPS_FILE, assemble, balanced_counts, balanced_rows, join, open_grasps
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.data.shards import JOB, Progress, Settings, ShardFolder, make_shard, make_shards, settings_here
from grasp_nodes.data.workers import Event, Task, WorkerProcesses, WorkError, attempt, resolve, run_tasks
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.objects.registry import ObjectName, training_names

HERE = Path(__file__).resolve().parent
ENGINE = "synthesis_double:synthesize_grasps"
OBJECTS, GRASPS = 6, 40


@pytest.fixture(autouse=True)
def double(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in can be imported, here and in the processes that are started."""
    monkeypatch.syspath_prepend(str(HERE))


class Here:
    """Workers without processes; `order` turns the tasks round."""

    def __init__(self, reverse: bool = False) -> None:
        self.tasks: list[Task] = []
        self.reverse = reverse
        self.ran: list[str] = []

    def room(self) -> int:
        return 100 - len(self.tasks)

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def wait(self, seconds: float) -> list[Event]:
        task = self.tasks.pop(-1 if self.reverse else 0)
        self.ran.append(task.name)
        return [attempt(resolve(JOB), task)]

    def close(self) -> None:
        self.tasks.clear()


def make(path: Path, workers=Here, settings: Settings | None = None) -> dict[str, str]:
    settings = settings or settings_here(OBJECTS, GRASPS, 0, ENGINE)
    folder = ShardFolder(path)
    with folder.opened(settings):
        return make_shards(folder, settings, workers, lambda progress: None)


@pytest.fixture
def reference(tmp_path: Path) -> bytes:
    """The file of the set, made in this process in order."""
    assert make(tmp_path / "reference") == {}
    return assemble(tmp_path / "reference").path.read_bytes()


def test_the_set_is_what_was_asked_for(reference, tmp_path):
    grasps = read_grasps(tmp_path / "reference" / "grasps.npz")
    assert len(grasps) == GRASPS
    assert [one.name for one in grasps.objects] == [str(name) for name in training_names(OBJECTS)]
    per_object = np.bincount(grasps.object_index)
    assert per_object.max() - per_object.min() <= 1
    assert grasps.attributes["seed"] == "0"
    assert grasps.attributes["licence"] == "CC0-1.0"
    assert [one.mesh_sha256 for one in grasps.objects] == [mesh_sha256(one.name) for one in grasps.objects]


def test_order_and_processes_do_not_change_the_set(reference, tmp_path):
    assert make(tmp_path / "a", lambda: Here(reverse=True)) == {}
    assert make(tmp_path / "b", lambda: WorkerProcesses(JOB, 2)) == {}
    for name in "ab":
        assert assemble(tmp_path / name).path.read_bytes() == reference


def test_another_seed_is_another_set(reference, tmp_path):
    make(tmp_path / "a", settings=settings_here(OBJECTS, GRASPS, 1, ENGINE))
    assert assemble(tmp_path / "a").path.read_bytes() != reference


def test_a_shard_depends_on_seed_and_name_alone():
    few, many = settings_here(2, 14, 5, ENGINE), settings_here(200, 1400, 5, ENGINE)
    name = ObjectName("mug", 3)
    assert few.quota == many.quota == 7
    assert few.shard_seed(name) == many.shard_seed(name)
    seeds = {few.shard_seed(one) for one in training_names(200)}
    assert len(seeds) == 200
    assert few.shard_seed(name) != settings_here(2, 14, 6, ENGINE).shard_seed(name)


def test_a_stopped_run_is_gone_on_with(reference, tmp_path):
    class Stopped(Here):
        def wait(self, seconds: float) -> list[Event]:
            if len(self.ran) == 2:
                raise KeyboardInterrupt
            return super().wait(seconds)

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "a", Stopped)
    assert len(list((tmp_path / "a" / "shards").glob("*.npz"))) == 2
    with pytest.raises(InputError, match="4 of 6 shards are not made yet"):
        assemble(tmp_path / "a")
    rest = Here()
    assert make(tmp_path / "a", lambda: rest) == {}
    assert rest.ran == [str(name) for name in training_names(OBJECTS)[2:]]
    assert assemble(tmp_path / "a").path.read_bytes() == reference


def test_nothing_is_started_for_a_set_that_is_complete(reference, tmp_path):
    def none() -> Here:
        raise AssertionError("workers were started")

    assert make(tmp_path / "reference", none) == {}


def test_a_damaged_shard_is_made_again(reference, tmp_path, caplog):
    file = tmp_path / "reference" / "shards" / "box-0.npz"
    file.write_bytes(file.read_bytes()[:100])
    again = Here()
    assert make(tmp_path / "reference", lambda: again) == {}
    assert again.ran == ["box:0"]
    assert "it is made again" in caplog.text
    assert assemble(tmp_path / "reference").path.read_bytes() == reference


def test_a_killed_process_costs_only_its_attempt(reference, tmp_path, monkeypatch, caplog):
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv("DOUBLE_KILLS", str(marks))
    monkeypatch.setenv("DOUBLE_KILLED", "box:0 prism:0 sphere:0")
    assert make(tmp_path / "a", lambda: WorkerProcesses(JOB, 2)) == {}
    assert len(list(marks.iterdir())) == 2  # prism is not among the six
    assert caplog.text.count("signal 9") == 2
    assert assemble(tmp_path / "a").path.read_bytes() == reference


def test_a_shard_that_always_kills_is_given_up():
    class Killing(Here):
        def wait(self, seconds: float) -> list[Event]:
            self.ran.append(self.tasks[0].name)
            return [Event(self.tasks.pop(0), "died", message="its process ended (signal 9)")]

    workers = Killing()
    failed = run_tasks([Task("a", ()), Task("b", ())], workers, lambda task, content: None, lambda: None)
    assert failed == dict.fromkeys("ab", "its process ended (signal 9)")
    assert sorted(workers.ran) == ["a"] * 3 + ["b"] * 3


def test_a_shard_that_fails_is_tried_twice_and_made_up_for(tmp_path, monkeypatch):
    monkeypatch.setenv("DOUBLE_FAILS", "sphere:0")
    workers = Here()
    failed = make(tmp_path / "a", lambda: workers)
    assert list(failed) == ["sphere:0"]
    assert "no grasp of sphere:0, as ordered" in failed["sphere:0"]
    assert workers.ran.count("sphere:0") == 2
    made = assemble(tmp_path / "a")
    assert len(made.grasps) == GRASPS
    assert made.statistics["making"]["shards_failed"] == 1
    # Once it can be made, the set is the one that it would have been at once.
    monkeypatch.delenv("DOUBLE_FAILS")
    assert make(tmp_path / "a") == {}
    assert not (tmp_path / "a" / "failed.json").exists()
    make(tmp_path / "b")
    assert assemble(tmp_path / "a").path.read_bytes() == assemble(tmp_path / "b").path.read_bytes()


def test_what_a_family_lacks_further_objects_give_whatever_the_order(tmp_path, monkeypatch):
    monkeypatch.setenv("DOUBLE_SHORT", "box")
    assert make(tmp_path / "a") == {}
    assert make(tmp_path / "b", lambda: Here(reverse=True)) == {}
    first, second = assemble(tmp_path / "a"), assemble(tmp_path / "b")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert len(first.grasps) == GRASPS
    # 6 objects of a quota of 7; the box gives 2, so that 37 are there and 3 lack: one more object.
    names = [one.name for one in first.grasps.objects]
    assert names == [str(name) for name in training_names(7)]
    assert np.bincount(first.grasps.object_index).tolist() == [2, 7, 7, 6, 6, 6, 6]


def test_objects_that_give_nothing_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "BARREN_OBJECTS", 6)

    class Nothing(Here):
        def wait(self, seconds: float) -> list[Event]:
            self.ran.append(self.tasks[0].name)
            return [Event(self.tasks.pop(0), "error", message="RuntimeError: none")]

    workers = Nothing()
    with pytest.raises(WorkError, match=r"40 of 40 grasps are missing.*6 failed.*RuntimeError: none"):
        make(tmp_path / "a", lambda: workers)
    assert len(workers.ran) == 2 * OBJECTS


def test_an_engine_that_breaks_its_promise_is_refused(monkeypatch):
    import synthesis_double

    settings = settings_here(OBJECTS, GRASPS, 0, ENGINE)
    real = synthesis_double.synthesize_grasps
    monkeypatch.setattr(synthesis_double, "synthesize_grasps", lambda name, count, seed: real(name, count + 1, seed))
    with pytest.raises(InputError, match=r"expected up to 7 grasps of one object .* got 8"):
        make_shard(settings, ObjectName("mug", 0))


def test_a_host_of_other_versions_is_refused(monkeypatch):
    settings = settings_here(OBJECTS, GRASPS, 0, ENGINE)
    monkeypatch.setattr(shards, "library_versions", lambda: {**settings.libraries, "torch": "1.0"})
    with pytest.raises(InputError, match=r"torch '.*' instead of '1\.0'.*install the same on all"):
        make_shard(settings, ObjectName("mug", 0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed 0 instead of 1"),
        ({"grasps": 41}, "grasps 40 instead of 41"),
        ({"synthesis_version": 2}, "synthesis_version 1 instead of 2"),
        ({"registry_version": 0}, "registry_version 1 instead of 0"),
        ({"hand_fingerprint": "x"}, "hand_fingerprint '.*' instead of 'x'"),
        ({"libraries": {"numpy": "0"}}, "numpy '.*' instead of '0'"),
    ],
)
def test_a_folder_of_other_settings_is_refused(reference, tmp_path, change, said):
    other = dataclasses.replace(settings_here(OBJECTS, GRASPS, 0, ENGINE), **change)
    with pytest.raises(InputError, match=rf"other settings \((?s:.*){said}"):
        make(tmp_path / "reference", settings=other)


def test_folders_of_something_else_are_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"not empty, .* \(it has thesis\.tex\)"):
        make(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "settings.json").write_text('{"seed": 1}')
    with pytest.raises(InputError, match=r"settings\.json: not the settings"):
        make(tmp_path / "a")
    with pytest.raises(MissingFileError, match="no set was begun here"):
        assemble(tmp_path / "nowhere")


def test_two_runs_in_one_folder_are_refused(tmp_path):
    settings = settings_here(OBJECTS, GRASPS, 0, ENGINE)
    with ShardFolder(tmp_path / "a").opened(settings), pytest.raises(InputError, match="another run is at work"):
        make(tmp_path / "a")
    assert make(tmp_path / "a") == {}


def test_a_full_disk_is_one_message_and_leaves_nothing_half_written(reference, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Settings of about 600 bytes fit, a shard does not: its write is cut off in the middle.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(WorkError, match=r"cannot be written .*Make room there, then run the same command again"):
            make(tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "a" / "shards").iterdir()) == []
    assert make(tmp_path / "a") == {}
    assert assemble(tmp_path / "a").path.read_bytes() == reference


def test_no_room_at_the_end_is_the_same_message(reference, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(WorkError, match="No space left on device"):
        assemble(tmp_path / "reference")
    monkeypatch.undo()
    assert (tmp_path / "reference" / "grasps.npz").read_bytes() == reference
    assert not list((tmp_path / "reference").rglob("*.part"))


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    settings = settings_here(OBJECTS, GRASPS, 0, ENGINE)
    with ShardFolder(tmp_path).opened(settings):
        (tmp_path / "shards" / "box-0.npz.0123.part").write_bytes(b"half")
    assert make(tmp_path) == {}
    assert not list(tmp_path.rglob("*.part"))


def test_progress_counts_what_is_accepted(tmp_path):
    told: list[Progress] = []
    settings = settings_here(OBJECTS, GRASPS, 0, ENGINE)
    folder = ShardFolder(tmp_path)
    with folder.opened(settings):
        make_shards(folder, settings, Here, told.append)
    assert told[0] == Progress(0, GRASPS, 0, OBJECTS, 0)
    assert told[-1] == Progress(42, GRASPS, OBJECTS, OBJECTS, 0)
    assert [one.accepted for one in told] == sorted(one.accepted for one in told)


def test_worker_processes_end_at_once_when_they_are_closed(monkeypatch):
    import psutil

    monkeypatch.setenv("DOUBLE_SLEEP", "600")
    workers = WorkerProcesses(JOB, 2)
    settings = settings_here(OBJECTS, GRASPS, 0, ENGINE)
    for name in training_names(2):
        workers.submit(Task(str(name), (settings, name)))
    assert workers.room() == 0
    pids = workers.pids()
    assert workers.wait(0.1) == []
    begin = time.monotonic()
    workers.close()
    assert time.monotonic() - begin < 10
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


def test_a_worker_process_computes_with_one_thread():
    workers = WorkerProcesses("synthesis_double:threads", 1)
    try:
        workers.submit(Task("a", ()))
        events: list[Event] = []
        while not events:
            events = workers.wait(10)
    finally:
        workers.close()
    assert json.loads(events[0].content) == {"torch": 1, "numba": 1, "interrupts": False}


def test_processes_that_cannot_start_end_the_run():
    for job in ("no_such_module:job", "synthesis_double:no_such_job"):
        workers = WorkerProcesses(job, 1)
        with pytest.raises(WorkError, match=r"cannot start: .*expected module:function"):
            run_tasks([Task("a", ())], workers, lambda task, content: None, lambda: None)
        workers.close()


def test_processes_that_die_at_once_end_the_run():
    workers = WorkerProcesses("dying_double:job", 1)
    with pytest.raises(WorkError, match=r"end before they can work \(exit code 7\)"):
        run_tasks([Task(name, ()) for name in "abc"], workers, lambda task, content: None, lambda: None)
    workers.close()


def test_an_idle_process_that_is_killed_is_replaced():
    workers = WorkerProcesses("synthesis_double:threads", 1)
    try:
        for name in "ab":
            assert not run_tasks([Task(name, ())], workers, lambda task, content: None, lambda: None)
            for pid in workers.pids():
                os.kill(pid, signal.SIGKILL)
    finally:
        workers.close()


@pytest.mark.parametrize(
    ("available", "total", "expected"),
    [
        ([5, 5, 5], 15, [5, 5, 5]),
        ([5, 5, 5], 7, [3, 2, 2]),
        ([1, 9, 0, 4], 9, [1, 4, 0, 4]),
        ([1, 9, 0, 4], 10, [1, 5, 0, 4]),
        ([0, 3], 0, [0, 0]),
    ],
)
def test_balanced_counts(available, total, expected):
    assert balanced_counts(available, total) == expected


def test_balanced_counts_refuse_what_is_not_there():
    with pytest.raises(InputError, match="expected 4 grasps, there are 3"):
        balanced_counts([1, 2], 4)


def test_rows_are_taken_from_all_kinds_alike():
    kinds = np.array([0] * 10 + [3] * 4 + [1] * 1 + [-1] * 2)
    assert np.bincount(kinds[balanced_rows(kinds, 8)] + 1).tolist() == [2, 3, 1, 0, 2]
    assert np.array_equal(balanced_rows(kinds, len(kinds)), np.arange(len(kinds)))
    assert balanced_rows(kinds, 4).tolist() == [0, 10, 14, 15]
    assert balanced_rows(kinds, 0).tolist() == balanced_rows(kinds[:0], 0).tolist() == []


def test_statistics_count_what_is_there(reference, tmp_path):
    folder = tmp_path / "reference"
    statistics = json.loads((folder / "statistics.json").read_text())
    grasps = read_grasps(folder / "grasps.npz")
    assert statistics["grasps"] == sum(statistics["kinds"].values()) == GRASPS
    assert sum(row["grasps"] for row in statistics["families"].values()) == GRASPS
    assert statistics["families"]["box"]["grasps"] == 7
    assert statistics["metrics"]["fingers"]["counts"]["3"] == int((grasps.metrics["fingers"] == 3).sum())
    depth = statistics["metrics"]["depth"]["quantiles"]["all"]
    assert depth[3] == pytest.approx(float(np.median(grasps.metrics["depth"].astype(float))), rel=1e-6)
    assert statistics["making"]["sum_of_tried"] == 2 * 42
    page = (folder / "statistics.md").read_text()
    assert f"| all | 6 | {GRASPS} |" in page
    assert statistics["content_sha256"] in page


def test_sets_that_do_not_go_together_are_refused(reference, tmp_path):
    grasps = read_grasps(tmp_path / "reference" / "grasps.npz")
    both = join([grasps, grasps])
    assert len(both) == 2 * GRASPS
    assert both.objects[both.object_index[GRASPS]].name == grasps.objects[grasps.object_index[0]].name
    assert both.object_index[GRASPS] == grasps.object_index[0] + OBJECTS
    for other in (
        grasps.mirrored(),
        dataclasses.replace(grasps, hand_fingerprint="x"),
        dataclasses.replace(grasps, metrics={}),
    ):
        with pytest.raises(InputError, match="sets of grasps"):
            join([grasps, other])
    with pytest.raises(InputError, match="at least one"):
        join([])


def test_the_open_grasps_are_found_or_the_command_is_named(reference, tmp_path, monkeypatch):
    made = tmp_path / "reference" / "grasps.npz"
    monkeypatch.setenv("GRASP_NODES_DATA", str(made))
    assert len(open_grasps()) == GRASPS
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("GRASP_NODES_DATA", str(folder))
    with pytest.raises(MissingFileError, match="GRASP_NODES_DATA, or make it with 'grasp-nodes synthesize"):
        open_grasps()
    (folder / OPEN_GRASPS_FILE).write_bytes(made.read_bytes())
    assert len(open_grasps()) == GRASPS
    with pytest.raises(InputError, match="another hand"):
        open_grasps("0" * 64)
    monkeypatch.delenv("GRASP_NODES_DATA")
    monkeypatch.setattr(grasp_set, "PACKAGE_DIR", tmp_path / "package")
    assert isinstance(open_grasps(), LabelledGrasps)


def test_the_published_set_fits_this_version():
    file = HERE.parents[1] / "data" / OPEN_GRASPS_FILE
    if not file.is_file():
        pytest.skip("data/ holds no open grasps")
    grasps = open_grasps()
    assert len(grasps) == 50_000
    assert len(grasps.objects) >= 400
    assert grasps.attributes["licence"] == "CC0-1.0"
    for one in grasps.objects[::20]:
        assert one.mesh_sha256 == mesh_sha256(one.name), one.name


def test_a_folder_that_cannot_be_made_is_not_said_to_be_full(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match=r"cannot be written \(Not a directory\).*another folder with -o"):
        make(tmp_path / "file" / "set")
