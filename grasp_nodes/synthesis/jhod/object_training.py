"""Training of the object's auto-encoder on objects alone, and how well it gives them back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.data.object_surfaces import ObjectSurfaces
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.shape_metrics import cloud_error
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.steps import Step
from grasp_nodes.learning.training import Evaluation, Trained, train
from grasp_nodes.synthesis.grasp_training import RunOptions
from grasp_nodes.synthesis.jhod.object_data import VALIDATION_RANK, PlainBatches
from grasp_nodes.synthesis.jhod.point_autoencoder import LATENT, LENGTH, PointAutoEncoder, PointAutoEncoderConfig

_VALIDATED = 48
_UNIT = 0.002
"""m, of a point's error, that costs 1."""
_ALONG = 0.1
"""Weight of an error along the surface: there a point may be anywhere."""


def reconstruction_loss(
    network: PointAutoEncoder, batch: Mapping[str, Tensor], generator: torch.Generator
) -> dict[str, Tensor]:
    """Terms: ``loss``; ``off``: squared error across the surface; ``along`` it; ``divergence``."""
    points, normals = batch["points"], batch["normals"]
    mean, log_variance = network.encode(points)
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    found = network.decode(mean + (0.5 * log_variance).exp() * noise)
    error = (found - points).float() / _UNIT
    across = (error * normals).sum(dim=2)
    off, along = across.square().mean(), (error.square().sum(dim=2) - across.square()).mean()
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
    loss = off + _ALONG * along + network.config.divergence * LATENT * divergence / (_UNIT / LENGTH)
    return {"loss": loss, "off": off, "along": along, "divergence": divergence}


def train_objects(
    config: PointAutoEncoderConfig,
    surfaces: ObjectSurfaces,
    settings: TrainingSettings,
    run: RunOptions,
    validation: float = 0.05,
) -> Trained:
    """Train the auto-encoder, or go on training it; `Trained.network` is a `PointAutoEncoder`.

    Args:
        surfaces: of objects, of which a share validates. run: see there.

    Raises:
        InputError: no objects are left to train on.
    """
    order = np.random.default_rng([settings.seed, 5]).permutation(len(surfaces))
    held_out = round(validation * len(surfaces))
    rows, kept = np.sort(order[held_out:]), np.sort(order[:held_out])
    if not len(rows):
        raise InputError(f"objects to train on: {len(surfaces)}, of which {held_out} validate")
    torch.manual_seed(settings.seed)
    network = PointAutoEncoder(config)
    batches = PlainBatches(surfaces, rows, config.points, run.batch, settings.seed)
    evaluate: Evaluation | None = None
    if len(kept):
        plain = PlainBatches(surfaces, kept, config.points, 1, scales=(1.0, 1.0), turned=0.0)
        batch = plain.of_rows(kept[:_VALIDATED], Step(0, VALIDATION_RANK))
        evaluate = reconstruction_judge(batch["points"])
    about: dict[str, Any] = {"method": "jhod-objects", "config": asdict(config), "objects": len(surfaces)}
    return train(
        *(network, reconstruction_loss, batches, settings, run.folder, evaluate, run.progress),
        belongs_to={**about, "batch": run.batch, **run.belongs_to},
        prefetch=True,
    )


def reconstruction_judge(points: Tensor) -> Callable[[PointAutoEncoder], dict[str, float]]:
    """Measures a network on clouds (B, N, 3), m: ``loss`` and ``chamfer_mm``, the same, and ``f_1_percent``."""

    def judged(network: PointAutoEncoder) -> dict[str, float]:
        device = next(network.parameters()).device
        errors = []
        for one in points.split(8):
            found = network.decode(network.encode(one.to(device))[0]).float().cpu()
            errors += [cloud_error(a.numpy(), b.numpy()) for a, b in zip(found, one, strict=True)]
        chamfer, f_score = (float(np.mean(values)) for values in zip(*errors, strict=True))
        return {"loss": 1e3 * chamfer, "chamfer_mm": 1e3 * chamfer, "f_1_percent": f_score}

    return judged
