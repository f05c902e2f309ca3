"""``grasp-nodes train honet|picr``: MIHO's networks, on rendered crops or on recorded sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from grasp_nodes.cli.training_request import Outcome, ProgressReport, TrainingRequest, is_first_process, split_options
from grasp_nodes.cli.training_run import begin_settings, card_facts, loop_progress
from grasp_nodes.data.drawn_crops import drawn_crops
from grasp_nodes.data.hand_object_images import ImageSettings, images_folder, join_images, make_images, split_objects
from grasp_nodes.data.source_crops import recorded_crops
from grasp_nodes.errors import InputError
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.training import EVALUATED, Trained
from grasp_nodes.learning.weights import SUFFIX, WEIGHTS_VARIABLE, read_weights
from grasp_nodes.miho import honet_training, picr_training
from grasp_nodes.miho.honet import PAPER_HONET, SMALL_HONET
from grasp_nodes.miho.honet_training import CropData, train_honet
from grasp_nodes.miho.judgement import mean_answer
from grasp_nodes.miho.picr import PAPER_PICR, SMALL_PICR
from grasp_nodes.miho.picr_training import train_picr
from grasp_nodes.miho.samples import TABLE_VERSION, ObjectTable
from grasp_nodes.miho.trained import CONTACT_THRESHOLD, HONET, MEAN_ANSWER, load_honet, save_network

SMALL_SETTINGS = TrainingSettings(
    steps=12_000,
    rate=1.5e-3,
    warmup=200,
    weight_decay=1e-4,
    average=0.998,
    precision="bfloat16",
    evaluate_every=500,
    checkpoint_minutes=3.0,
)
SMALL_BATCH, PAPER_BATCH = 64, 8
FINETUNED_RATE = 5e-4
LARGEST_ROUNDS = 1000


@dataclass(frozen=True)
class MihoOptions:
    """What ``--set`` knows besides the settings of the training.

    per_object: crops of each object in a round. rounds: of other crops of the same objects. objects: at most, 0 = all.
    processes: that draw.
    dataset: of which the data are a folder, such as ``ho3d``; empty = clip folders. every: only every so many frames.
    drawn: further crops of each recorded object, of disturbed and of newly fitted grasps; 0 = none.
    honet: weight file whose poses PiCR is fine-tuned on; empty = pre-training on true poses.
    start: weight file of the same network that the training begins with, such as PiCR's for its fine-tuning.
    """

    per_object: int = 25
    rounds: int = 2
    objects: int = 0
    processes: int = 2
    dataset: str = ""
    every: int = 1
    drawn: int = 0
    honet: str = ""
    start: str = ""


def train(method: str, request: TrainingRequest, report: ProgressReport) -> Outcome:
    """Train HoNet or PiCR; crops that the cache does not hold are rendered first.

    Args:
        method: ``honet`` or ``picr``. request: `data` names a folder of HO-3D or DexYCB, or of clips with truth; None =
            rendered crops.

    Raises:
        InputError: a request or data that cannot be used. MissingFileError: the published grasps are not there.
        WorkError: crops could not be drawn. OSError: a file cannot be written.
    """
    options, _ = split_options(request.options, MihoOptions(), SMALL_SETTINGS)
    # What the settings are by default follows from the options.
    _, settings = split_options(request.options, options, _settings(method, request, options))
    model = load_hand_model("right")
    size = _size(method, request)
    if request.data is None:
        data, validation, what = _rendered(options, size, report)
    else:
        data, validation = _recorded(request.data, options, size, request.seed)
        what = f"{request.data.name}: {len(data)} crops of recorded sequences"
        if options.drawn:
            what += " and of further grasps of their objects, drawn"
    batch = request.batch or (SMALL_BATCH if request.size == "small" else PAPER_BATCH)
    trained, config = _run(method, request, options, settings, (data, validation), model, batch, loop_progress(report))
    target = request.output / f"{method}{SUFFIX}"
    if not is_first_process():
        return Outcome(target, {})
    metrics = _metrics(method, trained, options, model, validation)
    if method == HONET:
        normalization: dict[str, Any] = {MEAN_ANSWER: mean_answer(data, model)}
    else:
        normalization = {CONTACT_THRESHOLD: metrics["threshold"]}
    facts = card_facts(request, settings, trained, what, batch=batch, curves=_evaluations(trained)) | {
        "metrics": metrics
    }
    card = save_network(
        *(target, _tensors(trained), config, model.fingerprint),
        normalization=normalization,
        **facts,
    )
    return Outcome(target, asdict(card), f"use it with {WEIGHTS_VARIABLE}={request.output}")


def _size(method: str, request: TrainingRequest) -> int:
    if request.size == "small":
        return SMALL_HONET.size if method == HONET else SMALL_PICR.size
    return PAPER_HONET.size if method == HONET else PAPER_PICR.size


def _settings(method: str, request: TrainingRequest, options: MihoOptions) -> TrainingSettings:
    small = replace(SMALL_SETTINGS, rate=FINETUNED_RATE if options.honet else SMALL_SETTINGS.rate)
    if method == HONET:
        paper = honet_training.paper_settings()
    else:
        paper = picr_training.paper_settings(finetuning=bool(options.honet))
    return begin_settings(request, small, paper)


def _run(
    method: str,
    request: TrainingRequest,
    options: MihoOptions,
    settings: TrainingSettings,
    data: tuple[CropData, CropData],
    model: HandModel,
    batch: int,
    progress: Any,
) -> tuple[Trained, Any]:
    folder = request.output / "work" / method
    if method == HONET and options.honet:
        raise InputError("train honet: --set honet is PiCR's")
    belongs = _belongs(request, options, batch)
    start = read_weights(Path(options.start), method, model.fingerprint) if options.start else None
    if method == HONET:
        honet_config = SMALL_HONET if request.size == "small" else PAPER_HONET
        trained = train_honet(honet_config, *data, model, settings, batch, folder, progress, belongs, start)
        return trained, honet_config
    picr_config = SMALL_PICR if request.size == "small" else PAPER_PICR
    honet = load_honet(Path(options.honet), model.fingerprint) if options.honet else None
    return (
        train_picr(picr_config, *data, model, settings, batch, folder, honet, progress, belongs, start),
        picr_config,
    )


def _belongs(request: TrainingRequest, options: MihoOptions, batch: int) -> Mapping[str, Any]:
    """What a checkpoint must agree on: the data, what is worked out of them, and the networks that are begun with."""
    apart = {"processes", "honet", "start"} | (set() if options.drawn else {"drawn"})
    drawn = {name: value for name, value in asdict(options).items() if name not in apart}
    files = {name: _file_hash(text) for name, text in (("honet", options.honet), ("start", options.start))}
    return {"data": str(request.data), "batch": batch, "tables": TABLE_VERSION, **drawn, **files}


def _file_hash(path: str) -> str:
    return read_weights(Path(path)).sha256 if path else ""


def _tensors(trained: Trained) -> Mapping[str, torch.Tensor]:
    """The best by the held-out crops; without an evaluation the last."""
    return trained.best if trained.best is not None else trained.network.state_dict()


def _evaluations(trained: Trained) -> list[dict[str, float]]:
    """Of all evaluations: the step, and the values by name."""
    found = []
    for row in trained.rows:
        values = {name.removeprefix(EVALUATED): value for name, value in row.items() if name.startswith(EVALUATED)}
        if values:
            found.append({"step": row["step"]} | {name: value and round(value, 4) for name, value in values.items()})
    return found


def _metrics(
    method: str, trained: Trained, options: MihoOptions, model: HandModel, validation: CropData
) -> dict[str, float]:
    """Of the weights that are saved, which need not be those of the last evaluation."""
    network: Any = trained.network
    network.load_state_dict(dict(_tensors(trained)))
    if method == HONET:
        values = honet_training.honet_errors(network, validation, model).means()
    else:
        honet = load_honet(Path(options.honet), model.fingerprint) if options.honet else None
        anchors = HandAnchors.of_model(model)
        values = picr_training.picr_scores(network, validation, model, anchors, honet).as_dict()
    return {name: round(value, 5) for name, value in values.items()}


def _rendered(options: MihoOptions, size: int, report: ProgressReport) -> tuple[CropData, CropData, str]:
    def drawn(split: Any, rounds: Sequence[int], most: int) -> CropData:
        names = split_objects(split)[: most or None]
        parts = []
        for number in rounds:
            settings = ImageSettings(size=size, per_object=options.per_object, seed=number)
            tell = partial(report, f"drawing {split} crops, round {number + 1}")
            parts.append(make_images(images_folder(settings), names, settings, options.processes, tell))
        images = join_images(parts)
        return CropData.of(images, ObjectTable.of_names(images.objects))

    if not 1 <= options.rounds < LARGEST_ROUNDS:
        raise InputError(
            f"rounds: expected 1 to {LARGEST_ROUNDS - 1}, got {options.rounds}: later ones are the benchmark's crops"
        )
    data = drawn("train", range(options.rounds), options.objects)
    validation = drawn("validation", (0,), options.objects)
    objects = len(data.table.codes)
    return (
        data,
        validation,
        f"{len(data)} rendered crops of {objects} procedural objects held by the open hand, CC0-1.0",
    )


def _recorded(folder: Path, options: MihoOptions, size: int, seed: int) -> tuple[CropData, CropData]:
    models = {side: load_hand_model(side) for side in get_args(Side)}
    training, validation, objects = recorded_crops(folder, options.dataset, models, size, options.every)
    if options.drawn:
        parts = [training]
        for number, (name, thing) in enumerate(zip(training.objects, objects, strict=True)):
            own = training.rows(training.object_index == number)
            if not len(own):
                continue  # only sequences that validate show it: it must stay unseen
            more = drawn_crops(thing, own, models["right"], options.drawn, size, seed + number)
            if more is not None:
                parts.append(replace(more, objects=(name,)))
        training = join_images(parts)
    table = ObjectTable.of_meshes([(one.vertices.astype(np.float64), one.faces) for one in objects])
    return CropData.of(training, table), CropData.of(validation, table)
