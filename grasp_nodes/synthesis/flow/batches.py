"""Grasps as batches for the flow: hands in the frames of their objects' principal axes, and where the objects are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.data.grasp_batches import SteppedRandomness
from grasp_nodes.data.labelled_grasps import UNLABELLED, LabelledGrasps
from grasp_nodes.data.object_distances import ObjectDistances
from grasp_nodes.data.object_surfaces import ObjectSurfaces
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.stacked_distance import StackedDistances
from grasp_nodes.hand.codes import HandCoder, HandParts
from grasp_nodes.learning.batches import Batch
from grasp_nodes.synthesis.flow.fields import ManyObjects
from grasp_nodes.synthesis.flow.frames import FLIPS, principal_turns
from grasp_nodes.synthesis.flow.network import ANY_KIND, Wishes

_SEEN_POINTS = 64
"""Of a surface, from which a training sees axes and middle: their noise turns what has no axes of its own at random,
and stands for objects that are known in part."""


@dataclass(frozen=True)
class FlowBatches:
    """Batches of rows of a set: a function of the step.

    coder: of the vectors. parts: N hands, in the frame of their grasps, about the mean of the object's points.
    points: (K, P, 3), m, of the objects, about their mean. back: (K, 3, 3) and shift: (K, 3): a point x of that frame
    is at ``back x + shift`` of the frame in which the distances are. objects, kinds: (N,) int64.
    """

    coder: HandCoder
    parts: HandParts
    points: Tensor
    back: Tensor
    shift: Tensor
    objects: Tensor
    kinds: Tensor

    @staticmethod
    def of_grasps(
        grasps: LabelledGrasps, surfaces: ObjectSurfaces, distances: ObjectDistances, coder: HandCoder
    ) -> FlowBatches:
        """Batches of a set.

        Raises:
            InputError: grasps of another hand, or objects that are not those of the surfaces or distances.
        """
        if not len(grasps.objects) == len(surfaces) == len(distances):
            raise InputError(
                f"batches: {len(grasps.objects)} objects, surfaces of {len(surfaces)}, distances to {len(distances)}"
            )
        grasps.check_hand_model(coder.model)
        centers, objects = torch.from_numpy(surfaces.centers), torch.from_numpy(grasps.object_index)
        back = distances.turns.mT
        return FlowBatches(
            coder,
            coder.parts(grasps.hands.to(dtype=coder.model.dtype)).shifted(-centers[objects]),
            torch.from_numpy(surfaces.points) - centers[:, None],
            back,
            (back @ (centers - distances.shifts)[..., None])[..., 0],
            objects,
            torch.from_numpy(np.where(grasps.kind == UNLABELLED, ANY_KIND, grasps.kind)),
        )

    def of_rows(self, rows: np.ndarray, step: SteppedRandomness) -> dict[str, Tensor]:
        """The batch of some rows: ``code`` (B, D), ``betas`` (B, 10), ``kind`` (B,), and of `field_of` the rest."""
        index = torch.from_numpy(np.asarray(rows, np.int64))
        objects, rng = self.objects[index], step.rng(stream=2)
        seen = torch.from_numpy(
            rng.choice(self.points.shape[1], min(_SEEN_POINTS, self.points.shape[1]), replace=False)
        )
        flips = FLIPS[torch.from_numpy(rng.integers(len(FLIPS), size=len(index)))]
        points = self.points[objects[:, None], seen]
        turn, middle = flips @ principal_turns(points), points.mean(dim=1)
        parts = self.parts[index].shifted(-middle).turned(turn)
        back = self.back[objects]
        return {
            "code": self.coder.vectors(parts),
            "betas": parts.betas,
            "kind": self.kinds[index],
            "object": objects,
            "turn": back @ turn.mT,
            "shift": self.shift[objects] + (back @ middle[..., None])[..., 0],
        }


def field_of(batch: Batch, stack: StackedDistances) -> ManyObjects:
    """Distances to a batch's objects in the frames of its hands; all on one device."""
    return ManyObjects(stack, batch["object"], batch["turn"], batch["shift"])


def wishes_of(batch: Batch) -> Wishes:
    """What a batch's hands are known by."""
    return Wishes(batch["kind"], batch["betas"])
