"""Trains the networks that say what landmarks mean: turn, bends and distance of the hand, and how sure that is.

Rendered grasps are shown to the landmark network (`landmark_views`); a few small networks learn the truth from what it
says, wrong readings included. The errors that they state are learned with the answers (Nix and Weigend, 1994: the
likelihood of a normal distribution whose variance is one more output). Other readings of a clip's landmarks come
without shape and score, and so does a share of the examples.

    grasp-nodes train landmark-reader -o DIR
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn
from torch.nn import functional as F

from grasp_nodes.data.landmark_views import LandmarkView
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.hand_skeleton import make_hand_skeleton
from grasp_nodes.fitting.landmark_reading import (
    FORMAT,
    LEAST_LOG_ERROR,
    MOST_LOG_ERROR,
    USUAL_LOG_SIZE,
    canonical_landmarks,
    nearest_rotation,
)
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_KEYPOINTS
from grasp_nodes.npz import replacing

HELD_BACK = 10
"""One view in as many tells the errors and does not train."""
FEWEST_VIEWS = 200
BASE_REACH, MIDDLE_REACH, OUTER_REACH = 0.08, 0.05, 0.025
"""m; how far a turn of a finger's joint moves what is beyond it: errors of angles count as they move keypoints."""
ROTATION_REACH = 0.02
"""m; the same of the hand's turn, about its landmarks' middle and shared by them all."""
LIKELIHOOD, DISTANCE_LIKELIHOOD, KEYPOINT_ERROR = 0.05, 0.3, 300.0
"""Weights of the parts of the loss."""
FEATURE_NOISE = 0.01
WITHOUT_SHAPE = 0.3
"""Share of examples that are shown without shape and score."""
LEAST_SPREAD = 1e-3

MEASURED_ON = (
    "Readings of one view in ten, which did not train; by kind of view. Grasp, free and hidden: rendered, read by the "
    "landmark network. Drawn: landmarks put where they are but for a small error, which no network read; easier. "
    "Objects, hand model and renderer are those of the views that trained."
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ReaderTraining:
    """networks, width: of the answer. epochs, batch, rate, decay, dropout: of AdamW's training. seed: of all of it."""

    networks: int = 3
    width: int = 192
    epochs: int = 60
    batch: int = 128
    rate: float = 2e-3
    decay: float = 1e-3
    dropout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("networks", "width", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if not 0 < self.rate < 1 or not 0 <= self.decay < 1 or not 0 <= self.dropout < 1:
            raise InputError(f"rate, decay, dropout: expected numbers below 1, got {self}")


@dataclass(frozen=True)
class Examples:
    """N readings. features: (N, F). rotations: (N, 3, 3), canonical axes. angles: (N, D), rad.

    log_sizes: (N,), logarithm of distance times extent, less `USUAL_LOG_SIZE`. views: (N,), which view they are of.
    """

    features: Tensor
    rotations: Tensor
    angles: Tensor
    log_sizes: Tensor
    views: Tensor

    def part(self, rows: Tensor) -> Examples:
        """Some of them, by mask or index."""
        return Examples(
            self.features[rows], self.rotations[rows], self.angles[rows], self.log_sizes[rows], self.views[rows]
        )


class Answer(NamedTuple):
    """rotation: (N, 3, 3). angles: (N, D), rad. The logarithms of their errors, and of the distance and its error."""

    rotation: Tensor
    angles: Tensor
    log_rotation_error: Tensor
    log_errors: Tensor
    log_distance_error: Tensor
    log_size: Tensor


class ReaderNetwork(nn.Module):
    """Three layers. D angles."""

    def __init__(self, features: int, width: int, mean: Tensor, spread: Tensor, dropout: float = 0.0) -> None:
        """mean, spread: (D,), rad, of the angles."""
        super().__init__()
        self.angle_mean, self.angle_spread = mean, spread
        self.layers = nn.ModuleList([nn.Linear(features, width), nn.Linear(width, width)])
        self.last = nn.Linear(width, 6 + 1 + 2 * len(mean) + 2)
        self.dropout = dropout
        with torch.no_grad():  # starts near the mean of the hands, upright
            self.last.bias.zero_()
            self.last.weight *= 0.3

    def forward(self, features: Tensor) -> Answer:
        """Of features (N, F), normalised."""
        hidden, count = features, len(self.angle_mean)
        for layer in self.layers:
            hidden = F.dropout(F.silu(layer(hidden)), self.dropout, self.training)
        columns, angles, logs, log_size = self.last(hidden).split([6, count, count + 2, 1], dim=1)
        first = F.normalize(columns[:, :3] + columns.new_tensor([1.0, 0, 0]), dim=1)
        second = columns[:, 3:] + columns.new_tensor([0, 1.0, 0])
        second = F.normalize(second - (second * first).sum(1, keepdim=True) * first, dim=1)
        rotation = torch.stack([first, second, torch.linalg.cross(first, second)], dim=2)
        logs = logs.clamp(LEAST_LOG_ERROR, MOST_LOG_ERROR)
        angles = angles * self.angle_spread + self.angle_mean
        return Answer(rotation, angles, logs[:, 0], logs[:, 1:-1], logs[:, -1], log_size[:, 0])


def examples_of(views: Sequence[LandmarkView]) -> Examples:
    """What is seen and what is true, one example per reading."""
    features, rotations, angles, sizes, owners = [], [], [], [], []
    for number, view in enumerate(views):
        for reading in view.readings:
            seen = canonical_landmarks(reading.rays, reading.relative, reading.presence)
            middle = seen.rotation @ view.keypoints.mean(axis=0)
            features.append(seen.features)
            rotations.append(seen.rotation @ view.rotation)
            angles.append(view.angles)
            sizes.append(np.log(middle[2] * seen.extent) - USUAL_LOG_SIZE)
            owners.append(number)
    seen_features, turned, bent, sized = (
        torch.tensor(np.array(part), dtype=torch.float32) for part in (features, rotations, angles, sizes)
    )
    return Examples(seen_features, turned, bent, sized, torch.tensor(owners))


def reading_loss(answer: Answer, truth: Examples, reach: Tensor) -> Tensor:
    """How far keypoints are off, and how unlikely the truth is given the errors that were stated; a scalar.

    Args:
        answer: of N readings. truth: of the same. reach: (D,), m, lever of each angle.
    """
    turn = (answer.rotation - truth.rotations).square().sum((1, 2)) / 2
    bends = (answer.angles - truth.angles).square()
    off = ROTATION_REACH * (turn + 1e-4).sqrt() + (bends * reach**2).sum(1) / 20
    unlikely = 0.5 * (turn * torch.exp(-2 * answer.log_rotation_error) + 6 * answer.log_rotation_error)
    unlikely = unlikely + 0.5 * (bends * torch.exp(-2 * answer.log_errors) + 2 * answer.log_errors).sum(1)
    sizes = (answer.log_size - truth.log_sizes).square()
    far = 0.5 * sizes * torch.exp(-2 * answer.log_distance_error) + answer.log_distance_error
    return (KEYPOINT_ERROR * off + LIKELIHOOD * (unlikely + far) + DISTANCE_LIKELIHOOD * far).mean()


def train_network(
    examples: Examples, mean: Tensor, spread: Tensor, reach: Tensor, settings: ReaderTraining, seed: int
) -> ReaderNetwork:
    """One network. mean, spread: (F,), of the features. reach: as of `reading_loss`."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    network = ReaderNetwork(
        examples.features.shape[1],
        settings.width,
        examples.angles.mean(0),
        examples.angles.std(0) + LEAST_SPREAD,
        settings.dropout,
    )
    count, seen = len(examples.features), 2 * NUM_KEYPOINTS
    batch = min(settings.batch, count)
    optimiser = torch.optim.AdamW(network.parameters(), settings.rate, weight_decay=settings.decay)
    steps = settings.epochs * (count // batch)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=steps + 1)
    for _ in range(settings.epochs):
        order = torch.randperm(count, generator=random)
        for first in range(0, count - batch + 1, batch):
            part = examples.part(order[first : first + batch])
            features = part.features.clone()
            features[:, : 5 * NUM_KEYPOINTS] += FEATURE_NOISE * torch.randn(batch, 5 * NUM_KEYPOINTS, generator=random)
            features[torch.rand(batch, generator=random) < WITHOUT_SHAPE, seen:] = 0.0
            loss = reading_loss(network((features - mean) / spread), part, reach)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rates.step()
    return network.eval()


def reaches(names: Sequence[str]) -> Tensor:
    """(D,) m: how far a rad of each angle moves the finger beyond it."""
    reach = {"0": BASE_REACH, "1": MIDDLE_REACH, "2": OUTER_REACH}
    return torch.tensor([BASE_REACH if "spread" in name else reach.get(name[-1], OUTER_REACH) for name in names])


def measure(answers: Sequence[Answer], truth: Examples, rows: Tensor) -> dict[str, float]:
    """Errors of the networks' mean.

    Args:
        answers: of each network. truth: of the same readings. rows: (N,) bool, those that count.

    Returns:
        ``readings``: how many; mean and median error of the rotation (rad), of the angles (rad, root mean square), of
        the logarithm of the distance (mean), and the root mean square of the angles' errors over what was stated;
        without any reading only their number.
    """
    if not rows.any():
        return {"readings": 0}
    part = truth.part(rows)
    turned = [
        nearest_rotation(matrices.sum(0))
        for matrices in torch.stack([answer.rotation[rows] for answer in answers], dim=1).double().numpy()
    ]
    turns = np.linalg.norm(
        Rotation.from_matrix(np.array(turned) @ part.rotations.double().numpy().transpose(0, 2, 1)).as_rotvec(), axis=1
    )
    apart = (torch.stack([answer.angles[rows] for answer in answers]).mean(0) - part.angles).double().numpy()
    stated = torch.stack([answer.log_errors[rows] for answer in answers]).mean(0).exp().double().numpy()
    sizes = (torch.stack([answer.log_size[rows] for answer in answers]).mean(0) - part.log_sizes).double().numpy()
    found = {
        "rotation_mean": float(turns.mean()),
        "rotation_median": float(np.median(turns)),
        "angles_rms": float(np.sqrt((apart**2).mean())),
        "log_distance_mean": float(np.abs(sizes).mean()),
        "angles_over_stated": float(np.sqrt(((apart / stated) ** 2).mean())),
    }
    return {"readings": len(turns), **{name: round(value, 4) for name, value in found.items()}}


def train_reader(
    views: Sequence[LandmarkView],
    model: HandModel,
    path: Path,
    settings: ReaderTraining,
    card: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    kinds: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Train on nine views in ten, measure on the rest, write the file.

    Args:
        views: of right hands. model: the hand. path: of the npz file. settings: how it is trained.
        card: what the file shall say of itself besides. progress: is told the networks that are trained, and of how
            many.
        kinds: of the views, so that what is measured on rendered and on drawn ones is not mixed; None = all of one.

    Returns:
        The card, with `measure` of each kind under ``metrics``.

    Raises:
        InputError: too few views, or kinds that are not as many.
    """
    kinds = ["views"] * len(views) if kinds is None else list(kinds)
    if len(kinds) != len(views):
        raise InputError(f"kinds: expected one of each of the {len(views)} views, got {len(kinds)}")
    if len(views) < FEWEST_VIEWS:
        raise InputError(f"views: expected at least {FEWEST_VIEWS} in which the network sees a hand, got {len(views)}")
    begun = time.monotonic()
    names = make_hand_skeleton(model).dofs.names
    examples = examples_of(views)
    held = examples.views % HELD_BACK == 0
    train, test = examples.part(~held), examples.part(held)
    mean, spread = train.features.mean(0), train.features.std(0) + LEAST_SPREAD
    networks = []
    for number in range(settings.networks):
        networks.append(train_network(train, mean, spread, reaches(names), settings, settings.seed + number))
        if progress is not None:
            progress(number + 1, settings.networks)
    with torch.no_grad():
        answers = [network((test.features - mean) / spread) for network in networks]
    apart = (torch.stack([answer.angles for answer in answers]).mean(0) - test.angles).double().numpy()
    stated = torch.stack([answer.log_errors for answer in answers]).mean(0).exp().double().numpy()
    own = np.array(kinds)[test.views.numpy()]
    whole = {
        **(card or {}),
        "views": len(views),
        "training": asdict(settings),
        "training_minutes": round((time.monotonic() - begun) / 60, 1),
        "measured_on": MEASURED_ON,
        "metrics": {kind: measure(answers, test, torch.from_numpy(own == kind)) for kind in dict.fromkeys(kinds)},
    }
    arrays: dict[str, np.ndarray] = {
        "format": np.array(FORMAT),
        "names": np.array(names),
        "networks": np.array(len(networks)),
        "card": np.array(json.dumps(whole)),
        "hand_fingerprint": np.array(model.fingerprint),
        "mean": mean.numpy(),
        "spread": spread.numpy(),
        "angle_mean": networks[0].angle_mean.numpy(),
        "angle_spread": networks[0].angle_spread.numpy(),
        "correlation": np.corrcoef((apart / stated).T).astype(np.float32),
    }
    for number, network in enumerate(networks):
        for place, layer in enumerate((*network.layers, network.last)):
            arrays[f"network{number}_{2 * place}"] = layer.weight.detach().half().numpy()
            arrays[f"network{number}_{2 * place + 1}"] = layer.bias.detach().half().numpy()
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return whole
