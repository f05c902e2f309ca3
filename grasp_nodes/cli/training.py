"""``grasp-nodes train``: networks from grasps."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from grasp_nodes.cli.grasp_file_methods import check_hand
from grasp_nodes.cli.long_work import INTERRUPTED
from grasp_nodes.data.grasp_files import check_meshes, read_grasps
from grasp_nodes.data.grasp_set import OPEN_GRASPS_FILE, open_grasps
from grasp_nodes.data.view_feature_training import TrainingSettings, train_view_features
from grasp_nodes.data.workers import WorkError
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.view_features import VERSION, WEIGHTS_VARIABLE
from grasp_nodes.hand.files import load_hand_model

METHODS = ("view-features",)
WORK_FOLDER = "work"
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


def train_method(method: str, grasps: Path | None, output: Path, settings: TrainingSettings, as_json: bool) -> int:
    """Train a network.

    Args:
        method: one of `METHODS`. grasps: file of grasps, None = the published set. output: folder of the weight file,
            and of what a stopped training goes on from. settings: of the training.
        as_json: one JSON object as the last line.

    Returns:
        Exit code: 0, or 130 after Ctrl-C.

    Raises:
        InputError: no such method, or grasps that cannot be used. MissingFileError: no grasps.
        WorkError: the folder cannot be written, as on a full disk.
    """
    if method not in METHODS:
        raise InputError(f"method {method!r}: expected one of {', '.join(METHODS)}")
    found = open_grasps() if grasps is None else read_grasps(grasps)
    model = load_hand_model(found.hands.side)
    where = Path(OPEN_GRASPS_FILE) if grasps is None else grasps
    check_hand(str(where), found, model)
    check_meshes(where, found.objects)
    target = output / f"{VERSION}.npz"
    console = Console(stderr=True)
    try:
        with Progress(*_COLUMNS, console=console, transient=True) as bar:
            tasks = {what: bar.add_task(what, total=None) for what in ("drawing", "training")}
            card = train_view_features(
                *(found, model, settings, output / WORK_FOLDER, target),
                lambda what, done, total: bar.update(tasks[what], completed=done, total=total),
            )
    except KeyboardInterrupt:
        console.print(f"Stopped. What is finished is kept in {output}: the same command goes on from there.")
        return INTERRUPTED
    except OSError as error:
        raise WorkError(
            f"output {output}: cannot be written ({error}); what is finished is kept: make room there and run the same "
            "command again"
        ) from error
    for name, value in card.items():
        typer.echo(f"{name}: {value}")
    typer.echo(f"{target}: use it with {WEIGHTS_VARIABLE}={target}")
    if as_json:
        typer.echo(json.dumps(card))
    return 0
