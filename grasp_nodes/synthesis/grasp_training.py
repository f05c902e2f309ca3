"""What is common to training any generator on `GraspData`: its batches, its held-out grasps, one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from grasp_nodes.learning.batches import Batches
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.steps import Step
from grasp_nodes.learning.training import Evaluation, Report, Trained, train
from grasp_nodes.synthesis.grasp_data import GraspData

GraspBatch: TypeAlias = Mapping[str, Tensor]
GraspTerms: TypeAlias = Callable[[Any, GraspBatch, torch.Generator], dict[str, Tensor]]
"""Of a network, a batch and a generator: terms by name, ``loss`` among them."""
VALIDATION_ROWS = 256


@dataclass(frozen=True)
class RunOptions:
    """Of one run. batch: rows of a step. folder: of checkpoint and curves. progress, belongs_to: as for `train`."""

    batch: int
    folder: Path
    progress: Callable[[Report], None] | None = None
    belongs_to: Mapping[str, Any] = field(default_factory=dict)


def train_on_grasps(
    network: nn.Module,
    loss: GraspTerms,
    data: GraspData,
    settings: TrainingSettings,
    run: RunOptions,
    about: Mapping[str, Any],
    errors: Callable[[Any, GraspBatch], Mapping[str, float]] | None = None,
    change: Callable[[GraspBatch, Step], GraspBatch] | None = None,
) -> Trained:
    """Train a network, or go on training it; evaluated by its loss on held-out grasps, each time with the same noise.

    Args:
        network, settings: as for `train`. loss: see `GraspTerms`. data: that it learns from. run: see there.
        about: what a checkpoint must agree on, beside the run's `belongs_to` and batch.
        errors: of a network on a batch, for the evaluation. change: of each batch, at its step.
    """
    plain = data.training(run.batch, settings.seed)
    batches: Batches = plain if change is None else lambda step: change(plain(step), step)
    held_out: GraspBatch | None = data.validation(VALIDATION_ROWS)
    if held_out is not None and change is not None:
        held_out = change(held_out, data.validation_step)

    def evaluated(network: nn.Module) -> dict[str, float]:
        device = next(network.parameters()).device
        there = {name: value.to(device) for name, value in (held_out or {}).items()}
        terms = loss(network, there, torch.Generator(device).manual_seed(0))
        found = {name: float(value) for name, value in terms.items()}
        return {**found, **(errors(network, there) if errors is not None else {})}

    evaluate: Evaluation | None = evaluated if held_out is not None else None
    return train(
        *(network, loss, batches, settings, run.folder, evaluate, run.progress),
        belongs_to={**about, "batch": run.batch, **run.belongs_to},
        prefetch=True,
    )


def frozen(network: nn.Module) -> Any:
    """A network that is only asked."""
    return network.eval().requires_grad_(False)
