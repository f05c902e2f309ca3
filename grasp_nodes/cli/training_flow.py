"""``grasp-nodes train fastgrasp-flow``: our fast generator, on a set of grasps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from grasp_nodes.cli.training_request import Outcome, ProgressReport, TrainingRequest, split_options, words_of
from grasp_nodes.cli.training_run import begin_settings, card_facts, loop_progress, training_grasps, write_outcome
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.synthesis.flow.loss import FlowLossSettings
from grasp_nodes.synthesis.flow.network import LARGE_FLOW, SMALL_FLOW
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
    settings, options, config, loss = split_options(
        request.options,
        begin_settings(request, SMALL_SETTINGS, LARGE_SETTINGS),
        *(FlowOptions(), SMALL_FLOW if small else LARGE_FLOW, FlowLossSettings()),
    )
    model = load_hand_model("right")
    left_out = tuple(words_of(options.leave_out))
    data = FlowData.of_grasps(training_grasps(request.data, model), model, options.validation, left_out, report)
    batch = request.batch or (SMALL_BATCH if small else LARGE_BATCH)
    trained = train_flow(config, data, settings, batch, request.output / "work", loss, loop_progress(report))
    notes = {"loss": asdict(loss), "batch": batch, "left_out": list(left_out)}
    facts = card_facts(request, settings, trained, data.what, **notes)
    return write_outcome(METHOD, request, lambda target: save_flow(target, trained.network, **facts))
