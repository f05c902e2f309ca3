"""``grasp-nodes train jointdiffusion|keypoint``: CHOIR's networks, on a set of grasps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from grasp_nodes.cli.grasp_file_methods import check_hand
from grasp_nodes.cli.training import Outcome, ProgressReport, TrainingRequest
from grasp_nodes.cli.training_grasps import begin_settings, split_options
from grasp_nodes.contact.choir.assignment import Assignment
from grasp_nodes.contact.choir.space import ChoirSettings, ChoirSpace, Scaling
from grasp_nodes.data.grasp_files import check_meshes, content_sha256, read_grasps
from grasp_nodes.data.grasp_set import OPEN_GRASPS_FILE, SET_FILE, open_grasps
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.training import Report
from grasp_nodes.learning.weights import SUFFIX, WEIGHTS_VARIABLE
from grasp_nodes.synthesis.grasp_training import RunOptions
from grasp_nodes.synthesis.jointdiffusion.batches import Division, FieldOptions, GraspFields, Modality
from grasp_nodes.synthesis.jointdiffusion.config import PAPER_JOINT, SMALL_JOINT
from grasp_nodes.synthesis.jointdiffusion.keypoints import PAPER_KEYPOINT, SMALL_KEYPOINT
from grasp_nodes.synthesis.jointdiffusion.trained import JOINT, KEYPOINT, save_network
from grasp_nodes.synthesis.jointdiffusion.training import PAPER_BATCH, paper_settings, train_joint, train_keypoints

SMALL_SETTINGS = TrainingSettings(
    steps=8_000,
    rate=8e-4,
    warmup=200,
    weight_decay=1e-3,
    average=0.999,
    log_every=50,
    evaluate_every=500,
    checkpoint_minutes=3.0,
)
SMALL_BATCH, SMALL_KEYPOINT_BATCH = 32, 128


@dataclass(frozen=True)
class ChoirOptions:
    """What ``--set`` knows of the grasps and the fields.

    modality, level: see `FieldOptions`. division, validation, leave_out (families, by commas): see `GraspFields`.
    scaling, assignment, permutation: of the fields, the last the seed of a random assignment; see `ChoirSettings`.
    """

    modality: Modality = "both"
    level: int = 2
    division: Division = "objects"
    validation: float = 0.05
    leave_out: str = ""
    scaling: Scaling = "none"
    assignment: Assignment = "random"
    permutation: int = ChoirSettings.seed


def train(method: str, request: TrainingRequest, report: ProgressReport) -> Outcome:
    """Train one of the two networks.

    Raises:
        InputError: a request or grasps that cannot be used. MissingFileError: no grasps. OSError: a file cannot be
            written.
    """
    if method not in (JOINT, KEYPOINT):
        raise InputError(f"method {method!r}: expected {JOINT} or {KEYPOINT}")
    small, joint = request.size == "small", method == JOINT
    sizes = (SMALL_JOINT if small else PAPER_JOINT) if joint else (SMALL_KEYPOINT if small else PAPER_KEYPOINT)
    settings, options, config = split_options(
        request.options, begin_settings(request, SMALL_SETTINGS, paper_settings()), ChoirOptions(), sizes
    )
    model = load_hand_model("right")
    where = Path(OPEN_GRASPS_FILE) if request.data is None else request.data
    file = where / SET_FILE if where.is_dir() else where
    grasps = open_grasps() if request.data is None else read_grasps(file)
    check_hand(str(file), grasps, model)
    check_meshes(file, grasps.objects)
    space = ChoirSpace(ChoirSettings(scaling=options.scaling, assignment=options.assignment, seed=options.permutation))
    left_out = tuple(name.strip() for name in options.leave_out.split(",") if name.strip())
    fields = GraspFields.of_grasps(grasps, model, options.validation, options.division, left_out, report=report)

    def progress(done: Report) -> None:
        report("training", int(1000 * done.share), 1000)

    batch = request.batch or (PAPER_BATCH if not small else SMALL_BATCH if joint else SMALL_KEYPOINT_BATCH)
    belongs_to = {"grasps": content_sha256(grasps), "options": asdict(options)}
    run = RunOptions(batch, request.output / "work" / method, progress, belongs_to)
    samples = FieldOptions(options.modality, options.level)
    work = train_joint if joint else train_keypoints
    trained = work(config, space, fields, samples, settings, run)
    target = request.output / f"{method}{SUFFIX}"
    card = save_network(
        target,
        trained.network,
        model,
        data=fields.what,
        seed=settings.seed,
        command=request.command,
        hours=round(trained.seconds / 3600, 3),
        metrics={name: round(value, 6) for name, value in trained.values.items()},
        notes={
            "licence": "CC0-1.0",
            "settings": asdict(settings),
            "samples": asdict(replace(samples, facing=config.facing, grid_distance=config.grid_distance)),
            "batch": batch,
            "steps": trained.step,
            "division": options.division,
            "left_out": list(left_out),
        },
    )
    return Outcome(target, asdict(card), f"use it with {WEIGHTS_VARIABLE}={request.output}")
