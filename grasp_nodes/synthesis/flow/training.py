"""Trains the flow on a set of grasps, and measures hands that it draws for objects it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.data.grasp_batches import split_by_object
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.data.object_distances import measure_objects
from grasp_nodes.data.object_surfaces import sample_surfaces
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.stacked_distance import StackedDistances
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.batches import ShuffledRows
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.steps import Step
from grasp_nodes.learning.training import Report, Trained, train
from grasp_nodes.objects.registry import SPEC_PREFIX, check_not_held_out, parse_name
from grasp_nodes.synthesis.flow.batches import FlowBatches, field_of, wishes_of
from grasp_nodes.synthesis.flow.drawn_hands import DrawnHandsJudge
from grasp_nodes.synthesis.flow.loss import FlowLoss, FlowLossSettings
from grasp_nodes.synthesis.flow.network import FlowConfig, FlowNetwork
from grasp_nodes.synthesis.flow.sampling import Conditions, sample_vectors
from grasp_nodes.synthesis.samplers import FlowSampler

_VALIDATION_RANK = 1_000_003
"""Of the process whose frames the validation has: no training has so many processes."""
_VALIDATED = 512
_DRAWN = 256


@dataclass(frozen=True)
class FlowData:
    """Grasps made ready.

    batches: of all of them. stack: distances to their objects. training, validation: rows, of different objects.
    what: it is, in words.
    """

    batches: FlowBatches
    stack: StackedDistances
    training: np.ndarray
    validation: np.ndarray
    what: str

    @staticmethod
    def of_grasps(
        grasps: LabelledGrasps,
        model: HandModel,
        validation: float = 0.04,
        leave_out: tuple[str, ...] = (),
        report: Callable[[str, int, int], None] | None = None,
    ) -> FlowData:
        """Measure the objects, split by object, fit the vectors.

        Args:
            grasps: the set. model: its hand. validation: share of the objects that validate.
            leave_out: families that are not trained on. report: is told what is done, how much of it, and of how much.

        Raises:
            InputError: grasps of another hand, of objects that are held out, or none. MissingFileError: a mesh that is
            not there.
        """
        check_not_held_out([parse_name(one.mesh) for one in grasps.objects if one.mesh.startswith(SPEC_PREFIX)])
        tell = report or (lambda _what, _done, _total: None)
        split = split_by_object(grasps, validation, seed=0, leave_out=leave_out)
        if not len(split.training):
            raise InputError(f"{grasps.source}: no grasps are left to train on")
        surfaces = sample_surfaces(grasps.objects, progress=lambda done, total: tell("surfaces", done, total))
        distances = measure_objects(grasps.objects, lambda done, total: tell("distances", done, total))
        whole = FlowBatches.of_grasps(grasps, surfaces, distances, HandCoder(model))
        coder = whole.coder.fitted(whole.parts[torch.from_numpy(split.training)])
        batches = FlowBatches.of_grasps(grasps, surfaces, distances, coder)
        objects = len(np.unique(grasps.object_index[split.training]))
        out = f", without {', '.join(leave_out)}" if leave_out else ""
        what = f"{grasps.source}: {len(split.training)} grasps of {objects} objects{out}"
        return FlowData(batches, distances.stack, split.training, split.validation, what)


def train_flow(
    config: FlowConfig,
    data: FlowData,
    settings: TrainingSettings,
    batch: int,
    folder: Path,
    loss: FlowLossSettings | None = None,
    progress: Callable[[Report], None] | None = None,
    belongs_to: Mapping[str, Any] | None = None,
) -> Trained:
    """Train a network, or go on training it; see `learning.training.train`."""
    torch.manual_seed(settings.seed)
    network = FlowNetwork(data.batches.coder, config)
    rows, shuffled = data.training, ShuffledRows(len(data.training), batch, settings.seed)
    loss = loss or FlowLossSettings()

    def batches(step: Step) -> dict[str, Tensor]:
        return data.batches.of_rows(rows[shuffled(step)], step)

    belongs = {"config": asdict(config), "loss": asdict(loss), "data": data.what, "batch": batch, **(belongs_to or {})}
    judge = FlowJudge(data) if len(data.validation) else None
    return train(network, FlowLoss(data.stack, loss), batches, settings, folder, judge, progress, belongs)


class FlowJudge:
    """Measures a network on rows that validate: always the same, with the same noise.

    Values: ``loss`` (mean square of the velocity); of drawn hands ``depth_mm`` (mean), ``shallow`` (share below 5 mm),
    ``fingers`` (mean number in contact) and ``promising`` (share that is shallow and touches with three fingers).

    Args:
        data: with rows that validate.
    """

    def __init__(self, data: FlowData) -> None:
        self._stack, coder = data.stack, data.batches.coder
        rows = data.validation[np.unique(np.linspace(0, len(data.validation) - 1, _VALIDATED).astype(np.int64))]
        self._batch = data.batches.of_rows(rows, Step(0, _VALIDATION_RANK))
        self._judge = DrawnHandsJudge(coder.model)

    @torch.no_grad()
    def __call__(self, network: FlowNetwork) -> dict[str, float]:
        """The values."""
        coder, device = network.coder, network.coder.mean.device
        stack, batch = self._stack.to(device), {name: tensor.to(device) for name, tensor in self._batch.items()}
        generator = torch.Generator(device).manual_seed(7)
        loss = FlowLoss(stack, FlowLossSettings(physical=0.0, any_kind=0.0))
        values = {"loss": float(loss(network, batch, generator)["velocity"])}
        drawn = {name: tensor[:: len(tensor) // _DRAWN or 1] for name, tensor in batch.items()}
        field, wishes = field_of(drawn, stack), wishes_of(drawn)
        count = len(drawn["code"])
        noise = torch.randn(count, coder.size, generator=generator, device=device)
        conditions = Conditions.of_each(network.encode(field, count), wishes)
        vectors = sample_vectors(network, field, conditions, noise, FlowSampler(8))
        parts = coder.parts_of(vectors, wishes.betas)
        return values | self._judge(coder, network.hand_points, parts, field)
