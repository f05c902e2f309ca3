"""What FastGrasp's encoders read of a hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from grasp_nodes.learning.object_encoders import Norm, PointNet
from grasp_nodes.synthesis.fastgrasp.layers import LENGTH, perceptron

HandInput = Literal["vertices", "ordered", "parameters"]


class HandReader(nn.Module):
    """Codes (B, widths[-1]) of hands.

    seen: (vertices,) int64, which vertices are read; the first ones until `spread` chooses.

    Args:
        kind: ``vertices``: by a PointNet, for which they are a cloud, as in the paper. ``ordered``: by layers that know
            which is which, and so learn a hand's turn and pose in a fraction of the steps. ``parameters``: the vector.
        size: of a hand's vector. vertices: how many are read. widths, transform, norm: of the PointNet; the last of the
            widths is that of the code. hidden: width between, for ``ordered``.
    """

    seen: Tensor

    def __init__(
        self, kind: HandInput, size: int, vertices: int, widths: Sequence[int], transform: bool, norm: Norm, hidden: int
    ) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("seen", torch.arange(vertices))
        self.layers: nn.Module
        if kind == "vertices":
            self.layers = PointNet(3, widths, transform, norm)
        elif kind == "ordered":
            self.layers = perceptron((3 * vertices, hidden, widths[-1]))
        else:
            self.layers = perceptron((size, *widths))

    def spread(self, rest: Tensor) -> None:
        """Read vertices that are spread over the hand; rest: (V, 3), m, of the hand at rest."""
        self.seen = spread_over(rest, len(self.seen)).to(self.seen.device)

    def forward(self, vertices: Tensor, vectors: Tensor | None = None) -> Tensor:
        """Codes of hands: vertices (B, V, 3), m, and vectors (B, D), which only ``parameters`` needs."""
        if self.kind == "parameters":
            return self.layers(vectors).relu()
        points = vertices[:, self.seen] / LENGTH
        return self.layers(points if self.kind == "vertices" else points.flatten(1)).relu()


def spread_over(points: Tensor, count: int) -> Tensor:
    """(count,) int64: of points (P, 3) each the farthest from those before it; where all are wanted, in their order."""
    if count >= len(points):
        return torch.arange(len(points))
    chosen, far = [0], (points - points[0]).square().sum(dim=1)
    while len(chosen) < count:
        chosen.append(int(far.argmax()))
        far = torch.minimum(far, (points - points[chosen[-1]]).square().sum(dim=1))
    return torch.tensor(chosen)
