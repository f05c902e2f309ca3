"""``grasp-nodes train jointdiffusion|keypoint``: CHOIR's networks, on a set of grasps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from grasp_nodes.cli.training_request import Outcome, ProgressReport, TrainingRequest, split_options, words_of
from grasp_nodes.cli.training_run import begin_settings, card_facts, loop_progress, training_grasps, write_outcome
from grasp_nodes.contact.choir.assignment import Assignment
from grasp_nodes.contact.choir.space import ChoirSettings, ChoirSpace, Scaling
from grasp_nodes.data.grasp_files import content_sha256
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.learning.settings import TrainingSettings
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
    division: Division = "both"
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
    grasps = training_grasps(request.data, model)
    space = ChoirSpace(ChoirSettings(scaling=options.scaling, assignment=options.assignment, seed=options.permutation))
    left_out = tuple(words_of(options.leave_out))
    fields = GraspFields.of_grasps(grasps, model, options.validation, options.division, left_out, report=report)
    batch = request.batch or (PAPER_BATCH if not small else SMALL_BATCH if joint else SMALL_KEYPOINT_BATCH)
    belongs_to = {"grasps": content_sha256(grasps), "options": asdict(options)}
    run = RunOptions(batch, request.output / "work" / method, loop_progress(report), belongs_to)
    samples = FieldOptions(options.modality, options.level)
    work = train_joint if joint else train_keypoints
    trained = work(config, space, fields, samples, settings, run)
    facts = card_facts(
        *(request, settings, trained, fields.what),
        samples=asdict(replace(samples, facing=config.facing, grid_distance=config.grid_distance)),
        batch=batch,
        division=options.division,
        validation=options.validation,
        left_out=list(left_out),
    )
    return write_outcome(method, request, lambda target: save_network(target, trained.network, model, **facts))
