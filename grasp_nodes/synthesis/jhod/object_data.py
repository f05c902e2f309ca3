"""Objects without hands to train on: procedural ones and folders of meshes, as points in the frame of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.data.labelled_grasps import GraspedObject
from grasp_nodes.data.object_surfaces import ObjectSurfaces, sample_surfaces
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.learning.batches import ShuffledRows
from grasp_nodes.learning.steps import Step
from grasp_nodes.objects.folders import RefusedMesh, load_folder
from grasp_nodes.objects.registry import SPEC_PREFIX, training_names
from grasp_nodes.synthesis.flow.frames import FLIPS, principal_turns

SURFACE_SHARE = 2
"""So many points are sampled on an object for each one in a batch: other ones can be taken at each step."""
AXES_POINTS = 64
"""From which a training sees axes and middle: their noise turns what has no axes of its own at random."""
VALIDATION_RANK = 1_000_003


@dataclass(frozen=True)
class Framed:
    """Points in the frames of their principal axes.

    points: (B, N, 3), m. turn: (B, 3, 3), middle: (B, 3), m: a point x of the object's frame is at
    ``turn (x - middle)``.
    """

    points: Tensor
    turn: Tensor
    middle: Tensor


def framed(points: Tensor, rng: np.random.Generator) -> Framed:
    """Points (B, N, 3), m, about and along the axes of 64 of them, drawn; which way the axes point is drawn, too."""
    seen = points[:, torch.from_numpy(rng.choice(points.shape[1], min(AXES_POINTS, points.shape[1]), replace=False))]
    flips = FLIPS[torch.from_numpy(rng.integers(len(FLIPS), size=len(points)))]
    turn, middle = flips @ principal_turns(seen), seen.mean(dim=1)
    return Framed((points - middle[:, None]) @ turn.mT, turn, middle)


def plain_objects(
    procedural: int, folders: Sequence[Path] = (), points: int = 2048, report: Callable[[int, int], None] | None = None
) -> ObjectSurfaces:
    """Surfaces of objects that training may see.

    Args:
        procedural: objects of the families, of `training_names`. folders: of meshes in m. points: of one in a batch.
        report: is told procedural objects sampled, and in all.

    Raises:
        InputError: no objects at all, or a folder that cannot be used. MissingFileError: no such folder.
    """
    count, parts = SURFACE_SHARE * points, []
    if procedural:
        named = [GraspedObject(str(name), f"{SPEC_PREFIX}{name}") for name in training_names(procedural)]
        parts.append(sample_surfaces(named, count, progress=report))
    for folder in folders:
        loaded = [one for one in load_folder(folder, num_points=count) if not isinstance(one, RefusedMesh)]
        if not loaded:
            raise InputError(f"{folder}: none of its meshes can be an object")
        surface, normals = (np.stack([getattr(one, name) for one in loaded]) for name in ("points", "normals"))
        parts.append(ObjectSurfaces(surface, normals, surface.mean(axis=1)))
    if not parts:
        raise InputError("objects to train on: none; name a number of procedural ones, or a folder of meshes")
    joined = [np.concatenate([getattr(one, name) for one in parts]) for name in ("points", "normals", "centers")]
    return ObjectSurfaces(*joined)


class PlainBatches:
    """Batches of objects: ``points`` and ``normals`` (B, N, 3), m, in frames as `framed` draws them.

    Args:
        surfaces: of the objects. rows: those that are used. points: N. batch: B. seed: of the order.
        scales: least and largest factor of an object's size; (1, 1) = as it is.
        turned: share of the objects that are turned at random instead.
    """

    def __init__(
        self,
        surfaces: ObjectSurfaces,
        rows: np.ndarray,
        points: int,
        batch: int,
        seed: int = 0,
        scales: tuple[float, float] = (0.8, 1.25),
        turned: float = 0.2,
    ) -> None:
        self._surfaces, self._rows, self._points, self._scales = surfaces, rows, points, scales
        self._turned, self._shuffled = turned, ShuffledRows(len(rows), batch, seed)

    def __call__(self, step: Step) -> dict[str, Tensor]:
        """The batch of a step."""
        return self.of_rows(self._rows[self._shuffled(step)], step)

    def of_rows(self, rows: np.ndarray, step: Step) -> dict[str, Tensor]:
        """The batch of objects by number, with the points and frames of a step."""
        rng = step.rng(stream=3)
        chosen = rng.choice(self._surfaces.points.shape[1], self._points, replace=False)
        points = torch.from_numpy(self._surfaces.points[rows[:, None], chosen])
        normals = torch.from_numpy(self._surfaces.normals[rows[:, None], chosen])
        low, high = np.log(self._scales)
        size = torch.from_numpy(rng.uniform(low, high, (len(rows), 1, 1)).astype(np.float32)).exp()
        seen = framed(size * points, rng)
        anyhow = random_rotations(len(rows), step.generator(stream=3), dtype=points.dtype)
        other = torch.from_numpy(rng.random(len(rows)) < self._turned)[:, None, None]
        anyhow = torch.where(other, anyhow, torch.eye(3))
        return {"points": seen.points @ anyhow.mT, "normals": normals @ seen.turn.mT @ anyhow.mT}
