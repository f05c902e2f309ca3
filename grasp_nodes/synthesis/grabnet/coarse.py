"""CoarseNet: a conditional variational auto-encoder of hands on objects (GrabNet, in GRAB: Taheri et al., ECCV 2020).

The object is told by its basis point set. The encoder reads where the wrist is and how it is turned; the decoder tells
the whole hand: place, turn and 15 joints, rotations in 6D.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grasp_nodes.hand.codes import HandLayout
from grasp_nodes.synthesis.grabnet.layers import ResidualBlock

PAPER_LAYOUT = HandLayout(point="wrist", orient="rotation_6d", pose="rotation_6d", shape=False)
"""99 numbers; the shape is that of the person, which is given."""
SMALL_LAYOUT = HandLayout(point="palm", orient="rotation_6d", pose="rotation_6d", shape=True)
"""109: the training's hands are of many shapes, and a grasp of one is none of another."""
WRIST_SIZE = 9
"""Numbers at the beginning of both: place and turn."""


@dataclass(frozen=True)
class CoarseConfig:
    """Sizes. basis: points, in a ball of `radius`, m. width: of the layers. latent: numbers.

    turns: of each object, for which the basis points' distances are worked out before the training.
    principal: whether these are into the frame of its principal axes (`principal_frames`); otherwise they are any.
    points: of an object, to which distances are measured.
    """

    basis: int = 4096
    radius: float = 0.15
    width: int = 512
    latent: int = 16
    turns: int = 32
    points: int = 2048
    principal: bool = False


PAPER_COARSE = CoarseConfig()
SMALL_COARSE = CoarseConfig(1024, 0.15, 256, 16, 16, 512)


class CoarseNet(nn.Module):
    """Hands (B, size) on objects that are told by their distances to basis points.

    Args:
        config: sizes. size: of a hand's vector, whose first nine numbers are the wrist's.
    """

    def __init__(self, config: CoarseConfig, size: int) -> None:
        super().__init__()
        self.config, self.size = config, size
        read, told, width = config.basis + WRIST_SIZE, config.basis + config.latent, config.width
        self.object_norm = nn.BatchNorm1d(config.basis)
        self.first_read, self.second_read = ResidualBlock(read, width), ResidualBlock(width + read, width)
        self.mean, self.spread = nn.Linear(width, config.latent), nn.Linear(width, config.latent)
        self.first_told, self.second_told = ResidualBlock(told, width), ResidualBlock(width + told, width)
        self.hand = nn.Linear(width, size)

    def encode(self, distances: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, latent) of hands (B, size) on objects, distances (B, basis), m."""
        seen = torch.cat([self._object(distances), vectors[:, :WRIST_SIZE]], dim=1)
        features = self.second_read(torch.cat([self.first_read(seen), seen], dim=1))
        return self.mean(features), self.spread(features).clamp(-10.0, 10.0)

    def decode(self, distances: Tensor, latents: Tensor) -> Tensor:
        """Hands (B, size) of latents (B, latent) on objects, distances (B, basis), m."""
        seen = torch.cat([self._object(distances), latents], dim=1)
        return self.hand(self.second_told(torch.cat([self.first_told(seen), seen], dim=1)))

    def _object(self, distances: Tensor) -> Tensor:
        return self.object_norm(distances / self.config.radius)
