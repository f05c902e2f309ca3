"""``grasp-nodes reconstruct --many``: clips of a list over processes or a Ray cluster; can be stopped and resumed."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console

from grasp_nodes.cli.long_work import INTERRUPTED, alone_in, progress_bar
from grasp_nodes.cli.reconstruction.many import JOB, ClipJob, ManyResults, read_list, tasks_of
from grasp_nodes.cli.reconstruction.setup import Request, check_refinement
from grasp_nodes.data.ray_workers import RayWorkers
from grasp_nodes.data.workers import Event, Task, WorkerProcesses, Workers, run_tasks, writing_below

FAILED = 1


@dataclass(frozen=True)
class Team:
    """Who works. workers: clips at once, None = one per processor. ray: address of a cluster, None = processes here.

    gpus: of a clip; memory: bytes of a clip, 0 = not said: both are told to Ray, which places clips by them.
    """

    workers: int | None = None
    ray: str | None = None
    gpus: float = 0.0
    memory: int = 0

    def gather(self) -> Workers:
        """Start them."""
        if self.ray is not None:
            return RayWorkers(JOB, self.ray, self.workers, self.gpus, self.memory)
        return WorkerProcesses(JOB, self.workers or len(os.sched_getaffinity(0)))


def reconstruct_many(path: Path, common: Request, team: Team) -> int:
    """Reconstruct every clip of a list that is not done yet.

    Args:
        path: the list, see `read_list`. common: what holds for all clips; its output is the folder of all results.

    Returns:
        Exit code: 0; 1 if clips failed; 130 after Ctrl-C.

    Raises:
        InputError, MissingFileError: the list cannot be used. WorkError: there can be no workers.
    """
    check_refinement(common)
    jobs = read_list(path, common)
    results, console, begin = ManyResults(common.output), Console(stderr=True), time.monotonic()
    failed: dict[str, str] = {}
    code = 0
    with alone_in(common.output):
        waiting = [job for job in jobs if common.restart or results.of(job) is None]
        try:
            if waiting:
                failed = _run(jobs, waiting, results, team)
        except KeyboardInterrupt:
            _say(console, f"Stopped. What is finished is kept in {common.output}: the same command goes on from there.")
            code = INTERRUPTED
        with writing_below(common.output):
            total = results.write_summary(jobs, failed, time.monotonic() - begin)
    for name, why in failed.items():
        _say(console, f"{name}: failed twice: {why.strip().splitlines()[-1]}")
    if common.as_json:
        typer.echo(json.dumps(total))
    else:
        told = f", {total['failed']} failed" if failed else ""
        page = common.output / "summary.md"
        typer.echo(f"{common.output}: {total['done']} of {total['clips']} clips done{told}; see {page}")
    return code or (FAILED if failed else 0)


def _run(jobs: list[ClipJob], waiting: list[ClipJob], results: ManyResults, team: Team) -> dict[str, str]:
    done = len(jobs) - len(waiting)
    kept = 0
    lost: defaultdict[str, list[str]] = defaultdict(list)

    def keep(task: Task, answer: bytes) -> None:
        nonlocal kept
        with writing_below(results.folder):
            results.keep(task.name, answer, lost[task.name])
        kept += 1

    def missed(event: Event) -> None:
        lost[event.task.name].append(event.message.strip().splitlines()[-1])

    with progress_bar("clips") as progress, closing(team.gather()) as workers:
        progress(done, len(jobs))
        return run_tasks(tasks_of(waiting), workers, keep, lambda: progress(done + kept, len(jobs)), missed)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
