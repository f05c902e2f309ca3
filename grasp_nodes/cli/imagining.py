"""``grasp-nodes imagine``: objects out of nothing with the hands that grasp them, as meshes, grasps and a picture."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
import typer

from grasp_nodes import __version__
from grasp_nodes.cli.grasping import on_device
from grasp_nodes.cli.long_work import alone_in
from grasp_nodes.cli.pictures import read_hand_params
from grasp_nodes.contact.hand_states import stack_hands
from grasp_nodes.data.grasp_files import write_grasps
from grasp_nodes.data.labelled_grasps import KINDS, UNLABELLED, GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.judging import JudgedHand, ObjectJudge, judged_hands
from grasp_nodes.evaluation.shape_metrics import shape_diversity
from grasp_nodes.geometry.mesh import is_watertight, signed_volume
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.objects.registry import SPEC_PREFIX, heldout_names
from grasp_nodes.synthesis.flow.frames import principal_turns
from grasp_nodes.synthesis.jhod.imagination import (
    PAPER_IMAGINING,
    Imagination,
    Imagined,
    ImagineSettings,
    load_imagination,
)
from grasp_nodes.viewer.pictures import write_grasp_sheet

FORMAT_VERSION = 1
GRASPS_FILE, REPORT_FILE, SHEET_FILE, OBJECTS_FOLDER = "grasps.npz", "imagined.json", "imagined.png", "objects"
COLUMNS, VIEW_SIZE, MOST_PICTURES = 4, 180, 64
PLAUSIBLE_EXTENT = (0.03, 0.25)
"""m, of the longest side of a thing for one hand."""
LARGEST_PENETRATION = 2e-6
"""m^3, of a valid pair."""
_DIVERSITY_POINTS = 512
_MEASURES = ("penetration_volume", "penetration_depth", "contact", "fingers_in_contact", "good")


@dataclass(frozen=True)
class Request:
    """What the command line asks. hand: file of a given hand, or None. paper: sampled as in the paper."""

    output: Path
    count: int
    seed: int
    hand: Path | None
    steps: int | None
    paper: bool
    surface: str
    device: str
    judge: bool
    json: bool


def imagine(request: Request) -> int:
    """Draw, judge, write and show pairs.

    Returns:
        Exit code: 0, or 1 where no pair has an object.

    Raises:
        InputError: an option or file that cannot be used. MissingFileError: there are no weights.
    """
    sides: tuple[Side, ...] = ("right", "left")
    models: dict[Side, HandModel] = {side: load_hand_model(side) for side in sides}
    settings = imagine_settings(request)
    started = time.perf_counter()
    with alone_in(request.output):
        imagination = load_imagination(on_device(request.device, sides) or models, settings)
        pairs = _drawn(imagination, request)
        drawn = time.perf_counter() - started
        specs = write_objects(pairs, request.output / OBJECTS_FOLDER)
        hands = judged_hands(models) if request.judge else {}
        rows = [judged_pair(one, hands) for one in pairs]
        report = _report(request, settings, pairs, rows, drawn)
        whole = [k for k, one in enumerate(pairs) if one.model is not None]
        if whole:
            labelled = _labelled([pairs[k] for k in whole], [specs[k] for k in whole], request)
            write_grasps(request.output / GRASPS_FILE, labelled, "float32")
            shown = whole[:MOST_PICTURES]
            _draw(request.output / SHEET_FILE, [pairs[k] for k in shown], [rows[k] for k in shown], models["right"])
        (request.output / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n")
    _tell(request, report)
    return 0 if whole else 1


def imagine_settings(request: Request) -> ImagineSettings:
    """How pairs are drawn.

    Raises:
        InputError: an unknown surface, or a number of steps beside --paper, whose number is the schedule's.
    """
    if request.surface not in ("alpha", "enclosed"):
        raise InputError(f"--surface {request.surface}: expected alpha or enclosed")
    if request.paper and request.steps is not None:
        raise InputError("--paper takes all steps of the schedule: leave --steps out")
    settings = PAPER_IMAGINING if request.paper else ImagineSettings()
    settings = replace(settings, surface="alpha" if request.surface == "alpha" else "enclosed")
    return settings if request.steps is None else replace(settings, steps=request.steps)


def judged_pair(pair: Imagined, hands: Mapping[Side, JudgedHand]) -> dict[str, Any]:
    """What is known of a pair: whether it is valid, and what the judge measures; SI units.

    Valid: the object's surface is closed, its longest side is 3 to 25 cm, the hand touches it, and the two have at most
    2 cm^3 in common. Without hands nothing is measured, and nothing is called valid or good.
    """
    if pair.model is None:
        return {"watertight": False, "valid": False, "good": False, "reason": pair.reason}
    extent = float(np.ptp(pair.model.vertices, axis=0).max())
    row: dict[str, Any] = {
        "watertight": is_watertight(pair.model.faces),
        "surface": pair.surface,
        "extent": round(extent, 5),
        "volume": float(f"{signed_volume(pair.model.vertices.astype(np.float64), pair.model.faces):.4g}"),
    }
    if not hands:
        return row
    try:
        found = ObjectJudge(pair.model, hands, displacement=False)([pair.grasp])
    except InputError as error:
        return {**row, "valid": False, "good": False, "reason": str(error)}
    values = {name: float(found.values[name][0]) for name in _MEASURES}
    valid = (
        row["watertight"]
        and PLAUSIBLE_EXTENT[0] <= extent <= PLAUSIBLE_EXTENT[1]
        and values["contact"] > 0
        and values["penetration_volume"] <= LARGEST_PENETRATION
    )
    measured = {name: float(f"{value:.6g}") for name, value in values.items() if np.isfinite(value)}
    return {**row, **measured, "valid": bool(valid), "good": bool(values["good"] > 0)}


def write_objects(pairs: Sequence[Imagined], folder: Path) -> list[str]:
    """Write each object as a mesh, and its points as they were decoded.

    Returns:
        Names of the meshes, empty where there is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, one in enumerate(pairs):
        trimesh.PointCloud(one.points).export(folder / f"{number:03d}-points.ply")
        target = folder / f"{number:03d}.ply"
        if one.model is not None:
            trimesh.Trimesh(one.model.vertices, one.model.faces, process=False).export(target)
        names.append(str(target.resolve()) if one.model is not None else "")
    return names


def object_diversity(objects: Sequence[ObjectModel]) -> dict[str, float]:
    """Coverage and minimum matching distance (m) against the held-out objects, all along their principal axes."""
    references = [load_object(f"{SPEC_PREFIX}{name}") for name in heldout_names()]
    found = shape_diversity([_upright(one) for one in objects], [_upright(one) for one in references])
    return {"coverage": round(found.coverage, 4), "minimum_matching": round(found.minimum_matching, 6)}


def _upright(item: ObjectModel) -> np.ndarray:
    """Some points about their middle, along the principal axes; these point to where the object reaches farther."""
    points = np.asarray(item.points, np.float64)
    points = points - points.mean(axis=0)
    points = points @ principal_turns(torch.from_numpy(points)[None])[0].numpy().T
    points = points * np.where((points**3).sum(axis=0) < 0, -1.0, 1.0)
    return points[:: max(1, len(points) // _DIVERSITY_POINTS)]


def _drawn(imagination: Imagination, request: Request) -> list[Imagined]:
    if request.hand is None:
        return imagination.imagine(request.count, request.seed)
    given = read_hand_params(request.hand)
    if len(given) != 1:
        raise InputError(f"--hand {request.hand}: expected one hand, got {len(given)}")
    rows = np.zeros(request.count, np.int64)
    return imagination.objects_for(given[torch.from_numpy(rows)], request.seed)


def _report(
    request: Request,
    settings: ImagineSettings,
    pairs: Sequence[Imagined],
    rows: Sequence[Mapping[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    whole = [one.model for one in pairs if one.model is not None]
    summary: dict[str, Any] = {"n": len(pairs), "watertight_share": len(whole) / len(pairs)}
    if request.judge:
        volumes = [row["penetration_volume"] for row in rows if "penetration_volume" in row]
        summary |= {
            "valid_share": round(float(np.mean([row["valid"] for row in rows])), 4),
            "good": round(float(np.mean([row["good"] for row in rows])), 4),
            "penetration_cm3": round(1e6 * float(np.mean(volumes)), 4) if volumes else None,
        }
        if whole:
            summary |= object_diversity(whole)
    return {
        "format": "grasp_nodes.imagined",
        "format_version": FORMAT_VERSION,
        "grasp_nodes": __version__,
        "seed": request.seed,
        "hand": str(request.hand or ""),
        "sampler": settings.sampler,
        "steps": settings.steps,
        "settle": settings.settle,
        "seconds": round(seconds, 3),
        "summary": summary,
        "pairs": [dict(row) for row in rows],
    }


def _labelled(pairs: Sequence[Imagined], specs: Sequence[str], request: Request) -> LabelledGrasps:
    count, state = len(pairs), pairs[0].grasp.hand
    kinds = [one.grasp.kind for one in pairs]
    names = np.full(count, "")
    return LabelledGrasps(
        source="jhod",
        hands=stack_hands([one.grasp for one in pairs]),
        hand_model_id=state.model_id,
        hand_fingerprint=state.model_fingerprint,
        objects=[GraspedObject(f"imagined-{k}", spec) for k, spec in enumerate(specs)],
        object_index=np.arange(count),
        kind=np.array([KINDS.index(kind) if kind in KINDS else UNLABELLED for kind in kinds], np.int64),
        subject=names,
        sequence=names,
        frame=np.arange(count),
        attributes={"seed": str(request.seed), "method": "jhod", "grasp_nodes": __version__},
    )


def _draw(path: Path, pairs: Sequence[Imagined], rows: Sequence[Mapping[str, Any]], model: HandModel) -> None:
    meshes, captions = [], []
    for number, (pair, row) in enumerate(zip(pairs, rows, strict=True)):
        assert pair.model is not None
        meshes.append((pair.model.vertices.astype(np.float64), pair.model.faces))
        words = [f"{number + 1}: {100 * row['extent']:.0f} cm"]
        if "penetration_volume" in row:
            words.append(f"{1e6 * row['penetration_volume']:.1f} cm3")
            words.append("good" if row["good"] else "valid" if row["valid"] else "not valid")
        captions.append(" ".join(words))
    hands = stack_hands([one.grasp for one in pairs])
    write_grasp_sheet(path, hands, model, meshes, captions, COLUMNS, VIEW_SIZE, threads=2)


def _tell(request: Request, report: Mapping[str, Any]) -> None:
    for name, value in report["summary"].items():
        typer.echo(f"  {name:20s} {value}")
    typer.echo(f"in {request.output}: " + ", ".join(sorted(one.name for one in request.output.glob("*.*"))))
    if request.json:
        typer.echo(json.dumps(report["summary"]))
