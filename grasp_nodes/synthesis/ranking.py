"""How promising grasps are, by what can be measured in a fraction of a millisecond.

The score foresees `evaluation.good`: depth, fingers in contact and hold. Hold itself takes a simulation; what stands
for it is whether the contacts push against each other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.contact.hand_states import stack_hands
from grasp_nodes.contact.interaction import Grasp, GraspGenerator, GraspSet
from grasp_nodes.evaluation.contact_metrics import FINGER_CONTACT_DISTANCE
from grasp_nodes.evaluation.good import GOOD_DEPTH, GOOD_FINGERS
from grasp_nodes.evaluation.penetration import finger_of_vertices
from grasp_nodes.hand.anatomy import DegreesOfFreedom, HandAnatomy
from grasp_nodes.hand.core import HandCore
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.naturalness import unnaturalness
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.objects.model import ObjectModel

_FINGERS = 5
_CHUNK = 512
"""Hands that are measured together: their vertices take 5 MB."""


@dataclass(frozen=True)
class ScoreWeights:
    """What costs how much.

    Measured on disturbed training grasps of six objects: 31 % of them are good, of the best of eight 67 %.

    depth: per 5 mm, at which a grasp stops being good. too_deep: from there on, rising from `warned` of it: what is
    measured is not the whole depth. missing: per finger that lacks of three. idle: per finger that does
    not touch. push: of contacts that all push the same way (0 = they cancel). unnatural: of one violation of 10 deg.
    """

    depth: float = 0.5
    too_deep: float = 3.0
    warned: float = 0.8
    missing: float = 1.0
    idle: float = 0.3
    push: float = 1.0
    unnatural: float = 0.1


@dataclass(frozen=True)
class Scores:
    """Of B grasps.

    score: (B,), higher is better, 0 = no fault found; -inf for a hand with NaN. metrics: (B,) each, by name:
    ``penetration_depth`` (m, of the deepest vertex), ``object_depth`` (m, of the object in the hand, as far as its core
    tells), ``fingers`` (that touch), ``push`` (0..1), ``unnaturalness``.
    """

    score: np.ndarray
    metrics: Mapping[str, np.ndarray]


class GraspScorer:
    """Scores hands of one model at an object.

    Args:
        model: full hand of either side. weights: of what costs.
    """

    def __init__(self, model: HandModel, weights: ScoreWeights | None = None) -> None:
        self._model, self._weights = model, weights or ScoreWeights()
        fingers = finger_of_vertices(model.arrays.weights)
        # The palm pushes as a sixth finger does.
        parts = [np.flatnonzero(fingers == finger) for finger in range(_FINGERS)]
        parts.append(np.flatnonzero(~np.isin(fingers, np.arange(_FINGERS))))
        self._parts = [torch.from_numpy(part).to(model.device) for part in parts]
        matrix = DegreesOfFreedom.of_anatomy(HandAnatomy.of_model(model)).matrix
        self._core = HandCore.of_model(model)
        self._inverse = torch.as_tensor(np.linalg.pinv(matrix), dtype=model.dtype, device=model.device)

    @torch.no_grad()
    def __call__(self, hands: HandParams, object_model: ObjectModel) -> Scores:
        """Scores of B hands of the model's side, object frame."""
        hands = hands.to(dtype=self._model.dtype, device=self._model.device)
        names = ("penetration_depth", "object_depth", "fingers", "push", "unnaturalness")
        if not len(hands):
            return Scores(np.zeros(0), {name: np.zeros(0) for name in names})
        rows = torch.arange(len(hands), device=self._model.device)
        found = [self._measured(hands[part], object_model) for part in rows.split(_CHUNK)]
        metrics = {name: torch.cat([one[k] for one in found]) for k, name in enumerate(names)}
        w = self._weights
        depth, wall, fingers, push, unnatural = metrics.values()
        share = torch.maximum(depth, wall) / GOOD_DEPTH
        cost = (
            w.depth * share
            + w.too_deep * ((share - w.warned) / (1.0 - w.warned)).clamp(0.0, 1.0)
            + w.missing * (GOOD_FINGERS - fingers).clamp(min=0)
            + w.idle * (_FINGERS - fingers)
            + w.push * push
            + w.unnatural * unnatural
        )
        return Scores(
            torch.nan_to_num(-cost, nan=-torch.inf).double().cpu().numpy(),
            {name: values.double().cpu().numpy() for name, values in metrics.items()},
        )

    def _measured(self, hands: HandParams, object_model: ObjectModel) -> tuple[Tensor, ...]:
        posed = self._model(hands)
        vertices, signed = posed.vertices, object_model.signed_distance(posed.vertices)
        centers, radii = self._core.spheres(posed.keypoints)
        wall = (radii - object_model.signed_distance(centers)).amax(dim=1)
        nearest = [signed[:, part].min(dim=1) for part in self._parts]
        distances = torch.stack([one.values for one in nearest], dim=1)
        vertex = torch.stack([part[one.indices] for part, one in zip(self._parts, nearest, strict=True)], dim=1)
        touching = (distances < FINGER_CONTACT_DISTANCE).to(vertices.dtype)
        places = torch.gather(vertices, 1, vertex[..., None].expand(-1, -1, 3))
        outward = object_model.signed_distance.gradient(places) * touching[..., None]
        # Without any contact nothing pushes against anything: as bad as all pushing one way.
        push = torch.where(
            touching.any(dim=1), outward.sum(dim=1).norm(dim=1) / touching.sum(dim=1).clamp(min=1), signed.new_ones(())
        )
        depth = (-signed.amin(dim=1)).clamp(min=0)
        return (
            depth,
            wall.clamp(min=0),
            touching[:, :_FINGERS].sum(dim=1),
            push,
            unnaturalness(hands.hand_pose @ self._inverse),
        )


class ScoredGenerator:
    """Another generator, its grasps scored, measured and put in order, the best first.

    Args:
        generator: of the grasps; its own scores are replaced. scorers: of either side.
    """

    def __init__(self, generator: GraspGenerator, scorers: Mapping[Side, GraspScorer]) -> None:
        self.generator, self._scorers = generator, scorers

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """As many as the generator makes."""
        start = time.perf_counter()
        found = self.scored(self.generator.generate(object_model, count, seed), object_model)
        return replace(found, duration=time.perf_counter() - start)

    def scored(self, found: GraspSet, object_model: ObjectModel) -> GraspSet:
        """The same grasps, scored, measured and in order."""
        return replace(found, grasps=score_grasps(found.grasps, object_model, self._scorers))


def score_grasps(
    grasps: Sequence[Grasp], object_model: ObjectModel, scorers: Mapping[Side, GraspScorer]
) -> list[Grasp]:
    """Grasps with their scores and metrics, the best first; equally good ones in the order given."""
    result = list(grasps)
    for side, scorer in scorers.items():
        rows = [k for k, grasp in enumerate(grasps) if grasp.hand.params.side == side]
        if not rows:
            continue
        scores = scorer(stack_hands([grasps[k] for k in rows]), object_model)
        for at, k in enumerate(rows):
            measured = {name: float(values[at]) for name, values in scores.metrics.items()}
            result[k] = replace(grasps[k], score=float(scores.score[at]), metrics={**grasps[k].metrics, **measured})
    return sorted(result, key=lambda grasp: -grasp.score)
