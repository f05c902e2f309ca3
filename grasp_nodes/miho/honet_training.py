"""Training of HoNet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.data.hand_object_images import HandObjectImages
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.training import Report, Trained, train
from grasp_nodes.learning.weights import Weights
from grasp_nodes.miho.honet import HoNet, HoNetConfig
from grasp_nodes.miho.honet_loss import honet_loss
from grasp_nodes.miho.pose_errors import PoseErrors, as_pixels
from grasp_nodes.miho.samples import CropBatches, ObjectTable, crop_rows
from grasp_nodes.miho.truth import TruePoses

EVALUATED_AT_ONCE = 128


@dataclass(frozen=True, eq=False)
class CropData:
    """Crops and the table that their `object_index` counts; the crops' poses are of the table's canonical frames."""

    crops: HandObjectImages
    table: ObjectTable

    @staticmethod
    def of(crops: HandObjectImages, table: ObjectTable) -> CropData:
        """From crops whose poses are of the meshes' own frames."""
        back = np.linalg.inv(table.frames.double().numpy())[crops.object_index]
        poses = (crops.T_camera_object @ back).astype(np.float32)
        return CropData(replace(crops, T_camera_object=poses), table)

    def __len__(self) -> int:
        return len(self.crops.images)


def paper_settings(epochs: int = 200, images: int = 66_000) -> TrainingSettings:
    """The paper's schedule (appendix D.1): Adam at a constant 5e-4 for 200 epochs, 4 x 8 images a step."""
    return TrainingSettings(
        steps=max(1, epochs * images // 32),
        optimizer="adam",
        rate=5e-4,
        schedule="constant",
        clip_norm=None,
        average=None,
    )


def train_honet(
    config: HoNetConfig,
    data: CropData,
    validation: CropData,
    model: HandModel,
    settings: TrainingSettings,
    batch: int,
    folder: Path,
    progress: Callable[[Report], None] | None = None,
    belongs_to: Mapping[str, Any] | None = None,
    start: Weights | None = None,
) -> Trained:
    """Train, or go on training.

    Args:
        config: of the network. data, validation: crops of the network's size. model: of the right hand, float32.
        settings, folder, progress: as `train`. batch: crops of one process in a step.
        belongs_to: what else a checkpoint must agree on, besides the configuration. start: weights to begin with.

    Raises:
        InputError: as `train`, or `start` is of another configuration.
    """
    torch.manual_seed(settings.seed)
    network = HoNet(config)
    if start is not None:
        start.load_into(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    tables: dict[torch.device, tuple[ObjectTable, HandModel]] = {}

    def on(device: torch.device) -> tuple[ObjectTable, HandModel]:
        if device not in tables:
            tables[device] = data.table.to(device), HandModel(model.arrays, model.dtype).to(device)
        return tables[device]

    def loss(net: HoNet, crops: Mapping[str, Tensor], _: torch.Generator) -> dict[str, Tensor]:
        table, hand = on(crops["images"].device)
        condition = table.codes[crops["object_index"]] if config.condition else None
        output = net(as_pixels(crops["images"]), condition)
        with torch.autocast(crops["images"].device.type, enabled=False):
            with torch.no_grad():
                truth = TruePoses.of_batch(crops, hand)
            return honet_loss(output, truth, table, config.size, hand)

    def evaluate(net: HoNet) -> dict[str, float]:
        means = honet_errors(net, validation, model).means()
        return {"loss": means["hand_mpvpe_mm"] + means["object_mpvpe_mm"], **means}

    return train(
        *(network, loss, CropBatches(data.crops, batch, settings.seed), settings, folder, evaluate, progress),
        belongs_to={"method": "honet", "config": asdict(config), **(belongs_to or {})},
        prefetch=True,
    )


@torch.no_grad()
def honet_errors(network: HoNet, data: CropData, model: HandModel, limit: int | None = None) -> PoseErrors:
    """Errors of a network in evaluation mode on crops as they are.

    Args:
        limit: crops that are looked at, evenly chosen; None = all.
    """
    device = next(network.parameters()).device
    hand = HandModel(model.arrays, model.dtype).to(device)
    table = data.table.to(device)
    count = len(data)
    rows = np.arange(count) if limit is None else np.unique(np.linspace(0, count - 1, limit).astype(np.int64))
    parts = []
    for start in range(0, len(rows), EVALUATED_AT_ONCE):
        batch = crop_rows(data.crops, rows[start : start + EVALUATED_AT_ONCE])
        batch = {name: value.to(device) for name, value in batch.items()}
        condition = table.codes[batch["object_index"]] if network.config.condition else None
        output = network(as_pixels(batch["images"]), condition)
        poses = output.poses(batch["focal"], network.config.size, hand, table.points[batch["object_index"]])
        parts.append(PoseErrors.of(poses, TruePoses.of_batch(batch, hand), table, hand))
    return PoseErrors.join(parts)
