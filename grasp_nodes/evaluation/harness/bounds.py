"""What every table is read against: hands at random, grasps of other objects, and either of them polished.

A polish alone must not look like a generator: what it makes of random hands is what it owes to nobody.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from grasp_nodes.contact.hand_states import hand_states, make_grasps, stack_hands
from grasp_nodes.contact.interaction import Grasp, GraspGenerator, GraspSet
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.protocols import Polisher
from grasp_nodes.geometry.mesh import sample_surface
from grasp_nodes.geometry.rotations import matrix_to_axis_angle, random_rotations
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.objects.model import ObjectModel

SYNTHETIC = "synthetic"
RANDOM = "random"
SHUFFLED = "shuffled"
POLISHED = "+polish"
BOUNDS = (SYNTHETIC, RANDOM, SHUFFLED, RANDOM + POLISHED, SHUFFLED + POLISHED)
DERIVED = (SHUFFLED, SHUFFLED + POLISHED)
"""Bounds that are made of the recorded grasps of another object."""

PALM_DISTANCE = (0.0, 0.06)
"""m, of the middle of a random hand's palm from the surface: where those of grasps are, so that most hands touch."""
POSE_DEVIATIONS = tuple(1 / number for number in range(1, 11))
"""rad, of the pose's first principal components."""
_PALM_KEYPOINTS = (0, 9)


class RandomHands:
    """Hands that know nothing of grasping: in a shell about the surface, any orientation, a random pose.

    The middle of the palm is above a point drawn uniformly from the surface, along its normal.
    """

    def __init__(self, model: HandModel) -> None:
        self._model = model

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """So many hands, in no order."""
        start = time.perf_counter()
        rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(seed)
        points, normals, _ = sample_surface(
            object_model.vertices.astype(np.float64), object_model.faces, count, int(rng.integers(2**31))
        )
        palm = torch.from_numpy(points + rng.uniform(*PALM_DISTANCE, (count, 1)) * normals).float()
        deviations = torch.tensor(POSE_DEVIATIONS)
        pose = self._model.pose_from_pca(deviations * torch.randn(count, len(deviations), generator=generator))
        params = replace(
            HandParams.zeros(count, self._model.side),
            global_orient=matrix_to_axis_angle(random_rotations(count, generator, dtype=torch.float32)),
            hand_pose=pose,
        )
        with torch.no_grad():
            here = self._model(params).keypoints[:, _PALM_KEYPOINTS].mean(dim=1)
        grasps = make_grasps(replace(params, transl=palm - here), self._model)
        return GraspSet(object_model.object_id, RANDOM, seed, time.perf_counter() - start, grasps)


class PolishedGenerator:
    """Another generator, its grasps polished, or refined in another way that is named by its suffix."""

    def __init__(
        self,
        generator: GraspGenerator,
        polisher: Polisher,
        models: Mapping[Side, HandModel],
        suffix: str = POLISHED,
    ) -> None:
        self._generator, self._polisher, self._models, self._suffix = generator, polisher, models, suffix

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """The generator's grasps in its order."""
        start = time.perf_counter()
        found = self._generator.generate(object_model, count, seed)
        grasps = polish(found.grasps, object_model, self._polisher, self._models)
        return replace(found, method=found.method + self._suffix, duration=time.perf_counter() - start, grasps=grasps)


def polish(
    grasps: Sequence[Grasp], object_model: ObjectModel, polisher: Polisher, models: Mapping[Side, HandModel]
) -> list[Grasp]:
    """Polished grasps in the same order; one with NaN stays as it is."""
    result = list(grasps)
    for side in ("right", "left"):
        rows = [k for k, grasp in enumerate(grasps) if grasp.hand.params.side == side and _finite(grasp)]
        if not rows:
            continue
        better = polisher(stack_hands([grasps[k] for k in rows]), object_model)
        for k, state in zip(rows, hand_states(better, models[side]), strict=True):
            result[k] = replace(grasps[k], hand=state)
    return result


class BestOfMany:
    """The best of several grasps of another generator, by the score that it gives them.

    For every grasp wanted it makes `candidates`, puts them into groups at random, and keeps the best of each: so the
    choice does not favour one place of the object.
    """

    def __init__(self, generator: GraspGenerator, candidates: int) -> None:
        self.generator, self.candidates = generator, candidates

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """So many winners, best first.

        Raises:
            InputError: the generator gives all its grasps one score, so that there is nothing to choose by.
        """
        start = time.perf_counter()
        found = self.generator.generate(object_model, count * self.candidates, seed)
        if len(found.grasps) > 1 and len({grasp.score for grasp in found.grasps}) == 1:
            raise InputError(
                f"{found.method}: all its grasps have the same score, none is the best: name it without rank"
            )
        return replace(self.best_of(found, count, seed), duration=time.perf_counter() - start)

    def best_of(self, found: GraspSet, count: int, seed: int) -> GraspSet:
        """The winners of so many groups, best first; of fewer grasps than groups all."""
        order = np.random.default_rng(seed).permutation(len(found.grasps))
        groups = [group for group in np.array_split(order, count) if len(group)]
        best = [max((found.grasps[k] for k in group), key=lambda grasp: grasp.score) for group in groups]
        best.sort(key=lambda grasp: -grasp.score)
        return replace(found, method=f"{found.method}+rank{self.candidates}", grasps=best)


def donors(names: Sequence[str], seed: int) -> dict[str, str]:
    """For every object the one whose grasps it gets: no object its own, each used once.

    Args:
        names: objects that have grasps. seed: of the order.

    Returns:
        By name; empty for fewer than two objects.
    """
    if len(names) < 2:
        return {}
    ordered = sorted(names)
    order = np.random.default_rng(seed).permutation(len(ordered))
    ring = [ordered[k] for k in order]
    return dict(zip(ring, [*ring[1:], ring[0]], strict=True))


def move_to_object(
    grasps: Sequence[Grasp], from_center: np.ndarray, object_model: ObjectModel, models: Mapping[Side, HandModel]
) -> list[Grasp]:
    """Grasps of another object, moved so that the centres of the two bounding boxes fall together.

    Args:
        grasps: in the other object's frame. from_center: (3,) m, centre of its bounding box.
    """
    transform = np.eye(4)
    transform[:3, 3] = bounding_center(object_model) - from_center
    result = list(grasps)
    for side in ("right", "left"):
        rows = [k for k, grasp in enumerate(grasps) if grasp.hand.params.side == side]
        if rows:
            moved = move_hands(stack_hands([grasps[k] for k in rows]), transform, models[side])
            for k, state in zip(rows, hand_states(moved, models[side]), strict=True):
                result[k] = replace(grasps[k], hand=state)
    return result


def bounding_center(object_model: ObjectModel) -> np.ndarray:
    """(3,) float64, m: centre of the object's bounding box."""
    vertices = object_model.vertices.astype(np.float64)
    return 0.5 * (vertices.min(axis=0) + vertices.max(axis=0))


def _finite(grasp: Grasp) -> bool:
    params = grasp.hand.params
    fields = (params.global_orient, params.hand_pose, params.betas, params.transl, params.scale)
    return all(bool(torch.isfinite(value).all()) for value in fields)
