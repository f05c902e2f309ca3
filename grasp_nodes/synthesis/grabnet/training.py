"""Training of GrabNet: CoarseNet on grasps, RefineNet on grasps that are disturbed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import axis_angle_to_matrix
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.learning.object_encoders import BasisPoints
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.steps import Step
from grasp_nodes.learning.training import Trained
from grasp_nodes.synthesis.fastgrasp.cvae import divergence
from grasp_nodes.synthesis.grabnet.basis_table import DISTANCES, BasisTable
from grasp_nodes.synthesis.grabnet.coarse import CoarseConfig, CoarseNet
from grasp_nodes.synthesis.grabnet.losses import GrabNetLoss, GrabNetWeights
from grasp_nodes.synthesis.grabnet.refine import RefineConfig, RefineNet
from grasp_nodes.synthesis.grasp_data import GraspData
from grasp_nodes.synthesis.grasp_training import GraspBatch, RunOptions, train_on_grasps
from grasp_nodes.synthesis.posed_vectors import PosedVectors

PAPER_BATCH = 256
_STREAM = 3
"""Of a step's random numbers: those of the turns."""


def paper_settings(steps: int = 100_000) -> TrainingSettings:
    """Adam at 5e-4, as the authors published; their rate falls when the validation does not."""
    return TrainingSettings(
        steps=steps,
        optimizer="adam",
        rate=5e-4,
        schedule="plateau",
        decay=0.1,
        patience=8,
        clip_norm=None,
        average=None,
    )


def train_coarse(
    config: CoarseConfig,
    data: GraspData,
    weights: GrabNetWeights,
    settings: TrainingSettings,
    run: RunOptions,
    report: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train CoarseNet, or go on training it; `Trained.network` is a `CoarseNet`.

    Args:
        data: grasps that are not turned: here each object has the turns of a table.
        report: is told objects of that table, done and in all.

    Raises:
        InputError: grasps that are turned already.
    """
    if data.batches.turned:
        raise InputError("CoarseNet: expected grasps that are not turned at random: it turns them itself")
    posed = PosedVectors(data.coder)
    grabnet_loss = GrabNetLoss(posed, weights)
    basis = BasisPoints(config.basis, config.radius)
    table = BasisTable.of(data.batches.object_points, basis, config.turns, settings.seed, report, config.principal)

    def loss(network: CoarseNet, batch: GraspBatch, generator: torch.Generator) -> dict[str, Tensor]:
        truth, distances = batch["code"], batch[DISTANCES]
        mean, log_variance = network.encode(distances, truth)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        told = network.decode(distances, mean + (0.5 * log_variance).exp() * noise)
        terms = grabnet_loss(posed(told, batch["betas"]), posed(truth, batch["betas"]), batch["points"])
        apart = divergence(mean, log_variance)
        return {**terms, "divergence": apart, "loss": terms["loss"] + weights.divergence * apart}

    def turned(batch: GraspBatch, step: Step) -> dict[str, Tensor]:
        which = step.rng(_STREAM).integers(config.turns, size=len(batch["row"]))
        return table.turned(batch, torch.from_numpy(np.asarray(which, np.int64)), data.coder)

    torch.manual_seed(settings.seed)
    about = {"method": "grabnet", "config": asdict(config), "weights": asdict(weights)}
    return train_on_grasps(CoarseNet(config, data.coder.size), loss, data, settings, run, about, change=turned)


def train_refine(
    config: RefineConfig, data: GraspData, weights: GrabNetWeights, settings: TrainingSettings, run: RunOptions
) -> Trained:
    """Train RefineNet to undo a disturbance; `Trained.network` is a `RefineNet`."""
    posed = PosedVectors(data.coder)
    grabnet_loss = GrabNetLoss(posed, weights)

    def loss(network: RefineNet, batch: GraspBatch, generator: torch.Generator) -> dict[str, Tensor]:
        truth, points, betas = batch["code"], batch["points"], batch["betas"]
        with torch.no_grad():
            begun = disturbed(truth, betas, posed.on(truth.device), config, generator)
        found = posed(network(begun, points, posed, betas), betas)
        vertices = posed(truth, betas)
        terms = grabnet_loss(found, vertices, points)
        before = (posed(begun, betas) - vertices).abs().mean()
        return {**terms, "vertices_before": before}

    torch.manual_seed(settings.seed)
    about = {"method": "grabnet-refine", "config": asdict(config), "weights": asdict(weights)}
    return train_on_grasps(RefineNet(config, data.coder.size), loss, data, settings, run, about)


def disturbed(
    vectors: Tensor, betas: Tensor, coder: HandCoder, config: RefineConfig, generator: torch.Generator
) -> Tensor:
    """Hands (B, D) with noise on place, turn and joints, of the deviations of a config."""

    def noise(*shape: int) -> Tensor:
        return torch.randn(len(vectors), *shape, generator=generator, device=vectors.device, dtype=vectors.dtype)

    hands = coder.decode(vectors, betas)
    bent = replace(hands, hand_pose=hands.hand_pose + config.bent * noise(hands.hand_pose.shape[1]))
    parts = coder.parts(bent)
    turn = axis_angle_to_matrix(config.rotated * noise(3))
    moved = replace(parts, orient=turn @ parts.orient, position=parts.position + config.moved * noise(3))
    return coder.vectors(moved)
