"""``grasp-nodes demo``: the demo's launch file, with its report as the last line."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from grasp_nodes.cli.launching import find_launch_file, launch_file
from grasp_nodes.errors import GraspNodesError, InputError

REPORT_FILE = "report_file"
SOURCE = "source"
FAILED = 1


def run_demo(arguments: Mapping[str, str]) -> int:
    """Launch the demo and print its report.

    Args:
        arguments: of the launch file; ``report_file`` keeps the report where it says.

    Returns:
        0, or 1 where a node failed, the source was cut off, or no frame was answered.

    Raises:
        InputError: the report's file cannot be written.
        GraspNodesError: the demo ended without a report.
    """
    if not arguments.get(SOURCE):
        _render_default_clip(arguments)
    with tempfile.TemporaryDirectory(prefix="grasp_nodes_demo_") as folder:
        report = Path(arguments.get(REPORT_FILE) or Path(folder, "report.json"))
        try:
            report.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{REPORT_FILE}:={report}: cannot be written: {error}") from error
        code = launch_file(find_launch_file("demo"), {**arguments, REPORT_FILE: str(report)})
        answer = _read_report(report)
    typer.echo(json.dumps(answer))
    return FAILED if code or not answer.get("complete", True) or not answer.get("frames_out") else 0


def _read_report(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise GraspNodesError(
            "the demo ended without a report: the messages above say which node stopped and why; "
            "'grasp-nodes doctor' says what is missing"
        ) from error
    except json.JSONDecodeError as error:
        raise GraspNodesError(f"the demo's report {path} is not JSON ({error}): the report node was cut off") from error
    if not isinstance(report, dict):
        raise GraspNodesError(f"the demo's report {path} is not a JSON object but {type(report).__name__}")
    return report


def _render_default_clip(arguments: Mapping[str, str]) -> None:
    """Render the clip before the nodes start, where it is not in the cache yet: they would wait in silence.

    Raises:
        InputError: frames or seed is no number, or outside of what the clip has.
    """
    from grasp_nodes.data.rendered_clips import MAX_FRAMES, default_clip

    frames = _whole_number(arguments, "frames") or MAX_FRAMES
    seed = _whole_number(arguments, "seed")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = None

        def show(done: int, total: int) -> None:
            nonlocal task
            if task is None:
                bar.console.print(f"Rendering the demo's clip, {total - done} frames; it is kept for later runs.")
                task = bar.add_task("rendering", total=total)
            bar.update(task, completed=done)

        default_clip(frames, seed, show)


def _whole_number(arguments: Mapping[str, str], name: str) -> int:
    text = arguments.get(name, "0")
    if not text.isascii() or not text.isdigit():
        raise InputError(f"{name}:={text}: expected a whole number, 0 or more")
    return int(text)
