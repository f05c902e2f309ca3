"""``grasp-nodes evaluate``: generators or files of grasps over a set of objects, beside the bounds, in one table."""

from __future__ import annotations

import importlib.util
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import typer
from rich.console import Console
from rich.measure import Measurement
from rich.progress import ProgressColumn, Task
from rich.table import Table
from rich.text import Text

from grasp_nodes import __version__
from grasp_nodes.cli.generators import FILE_PREFIX, MethodName, make_parts, parse_methods, table_methods
from grasp_nodes.cli.grasp_file_methods import GRASP_FILE, file_objects
from grasp_nodes.cli.long_work import INTERRUPTED, alone_in, progress_bar
from grasp_nodes.data import workers
from grasp_nodes.errors import GraspNodesError, InputError, MissingDependencyError
from grasp_nodes.evaluation.harness.object_set import EvaluatedObject, check_set, object_set, set_fingerprint
from grasp_nodes.evaluation.harness.protocols import Parts
from grasp_nodes.evaluation.harness.records import RECORDS_FILE, Record, RecordFolder, from_line, to_line
from grasp_nodes.evaluation.harness.report import TextTable, markdown, notes, text_table
from grasp_nodes.evaluation.harness.running import Evaluation, InThisProcess, ObjectTask, ObjectWorker
from grasp_nodes.evaluation.harness.samples import draw_places, write_samples
from grasp_nodes.evaluation.harness.table import Row, TableMaker
from grasp_nodes.evaluation.simulation.protocol import HASSON, HOLD
from grasp_nodes.paths import cache_dir
from grasp_nodes.viewer.picture_folder import PictureFolder
from grasp_nodes.viewer.pictures import grasp_sheet

JSON_FILE = "evaluation.json"
MARKDOWN_FILE = "evaluation.md"
PACKAGES = ("numpy", "torch", "mujoco", "pybullet")
PICTURE_SIZE = 160


@dataclass(frozen=True)
class Request:
    """What the command was asked for.

    methods: separated by commas. objects: names of sets, folders, meshes, files of grasps.
    count: grasps of each method on each object. limit: the first so many objects. scale, size: of mesh files.
    displacement: whether PyBullet runs. workers: processes. pictures: samples of each method.
    """

    methods: str
    objects: tuple[str, ...]
    count: int
    seed: int
    output: Path
    scale: float = 1.0
    size: float | None = None
    limit: int | None = None
    displacement: bool = True
    workers: int = 1
    pictures: int = 6
    as_json: bool = False


def evaluate(request: Request) -> int:
    """Judge, print the table and write the files.

    Returns:
        0, or 130 where Ctrl-C stopped it; what was measured is kept.

    Raises:
        InputError, MissingFileError: bad objects, methods or files. MissingDependencyError: MuJoCo is not installed.
        GraspNodesError: objects on which the work failed.
    """
    if importlib.util.find_spec("mujoco") is None:
        raise MissingDependencyError("evaluate needs MuJoCo: install it with 'pip install grasp_nodes[sim]'")
    cache_dir()  # without one every object would be refused
    names = parse_methods(request.methods)
    objects = _objects(request)
    with alone_in(request.output):
        return _evaluate(request, names, objects)


def _evaluate(request: Request, names: Sequence[MethodName], objects: Sequence[EvaluatedObject]) -> int:
    displacement = request.displacement and importlib.util.find_spec("pybullet") is not None
    # One thread, as in a worker: the same result however many processes share the work.
    torch.set_num_threads(1)
    parts = make_parts(names, objects, displacement)
    settings = _settings(request, objects, parts)
    folder = RecordFolder(request.output, settings)
    distribute = (
        InThisProcess(parts)
        if request.workers == 1
        else InProcesses(Recipe.of(names, objects, displacement), request.workers)
    )
    methods = table_methods(names, parts)
    _say(_heading(request, objects, settings, displacement))
    order = [method.name for method in methods]
    try:
        with progress_bar("judging", _Rate()) as progress:
            evaluation = Evaluation(objects, order, parts, request.count, request.seed, folder, distribute, progress)
            before = len(evaluation.done())
            if before:
                _say(f"{folder.folder}: {before} results of an earlier run are taken up again")
            records = evaluation.run()
        rows = TableMaker(parts.hand_models, request.seed, [one.name for one in objects]).rows(
            methods, evaluation.missing(), records
        )
        _write_report(request, rows, {**settings, **_circumstances(request)})
        with progress_bar("drawing samples", _Rate()) as progress:
            drawn = [name for name in order if name not in evaluation.missing()]
            places = draw_places(objects, request.count, request.pictures, request.seed) if request.pictures else []
            pictures = SamplePictures(request.output)
            sheet = write_samples(request.output, drawn, places, records, parts.hand_models, pictures, progress)
    except KeyboardInterrupt:
        _say(f"Stopped. What was measured is in {request.output}: the same command goes on from there.")
        return INTERRUPTED
    _print(rows, request, sheet)
    return 0


def _say(text: str) -> None:
    typer.echo(text, err=True)


@dataclass(frozen=True)
class Recipe:
    """What a worker process makes its `Parts` of. key: equal for equal recipes."""

    methods: tuple[MethodName, ...]
    objects: tuple[EvaluatedObject, ...]
    displacement: bool
    key: str

    @staticmethod
    def of(names: Sequence[MethodName], objects: Sequence[EvaluatedObject], displacement: bool) -> Recipe:
        """It travels with every task, so that objects are in it only where files of grasps need to know them."""
        needed = objects if any(name.base.startswith(FILE_PREFIX) for name in names) else ()
        key = f"{names} {set_fingerprint(needed)} {displacement}"
        return Recipe(tuple(names), tuple(needed), displacement, key)


class InProcesses:
    """Has objects judged in several processes; one that is killed costs its object's time only."""

    def __init__(self, recipe: Recipe, count: int) -> None:
        self._recipe, self._count = recipe, count

    def __call__(self, tasks: Sequence[ObjectTask], keep: Callable[[Record], None]) -> None:
        """As `Distribute`.

        Raises:
            GraspNodesError: objects on which the work failed again and again, or no worker starts.
        """
        pool = workers.WorkerProcesses(f"{__name__}:{judge_task.__name__}", min(self._count, max(len(tasks), 1)))

        def keep_lines(_: workers.Task, content: bytes) -> None:
            for line in content.decode().splitlines():
                keep(from_line(line))

        todo = [workers.Task(task.item.name, (self._recipe, task)) for task in tasks]
        try:
            failed = workers.run_tasks(todo, pool, keep_lines, lambda: None)
        finally:
            pool.close()
        if failed:
            told = "; ".join(f"{name}: {reason.splitlines()[-1]}" for name, reason in failed.items())
            raise GraspNodesError(
                f"{len(failed)} of {len(tasks)} objects could not be judged ({told}); what was measured is kept, "
                "the same command goes on"
            )


_WORKERS: dict[str, ObjectWorker] = {}


def judge_task(recipe: Recipe, task: ObjectTask) -> bytes:
    """The records of a task, as lines: runs in a worker process, which keeps its models for the next task."""
    if recipe.key not in _WORKERS:
        torch.set_num_threads(1)
        parts = make_parts(recipe.methods, recipe.objects, recipe.displacement)
        _WORKERS[recipe.key] = ObjectWorker(parts)
    return "".join(to_line(record) for record in _WORKERS[recipe.key](task)).encode()


class SamplePictures(PictureFolder):
    """Pictures of single grasps in the evaluation's folder, where the rating page finds them, and a sheet of them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, PICTURE_SIZE, threads=1)

    def sheet(self, path: Path, cells: Sequence[tuple[Path, str]], columns: int) -> None:
        """Put drawn grasps with their captions into one PNG.

        Raises:
            InputError: one of them is gone.
        """
        grasp_sheet([(_read_picture(file), caption) for file, caption in cells], columns, path)


def _read_picture(file: Path) -> np.ndarray:
    picture = cv2.imread(str(file))
    if picture is None:
        raise InputError(f"picture {file}: cannot be read")
    return np.ascontiguousarray(picture[..., ::-1])


def _objects(request: Request) -> list[EvaluatedObject]:
    files = [name for name in request.objects if Path(name).suffix.lower() == GRASP_FILE]
    others = [name for name in request.objects if name not in files]
    found = object_set(others, request.scale, request.size) if others else []
    for name in files:
        found += file_objects(Path(name))
    return check_set(found[: request.limit])


def _settings(request: Request, objects: Sequence[EvaluatedObject], parts: Parts) -> dict[str, Any]:
    """What must be the same for results to stand in one table."""
    network = parts.feature_network
    return {
        "objects": len(objects),
        "object_set": set_fingerprint(objects)[:16],
        "count": request.count,
        "seed": request.seed,
        "hand_model": parts.hand_models["right"].model_id,
        "hand_fingerprint": parts.hand_models["right"].fingerprint,
        "feature_network": network.name if network is not None else None,
        "displacement_protocol": HASSON.describe() if parts.displacement else None,
        "hold_protocol": HOLD.describe(),
    }


def _circumstances(request: Request) -> dict[str, Any]:
    return {
        "object_names": list(request.objects),
        "workers": request.workers,
        "versions": _versions(),
        "machine": f"{platform.machine()}, {platform.system()}, one thread per process",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _versions() -> dict[str, str]:
    found = {"grasp_nodes": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _heading(
    request: Request, objects: Sequence[EvaluatedObject], settings: Mapping[str, Any], displacement: bool
) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in _versions().items())
    wanted = f"{len(objects)} objects, {request.count} grasps of each method on each"
    lines = [
        f"{wanted}, seed {request.seed}, hand {settings['hand_model']}",
        f"{versions}; cpu, {request.workers} process(es) of one thread",
    ]
    if request.displacement and not displacement:
        lines.append("PyBullet is not installed: no displacement by Hasson's protocol (pip install grasp_nodes[sim])")
    return "\n".join(lines)


def _write_report(request: Request, rows: Sequence[Row], settings: Mapping[str, Any]) -> None:
    try:
        text = json.dumps({"rows": rows, "settings": settings}, indent=1, allow_nan=False)
        (request.output / JSON_FILE).write_text(text + "\n", encoding="utf-8")
        (request.output / MARKDOWN_FILE).write_text(markdown(rows, settings), encoding="utf-8")
    except OSError as error:
        raise InputError(f"output {request.output}: the report cannot be written ({error})") from error


def _print(rows: Sequence[Row], request: Request, sheet: Path | None) -> None:
    console = Console()
    table = text_table(rows)
    if _width(console, table) > console.width:
        table = table.transposed()
    # Better lines that the terminal breaks than numbers that are cut.
    Console(width=max(console.width, _width(console, table))).print(_rich(table))
    files = [MARKDOWN_FILE, JSON_FILE, RECORDS_FILE, *([sheet.name] if sheet is not None else [])]
    for note in [*notes(rows), f"{request.output}: {', '.join(files)}"]:
        typer.echo(note)
    if request.as_json:
        typer.echo(json.dumps({"rows": rows}, allow_nan=False))


def _width(console: Console, table: TextTable) -> int:
    """Characters that a table takes."""
    return Measurement.get(console, console.options.update(width=10_000), _rich(table)).maximum


def _rich(table: TextTable) -> Table:
    result = Table(caption="below a number its 95 % interval, by bootstrap over objects", pad_edge=False)
    for index, name in enumerate(table.header):
        result.add_column(name, justify="left" if index == 0 else "right", no_wrap=True)
    for row in table.rows:
        result.add_row(*(Text(f"{text}\n{interval}" if interval else text) for text, interval in row))
    return result


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f}/s" if task.speed else "")
