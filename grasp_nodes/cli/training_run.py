"""What trainings by the common loop share: where they begin, the grasps that they learn from, the file at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from grasp_nodes.cli.grasp_file_methods import check_hand
from grasp_nodes.cli.training_request import Outcome, ProgressReport, TrainingRequest, is_first_process
from grasp_nodes.data.grasp_files import check_meshes, read_grasps
from grasp_nodes.data.grasp_set import OPEN_GRASPS_FILE, SET_FILE, open_grasps
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.training import Report, Trained
from grasp_nodes.learning.weights import SUFFIX, WEIGHTS_VARIABLE, WeightCard


def begin_settings(request: TrainingRequest, small: TrainingSettings, paper: TrainingSettings) -> TrainingSettings:
    """The settings of a method in the size asked for, with what the command line says of any method."""
    settings = small if request.size == "small" else paper
    changes: dict[str, Any] = {"seed": request.seed, "device": request.device, "minutes": request.minutes}
    if request.steps is not None:
        changes["steps"] = request.steps
    return replace(settings, **changes)


def training_grasps(path: Path | None, model: HandModel) -> LabelledGrasps:
    """A set of grasps, by its file or its folder; None = the published one.

    Raises:
        InputError: it cannot be used, or is of another hand. MissingFileError: it or a mesh of it is not there.
    """
    if path is None:
        file, grasps = Path(OPEN_GRASPS_FILE), open_grasps()
    else:
        file = path / SET_FILE if path.is_dir() else path
        grasps = read_grasps(file)
    check_hand(str(file), grasps, model)
    check_meshes(file, grasps.objects)
    return grasps


def loop_progress(report: ProgressReport) -> Callable[[Report], None]:
    """What the loop tells of its steps, as a user sees it."""

    def progress(done: Report) -> None:
        report("training", int(1000 * done.share), 1000)

    return progress


def card_facts(
    request: TrainingRequest, settings: TrainingSettings, trained: Trained, what: str, **notes: Any
) -> dict[str, Any]:
    """What the card of any weights says of their training. what: they were trained on. notes: of this method."""
    return {
        "data": what,
        "seed": settings.seed,
        "command": request.command,
        "hours": round(trained.seconds / 3600, 3),
        "metrics": {name: round(value, 6) for name, value in trained.values.items()},
        "notes": {"licence": "CC0-1.0", "settings": asdict(settings), "steps": trained.step, **notes},
    }


def write_outcome(
    method: str, request: TrainingRequest, save: Callable[[Path], WeightCard], usage: str = ""
) -> Outcome:
    """Write the weights, in the first process alone: under torchrun all of them hold the same.

    Args:
        method: names the file. save: writes it. usage: in one line; empty = the variable that names the folder.

    Raises:
        InputError: a weight is not finite. OSError: the file cannot be written.
    """
    target = request.output / f"{method}{SUFFIX}"
    if not is_first_process():
        return Outcome(target, {})
    # A hundred numbers of the vectors' scale tell a reader nothing; the file has them.
    shown = {name: value for name, value in asdict(save(target)).items() if name != "normalization"}
    return Outcome(target, shown, usage or f"use it with {WEIGHTS_VARIABLE}={request.output}")
