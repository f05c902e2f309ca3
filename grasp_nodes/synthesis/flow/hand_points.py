"""Points of the hand at which the network feels the object: many on the pads, some on the palm, a few all over.

And within: a thin wall through a finger is felt at the finger's core alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from grasp_nodes.hand.codes import HandCoder, HandParts
from grasp_nodes.hand.core import CORE_SIZE, HandCore
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.pads import PALM, contact_patches
from grasp_nodes.synthesis.flow.compiled_hand import CompiledHand
from grasp_nodes.synthesis.flow.fields import DistanceField, with_slope

_FINGERS = 5
_NEAR = 0.02
"""m, that is 1 to the network."""
_RANGE = (-2.0, 3.0)


@dataclass(frozen=True)
class PointCounts:
    """How many points are felt with.

    pad: of each finger. palmar: on the palm and the other phalanges. rest: elsewhere on the skin.
    core: whether the hand's core (`HandCore`) feels, too.
    """

    pad: int = 8
    palmar: int = 36
    rest: int = 12
    core: bool = True

    @property
    def total(self) -> int:
        """Of all of them."""
        return _FINGERS * self.pad + self.palmar + self.rest + self.core * CORE_SIZE


class HandPoints(nn.Module):
    """The chosen points of one hand model; pads come first, finger after finger, the core comes last.

    Args:
        coder: of the hands. counts: of the points.
    """

    def __init__(self, coder: HandCoder, counts: PointCounts) -> None:
        super().__init__()
        self.coder, self.counts = coder, counts
        self.ids = _chosen(coder.model, counts)
        self.hand = coder.model.vertex_subset(self.ids)
        self._core = HandCore.of_model(coder.model)

    def forward(self, parts: HandParts) -> tuple[Tensor, Tensor]:
        """Places (B, `counts.total`, 3), m, of hands, and how far each is below the skin (B, `counts.total`), m."""
        places, keypoints = self.coder.posed(parts, self.hand)
        if not self.counts.core:
            return places, places.new_zeros(places.shape[:2])
        centers, radii = self._core.spheres(keypoints)
        below = torch.cat([places.new_zeros(places.shape[:2]), radii], dim=1)
        return torch.cat([places, centers], dim=1), below

    def clearance(self, parts: HandParts, field: DistanceField) -> Tensor:
        """(B, `counts.total`), m: from the skin at each point, or above it, to the object; negative where they mix."""
        places, below = self(parts)
        return field(places) - below

    def pads(self, values: Tensor) -> Tensor:
        """(B, 5, pad) of values at the points (B, total)."""
        return values[:, : _FINGERS * self.counts.pad].unflatten(1, (_FINGERS, self.counts.pad))

    def felt(self, vectors: Tensor, betas: Tensor, field: DistanceField) -> Tensor:
        """(B, 4 * total): clearance at every point, and its slope in the hand's own frame; without a graph.

        Args:
            vectors: (B, D), of the coder. betas: (B, 10). field: distance to the hands' objects.
        """
        objects = field.arrays
        if objects is None or self.compiled is None:
            clearance, slope = self.slopes(self.coder.parts_of(vectors.detach(), betas), field)
        else:
            clearance, slope = self.compiled.feel(vectors, betas, objects)
        return torch.cat([(clearance / _NEAR).clamp(*_RANGE), slope.flatten(1)], dim=1)

    def slopes(self, parts: HandParts, field: DistanceField) -> tuple[Tensor, Tensor]:
        """Clearances (B, total), m, and their slopes (B, total, 3) in the hands' own frames; on any device.

        Args:
            parts: of hands, without a graph. field: distance to their objects.
        """
        with torch.no_grad():
            places, below = self(parts)
        distance, slope = with_slope(field, places)
        return distance - below, slope @ parts.orient

    @cached_property
    def compiled(self) -> CompiledHand | None:
        """Of a coder on the CPU; None where its vectors or its hand do not allow it."""
        core = self._core if self.counts.core else None
        return CompiledHand.of(self.coder, self.ids, core, self.counts.pad)


def _chosen(model: HandModel, counts: PointCounts) -> list[int]:
    places, patches = model.arrays.v_template, contact_patches(model)
    pads = [name for name in patches if name.endswith("_pad")]
    chosen = [k for name in pads for k in _spread(places, patches[name], counts.pad)]
    palmar = np.unique(np.concatenate([ids for name, ids in patches.items() if name not in pads or name == PALM]))
    chosen += _spread(places, np.setdiff1d(palmar, chosen), counts.palmar)
    return chosen + _spread(places, np.setdiff1d(np.arange(len(places)), chosen), counts.rest)


def _spread(places: np.ndarray, ids: np.ndarray, count: int) -> list[int]:
    """`count` of the ids, each as far from those before it as can be; some repeatedly if there are too few."""
    if not count:
        return []
    own = places[ids]
    distance = np.linalg.norm(own - own.mean(axis=0), axis=1)
    order: list[int] = []
    while len(order) < min(count, len(ids)):
        order.append(int(distance.argmax()))
        nearest = np.linalg.norm(own - own[order[-1]], axis=1)
        distance = nearest if len(order) == 1 else np.minimum(distance, nearest)
    return [int(ids[order[k % len(order)]]) for k in range(count)]
