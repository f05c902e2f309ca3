"""Trains the network behind the default Fréchet distance to tell grasps apart, and real ones from disturbed ones.

Four questions are asked of the features at once, each by one linear layer: the kind of the grasp (of real grasps with a
label), the object's family, real or disturbed, and how much. A tenth of the objects is kept aside and gives the
accuracy that the card of the weights states. The training goes on where it was stopped, and the same seed gives the
same network on the same machine.
"""

from __future__ import annotations

import json
import logging
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from grasp_nodes.data.labelled_grasps import KINDS, UNLABELLED, LabelledGrasps
from grasp_nodes.data.view_feature_images import ViewSamples, draw_samples
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.view_features import FEATURES, VERSION, ViewFeatureNetwork, ViewFeatures, save_view_features
from grasp_nodes.hand.model import HandModel

CHECKPOINT = "checkpoint.pt"
HELD_BACK = 0.1
"""Share of the objects that only the card sees."""
_BATCH = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSettings:
    """per_object: grasps of an object that are drawn, at most. epochs, batch: images. rate: of Adam, falls as a cosine.

    seed: of everything random.
    """

    per_object: int = 20
    epochs: int = 12
    batch: int = 64
    rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("per_object", 1), ("epochs", 1), ("batch", 2), ("seed", 0)):
            if getattr(self, name) < low:
                raise InputError(f"{name}: expected {low} or more, got {getattr(self, name)}")
        if not 0 < self.rate < 1:
            raise InputError(f"rate: expected between 0 and 1, got {self.rate}")


class Questions(nn.Module):
    """The network with the layers that answer; only the network is kept in the end."""

    def __init__(self, families: int) -> None:
        super().__init__()
        self.network = ViewFeatureNetwork()
        self.kind = nn.Linear(FEATURES, len(KINDS))
        self.family = nn.Linear(FEATURES, families)
        self.disturbed = nn.Linear(FEATURES, 2)

    def loss(self, images: Tensor, kind: Tensor, family: Tensor, level: Tensor) -> Tensor:
        """Of a batch; the level is asked of all, so that it is 0 for a real grasp."""
        features = F.relu(self.network(images))
        real, amount = self.disturbed(features).unbind(1)
        losses = [
            F.cross_entropy(self.family(features), family),
            F.binary_cross_entropy_with_logits(real, (level == 0).float()),
            4 * F.smooth_l1_loss(amount, level, beta=0.2),
        ]
        labelled = (kind != UNLABELLED) & (level == 0)
        if labelled.any():
            losses.append(F.cross_entropy(self.kind(features[labelled]), kind[labelled]))
        return torch.stack(losses).sum()


def train_view_features(
    grasps: LabelledGrasps,
    model: HandModel,
    settings: TrainingSettings,
    folder: Path,
    target: Path,
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Draw the images, train, and write the weights.

    Args:
        grasps: with meshes. model: their hand, float32. settings: of the training.
        folder: images and checkpoint, for going on after a stop; made if absent. target: the weight file.
        progress: is told what is done, how much of it, and of how much.

    Returns:
        The card: settings, counts, accuracy on objects that were kept aside.

    Raises:
        InputError: grasps of another hand, without meshes, or too few.
    """
    grasps.check_hand_model(model)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"folder {folder}: cannot be made ({error})") from error
    samples = draw_samples(
        *(grasps, model, settings.per_object, settings.seed, folder), lambda *at: progress("drawing", *at)
    )
    names = [one.category or one.name for one in grasps.objects]
    questions, card = fit(samples, names, settings, folder, lambda *at: progress("training", *at))
    card["source"] = grasps.source
    card["set"] = dict(grasps.attributes)
    questions.eval()
    bare = ViewFeatures(questions.network, 1.0, VERSION)
    features = bare.of_images(samples.images[samples.level == 0])
    scale = 1 / math.sqrt(float(features.var(axis=0).mean()))
    save_view_features(target, questions.network.state_dict(), scale, json.dumps(card))
    return card


def fit(
    samples: ViewSamples,
    families: Sequence[str],
    settings: TrainingSettings,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Questions, dict[str, Any]]:
    """Train on samples.

    Args:
        samples: of the set. families: of each object of the set. settings: of the training.
        folder: of the checkpoint, written after each epoch. progress: is told epochs done and in all.

    Returns:
        The network with its questions, and the card.

    Raises:
        InputError: fewer than two objects, or the checkpoint is of other settings or samples.
    """
    known = sorted(set(families))
    family = torch.from_numpy(np.array([known.index(name) for name in families])[samples.object])
    objects = np.unique(samples.object)
    if len(objects) < 2:
        raise InputError(f"training: expected grasps of two objects or more, got {len(objects)}")
    rng = np.random.default_rng([settings.seed, 1])
    aside = rng.permutation(objects)[: max(1, round(HELD_BACK * len(objects)))]
    test = np.isin(samples.object, aside)
    train = np.flatnonzero(~test)
    torch.manual_seed(settings.seed)
    questions = Questions(len(known))
    optimizer = torch.optim.AdamW(questions.parameters(), lr=settings.rate, weight_decay=1e-3)
    steps = max(len(train) // settings.batch, 1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * steps)
    kind, level = torch.from_numpy(samples.kind), torch.from_numpy(samples.level)
    images = torch.from_numpy(samples.images)
    parts = {"questions": questions, "optimizer": optimizer, "schedule": schedule}
    content = zlib.crc32(np.ascontiguousarray(samples.images).data)
    key = json.dumps({**asdict(settings), "version": VERSION, "content": content, "families": known})
    for epoch in range(_resume(folder / CHECKPOINT, key, parts), settings.epochs):
        order = np.random.default_rng([settings.seed, 2, epoch]).permutation(train)
        questions.train()
        total = 0.0
        for step in range(steps):
            rows = torch.from_numpy(order[step * settings.batch : (step + 1) * settings.batch])
            loss = questions.loss(images[rows], kind[rows], family[rows], level[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        _log.info("epoch %d of %d: loss %.3f", epoch + 1, settings.epochs, total / steps)
        _save(folder / CHECKPOINT, key, epoch + 1, parts)
        if progress is not None:
            progress(epoch + 1, settings.epochs)
    card = {
        "version": VERSION,
        **asdict(settings),
        "images": len(train),
        "objects": len(objects),
        "objects_aside": len(aside),
        **_accuracy(questions, images, kind, family, level, np.flatnonzero(test)),
    }
    return questions, card


def _accuracy(
    questions: Questions, images: Tensor, kind: Tensor, family: Tensor, level: Tensor, rows: np.ndarray
) -> dict[str, float | None]:
    """Of rows: shares of right answers, None without any, and the rank correlation of told and true disturbance."""
    questions.eval()
    with torch.no_grad():
        features = torch.cat([F.relu(questions.network(images[part])) for part in torch.from_numpy(rows).split(_BATCH)])
        found_kind, found_family = questions.kind(features).argmax(1), questions.family(features).argmax(1)
        real, amount = questions.disturbed(features).unbind(1)
    true_kind, true_family, true_level = kind[rows], family[rows], level[rows]
    labelled = (true_kind != UNLABELLED) & (true_level == 0)

    def share(right: Tensor) -> float | None:
        return round(float(right.double().mean()), 4) if len(right) else None

    return {
        "kind_accuracy": share((found_kind == true_kind)[labelled]),
        "family_accuracy": share(found_family == true_family),
        "real_accuracy": share((real > 0) == (true_level == 0)),
        "level_correlation": round(float(spearmanr(amount.numpy(), true_level.numpy())[0]), 4),
    }


def _save(path: Path, key: str, epoch: int, parts: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".part")
    torch.save({"key": key, "epoch": epoch, **{name: part.state_dict() for name, part in parts.items()}}, unfinished)
    unfinished.replace(path)


def _resume(path: Path, key: str, parts: dict[str, Any]) -> int:
    """Load a checkpoint into its parts; how many epochs are done."""
    if not path.is_file():
        return 0
    try:
        content = torch.load(path, weights_only=True)
    except Exception as error:  # an unpickler fails with whatever a damaged file provokes
        raise InputError(f"{path}: not a readable checkpoint ({error}); delete it to begin anew") from error
    if not isinstance(content, dict) or content.get("key") != key:
        raise InputError(f"{path}: is of a training with other settings; delete it to begin anew")
    for name, part in parts.items():
        part.load_state_dict(content[name])
    return int(content["epoch"])
