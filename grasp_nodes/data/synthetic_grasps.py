"""Grasps of procedural objects, made here: placed, closed, refined and tested, several kinds on every object."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from grasp_nodes.contact.hand_states import make_grasps
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.data.grasp_acceptance import GraspAcceptance
from grasp_nodes.data.grasp_kinds import RECIPES
from grasp_nodes.data.grasp_search import GraspSearch
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.fitting.grasp_hand import GraspHand
from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.kinds import KINDS, GraspKind
from grasp_nodes.hand.model import HandModel
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
class Tally:
    """Of one kind: hands that were refined and tested, and those of them that were accepted."""

    tried: int = 0
    accepted: int = 0

    @property
    def share(self) -> float:
        """Accepted of tried, as Laplace would guess it."""
        return (self.accepted + 1) / (self.tried + 2)


@dataclass(frozen=True)
class FoundGrasps:
    """Accepted hands, kinds in turn. hands: N. kinds: N. metrics: (N,) by name, see `grasp_acceptance.Verdict`."""

    hands: HandParams
    kinds: Sequence[GraspKind]
    metrics: Mapping[str, np.ndarray]
    tally: Mapping[GraspKind, Tally]


def find_grasps(
    hand: GraspHand,
    model: ObjectModel,
    count: int,
    generator: torch.Generator,
    settings: SynthesisSettings | None = None,
) -> FoundGrasps:
    """Search and test rounds on one object until every kind that fits it has its share.

    Args:
        hand: in the search's variables, all vertices. model: the object. count: grasps wanted.
        generator: of every chance. settings: of the loop.

    Returns:
        At most `count` hands in the object's frame, rounded to float16 before they were tested. Those that the object
        is too deep in are taken out at the end and not replaced.
    """
    settings = settings or SynthesisSettings()
    solid = Solid.of(model)
    search, accept = GraspSearch(hand, model, solid), GraspAcceptance(hand, solid)
    tally: dict[GraspKind, Tally] = {kind: Tally() for kind in RECIPES}
    parts: list[tuple[HandParams, list[GraspKind], dict[str, np.ndarray]]] = []
    for _ in range(settings.rounds):
        counts = _shares(tally, count, settings)
        if not counts:
            break
        pose, kinds = search.candidates(counts, generator)
        for kind in counts:  # what could not be placed counts as tried, or a kind without any place would never end
            tally[kind].tried += counts[kind]
        if pose is None:
            continue
        hands = _as_stored(hand.params(pose))
        verdict = accept(hands, hand.pose(hands).angles, kinds)
        rows = np.flatnonzero(verdict.accepted)
        accepted = [kinds[row] for row in rows]
        for kind in set(accepted):
            tally[kind].accepted += accepted.count(kind)
        parts.append((hands[torch.from_numpy(rows)], accepted, {k: v[rows] for k, v in verdict.metrics.items()}))
    return _looked_at_again(_joined(parts, count, hand, tally), accept)


def synthesize_grasps(
    name: ObjectName, count: int, seed: int, settings: SynthesisSettings | None = None
) -> LabelledGrasps:
    """Accepted grasps of one procedural object, which is turned at random; the same for the same arguments.

    Args:
        name: of the object. count: grasps wanted. seed: of every chance, together with the name.
        settings: of the loop.

    Returns:
        Right hands in the frame of the turned object, parameters rounded to float16 before they were tested; at most
        `count`, fewer where the search gave up or the last look refused some: `attributes` tells how many were tried,
        and accepted before that look.
    """
    digest = hashlib.sha256(f"{SYNTHESIS_VERSION}/{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    turn = random_rotations(1, generator, dtype=torch.float64)[0].numpy()
    hand = open_grasp_hand()
    found = find_grasps(hand, turned_object(name, turn), count, generator, settings)
    transform = np.eye(4)
    transform[:3, :3] = turn
    number = len(found.kinds)
    return LabelledGrasps(
        source=SOURCE,
        hands=found.hands,
        hand_model_id=hand.model.model_id,
        hand_fingerprint=hand.model.fingerprint,
        objects=[GraspedObject(str(name), f"{SPEC_PREFIX}{name}", 1.0, transform, name.family)],
        object_index=np.zeros(number, np.int64),
        kind=np.array([KINDS.index(kind) for kind in found.kinds], np.int64),
        subject=np.full(number, ""),
        sequence=np.full(number, ""),
        frame=np.arange(number),
        metrics=found.metrics,
        attributes={
            "seed": str(seed),
            "synthesis_version": str(SYNTHESIS_VERSION),
            **{f"tried_{kind}": str(one.tried) for kind, one in found.tally.items()},
            **{f"accepted_{kind}": str(one.accepted) for kind, one in found.tally.items()},
        },
    )


class SyntheticGrasps:
    """The search as a generator: what the training data itself is worth, on any object.

    Args:
        model: of the hands, full. settings: of the loop.
    """

    def __init__(self, model: HandModel, settings: SynthesisSettings | None = None) -> None:
        self._hand, self._settings = GraspHand(model), settings

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """Accepted grasps with their kinds, in no order of merit; fewer than `count` where the search gave up."""
        start = time.perf_counter()
        generator = torch.Generator().manual_seed(seed)
        # Some are taken out by the last look: more are looked for than are wanted.
        found = find_grasps(self._hand, object_model, count + max(5, count // 2), generator, self._settings)
        grasps = make_grasps(found.hands, self._hand.model) if len(found.kinds) else []
        labelled = [replace(grasp, kind=kind) for grasp, kind in zip(grasps, found.kinds, strict=True)][:count]
        return GraspSet(object_model.object_id, "synthetic", seed, time.perf_counter() - start, labelled)


def turned_object(name: ObjectName, turn: np.ndarray) -> ObjectModel:
    """A procedural object turned by a rotation (3, 3), with a signed distance that is fine enough for thin walls."""
    vertices, faces = family_mesh(name)
    return make_object(
        vertices @ turn.T, faces, str(name), resolution=GRID_NODES, mesh_resource=f"{SPEC_PREFIX}{name}", name=str(name)
    )


@lru_cache(maxsize=1)
def open_grasp_hand() -> GraspHand:
    """The right open hand in the search's variables; loaded once."""
    return GraspHand(load_hand_model("right", OPEN_HAND_FILE))


def _shares(tally: Mapping[GraspKind, Tally], count: int, settings: SynthesisSettings) -> dict[GraspKind, int]:
    """How many hands of each kind to refine next, so that all kinds become equally many; empty when it is enough."""
    alive = {
        kind: one
        for kind, one in tally.items()
        if one.tried < settings.patience or one.accepted >= settings.hopeless * one.tried
    }
    if not alive:
        return {}
    goal = (count - sum(one.accepted for kind, one in tally.items() if kind not in alive)) / len(alive)
    wanted = {kind: (goal - one.accepted) / one.share for kind, one in alive.items() if one.accepted < goal}
    if not wanted:
        return {}
    scale = min(1.0, settings.refined / sum(wanted.values()))
    return {kind: int(np.ceil(scale * hands)) for kind, hands in wanted.items()}


def _as_stored(hands: HandParams) -> HandParams:
    """Rounded to float16, as the files keep them, in float32."""
    return hands.to(torch.float16).to(torch.float32)


def _joined(
    parts: Sequence[tuple[HandParams, list[GraspKind], dict[str, np.ndarray]]],
    count: int,
    hand: GraspHand,
    tally: Mapping[GraspKind, Tally],
) -> FoundGrasps:
    def joined(field: str) -> torch.Tensor:
        return torch.cat([getattr(part, field) for part, _, _ in parts])

    if not parts:
        return FoundGrasps(HandParams.zeros(0, hand.model.side), [], {}, tally)
    kinds = [kind for _, part, _ in parts for kind in part]
    order = _in_turn(np.array([KINDS.index(kind) for kind in kinds], np.int64))[:count]
    hands = HandParams(
        *(joined("global_orient"), joined("hand_pose"), joined("betas"), joined("transl"), joined("scale")),
        side=hand.model.side,
    )
    metrics = {name: np.concatenate([part[name] for _, _, part in parts])[order] for name in parts[0][2]}
    return FoundGrasps(hands[torch.from_numpy(order)], [kinds[row] for row in order], metrics, tally)


def _looked_at_again(found: FoundGrasps, accept: GraspAcceptance) -> FoundGrasps:
    """Without the hands that the object is too deep in; one costly test for those that are kept, not for all tried."""
    if not found.kinds:
        return found
    passed, depth = accept.from_the_objects_side(found.hands)
    rows = np.flatnonzero(passed)
    metrics = {name: values[rows] for name, values in {**found.metrics, "object_depth": depth}.items()}
    return FoundGrasps(
        found.hands[torch.from_numpy(rows)], [found.kinds[int(row)] for row in rows], metrics, found.tally
    )


def _in_turn(kind: np.ndarray) -> np.ndarray:
    """(N,) an order in which the kinds alternate, so that any beginning is balanced."""
    place = np.zeros(len(kind), np.int64)
    for one in np.unique(kind):
        place[kind == one] = np.arange((kind == one).sum())
    return np.lexsort((kind, place))
