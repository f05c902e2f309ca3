"""What JHOD learns from: grasps with the latents of their objects, and objects alone, in one batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.data.grasp_batches import SteppedRandomness
from grasp_nodes.data.labelled_grasps import UNLABELLED, LabelledGrasps
from grasp_nodes.data.object_distances import ObjectDistances
from grasp_nodes.data.object_surfaces import ObjectSurfaces
from grasp_nodes.errors import InputError
from grasp_nodes.hand.codes import HandCoder, HandParts
from grasp_nodes.synthesis.flow.network import ANY_KIND
from grasp_nodes.synthesis.jhod.object_data import framed
from grasp_nodes.synthesis.jhod.ordering import tree_order
from grasp_nodes.synthesis.jhod.point_autoencoder import PointAutoEncoder

PLAIN = "plain_latents"
"""In a batch: of the objects without hands."""
_AT_ONCE = 16


@dataclass(frozen=True)
class EncodedObjects:
    """K objects as the auto-encoder has them, each in V variants: with points, axes and middle of its own.

    latents: (K, V, N, 4) float16, in `tree_order`. turn: (K, V, 3, 3) and middle: (K, V, 3), m: a point x of the
    object's frame is at ``turn (x - middle)`` in that of the variant.
    """

    latents: Tensor
    turn: Tensor
    middle: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def variants(self) -> int:
        """V."""
        return self.latents.shape[1]

    @staticmethod
    def of_surfaces(
        surfaces: ObjectSurfaces,
        encoder: PointAutoEncoder,
        variants: int,
        seed: int = 0,
        report: Callable[[int, int], None] | None = None,
    ) -> EncodedObjects:
        """Encode objects.

        Args:
            surfaces: of them. encoder: frozen, on the CPU. variants: V. seed: of points and frames.
            report: is told how many objects are encoded, and of how many.

        Raises:
            InputError: fewer points on an object than the encoder wants, or no variants.
        """
        count, points = len(surfaces), encoder.config.points
        if variants < 1 or surfaces.points.shape[1] < points:
            raise InputError(
                f"objects: expected 1 variant or more and at least {points} points on each, got {variants} and "
                f"{surfaces.points.shape[1]}"
            )
        latents = torch.empty(count, variants, points, 4, dtype=torch.float16)
        turn, middle = torch.empty(count, variants, 3, 3), torch.empty(count, variants, 3)
        for first in range(0, count, _AT_ONCE):
            rows = slice(first, first + _AT_ONCE)
            for variant in range(variants):
                rng = np.random.default_rng([seed, variant, first])
                chosen = rng.choice(surfaces.points.shape[1], points, replace=False)
                seen = framed(torch.from_numpy(surfaces.points[rows, chosen]), rng)
                latents[rows, variant] = ordered_latents(encoder, seen.points).half()
                turn[rows, variant], middle[rows, variant] = seen.turn, seen.middle
            if report is not None:
                report(min(first + _AT_ONCE, count), count)
        return EncodedObjects(latents, turn, middle)


@torch.no_grad()
def ordered_latents(encoder: PointAutoEncoder, points: Tensor) -> Tensor:
    """Latents (B, N, 4), the posterior's mean, in `tree_order`, of points (B, N, 3), m."""
    order = torch.from_numpy(tree_order(points.cpu().numpy())).to(points.device)
    return encoder.encode(points.gather(1, order[..., None].expand(-1, -1, 3)))[0]


@dataclass(frozen=True)
class JhodBatches:
    """Batches of rows of a set of grasps: a function of the step.

    coder: of the vectors. parts: N hands, in the frame of their grasps. encoded: its objects. distances: to them.
    objects, kinds: (N,) int64. told: whether the hands' own shapes count; otherwise all have the mean shape.
    """

    coder: HandCoder
    parts: HandParts
    encoded: EncodedObjects
    distances: ObjectDistances
    objects: Tensor
    kinds: Tensor
    told: bool

    @staticmethod
    def of_grasps(
        grasps: LabelledGrasps, encoded: EncodedObjects, distances: ObjectDistances, coder: HandCoder, told: bool
    ) -> JhodBatches:
        """Batches of a set.

        Raises:
            InputError: grasps of another hand, or objects that are not those that were encoded or measured.
        """
        if not len(grasps.objects) == len(encoded) == len(distances):
            raise InputError(
                f"batches: {len(grasps.objects)} objects, {len(encoded)} encoded, distances to {len(distances)}"
            )
        grasps.check_hand_model(coder.model)
        parts = coder.parts(grasps.hands.to(dtype=coder.model.dtype))
        if not told:
            parts = HandParts(parts.position, parts.orient, parts.pose, torch.zeros_like(parts.betas))
        kinds = torch.from_numpy(np.where(grasps.kind == UNLABELLED, ANY_KIND, grasps.kind))
        return JhodBatches(coder, parts, encoded, distances, torch.from_numpy(grasps.object_index), kinds, told)

    def fitted(self, rows: np.ndarray) -> HandCoder:
        """The coder with the mean and deviations of some rows, about the middle of their objects."""
        index = torch.from_numpy(rows)
        return self.coder.fitted(self.parts[index].shifted(-self.encoded.middle[self.objects[index], 0]))

    def of_rows(self, rows: np.ndarray, step: SteppedRandomness) -> dict[str, Tensor]:
        """The batch of some rows.

        ``code`` (B, D), ``betas`` (B, 10), ``kind`` (B,), ``latents`` (B, N, 4), and for `flow.batches.field_of`
        ``object`` (B,), ``turn`` (B, 3, 3), ``shift`` (B, 3).
        """
        index = torch.from_numpy(np.asarray(rows, np.int64))
        objects, rng = self.objects[index], step.rng(stream=2)
        variant = torch.from_numpy(rng.integers(self.encoded.variants, size=len(index)))
        turn, middle = self.encoded.turn[objects, variant], self.encoded.middle[objects, variant]
        parts = self.parts[index].shifted(-middle).turned(turn)
        into = self.distances.turns[objects].mT
        return {
            "code": self.coder.vectors(parts),
            "betas": parts.betas,
            "kind": self.kinds[index],
            "latents": self.encoded.latents[objects, variant].float(),
            "object": objects,
            "turn": into @ turn.mT,
            "shift": (into @ (middle - self.distances.shifts[objects])[..., None])[..., 0],
        }


def mixed_rows(sizes: list[int], batch: int) -> list[int]:
    """How many rows of a batch each of some sources gets: as many as it has grasps, at least one.

    Args:
        sizes: grasps of each source that train. batch: rows in all.

    Raises:
        InputError: fewer rows than sources, or a source without grasps.
    """
    if batch < len(sizes) or min(sizes, default=0) < 1:
        raise InputError(f"batch: expected a row and a grasp of each source, got {batch} rows for sizes {sizes}")
    counts: list[int] = []
    total = sum(sizes)
    for number, size in enumerate(sizes):
        left = len(sizes) - number - 1
        taken = sum(counts)
        counts.append(min(max(1, round(batch * size / total)), batch - taken - left))
    counts[int(np.argmax(sizes))] += batch - sum(counts)
    return counts
