"""``grasp-nodes train grabnet|grabnet-refine``: CoarseNet, then RefineNet."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from grasp_nodes.cli.training_grasps import SMALL_SETTINGS, DataOptions, GraspTraining
from grasp_nodes.cli.training_request import Outcome, ProgressReport, TrainingRequest, split_options
from grasp_nodes.cli.training_run import begin_settings
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.synthesis.grabnet.coarse import PAPER_COARSE, PAPER_LAYOUT, SMALL_COARSE, SMALL_LAYOUT
from grasp_nodes.synthesis.grabnet.generator import GRABNET, GRABNET_REFINE, load_coarse
from grasp_nodes.synthesis.grabnet.losses import GrabNetWeights
from grasp_nodes.synthesis.grabnet.refine import PAPER_REFINE, SMALL_REFINE
from grasp_nodes.synthesis.grabnet.training import PAPER_BATCH, paper_settings, train_coarse, train_refine

SMALL_BATCH = 64


def train(method: str, request: TrainingRequest, report: ProgressReport) -> Outcome:
    """Train one of the two networks; RefineNet takes the vectors of the CoarseNet in the same folder.

    Raises:
        InputError: a request or grasps that cannot be used. MissingFileError: no grasps, or no CoarseNet yet.
        OSError: a file cannot be written.
    """
    if method not in (GRABNET, GRABNET_REFINE):
        raise InputError(f"method {method!r}: is no part of GrabNet; expected {GRABNET} or {GRABNET_REFINE}")
    return _coarse(request, report) if method == GRABNET else _refine(request, report)


def _coarse(request: TrainingRequest, report: ProgressReport) -> Outcome:
    small = request.size == "small"
    settings, options, config, weights = split_options(
        request.options,
        begin_settings(request, SMALL_SETTINGS, paper_settings()),
        *(DataOptions(), SMALL_COARSE if small else PAPER_COARSE, GrabNetWeights()),
    )
    if not options.turned:
        config = replace(config, turns=1, principal=False)  # the first turn of the table is none
    training = GraspTraining.begin(
        *(GRABNET, request, settings, replace(options, turned=False), SMALL_LAYOUT if small else PAPER_LAYOUT),
        *(config.points, SMALL_BATCH if small else PAPER_BATCH, report),
    )
    told = partial(report, "basis points")
    trained = train_coarse(config, training.data, weights, settings, training.run, told)
    return training.end(trained, config, {"weights": vars(weights)})


def _refine(request: TrainingRequest, report: ProgressReport) -> Outcome:
    small = request.size == "small"
    coarse = load_coarse(load_hand_model("right"), request.output)
    settings, options, config, weights = split_options(
        request.options,
        begin_settings(request, SMALL_SETTINGS, paper_settings()),
        *(DataOptions(), SMALL_REFINE if small else PAPER_REFINE, GrabNetWeights()),
    )
    training = GraspTraining.begin(
        *(GRABNET_REFINE, request, settings, options, coarse.coder.layout, config.points),
        *(SMALL_BATCH if small else PAPER_BATCH, report, [coarse], coarse.coder),
        principal=coarse.network.config.principal,
    )
    trained = train_refine(config, training.data, weights, settings, training.run)
    return training.end(trained, config, {"weights": vars(weights)})
