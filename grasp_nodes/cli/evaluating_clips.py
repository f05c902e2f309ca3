"""``grasp-nodes evaluate-clips``: the reconstruction of clips with exact truth, by variants, in the paper's tables."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table as RichTable

from grasp_nodes import __version__
from grasp_nodes.cli.clip_evaluation import work
from grasp_nodes.cli.clip_evaluation.results import ClipResult, code_fingerprint, read_result, result_path
from grasp_nodes.cli.clip_evaluation.rows import Row, group_rows, variant_row
from grasp_nodes.cli.clip_evaluation.tables import Table, all_tables, markdown_page
from grasp_nodes.cli.clip_evaluation.variants import DEFAULT, VARIANTS, Variant, parse_variants
from grasp_nodes.cli.clip_evaluation.worst import write_worst_sheet
from grasp_nodes.cli.long_work import INTERRUPTED, alone_in, progress_bar
from grasp_nodes.data import workers
from grasp_nodes.data.benchmark_clips import benchmark_clips
from grasp_nodes.data.clip_files import TRUTH_FILE, read_clip_info
from grasp_nodes.errors import GraspNodesError, InputError, MissingFileError
from grasp_nodes.evaluation.clip_metrics import CONTACT_DISTANCE, HAND_VISIBLE
from grasp_nodes.evaluation.clip_score import MISSING_ERROR

JSON_FILE, MARKDOWN_FILE = "evaluation.json", "evaluation.md"
PACKAGES = ("numpy", "torch", "numba", "opencv-python-headless", "ai-edge-litert")
WORST_FRAMES = 8


@dataclass(frozen=True)
class Request:
    """What the command was asked for.

    variants: names separated by commas, or all. clips: folders; none = the benchmark of so many clips.
    frames: of each clip, at most. processes: that share the clips. markdown: a further copy of the page.
    pictures: folder of copies of the worst frames of rgbd and rgb, which that page then shows.
    """

    variants: str
    clips: tuple[Path, ...]
    output: Path
    count: int = 20
    frames: int = 30
    seed: int = 0
    processes: int = 2
    worst: int = WORST_FRAMES
    markdown: Path | None = None
    as_json: bool = False
    pictures: Path | None = None


def evaluate_clips(request: Request) -> int:
    """Measure what is missing, print the tables and write the files.

    Returns:
        0, or 130 where Ctrl-C stopped it; what was measured is kept.

    Raises:
        InputError, MissingFileError: bad variants or clips, or a folder that cannot be written.
        GraspNodesError: clips on which the work failed again and again.
    """
    variants = parse_variants(request.variants)
    # In the order of the table, so that what is shared is made by the variant that others are compared with.
    order = list(VARIANTS)
    variants.sort(key=lambda variant: order.index(variant.name))
    needs_masks = [variant.name for variant in variants if variant.evidence == "true masks"]
    given = [_checked(clip, needs_masks) for clip in request.clips]
    if len({clip.name for clip in given}) < len(given):
        raise InputError(f"clips: two of the folders have the same name: {', '.join(clip.name for clip in given)}")
    with alone_in(request.output):
        return _evaluate(request, variants, given)


def _evaluate(request: Request, variants: Sequence[Variant], given: Sequence[Path]) -> int:
    try:
        clips = list(given) or _rendered(request)
        jobs = [_task(request, clip, variants) for clip in clips]
        paths = [path for job in jobs for path in job.results.values()]
        before = sum(read_result(path) is not None for path in paths)
        if before:
            _say(f"{request.output}: {before} of {len(paths)} results of an earlier run are taken up again")
        _measure(request, jobs, paths)
    except KeyboardInterrupt:
        _say(f"Stopped. What was measured is in {request.output}: the same command goes on from there.")
        return INTERRUPTED
    results = [result for path in paths if (result := read_result(path)) is not None]
    if len(results) < len(paths):
        raise GraspNodesError(
            f"{len(paths) - len(results)} of {len(paths)} results are missing in {request.output}: were they deleted? "
            "the same command measures them again"
        )
    rows = [
        variant_row(variant.name, [result for result in results if result.variant == variant.name], request.seed)
        for variant in variants
    ]
    _report(request, clips, variants, rows, results)
    return 0


def _checked(clip: Path, needs_masks: Sequence[str]) -> Path:
    read_clip_info(clip)
    if needs_masks and not (clip / "labels").is_dir():
        raise MissingFileError(
            f"{clip / 'labels'}: not found; without true masks there is no {', '.join(needs_masks)}: name other "
            "--variants"
        )
    if not (clip / TRUTH_FILE).is_file():
        raise MissingFileError(f"{clip / TRUTH_FILE}: not found; a clip without truth cannot be judged")
    return clip.resolve()


def _rendered(request: Request) -> list[Path]:
    with progress_bar("rendering frames") as progress:
        return benchmark_clips(request.count, request.frames, request.seed, progress, request.processes)


def _task(request: Request, clip: Path, variants: Sequence[Variant]) -> work.ClipTask:
    """The files are named once: workers that start later may find other code."""
    names = {one.name: result_path(request.output, clip, one, request.seed, request.frames) for one in variants}
    return work.ClipTask(clip, names, request.output, request.frames, request.seed)


def _measure(request: Request, jobs: Sequence[work.ClipTask], paths: Sequence[Path]) -> None:
    if all(read_result(path) is not None for path in paths):
        return
    with progress_bar("clips x variants") as progress:

        def look() -> None:
            progress(sum(path.is_file() for path in paths), len(paths))

        look()
        if request.processes == 1:
            for job in jobs:
                work.evaluate_clip(job, look)
            return
        tasks = [workers.Task(job.clip.name, (job,)) for job in jobs]
        pool = workers.WorkerProcesses(f"{work.__name__}:{work.evaluate_clip.__name__}", request.processes)
        try:
            failed = workers.run_tasks(tasks, pool, lambda _task, _content: None, look)
        finally:
            pool.close()
    if failed:
        told = "; ".join(f"{name}: {reason.splitlines()[-1]}" for name, reason in failed.items())
        raise GraspNodesError(
            f"{len(failed)} of {len(tasks)} clips could not be measured ({told}); what was measured is kept, "
            "the same command goes on"
        )


def _report(
    request: Request,
    clips: Sequence[Path],
    variants: Sequence[Variant],
    rows: Sequence[Row],
    results: Sequence[ClipResult],
) -> None:
    groups = group_rows(results)
    settings = _settings(request, clips)
    failures = [f"{result.clip}, {result.variant}: {result.error}" for result in results if result.error]
    tables = all_tables(rows, groups)
    sheets, worst = [], {}
    for variant in variants:
        own = [result for result in results if result.variant == variant.name]
        if request.worst and any(result.worst for result in own):
            sheet = request.output / f"worst_{variant.name}.jpg"
            shown = write_worst_sheet(sheet, request.output, own, request.worst)
            sheets.append(sheet.name)
            worst[variant.name] = [frame.caption for frame in shown]
    page = markdown_page(tables, settings, failures, sheets)
    content = {"rows": rows, "groups": groups, "worst": worst, "failures": failures, "settings": settings}
    files = {request.output / JSON_FILE: json.dumps(content, indent=1, allow_nan=False) + "\n"}
    files[request.output / MARKDOWN_FILE] = page
    copies = [] if request.pictures is None else _copied(request.output, sheets, request.pictures)
    if request.markdown is not None:
        names = [Path(os.path.relpath(copy, request.markdown.resolve().parent)).as_posix() for copy in copies]
        files[request.markdown] = markdown_page(tables, settings, failures, names)
    for path, text in files.items():
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"report {path}: cannot be written ({error})") from error
    _print(tables, worst, failures)
    typer.echo(f"{request.output}: {', '.join([MARKDOWN_FILE, JSON_FILE, *sheets])}")
    if request.as_json:
        typer.echo(json.dumps({"rows": rows}, allow_nan=False))


def _copied(folder: Path, sheets: Sequence[str], pictures: Path) -> list[Path]:
    """Copy the sheets of the variants that are no ablations.

    Raises:
        InputError: a copy cannot be written.
    """
    copies = []
    for name in sheets:
        if Path(name).stem.removeprefix("worst_") in DEFAULT:
            copies.append(pictures.resolve() / f"clips_{name}")
            try:
                copies[-1].parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, copies[-1])
            except OSError as error:
                raise InputError(f"--pictures {pictures}: cannot be written ({error})") from error
    return copies


def _settings(request: Request, clips: Sequence[Path]) -> dict[str, Any]:
    versions = {"grasp_nodes": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "clips": ", ".join(clip.name for clip in clips) if request.clips else f"the benchmark: {len(clips)} clips",
        "frames": f"{request.frames or 'all'} of each clip at most",
        "seed": request.seed,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": f"cpu, {platform.machine()}, {os.cpu_count()} cores, {request.processes} process(es) of one thread",
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "code": code_fingerprint()[:12],
        "counted frames": f"more than {100 * HAND_VISIBLE:g} % of the hand's outline visible; the object counts in all",
        "lost frames": f"score the last answer, or {1e3 * MISSING_ERROR:g} mm",
        "contact": f"a hand vertex within {1e3 * CONTACT_DISTANCE:g} mm of the object's surface, or inside",
    }


def _print(tables: Sequence[Table], worst: dict[str, list[str]], failures: Sequence[str]) -> None:
    console = Console()
    for table in tables:
        if table.long:
            continue
        drawn = RichTable(title=table.title, caption=table.note or None, caption_justify="left", pad_edge=False)
        for index, name in enumerate(table.header):
            drawn.add_column(name, justify="left" if index == 0 else "right")
        for row in table.rows:
            drawn.add_row(*row)
        console.print(drawn)
    for variant, captions in worst.items():
        typer.echo(f"worst frames of {variant}:")
        for caption in captions:
            typer.echo(f"  {caption}")
    for text in failures:
        typer.echo(f"ended early: {text}")


def _say(text: str) -> None:
    typer.echo(text, err=True)
