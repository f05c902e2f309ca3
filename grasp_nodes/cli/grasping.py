"""``grasp-nodes grasp OBJECT``: grasps of one object as a file, with all metrics and a picture of each."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
import typer

from grasp_nodes import __version__
from grasp_nodes.cli.long_work import alone_in
from grasp_nodes.contact.hand_states import stack_hands
from grasp_nodes.contact.interaction import Grasp, GraspSet
from grasp_nodes.data.grasp_files import REGISTRY_VERSION, write_grasps
from grasp_nodes.data.labelled_grasps import KINDS, UNLABELLED, GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.judging import ObjectJudge, judged_hands
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects import registry
from grasp_nodes.objects.clouds.files import holds_cloud, read_cloud
from grasp_nodes.objects.clouds.observed import CloudOptions, check_width, object_from_cloud
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.grasp_request import GraspRequest, propose
from grasp_nodes.synthesis.named_methods import AUTO, make_named_method

FORMAT_VERSION = 1
REFINEMENTS = ("none", "geo", "polish")
GRASPS_FILE, REPORT_FILE, SHEET_FILE, OBJECT_FILE = "grasps.npz", "grasps.json", "grasps.png", "object.ply"
COLUMNS, VIEW_SIZE, MOST_PICTURES = 4, 180, 64


@dataclass(frozen=True)
class Request:
    """What the command line asks. item: mesh, shape or file of points. approach: (3,) or None. json: a last line."""

    item: str
    output: Path
    count: int
    method: str
    refine: str
    seed: int
    scale: float
    device: str
    approach: str
    judge: bool
    json: bool


def grasp(request: Request) -> int:
    """Make, judge, write and draw grasps.

    Returns:
        Exit code: 0, or 1 where no grasp was found.

    Raises:
        InputError, MissingFileError: an object, method or option that cannot be used.
    """
    name = method_name(request.method, request.refine)
    asked = GraspRequest(request.count, request.seed, approach=parse_direction(request.approach), contact_maps=0)
    sides: tuple[Side, ...] = ("right", "left")
    models: dict[Side, HandModel] = {side: load_hand_model(side) for side in sides}
    started = time.perf_counter()
    with alone_in(request.output):
        model, spec, remarks = _open(request)
        method = make_named_method(name, models, on_device(request.device, sides))
        if method.generator is None:
            raise InputError(f"method {method.name}: {method.missing}")
        found = propose(method.generator, model, asked, models)
        measured = _judged(found, model, models) if request.judge else _own_metrics(found)
        report = _report(request, found, method.name, measured, remarks, time.perf_counter() - started)
        if found.grasps:
            labelled = _labelled(found, method.name, model, spec, measured, request)
            write_grasps(request.output / GRASPS_FILE, labelled, "float32")
            _draw(request.output / SHEET_FILE, found.grasps, model, models, measured)
        (request.output / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n")
    _tell(request, report)
    return 0 if found.grasps else 1


def method_name(method: str, refine: str) -> str:
    """A method with the suffix of its refinement.

    Raises:
        InputError: no such refinement.
    """
    if refine not in REFINEMENTS:
        raise InputError(f"--refine {refine}: expected one of {', '.join(REFINEMENTS)}")
    if refine == "none" or method.endswith(f"+{refine}"):
        return method
    if method == AUTO:
        raise InputError(f"--refine {refine}: --method {AUTO} is refined as it is; name the method to refine otherwise")
    return f"{method}+{refine}"


def parse_direction(text: str) -> np.ndarray | None:
    """Three numbers with commas; None of nothing.

    Raises:
        InputError: something else.
    """
    if not text:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3:
        raise InputError(f"--approach {text}: expected three numbers with commas, such as 0,0,-1")
    return np.array(values)


def on_device(device: str, sides: Sequence[Side]) -> dict[Side, HandModel] | None:
    """Hand models for networks on another device than the CPU."""
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device}: expected auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no CUDA device here; expected cpu")
    if device == "cpu" or not torch.cuda.is_available():
        return None
    return {side: load_hand_model(side).to("cuda") for side in sides}


def _open(request: Request) -> tuple[ObjectModel, str, list[str]]:
    """The object, how its mesh is called in files, and what is to be known of it."""
    path = Path(request.item)
    if not holds_cloud(path):
        model = load_object(request.item, scale=request.scale)
        check_width(request.item, model.vertices)
        spec = str(path.resolve()) if path.is_file() else request.item
        return model, spec, []
    cloud = read_cloud(path)
    found = object_from_cloud(cloud, CloudOptions(scale=request.scale, seed=request.seed), path.stem)
    target = (request.output / OBJECT_FILE).resolve()
    trimesh.Trimesh(found.model.vertices, found.model.faces, process=False).export(target)
    place = ", ".join(f"{value:.4f}" for value in found.origin)
    where = f"the grasps' frame has its origin at ({place}) m of the cloud's"
    return found.model, str(target), [found.completion, *found.remarks, where]


def _judged(found: GraspSet, model: ObjectModel, models: Mapping[Side, HandModel]) -> dict[str, np.ndarray]:
    """Every metric of `evaluate`, without PyBullet's, beside the generator's own."""
    if not found.grasps:
        return {}
    judge = ObjectJudge(model, judged_hands(models), displacement=False)
    measures = judge(found.grasps, [one.kind for one in found.grasps])
    known = {name: values for name, values in measures.values.items() if np.isfinite(values).any()}
    return {**_own_metrics(found), **known}


def _own_metrics(found: GraspSet) -> dict[str, np.ndarray]:
    names = list(dict.fromkeys(name for one in found.grasps for name in one.metrics))
    values = {name: np.array([one.metrics.get(name, math.nan) for one in found.grasps]) for name in names}
    return {"score": np.array([one.score for one in found.grasps], np.float64), **values}


def _labelled(
    found: GraspSet,
    method: str,
    model: ObjectModel,
    spec: str,
    measured: Mapping[str, np.ndarray],
    request: Request,
) -> LabelledGrasps:
    grasps, count = found.grasps, len(found.grasps)
    state = grasps[0].hand
    scale = 1.0 if spec.endswith(OBJECT_FILE) else model.scale
    attributes = {"seed": str(request.seed), "method": method, "grasp_nodes": __version__}
    if spec.startswith(registry.SPEC_PREFIX):
        attributes[REGISTRY_VERSION] = str(registry.VERSION)
    return LabelledGrasps(
        source=method,
        hands=stack_hands(grasps),
        hand_model_id=state.model_id,
        hand_fingerprint=state.model_fingerprint,
        objects=[GraspedObject(model.object_id, spec, scale)],
        object_index=np.zeros(count, np.int64),
        kind=np.array([KINDS.index(one.kind) if one.kind in KINDS else UNLABELLED for one in grasps], np.int64),
        subject=np.full(count, ""),
        sequence=np.full(count, ""),
        frame=np.arange(count),
        metrics=dict(measured),
        attributes=attributes,
    )


def _report(
    request: Request,
    found: GraspSet,
    method: str,
    measured: Mapping[str, np.ndarray],
    remarks: Sequence[str],
    seconds: float,
) -> dict[str, Any]:
    rows = [
        {name: _number(values[k]) for name, values in measured.items()} | ({"kind": one.kind} if one.kind else {})
        for k, one in enumerate(found.grasps)
    ]
    means = {name: _number(np.nanmean(values)) for name, values in measured.items() if np.isfinite(values).any()}
    return {
        "format": "grasp_nodes.grasp_report",
        "format_version": FORMAT_VERSION,
        "grasp_nodes": __version__,
        "object": request.item,
        "object_id": found.object_id,
        "method": method,
        "seed": request.seed,
        "asked": request.count,
        "n": len(found.grasps),
        "seconds": round(seconds, 3),
        "seconds_per_grasp": round(found.duration / max(len(found.grasps), 1), 4),
        "remarks": list(remarks),
        "mean": means,
        "grasps": rows,
    }


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _draw(
    path: Path,
    grasps: Sequence[Grasp],
    model: ObjectModel,
    models: Mapping[Side, HandModel],
    measured: Mapping[str, np.ndarray],
) -> None:
    from grasp_nodes.viewer.pictures import write_grasp_sheet

    side = grasps[0].hand.params.side
    shown = [k for k, one in enumerate(grasps) if one.hand.params.side == side][:MOST_PICTURES]
    captions = []
    for k in shown:
        words = [f"{k + 1}:"]
        if "penetration_depth" in measured:
            words.append(f"{1000 * measured['penetration_depth'][k]:.1f} mm deep")
        if "fingers_in_contact" in measured:
            words.append(f"{measured['fingers_in_contact'][k]:.0f} fingers")
        if "good" in measured:
            words.append("good" if measured["good"][k] else "not good")
        captions.append(" ".join(words))
    item = model.vertices.astype(np.float64), model.faces
    hands = stack_hands([grasps[k] for k in shown])
    write_grasp_sheet(path, hands, models[side], [item] * len(shown), captions, COLUMNS, VIEW_SIZE, threads=2)


def _tell(request: Request, report: Mapping[str, Any]) -> None:
    for remark in report["remarks"]:
        typer.echo(remark)
    typer.echo(f"{report['n']} of {report['asked']} grasps of {report['object']} by {report['method']}")
    for name, value in report["mean"].items():
        typer.echo(f"  {name:26s} {value:.4g}")
    typer.echo(f"in {request.output}: " + ", ".join(sorted(one.name for one in request.output.glob("*.*"))))
    if request.json:
        typer.echo(json.dumps({key: report[key] for key in ("object", "method", "n", "seconds", "mean")}))
