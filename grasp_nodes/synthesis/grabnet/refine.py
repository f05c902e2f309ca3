"""RefineNet: a hand that is nearly right moved until its distances to the object look right (GRAB, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grasp_nodes.hand.parameters import NUM_VERTICES
from grasp_nodes.synthesis.grabnet.layers import ResidualBlock
from grasp_nodes.synthesis.nearest_points import nearest_index, safe_norm, taken
from grasp_nodes.synthesis.posed_vectors import PosedVectors

DISTANCE_SCALE = 0.02
"""m; unit of the distances that the network reads. Beyond five of them all is far."""
_FAR = 5.0


@dataclass(frozen=True)
class RefineConfig:
    """Sizes. width: of the layers. blocks: how many. iterations: of a refinement. dropout: of what is read.

    moved, rotated, bent: deviations of the noise on training hands: m of the place, rad of the whole hand's turn and of
    each joint's.
    points: of an object, to which distances are measured.
    """

    width: int = 512
    blocks: int = 3
    iterations: int = 3
    dropout: float = 0.3
    moved: float = 0.01
    rotated: float = 0.1
    bent: float = 0.15
    points: int = 2048


PAPER_REFINE = RefineConfig()
SMALL_REFINE = RefineConfig(256, 3, 3, 0.1, points=512)


class RefineNet(nn.Module):
    """Better hands (B, size) of hands (B, size).

    Args:
        config: sizes. size: of a hand's vector.
    """

    def __init__(self, config: RefineConfig, size: int) -> None:
        super().__init__()
        self.config, self.size = config, size
        self.norm = nn.BatchNorm1d(NUM_VERTICES)
        self.dropout = nn.Dropout(config.dropout)
        read = NUM_VERTICES + size
        sizes = [read, *[config.width] * config.blocks]
        self.blocks = nn.ModuleList(ResidualBlock(sizes[k], sizes[k + 1]) for k in range(config.blocks))
        self.change = nn.Linear(config.width, size)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, vectors: Tensor, points: Tensor, posed: PosedVectors, betas: Tensor | None = None) -> Tensor:
        """Refine.

        Args:
            vectors: (B, size). points: (B, P, 3), m, of the objects. posed: of the vectors' coder.
            betas: (B, 10), where the vectors have none.
        """
        for _ in range(self.config.iterations):
            vertices = posed(vectors, betas)
            distances = safe_norm(vertices - taken(points, nearest_index(vertices, points)))
            features = torch.cat([self.norm((distances / DISTANCE_SCALE).clamp(max=_FAR)), vectors], dim=1)
            features = self.dropout(features)
            for block in self.blocks:
                features = block(features)
            vectors = vectors + self.change(features)
        return vectors
