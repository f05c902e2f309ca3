"""``grasp-nodes evaluate-refinement``: noisy grasps refined, beside CHOIR's Tables 5 and 7; resumable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import typer

from grasp_nodes.cli.long_work import INTERRUPTED, alone_in, progress_bar
from grasp_nodes.cli.refinement_evaluation import METHODS, Asked, RefinementEvaluation, read_rows, result_file
from grasp_nodes.data.grasp_files import read_grasps
from grasp_nodes.data.grasp_readers.contactpose import read_contactpose
from grasp_nodes.data.grasp_readers.perturbation import NOISE_LEVELS
from grasp_nodes.data.grasp_set import SET_FILE, open_grasps
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel

COLUMNS = (
    ("mpjpe", "MPJPE mm", 1.0),
    ("root_aligned", "R-MPJPE mm", 1.0),
    ("volume", "IV cm3", 1.0),
    ("f1", "F1 %", 100.0),
    ("precision", "precision %", 100.0),
    ("recall", "recall %", 100.0),
    ("seconds", "s per grasp", 1.0),
)
PAPER = (
    "| paper, Table 7 (Perturbed ContactPose, subjects) | MPJPE | R-MPJPE | IV | F1 | precision | recall |\n"
    "|---|---|---|---|---|---|---|\n"
    "| input | 83.02 | 21.55 | 6.99 | 1.55 | 1.88 | 2.74 |\n"
    "| ContactOpt | 32.88 | 28.17 | 12.83 | 17.27 | 13.24 | 34.30 |\n"
    "| TOCH | 26.96 | 29.24 | 10.14 | 22.23 | 21.46 | 25.09 |\n"
    "| JointDiffusion | 27.69 | 23.54 | 6.04 | 27.20 | 25.21 | 32.80 |\n"
    "| JointDiffusion, multimodal | 35.45 | 33.10 | 5.62 | 24.88 | 23.87 | 29.24 |\n\n"
    "| paper, Table 5 (objects) | MPJPE | R-MPJPE | IV | F1 | precision | recall |\n"
    "|---|---|---|---|---|---|---|\n"
    "| input | 83.02 | 21.55 | 6.99 | 1.55 | 1.88 | 2.74 |\n"
    "| ContactOpt | 35.05 | 29.13 | 12.83 | 15.39 | 12.04 | 30.36 |\n"
    "| TOCH | 48.27 | 51.13 | 17.63 | 11.18 | 10.74 | 13.54 |\n"
    "| JointDiffusion | 42.54 | 29.55 | 2.90 | 21.40 | 21.94 | 23.05 |\n\n"
    "| paper, Table 6 (synthesis) | IV ContactPose | SD | IV OakInk | SD |\n|---|---|---|---|---|\n"
    "| GraspTTA | 5.17 | 3.81 | | |\n| GrabNet | | | 6.60 | 1.21 |\n| JointDiffusion | 5.13 | 5.80 | 5.98 | 5.84 |\n"
)


@dataclass(frozen=True)
class Request:
    """What the command was asked for. methods: names by commas, empty = all that can run here.

    data: a file or folder of grasps, or ContactPose's folder; None = the published set. weights: folder of the
    networks'; None = the installed ones. markdown: a further copy of the page.
    """

    output: Path
    asked: Asked
    methods: str = ""
    data: Path | None = None
    weights: Path | None = None
    threads: int = 2
    markdown: Path | None = None
    as_json: bool = False


def evaluate_refinement(request: Request) -> int:
    """Measure what is missing, object by object, print the table and write it.

    Returns:
        0, or 130 where Ctrl-C stopped it; what was measured is kept.

    Raises:
        InputError: unknown methods, or grasps or weights that cannot be used. MissingFileError: no grasps, or a method
            that was named has no weights.
    """
    torch.set_num_threads(request.threads)
    model, grasps = _grasps(request)
    evaluation = RefinementEvaluation(model, grasps, request.asked, request.weights)
    named = [part.strip() for part in request.methods.split(",") if part.strip()]
    left_out: dict[str, str] = {}
    for name in named or METHODS:
        why = evaluation.missing(name)
        if why is not None and named:
            raise InputError(f"method {name}: {why}")
        if why is not None:
            left_out[name] = why
    names = [name for name in named or METHODS if name not in left_out]
    with alone_in(request.output):
        (request.output / "parts").mkdir(exist_ok=True)
        try:
            _measure(request.output, evaluation, names)
            stopped = False
        except KeyboardInterrupt:
            stopped = True
        rows = read_rows(request.output, evaluation, names)
        page = markdown_page(rows, request.asked, grasps.source, left_out)
        for path in (request.output / "refinement.md", request.markdown):
            if path is not None:
                path.write_text(page)
        typer.echo(page)
    if request.as_json:
        typer.echo(json.dumps({"rows": rows, "left_out": left_out}))
    if stopped:
        typer.echo(f"Stopped: the table is of what is done; the same command goes on in {request.output}.", err=True)
    return INTERRUPTED if stopped else 0


def _grasps(request: Request) -> tuple[HandModel, LabelledGrasps]:
    """The set and the hand model of its poses."""
    if request.data is None:
        model = load_hand_model("right")
        return model, open_grasps(model.fingerprint)
    if request.asked.division.startswith("contactpose"):
        model = load_hand_model("right")
        return model, read_contactpose(request.data, model)
    model = load_hand_model("right")
    file = request.data / SET_FILE if request.data.is_dir() else request.data
    return model, read_grasps(file, model.fingerprint)


def _measure(folder: Path, evaluation: RefinementEvaluation, names: Sequence[str]) -> None:
    total, done = len(evaluation.objects) * len(names), 0
    with progress_bar("objects by method") as bar:
        for number in range(len(evaluation.objects)):
            files = {name: result_file(folder, evaluation, number, name) for name in names}
            missing = [name for name in names if not files[name].is_file()]
            done += len(names) - len(missing)
            job = evaluation.job(number) if missing else None
            for name in missing:
                assert job is not None
                found = evaluation.run(name, job)
                part = files[name].with_suffix(".part")
                part.write_text(json.dumps(found))
                part.replace(files[name])
                done += 1
                bar(done, total)


def markdown_page(
    rows: Sequence[dict[str, Any]], asked: Asked, source: str, left_out: dict[str, str] | None = None
) -> str:
    """The rows as a page, the paper's beside them."""
    noise = NOISE_LEVELS[asked.level]
    about = (
        f"Written by `grasp-nodes evaluate-refinement` on {datetime.now(timezone.utc):%Y-%m-%d}: "
        f"{rows[0]['n'] if rows else 0} noisy grasps of {source}, {asked.copies} of each true one, held out by "
        f"{asked.division}, seed {asked.seed}; normal noise of {100 * noise.translation:g} cm, {noise.rotation:g} rad "
        f"and {noise.pca:g} per principal component. One sample of each, none chosen. Contact at 2 mm on an up-sampled "
        "hand; where nothing touches it counts as 0. The paper's numbers are of other grasps and objects."
    )
    lines = ["# Noisy grasps, refined", "", about, ""]
    lines += ["| method | " + " | ".join(title for _, title, _ in COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for row in rows:
        cells = [f"{factor * row[key]:.3g}" if row.get(key) is not None else "" for key, _, factor in COLUMNS]
        lines.append(f"| {row['method']} | " + " | ".join(cells) + " |")
    lines += [""] + [f"Not here: `{name}` ({why})." for name, why in (left_out or {}).items()]
    return "\n".join([*lines, "", PAPER])
