"""Training of PiCR: first on true object poses, moved a little, then on those that HoNet tells (appendix D.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.geometry.rotations import axis_angle_to_matrix
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.training import Report, Trained, train
from grasp_nodes.learning.weights import Weights
from grasp_nodes.miho.honet import HoNet
from grasp_nodes.miho.honet_training import EVALUATED_AT_ONCE, CropData
from grasp_nodes.miho.picr import PiCR, PiCRConfig
from grasp_nodes.miho.picr_loss import ContactLabels, average_precision, best_threshold, picr_loss
from grasp_nodes.miho.pose_errors import as_pixels
from grasp_nodes.miho.samples import CropBatches, ObjectTable, crop_rows
from grasp_nodes.miho.truth import TruePoses, transform_points

MOVED, TURNED = 0.008, 0.1
"""m and rad, deviations of each coordinate by which true poses are moved, as HoNet may miss them."""
POINTS_PER_STEP = 256
EVALUATED_POINTS = 512


def paper_settings(epochs: int = 200, images: int = 66_000, finetuning: bool = False) -> TrainingSettings:
    """The paper's schedule (appendix D.1): Adam, halved every 100 of 200 epochs, 4 x 8 images a step."""
    return TrainingSettings(
        steps=max(1, epochs * images // 32),
        optimizer="adam",
        rate=5e-4 if finetuning else 1e-3,
        schedule="step",
        milestones=tuple(100.0 * k / epochs for k in range(1, -(-epochs // 100))),
        decay=0.5,
        clip_norm=None,
        average=None,
    )


@dataclass(frozen=True)
class SeenObjects:
    """What PiCR is given of B crops: object points (B, N, 3), m, and normals in the camera, and root (B, 3), m."""

    points: Tensor
    normals: Tensor
    root: Tensor


class _Known:
    """Hand, anchors and objects on one device."""

    def __init__(self, model: HandModel, anchors: HandAnchors, table: ObjectTable, device: torch.device) -> None:
        self.hand = HandModel(model.arrays, model.dtype).to(device)
        self.anchors, self.table = anchors, table.to(device)

    def labels(self, truth: TruePoses, which: Tensor) -> ContactLabels:
        """Of the points `which` of each row's object, from the true poses."""
        points = self.table.points[truth.object_index][:, which]
        placed = transform_points(truth.object_rotation, truth.object_position, points)
        return ContactLabels.of_pose(self.anchors, self.anchors.positions(truth.vertices), placed)

    def seen(self, rotation: Tensor, position: Tensor, root: Tensor, index: Tensor, which: Tensor) -> SeenObjects:
        """The same points by given poses."""
        points, normals = self.table.points[index][:, which], self.table.normals[index][:, which]
        return SeenObjects(transform_points(rotation, position, points), normals @ rotation.mT, root)


def train_picr(
    config: PiCRConfig,
    data: CropData,
    validation: CropData,
    model: HandModel,
    settings: TrainingSettings,
    batch: int,
    folder: Path,
    honet: HoNet | None = None,
    progress: Callable[[Report], None] | None = None,
    belongs_to: Mapping[str, Any] | None = None,
    start: Weights | None = None,
) -> Trained:
    """Train, or go on training.

    Args:
        config: of the network. data, validation: crops of the network's size. model: of the right hand, float32.
        settings, folder, progress: as `train`. batch: crops of one process in a step.
        honet: tells the poses (fine-tuning); None = true poses that are moved a little (pre-training).
        belongs_to: what else a checkpoint must agree on. start: weights to begin with, such as the pre-trained ones.

    Raises:
        InputError: as `train`, or `start` is of another configuration.
    """
    torch.manual_seed(settings.seed)
    network = PiCR(config)
    if start is not None:
        start.load_into(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    anchors = HandAnchors.of_model(model)
    known: dict[torch.device, _Known] = {}

    def loss(net: PiCR, crops: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        device = crops["images"].device
        if device not in known:
            known[device] = _Known(model, anchors, data.table, device)
        own, images = known[device], as_pixels(crops["images"])
        which = torch.randperm(own.table.points.shape[1], generator=generator, device=device)[:POINTS_PER_STEP]
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            truth = TruePoses.of_batch(crops, own.hand)
            labels = own.labels(truth, which)
            seen = _poses_told(honet, images, truth, own, which, generator)
        outputs = net(images, seen.points, seen.normals, seen.root, truth.focal)
        with torch.autocast(device.type, enabled=False):
            return picr_loss(outputs, labels)

    def evaluate(net: PiCR) -> dict[str, float]:
        return picr_scores(net, validation, model, anchors, honet).as_dict()

    return train(
        *(network, loss, CropBatches(data.crops, batch, settings.seed), settings, folder, evaluate, progress),
        belongs_to={"method": "picr", "config": asdict(config), "finetuned": honet is not None, **(belongs_to or {})},
        prefetch=True,
    )


def _poses_told(
    honet: HoNet | None, images: Tensor, truth: TruePoses, own: _Known, which: Tensor, generator: torch.Generator
) -> SeenObjects:
    if honet is not None:
        condition = own.table.codes[truth.object_index] if honet.config.condition else None
        points = own.table.points[truth.object_index]
        poses = honet(images, condition).poses(truth.focal, honet.config.size, own.hand, points)
        rotation = nearest_told(poses.object_rotation, truth, own.table)
        return own.seen(rotation, poses.object_position, poses.root, truth.object_index, which)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(len(images), 3, generator=generator, device=images.device)

    rotation = axis_angle_to_matrix(noise(TURNED)) @ truth.object_rotation
    position = truth.object_position + noise(MOVED)
    return own.seen(rotation, position, truth.root + noise(MOVED), truth.object_index, which)


def nearest_told(rotation: Tensor, truth: TruePoses, table: ObjectTable) -> Tensor:
    """A told rotation (B, 3, 3), renamed by the symmetry that brings it nearest to the true one.

    A bottle turned about its axis is the same bottle, but its points have other names; labels go by names.
    """
    nearest = truth.nearest_symmetric(rotation, table.symmetries[truth.object_index])
    return rotation @ nearest.mT @ truth.object_rotation


@torch.no_grad()
def true_regions(data: CropData, model: HandModel, anchors: HandAnchors) -> tuple[Tensor, Tensor]:
    """What `picr_scores` compares with, on the CPU: whether points of crops are touched, bool, and by which region.

    Returns:
        Each (N, P), of P points of each crop's object; the region int64, of the nearest anchor.
    """
    own = _Known(model, anchors, data.table, torch.device("cpu"))
    which = torch.arange(min(EVALUATED_POINTS, own.table.points.shape[1]))
    labels = []
    for first in range(0, len(data), EVALUATED_AT_ONCE):
        rows = np.arange(first, min(first + EVALUATED_AT_ONCE, len(data)))
        labels.append(own.labels(TruePoses.of_batch(crop_rows(data.crops, rows), own.hand), which))
    return torch.cat([one.contact for one in labels]), torch.cat([one.region for one in labels])


@dataclass(frozen=True)
class ContactScores:
    """On N crops.

    contact_ap: average precision of vertex contact over all points. region_accuracy: share of touched points whose
    region is told. elasticity_error: mean absolute, of touched points' springs. loss: see `picr_loss`.
    threshold: of the probability of contact with the best balance of precision and recall, and these there.
    """

    loss: float
    contact_ap: float
    region_accuracy: float
    elasticity_error: float
    threshold: float
    precision: float
    recall: float

    def as_dict(self) -> dict[str, float]:
        """By name."""
        return asdict(self)


@torch.no_grad()
def picr_scores(
    network: PiCR,
    data: CropData,
    model: HandModel,
    anchors: HandAnchors,
    honet: HoNet | None = None,
    limit: int | None = None,
) -> ContactScores:
    """Scores of a network in evaluation mode on crops as they are.

    Args:
        honet: tells the poses; None = the true ones, not moved. limit: crops that are looked at; None = all.
    """
    device = next(network.parameters()).device
    own = _Known(model, anchors, data.table, device)
    count = len(data)
    rows = np.arange(count) if limit is None else np.unique(np.linspace(0, count - 1, limit).astype(np.int64))
    which = torch.arange(min(EVALUATED_POINTS, own.table.points.shape[1]), device=device)
    scores, positives, sums = [], [], torch.zeros(4, dtype=torch.float64)
    losses = []
    for first in range(0, len(rows), EVALUATED_AT_ONCE):
        batch = crop_rows(data.crops, rows[first : first + EVALUATED_AT_ONCE])
        batch = {name: value.to(device) for name, value in batch.items()}
        images, truth = as_pixels(batch["images"]), TruePoses.of_batch(batch, own.hand)
        labels = own.labels(truth, which)
        if honet is None:
            index, rotation = truth.object_index, truth.object_rotation
            seen = own.seen(rotation, truth.object_position, truth.root, index, which)
        else:
            seen = _poses_told(honet, images, truth, own, which, torch.Generator(device))
        output = network(images, seen.points, seen.normals, seen.root, truth.focal)[-1]
        losses.append(float(picr_loss([output], labels)["loss"]) * len(images))
        scores.append(output.contact.flatten())
        positives.append(labels.contact.flatten())
        springs = labels.contact[..., None] & labels.has_anchor
        right = (output.region.argmax(dim=2) == labels.region) & labels.contact
        error = (output.elasticity.sigmoid() - labels.elasticity).abs() * springs
        sums += torch.stack([right.sum(), labels.contact.sum(), error.sum(), springs.sum()]).double().cpu()
    return ContactScores(
        sum(losses) / len(rows),
        average_precision(torch.cat(scores), torch.cat(positives)),
        float(sums[0] / sums[1].clamp(min=1)),
        float(sums[2] / sums[3].clamp(min=1)),
        *best_threshold(torch.cat(scores).sigmoid(), torch.cat(positives)),
    )
