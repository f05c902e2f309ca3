"""``grasp-nodes train fastgrasp-autoencoder|fastgrasp-latent|fastgrasp-adaptation|cvae``: FastGrasp's parts in turn."""

from __future__ import annotations

from dataclasses import dataclass, replace

from grasp_nodes.cli.training_grasps import SMALL_SETTINGS, DataOptions, GraspTraining
from grasp_nodes.cli.training_request import Outcome, ProgressReport, TrainingRequest, split_options
from grasp_nodes.cli.training_run import begin_settings
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.synthesis.fastgrasp.adaptation import PAPER_ADAPTATION, SMALL_ADAPTATION
from grasp_nodes.synthesis.fastgrasp.autoencoder import (
    PAPER_AUTOENCODER,
    PAPER_LAYOUT,
    SMALL_AUTOENCODER,
    SMALL_LAYOUT,
)
from grasp_nodes.synthesis.fastgrasp.cvae import PAPER_CVAE, SMALL_CVAE
from grasp_nodes.synthesis.fastgrasp.denoiser import PAPER_DENOISER, SMALL_DENOISER
from grasp_nodes.synthesis.fastgrasp.losses import ADAPTATION_WEIGHTS, FREER_ADAPTATION_WEIGHTS, LossWeights
from grasp_nodes.synthesis.fastgrasp.trained import (
    ADAPTATION,
    AUTOENCODER,
    CVAE,
    LATENT,
    load_autoencoder,
    load_latent,
)
from grasp_nodes.synthesis.fastgrasp.training import (
    PAPER_BATCH,
    AdaptationTraining,
    paper_settings,
    train_adaptation,
    train_autoencoder,
    train_cvae,
    train_latent,
)
from grasp_nodes.synthesis.trained_parts import check_built_on

SMALL_BATCH = 64
LOSS_POINTS = {"small": 512, "paper": 3000}
"""Object points of the losses; the networks read the first ones of them."""


@dataclass(frozen=True)
class Physics:
    """Whether the contact, penetration and consistency losses take part: the ablations of Tables 1 and 4."""

    physics: bool = True


def train(method: str, request: TrainingRequest, report: ProgressReport) -> Outcome:
    """Train one part; those that it builds on are taken from the same folder, or else the installed ones.

    Args:
        method: one of the four. request: see there.

    Raises:
        InputError: a request or grasps that cannot be used, or parts that do not go together.
        MissingFileError: no grasps, or a part that has to be trained first. OSError: a file cannot be written.
    """
    trainers = {AUTOENCODER: _autoencoder, LATENT: _latent, ADAPTATION: _adaptation, CVAE: _cvae}
    if method not in trainers:
        raise InputError(f"method {method!r}: is no part of FastGrasp; expected one of {', '.join(trainers)}")
    return trainers[method](request, report)


def _autoencoder(request: TrainingRequest, report: ProgressReport) -> Outcome:
    small = request.size == "small"
    settings, options, config, weights, physics = split_options(
        request.options,
        begin_settings(request, SMALL_SETTINGS, paper_settings()),
        *(DataOptions(), SMALL_AUTOENCODER if small else PAPER_AUTOENCODER, LossWeights(), Physics()),
    )
    weights = weights if physics.physics else weights.without_physics()
    layout = SMALL_LAYOUT if small else PAPER_LAYOUT
    config = replace(config, principal=config.principal and options.turned)
    training = GraspTraining.begin(
        *(AUTOENCODER, request, settings, options, layout, LOSS_POINTS[request.size]),
        *(SMALL_BATCH if small else PAPER_BATCH, report),
        principal=config.principal,
    )
    trained = train_autoencoder(config, training.data, weights, training.settings, training.run)
    return training.end(trained, config, {"weights": vars(weights)})


def _latent(request: TrainingRequest, report: ProgressReport) -> Outcome:
    small = request.size == "small"
    autoencoder = load_autoencoder(load_hand_model("right"), request.output)
    size = {"latent": autoencoder.network.config.latent}
    settings, options, config, weights, physics = split_options(
        request.options,
        begin_settings(request, replace(SMALL_SETTINGS, steps=60_000), paper_settings()),
        *(DataOptions(), replace(SMALL_DENOISER if small else PAPER_DENOISER, **size), LossWeights(), Physics(False)),
    )
    points = max(config.points, LOSS_POINTS[request.size]) if physics.physics else config.points
    training = GraspTraining.begin(
        *(LATENT, request, settings, options, autoencoder.coder.layout, points),
        *(SMALL_BATCH if small else PAPER_BATCH, report, [autoencoder], autoencoder.coder),
        principal=autoencoder.network.config.principal,
    )
    physical = weights if physics.physics else None
    trained = train_latent(config, autoencoder.network, training.data, settings, training.run, physical)
    return training.end(trained, config, {"weights": vars(weights)} if physical else None)


def _adaptation(request: TrainingRequest, report: ProgressReport) -> Outcome:
    small = request.size == "small"
    model = load_hand_model("right")
    autoencoder, latent = load_autoencoder(model, request.output), load_latent(model, request.output)
    check_built_on(latent, autoencoder)
    size = {"latent": autoencoder.network.config.latent}
    how = AdaptationTraining("sampled" if small else "estimated")
    settings, options, config, weights, how = split_options(
        request.options,
        begin_settings(request, replace(SMALL_SETTINGS, steps=6000, rate=5e-4), paper_settings()),
        *(DataOptions(), replace(SMALL_ADAPTATION if small else PAPER_ADAPTATION, **size)),
        *(FREER_ADAPTATION_WEIGHTS if small else ADAPTATION_WEIGHTS, how),
    )
    points = max(config.points, latent.network.config.points, LOSS_POINTS[request.size])
    training = GraspTraining.begin(
        *(ADAPTATION, request, settings, options, autoencoder.coder.layout, points),
        *(SMALL_BATCH // 2 if small else PAPER_BATCH, report, [autoencoder, latent], autoencoder.coder),
        principal=autoencoder.network.config.principal,
    )
    trained = train_adaptation(
        *(config, autoencoder.network, latent.network, training.data, settings, training.run, how, weights)
    )
    return training.end(trained, config, {"weights": vars(weights), "how": vars(how)})


def _cvae(request: TrainingRequest, report: ProgressReport) -> Outcome:
    small = request.size == "small"
    settings, options, config, weights, physics = split_options(
        request.options,
        begin_settings(request, SMALL_SETTINGS, paper_settings()),
        *(DataOptions(), SMALL_CVAE if small else PAPER_CVAE, LossWeights(), Physics()),
    )
    weights = weights if physics.physics else weights.without_physics()
    layout = SMALL_LAYOUT if small else PAPER_LAYOUT
    config = replace(config, principal=config.principal and options.turned)
    training = GraspTraining.begin(
        *(CVAE, request, settings, options, layout, max(config.points, LOSS_POINTS[request.size])),
        *(SMALL_BATCH if small else PAPER_BATCH, report),
        principal=config.principal,
    )
    trained = train_cvae(config, training.data, weights, settings, training.run)
    return training.end(trained, config, {"weights": vars(weights)})
