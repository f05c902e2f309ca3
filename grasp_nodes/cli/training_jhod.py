"""``grasp-nodes train jhod-objects|jhod``: JHOD's auto-encoder of objects, then the joint diffusion."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from grasp_nodes.cli.training_request import Outcome, ProgressReport, TrainingRequest, split_options, words_of
from grasp_nodes.cli.training_run import begin_settings, card_facts, loop_progress, training_grasps, write_outcome
from grasp_nodes.data.grasp_files import content_sha256
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.weights import WeightCard, save_weights
from grasp_nodes.synthesis.grasp_training import RunOptions
from grasp_nodes.synthesis.jhod.loss import SMALL_LOSS, JhodLossSettings
from grasp_nodes.synthesis.jhod.network import PAPER_JHOD, SMALL_JHOD
from grasp_nodes.synthesis.jhod.object_data import plain_objects
from grasp_nodes.synthesis.jhod.object_training import train_objects
from grasp_nodes.synthesis.jhod.point_autoencoder import PAPER_POINTS, SMALL_POINTS
from grasp_nodes.synthesis.jhod.trained import METHOD, OBJECTS, load_objects, save_jhod
from grasp_nodes.synthesis.jhod.training import JhodData, train_jhod

OBJECT_SETTINGS = TrainingSettings(
    steps=4000, rate=2e-3, warmup=100, average=0.995, evaluate_every=250, checkpoint_minutes=2.0
)
PAPER_OBJECT_SETTINGS = replace(OBJECT_SETTINGS, steps=100_000, rate=1e-3, average=0.9995, evaluate_every=1000)
OBJECT_BATCH = {"small": 16, "paper": 32}


@dataclass(frozen=True)
class ObjectOptions:
    """What ``--set`` knows of objects without hands.

    procedural: how many of the families. folders: of meshes in m, by commas. validation: share that validates.
    """

    procedural: int = 1200
    folders: str = ""
    validation: float = 0.05


def train_object_part(request: TrainingRequest, report: ProgressReport) -> Outcome:
    """Train the auto-encoder.

    Raises:
        InputError: a request or objects that cannot be used. MissingFileError: a folder that is not there.
        OSError: a file cannot be written.
    """
    small = request.size == "small"
    settings, options, config = split_options(
        request.options,
        begin_settings(request, OBJECT_SETTINGS, PAPER_OBJECT_SETTINGS),
        *(ObjectOptions(), SMALL_POINTS if small else PAPER_POINTS),
    )
    folders = [*_listed(options.folders), *([request.data] if request.data is not None else [])]
    surfaces = plain_objects(options.procedural, folders, config.points, partial(report, "sampling surfaces"))
    belongs_to = {"options": asdict(options), "folders": [str(one) for one in folders]}
    batch = request.batch or OBJECT_BATCH[request.size]
    run = RunOptions(batch, request.output / "work" / OBJECTS, loop_progress(report), belongs_to)
    trained = train_objects(config, surfaces, settings, run, options.validation)
    what = f"{len(surfaces)} objects: {options.procedural} procedural"
    what += f", {', '.join(map(str, folders))}" if folders else ""
    facts = card_facts(request, settings, trained, what, batch=batch)

    def save(target: Path) -> WeightCard:
        card = WeightCard(OBJECTS, asdict(config), **facts)
        save_weights(target, trained.network.state_dict(), card)
        return card

    return write_outcome(OBJECTS, request, save, f"'grasp-nodes train jhod -o {request.output}' goes on with it")


@dataclass(frozen=True)
class SourceOptions:
    """What ``--set`` knows of the data of the joint diffusion.

    also: further sets of grasps, by commas. leave_out: families that are not trained on. validation: share of the
    objects that validate. variants: of each grasped object, with points and axes of its own.
    objects_alone: whether there are objects without hands: ``procedural`` ones and those of ``folders``.
    plain_variants: of each of these. plain_batch: of these in a batch, for each grasp in it.
    """

    also: str = ""
    leave_out: str = ""
    validation: float = 0.04
    variants: int = 8
    objects_alone: bool = True
    procedural: int = 1200
    folders: str = ""
    plain_variants: int = 2
    plain_batch: float = 0.25


JHOD_SETTINGS = TrainingSettings(
    steps=40_000,
    rate=5e-4,
    warmup=500,
    weight_decay=1e-3,
    average=0.999,
    precision="bfloat16",
    log_every=100,
    evaluate_every=1000,
    checkpoint_minutes=3.0,
)
PAPER_JHOD_SETTINGS = replace(
    JHOD_SETTINGS, steps=400_000, rate=1e-4, schedule="constant", weight_decay=0.0, average=0.9999
)
JHOD_BATCH = {"small": 128, "paper": 512}


def train(request: TrainingRequest, report: ProgressReport) -> Outcome:
    """Train the joint diffusion on a trained auto-encoder, of the same folder or else the installed one.

    Raises:
        InputError: a request or data that cannot be used. MissingFileError: no grasps, or no auto-encoder.
        OSError: a file cannot be written.
    """
    small = request.size == "small"
    settings, options, config, loss = split_options(
        request.options,
        begin_settings(request, JHOD_SETTINGS, PAPER_JHOD_SETTINGS),
        *(SourceOptions(), SMALL_JHOD if small else PAPER_JHOD, SMALL_LOSS if small else JhodLossSettings()),
    )
    model = load_hand_model("right")
    encoder, encoded_by = load_objects(request.output)
    if config.points != encoder.config.points:
        raise InputError(f"points {config.points}: the auto-encoder's objects have {encoder.config.points}")
    sources = [training_grasps(path, model) for path in [request.data, *_listed(options.also)]]
    plain = None
    if options.objects_alone:
        folders = _listed(options.folders)
        plain = plain_objects(options.procedural, folders, config.points, partial(report, "objects alone"))
    data = JhodData.of_sources(
        *(sources, model, encoder, config.layout, config.told, options.variants, plain, options.plain_variants),
        validation=options.validation,
        leave_out=words_of(options.leave_out),
        report=report,
    )
    batch = request.batch or JHOD_BATCH[request.size]
    belongs_to = {
        "options": asdict(options),
        "built_on": encoded_by.sha256,
        "grasps": [content_sha256(one) for one in sources],
    }
    run = RunOptions(batch, request.output / "work" / METHOD, loop_progress(report), belongs_to)
    plain_batch = round(options.plain_batch * batch) if plain is not None else 0
    trained = train_jhod(config, data, settings, run, loss, plain_batch)
    notes = {"batch": batch, "plain_batch": plain_batch, "loss": asdict(loss), "options": asdict(options)}
    facts = card_facts(request, settings, trained, data.what, **notes)
    about = facts.pop("notes")
    return write_outcome(
        METHOD, request, lambda target: save_jhod(target, trained.network, encoded_by.sha256, about, **facts)
    )


def _listed(text: str) -> list[Path]:
    return [Path(word).expanduser() for word in words_of(text)]
