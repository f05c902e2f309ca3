"""Stand-ins for what the harness is handed: generators of known grasps, a polish and a feature network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from grasp_nodes.contact.hand_states import make_grasps
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.bounds import PolishedGenerator, RandomHands
from grasp_nodes.evaluation.harness.protocols import Method, Parts
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.model import ObjectModel


def hand_models():
    return {side: load_hand_model(side, OPEN_HAND_FILE) for side in ("right", "left")}


@dataclass
class FixedHands:
    """The same hands on every object; `refuses` names an object that it cannot do. `calls`: names of objects."""

    model: object
    params: HandParams
    scores: Sequence[float] | None = None
    refuses: str = ""
    kinds: Sequence[str] = ()
    calls: list[tuple[str, int]] = field(default_factory=list)

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        self.calls.append((object_model.object_id, count))
        if object_model.object_id == self.refuses:
            raise InputError(f"{object_model.object_id}: too odd")
        rows = torch.arange(count) % len(self.params)
        scores = None if self.scores is None else np.asarray(self.scores)[rows.numpy()]
        grasps = make_grasps(self.params[rows], self.model, scores)
        if self.kinds:
            grasps = [replace(one, kind=self.kinds[k % len(self.kinds)]) for k, one in enumerate(grasps)]
        return GraspSet(object_model.object_id, "fixed", seed, 0.0, grasps)


class LiftingPolish:
    """Moves every hand by 1 cm along z."""

    def __call__(self, hands: HandParams, object_model: ObjectModel) -> HandParams:
        assert torch.isfinite(hands.transl).all()
        return replace(hands, transl=hands.transl + torch.tensor([0.0, 0.0, 0.01]))


class CentroidNetwork:
    """Features: where the middle of the hand is, in metres."""

    name = "centroid"

    def __call__(self, object_model: ObjectModel, hand_vertices: np.ndarray) -> np.ndarray:
        assert np.isfinite(hand_vertices).all()
        return hand_vertices.mean(axis=1)


class PicturesInJson:
    """Writes what it was given instead of pictures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[tuple[str, str, int, bool]] = []

    def write(self, method, object_id, number, hand, hand_faces, item, item_faces, signed_distance) -> Path:
        assert hand.shape == (778, 3)
        assert signed_distance.shape == (778,)
        self.written.append((method, object_id, number, bool(np.isfinite(hand).all())))
        return self.folder / f"{len(self.written)}.json"

    def sheet(self, path: Path, cells, columns: int) -> None:
        path.write_text(json.dumps([[caption for _, caption in cells], columns]))


def scattered_hands(count: int, seed: int) -> HandParams:
    """Hands around the origin."""
    rng = np.random.default_rng(seed)
    flat = HandParams.zeros(count)
    return replace(
        flat,
        global_orient=torch.tensor(rng.normal(size=(count, 3)), dtype=torch.float32),
        transl=torch.tensor(rng.normal(scale=0.05, size=(count, 3)), dtype=torch.float32),
    )


def parts_with(*methods: Method, polish: bool = True, displacement: bool = False) -> Parts:
    """Parts with random hands and scattered ones as the synthetic bound."""
    models = hand_models()
    synthetic = Method("synthetic", FixedHands(models["right"], scattered_hands(7, 3)), labelled=True, version="s1")
    chance = RandomHands(models["right"])
    polisher = LiftingPolish() if polish else None
    known = [synthetic, Method("random", chance), *methods]
    if polisher is not None:
        known.append(Method("random+polish", PolishedGenerator(chance, polisher, models)))
    return Parts(
        {one.name: one for one in known},
        models,
        polisher,
        feature_network=CentroidNetwork(),
        displacement=displacement,
    )
