"""Grasps as batches for training generators: object points, and the hand as a vector, turned together at random.

A batch is a function of its step alone, so that a training goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.data.object_surfaces import ObjectSurfaces
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.hand.codes import HandCoder, HandParts


class SteppedRandomness(Protocol):
    """What a training tells of a step: where its random numbers come from."""

    def rng(self, stream: int = 0) -> np.random.Generator:
        """Numpy's generator of the step."""
        ...

    def generator(self, device: torch.device | str = "cpu", stream: int = 0) -> torch.Generator:
        """Torch's generator of the step."""
        ...


@dataclass(frozen=True)
class GraspSplit:
    """Rows of a set of grasps, (n,) int64 each.

    training, validation: of different objects of the same families. left_out: of the families that were left out.
    """

    training: np.ndarray
    validation: np.ndarray
    left_out: np.ndarray


def split_by_object(
    grasps: LabelledGrasps, share: float = 0.1, seed: int = 0, leave_out: Sequence[str] = ()
) -> GraspSplit:
    """Split a set so that no object is on two sides, each family in the same proportion.

    Args:
        grasps: the set. share: of the objects of each family (at least one of two and more) that validate.
        seed: of the choice. leave_out: families that training does not see.

    Raises:
        InputError: a share outside 0..1, or a family that does not occur.
    """
    if not 0.0 <= share < 1.0:
        raise InputError(f"share of validation: expected 0 to below 1, got {share}")
    families = np.array([one.category or one.name.partition(":")[0] for one in grasps.objects])
    unknown = sorted(set(leave_out) - set(families))
    if unknown:
        raise InputError(
            f"families to leave out: {', '.join(unknown)} do not occur; there are {', '.join(sorted(set(families)))}"
        )
    rng = np.random.default_rng([seed, 11])
    validates = np.zeros(len(families), bool)
    for family in sorted(set(families)):
        members = np.flatnonzero(families == family)
        wanted = max(round(share * len(members)), int(share > 0 and len(members) > 1))
        validates[rng.permutation(members)[:wanted]] = True
    out = np.isin(families, list(leave_out))
    of_grasp = grasps.object_index
    return GraspSplit(
        np.flatnonzero(~validates[of_grasp] & ~out[of_grasp]),
        np.flatnonzero(validates[of_grasp] & ~out[of_grasp]),
        np.flatnonzero(out[of_grasp]),
    )


class GraspBatches:
    """Batches of grasps.

    Each object is moved so that the mean of its points is the origin, and hand and object are turned together by the
    same uniformly random rotation. A batch has, for B grasps: ``points``, ``normals`` (B, P, 3), m; ``code`` (B, D),
    the coder's vector; ``betas`` (B, 10); ``object`` (B,) into the set's objects; ``row`` (B,) into the set; ``turn``
    (B, 3, 3) and ``center`` (B, 3): a point x of the set's frame is at ``turn (x - center)``.

    Args:
        grasps: the set. surfaces: of its objects. coder: of the vectors; `fitted` gives one that suits the set.
        points: of each object in a batch, other ones at each step. turned: whether at random; otherwise not at all.
    """

    def __init__(
        self,
        grasps: LabelledGrasps,
        surfaces: ObjectSurfaces,
        coder: HandCoder,
        points: int = 1024,
        turned: bool = True,
    ) -> None:
        if len(surfaces) != len(grasps.objects):
            raise InputError(f"batches: {len(grasps.objects)} objects, but surfaces of {len(surfaces)}")
        if not 1 <= points <= surfaces.points.shape[1]:
            raise InputError(f"points: expected 1 to {surfaces.points.shape[1]}, as were sampled; got {points}")
        grasps.check_hand_model(coder.model)
        self.coder = coder
        self._count, self.turned = points, turned
        self._object = torch.from_numpy(grasps.object_index)
        self._centers = torch.from_numpy(surfaces.centers)
        # Shuffled once and continued by its own beginning: each run of neighbours is a random choice of points, and is
        # copied five times as fast as points picked one by one.
        order = np.random.default_rng(13).permutation(surfaces.points.shape[1])
        run_on = torch.from_numpy(np.concatenate([order, order[: points - 1]]))
        self._points = (torch.from_numpy(surfaces.points) - self._centers[:, None])[:, run_on]
        self._normals = torch.from_numpy(surfaces.normals)[:, run_on]
        hands = grasps.hands.to(dtype=coder.model.dtype, device=coder.model.device)
        centers = self._centers[self._object].to(coder.model.dtype)
        self.parts: HandParts = coder.parts(hands).shifted(-centers)

    def __len__(self) -> int:
        return len(self._object)

    @property
    def object_points(self) -> Tensor:
        """(K, P, 3), m: all points of each object, their mean at the origin, not turned."""
        return self._points[:, : self._points.shape[1] - self._count + 1]

    def fitted(self, rows: np.ndarray) -> HandCoder:
        """The coder with the mean and the deviations of some rows; give it to new batches."""
        return self.coder.fitted(self.parts[torch.from_numpy(rows)])

    def of_rows(self, rows: np.ndarray, step: SteppedRandomness) -> dict[str, Tensor]:
        """The batch of rows of the set, with the rotations and points of a step."""
        index = torch.from_numpy(np.asarray(rows, np.int64))
        objects = self._object[index]
        parts = self.parts[index]
        if self.turned:
            turn = random_rotations(len(index), step.generator(stream=2), dtype=parts.position.dtype)
        else:
            turn = torch.eye(3, dtype=parts.position.dtype).expand(len(index), 3, 3)
        start = int(step.rng(stream=2).integers(self._points.shape[1] - self._count + 1))
        run = slice(start, start + self._count)
        turned = turn.to(self._points.dtype).mT
        return {
            "points": self._points[:, run].index_select(0, objects) @ turned,
            "normals": self._normals[:, run].index_select(0, objects) @ turned,
            "code": self.coder.vectors(parts.turned(turn)),
            "betas": parts.betas,
            "object": objects,
            "row": index,
            "turn": turn,
            "center": self._centers[objects],
        }
