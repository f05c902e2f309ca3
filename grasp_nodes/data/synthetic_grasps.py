"""Grasps of procedural objects, made here: placed, closed, refined and tested, several kinds on every object."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from grasp_nodes.data.grasp_acceptance import GraspAcceptance
from grasp_nodes.data.grasp_kinds import RECIPES
from grasp_nodes.data.grasp_search import GraspSearch
from grasp_nodes.data.labelled_grasps import KINDS, GraspedObject, LabelledGrasps
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.fitting.grasp_hand import GraspHand
from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.kinds import GraspKind
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import make_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.objects.registry import SPEC_PREFIX, ObjectName, family_mesh

SYNTHESIS_VERSION = 1
"""Raised whenever the same name and seed give other grasps."""
SOURCE = "open_grasps"
GRID_NODES = 96
"""Of the signed distance along the longest side: thin walls lose half their thickness at 64."""


@dataclass(frozen=True)
class SynthesisSettings:
    """Of the loop.

    refined: hands refined together. rounds: at most. hopeless: a kind whose share of accepted hands is below this after
    `patience` hands is given up on this object, and the others take its part.
    """

    refined: int = 80
    rounds: int = 40
    hopeless: float = 0.04
    patience: int = 96


@dataclass
class _Tally:
    tried: int = 0
    accepted: int = 0

    def share(self) -> float:
        return (self.accepted + 1) / (self.tried + 2)


def synthesize_grasps(
    name: ObjectName, count: int, seed: int, settings: SynthesisSettings | None = None
) -> LabelledGrasps:
    """Accepted grasps of one procedural object, which is turned at random; the same for the same arguments.

    Args:
        name: of the object. count: grasps wanted. seed: of every chance, together with the name.
        settings: of the loop.

    Returns:
        Right hands in the frame of the turned object, parameters rounded to float16 before they were tested; at most
        `count`, fewer where the search gave up: `attributes` tells how many were tried.
    """
    settings = settings or SynthesisSettings()
    digest = hashlib.sha256(f"{SYNTHESIS_VERSION}/{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    turn = random_rotations(1, generator, dtype=torch.float64)[0].numpy()
    hand = _open_hand()
    model = turned_object(name, turn)
    solid = Solid.of(model)
    search, accept = GraspSearch(hand, model, solid), GraspAcceptance(hand, solid)

    tally: dict[GraspKind, _Tally] = {kind: _Tally() for kind in RECIPES}
    found: list[tuple[HandParams, list[GraspKind], dict[str, np.ndarray]]] = []
    for _ in range(settings.rounds):
        counts = _shares(tally, count, settings)
        if not counts:
            break
        pose, kinds = search.candidates(counts, generator)
        for kind in counts:  # what could not be placed counts as tried, or a kind without any place would never end
            tally[kind].tried += max(counts[kind], kinds.count(kind))
        if pose is None:
            continue
        hands = _as_stored(hand.params(pose))
        verdict = accept(hands, hand.pose(hands).angles, kinds)
        rows = np.flatnonzero(verdict.accepted)
        accepted = [kinds[row] for row in rows]
        for kind in set(accepted):
            tally[kind].accepted += accepted.count(kind)
        found.append((hands[torch.from_numpy(rows)], accepted, {k: v[rows] for k, v in verdict.metrics.items()}))
    return _table(name, turn, hand, found, count, seed, tally)


def turned_object(name: ObjectName, turn: np.ndarray) -> ObjectModel:
    """A procedural object turned by a rotation (3, 3), with a signed distance that is fine enough for thin walls."""
    vertices, faces = family_mesh(name)
    return make_object(
        vertices @ turn.T, faces, str(name), resolution=GRID_NODES, mesh_resource=f"{SPEC_PREFIX}{name}", name=str(name)
    )


@lru_cache(maxsize=1)
def _open_hand() -> GraspHand:
    model = load_hand_model("right")
    return GraspHand(model, np.arange(len(model.arrays.v_template)))


def _shares(tally: Mapping[GraspKind, _Tally], count: int, settings: SynthesisSettings) -> dict[GraspKind, int]:
    """How many hands of each kind to refine next, so that all kinds become equally many; empty when it is enough."""
    alive = {
        kind: one
        for kind, one in tally.items()
        if one.tried < settings.patience or one.accepted >= settings.hopeless * one.tried
    }
    if not alive:
        return {}
    goal = (count - sum(one.accepted for kind, one in tally.items() if kind not in alive)) / len(alive)
    wanted = {kind: (goal - one.accepted) / one.share() for kind, one in alive.items() if one.accepted < goal}
    if not wanted:
        return {}
    scale = min(1.0, settings.refined / sum(wanted.values()))
    return {kind: int(np.ceil(scale * hands)) for kind, hands in wanted.items()}


def _as_stored(hands: HandParams) -> HandParams:
    """Rounded to float16, as the files keep them, in float32."""
    return hands.to(torch.float16).to(torch.float32)


def _table(
    name: ObjectName,
    turn: np.ndarray,
    hand: GraspHand,
    found: list[tuple[HandParams, list[GraspKind], dict[str, np.ndarray]]],
    count: int,
    seed: int,
    tally: Mapping[GraspKind, _Tally],
) -> LabelledGrasps:
    transform = np.eye(4)
    transform[:3, :3] = turn
    hands = [part for part, _, _ in found] or [HandParams.zeros(0)]

    def joined(field: str) -> torch.Tensor:
        return torch.cat([getattr(part, field) for part in hands])

    kinds = [kind for _, part, _ in found for kind in part]
    number = len(kinds)
    grasps = LabelledGrasps(
        source=SOURCE,
        hands=HandParams(
            joined("global_orient"), joined("hand_pose"), joined("betas"), joined("transl"), joined("scale")
        ),
        hand_model_id=hand.model.model_id,
        hand_fingerprint=hand.model.fingerprint,
        objects=[GraspedObject(str(name), f"{SPEC_PREFIX}{name}", 1.0, transform, name.family)],
        object_index=np.zeros(number, np.int64),
        kind=np.array([KINDS.index(kind) for kind in kinds], np.int64),
        subject=np.full(number, ""),
        sequence=np.full(number, ""),
        frame=np.arange(number),
        metrics={
            metric: np.concatenate([part[metric] for _, _, part in found]) for metric in (found[0][2] if found else ())
        },
        attributes={
            "seed": str(seed),
            "synthesis_version": str(SYNTHESIS_VERSION),
            **{f"tried_{kind}": str(one.tried) for kind, one in tally.items()},
            **{f"accepted_{kind}": str(one.accepted) for kind, one in tally.items()},
        },
    )
    return grasps[_in_turn(grasps.kind)[:count]]


def _in_turn(kind: np.ndarray) -> np.ndarray:
    """(N,) an order in which the kinds alternate, so that any beginning is balanced."""
    place = np.zeros(len(kind), np.int64)
    for one in np.unique(kind):
        place[kind == one] = np.arange((kind == one).sum())
    return np.lexsort((kind, place))
