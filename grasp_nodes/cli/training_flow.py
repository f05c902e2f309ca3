"""``grasp-nodes train fastgrasp-flow``: our fast generator, on a set of grasps."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from grasp_nodes.cli.training import Outcome, ProgressReport, TrainingRequest, apply_options
from grasp_nodes.data.grasp_files import read_grasps
from grasp_nodes.data.grasp_set import SET_FILE, open_grasps
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.training import Report
from grasp_nodes.learning.weights import SUFFIX, WEIGHTS_VARIABLE
from grasp_nodes.synthesis.flow.loss import FlowLossSettings
from grasp_nodes.synthesis.flow.network import LARGE_FLOW, SMALL_FLOW, FlowConfig
from grasp_nodes.synthesis.flow.trained import METHOD, save_flow
from grasp_nodes.synthesis.flow.training import FlowData, train_flow

SMALL_SETTINGS = TrainingSettings(
    steps=60_000,
    rate=1e-3,
    warmup=200,
    weight_decay=1e-3,
    average=0.999,
    precision="bfloat16",
    log_every=100,
    evaluate_every=1000,
    checkpoint_minutes=3.0,
)
LARGE_SETTINGS = replace(SMALL_SETTINGS, steps=300_000, rate=4e-4, warmup=1000, average=0.9995)
SMALL_BATCH, LARGE_BATCH = 256, 2048
Part = TypeVar("Part", FlowConfig, FlowLossSettings, "FlowOptions")


@dataclass(frozen=True)
class FlowOptions:
    """What ``--set`` knows besides the settings of the training, the loss and the network's sizes.

    leave_out: families that are not trained on, separated by commas. validation: share of the objects that validate.
    """

    leave_out: str = ""
    validation: float = 0.04


def train(request: TrainingRequest, report: ProgressReport) -> Outcome:
    """Train the flow; distances to objects that the cache does not hold are worked out first.

    Raises:
        InputError: a request or data that cannot be used. MissingFileError: the published grasps are not there.
        OSError: a file cannot be written.
    """
    small = request.size == "small"
    config = _chosen(SMALL_FLOW if small else LARGE_FLOW, request)
    options, loss = _chosen(FlowOptions(), request), _chosen(FlowLossSettings(), request)
    others = {field.name for part in (options, loss, config) for field in fields(part)}
    rest = {name: text for name, text in request.options.items() if name not in others}
    settings = apply_options(_settings(request), rest)
    model = load_hand_model("right")
    if request.data is None:
        grasps = open_grasps(model.fingerprint)
    else:
        file = request.data / SET_FILE if request.data.is_dir() else request.data
        grasps = read_grasps(file, model.fingerprint)
    left_out = tuple(name.strip() for name in options.leave_out.split(",") if name.strip())
    data = FlowData.of_grasps(grasps, model, options.validation, left_out, report)

    def progress(done: Report) -> None:
        report("training", math.floor(1000 * done.share), 1000)

    batch = request.batch or (SMALL_BATCH if small else LARGE_BATCH)
    folder = request.output / "work"
    trained = train_flow(config, data, settings, batch, folder, loss, progress)
    notes: dict[str, Any] = {"licence": "CC0-1.0", "settings": asdict(settings), "loss": asdict(loss), "batch": batch}
    target = request.output / f"{METHOD}{SUFFIX}"
    card = save_flow(
        target,
        trained.network,
        data=data.what,
        seed=settings.seed,
        command=request.command,
        hours=round(trained.seconds / 3600, 3),
        metrics={name: round(value, 5) for name, value in trained.values.items()},
        notes={**notes, "steps": trained.step, "left_out": list(left_out)},
    )
    return Outcome(target, asdict(card), f"use it with {WEIGHTS_VARIABLE}={request.output}")


def _chosen(part: Part, request: TrainingRequest) -> Part:
    """A part with those of the user's settings that are its own."""
    own = {field.name for field in fields(part)}
    return apply_options(part, {name: text for name, text in request.options.items() if name in own})


def _settings(request: TrainingRequest) -> TrainingSettings:
    base = SMALL_SETTINGS if request.size == "small" else LARGE_SETTINGS
    changes: dict[str, Any] = {"seed": request.seed, "device": request.device, "minutes": request.minutes}
    if request.steps is not None:
        changes["steps"] = request.steps
    return replace(base, **changes)
