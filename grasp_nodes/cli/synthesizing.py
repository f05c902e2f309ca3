"""``grasp-nodes synthesize``: makes a set of grasps, shows how it goes, and can be stopped and gone on with."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from grasp_nodes.cli.long_work import INTERRUPTED
from grasp_nodes.data.grasp_set import AssembledSet, assemble
from grasp_nodes.data.ray_workers import RayWorkers
from grasp_nodes.data.shards import ENGINE, JOB, Settings, ShardFolder, make_shards, settings_here
from grasp_nodes.data.shards import Progress as Made
from grasp_nodes.data.workers import WorkerProcesses, Workers

FAILED = 1
LINE_SECONDS = 30.0
"""Where the output is no terminal, how often a line says how it goes."""


def synthesize(
    output: Path, objects: int, grasps: int, seed: int, workers: int | None, ray: str | None, as_json: bool
) -> int:
    """Make the set, or go on with it.

    Args:
        output: folder of the set. objects, grasps, seed: of the set, see `Settings`.
        workers: shards at once; None = one per processor. ray: address of a cluster, None = this machine's processes.
        as_json: print one machine-readable last line.

    Returns:
        Exit code: 0, 1 if objects failed, 130 after Ctrl-C.
    """
    settings = settings_here(objects, grasps, seed, ENGINE)
    folder = ShardFolder(output)
    console = Console(stderr=True)
    begin = time.monotonic()

    def team() -> Workers:
        if ray is not None:
            return RayWorkers(JOB, ray, workers)
        return WorkerProcesses(JOB, workers or _processors())

    try:
        with folder.opened(settings):
            with _shown(console, grasps) as report:
                failed = make_shards(folder, settings, team, report)
            made = assemble(output)
    except KeyboardInterrupt:
        stopped = f"Stopped. What is finished is kept in {output}: the same command goes on from there."
        console.print(stopped, markup=False, highlight=False, soft_wrap=True)
        return INTERRUPTED
    for name, why in failed.items():
        console.print(f"{name}: failed: {why}", markup=False, highlight=False, soft_wrap=True)
    _tell(settings, made, failed, time.monotonic() - begin, as_json)
    return FAILED if failed else 0


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _tell(settings: Settings, made: AssembledSet, failed: dict[str, str], seconds: float, as_json: bool) -> None:
    if failed:
        sys.stderr.write(f"grasp-nodes: {len(failed)} objects failed (above); the same command tries them again\n")
    if as_json:
        row = {
            "file": str(made.path),
            "content_sha256": made.statistics["content_sha256"],
            "bytes": made.path.stat().st_size,
            "grasps": len(made.grasps),
            "objects": made.statistics["objects"],
            "kinds": made.statistics["kinds"],
            "seed": settings.seed,
            "failed": failed,
            "accepted_per_minute_and_core": made.statistics["making"]["accepted_per_minute_and_core"],
            "seconds": round(seconds, 1),
        }
        typer.echo(json.dumps(row))
    else:
        page = made.path.with_name("statistics.md")
        typer.echo(f"{made.path}: {len(made.grasps)} grasps on {made.statistics['objects']} objects; see {page}")


@contextmanager
def _shown(console: Console, grasps: int) -> Iterator[Callable[[Made], None]]:
    """How it goes: a bar on a terminal, else a line now and then."""
    clock = _Clock()
    if not console.is_terminal:
        yield lambda made: clock.line(made, console)
        return
    columns = (
        TextColumn("accepted"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}  {task.fields[left]}  {task.fields[shards]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=grasps, rate="", left="", shards="")

        def report(made: Made) -> None:
            rate, left, shards = clock.words(made)
            bar.update(task, completed=min(made.accepted, made.wanted), rate=rate, left=left, shards=shards)

        yield report


class _Clock:
    """Rate and time left, from what this run made itself."""

    def __init__(self) -> None:
        self._begin: tuple[float, int] | None = None
        self._last_line = -LINE_SECONDS

    def words(self, made: Made) -> tuple[str, str, str]:
        """Rate, time left, shards."""
        now = time.monotonic()
        if self._begin is None:
            self._begin = (now, made.accepted)
        per_second = (made.accepted - self._begin[1]) / max(now - self._begin[0], 1e-3)
        left = "time left unknown"
        if per_second > 0:
            minutes, seconds = divmod(round(max(made.wanted - made.accepted, 0) / per_second), 60)
            left = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} left"
        failed = f", {made.failed} failed" if made.failed else ""
        return f"{60 * per_second:.0f}/min", left, f"objects {made.shards_done}/{made.shards}{failed}"

    def line(self, made: Made, console: Console) -> None:
        """Print a line if the latest was long ago."""
        words = self.words(made)
        if time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            console.print(
                f"accepted {made.accepted}/{made.wanted}, {', '.join(words)}", highlight=False, soft_wrap=True
            )
