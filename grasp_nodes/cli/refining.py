"""``grasp-nodes refine GRASPS --object MESH``: a file of grasps, refined."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer

from grasp_nodes.cli.grasp_file_methods import check_hand
from grasp_nodes.data.grasp_files import read_grasps, write_grasps
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.protocols import Polisher
from grasp_nodes.evaluation.refinement_metrics import RefinementJudge
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.fitting.geo.refiner import GeoRefiner
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.objects.loading import load_object
from grasp_nodes.synthesis.jointdiffusion.grasps import load_refiner
from grasp_nodes.synthesis.jointdiffusion.trained import JOINT, KEYPOINT

METHODS = (JOINT, KEYPOINT, "geo")


@dataclass(frozen=True)
class Request:
    """What the command line asks. grasps: a file of them. item: their object. scale: of its unit to m.

    weights: folder of the networks'; None = the installed ones. json: a last line.
    """

    grasps: Path
    item: str
    output: Path
    method: str = JOINT
    scale: float = 1.0
    weights: Path | None = None
    seed: int = 0
    json: bool = False


def refine(request: Request) -> int:
    """Refine the grasps of a file on one object and write them as another file.

    Returns:
        0.

    Raises:
        InputError: grasps of another hand or side, on several objects, or a method that there is not.
        MissingFileError: a file or weights that are not there.
    """
    model = load_hand_model("right")
    grasps = read_grasps(request.grasps)
    check_hand(str(request.grasps), grasps, model)
    if not len(grasps):
        raise InputError(f"{request.grasps}: holds no grasps")
    if len(np.unique(grasps.object_index)) > 1:
        raise InputError(f"{request.grasps}: holds grasps of several objects; expected those of {request.item} alone")
    item = load_object(request.item, scale=request.scale)
    refiner = _refiner(request, model)
    found = refiner(grasps.hands, item)
    result = replace(grasps, hands=found.to(dtype=torch.float32), metrics={})
    write_grasps(request.output, result, "float32")
    judged = RefinementJudge(model)(found, grasps.hands, Solid.of(item))
    before = RefinementJudge(model)(grasps.hands, grasps.hands, Solid.of(item))
    report: dict[str, Any] = {
        "grasps": len(grasps),
        "method": request.method,
        "moved_mm": float(judged.mpjpe.mean()),
        "volume_before_cm3": float(before.volume.mean()),
        "volume_after_cm3": float(judged.volume.mean()),
        "file": str(request.output),
    }
    typer.echo(
        f"{report['grasps']} grasps refined by {request.method}: moved {report['moved_mm']:.1f} mm in the mean, volume "
        f"shared with the object {report['volume_before_cm3']:.2f} cm3 before, {report['volume_after_cm3']:.2f} after"
    )
    typer.echo(str(request.output))
    if request.json:
        typer.echo(json.dumps(report))
    return 0


def _refiner(request: Request, model: HandModel) -> Polisher:
    if request.method not in METHODS:
        raise InputError(f"--method {request.method}: expected one of {', '.join(METHODS)}")
    if request.method == "geo":
        return GeoRefiner(model)
    grasps = load_refiner(request.method, model, request.weights)
    return lambda hands, item: grasps.refine(hands, item, request.seed)
