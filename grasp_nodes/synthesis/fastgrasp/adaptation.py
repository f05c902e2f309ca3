"""The adaptation module of FastGrasp (section 3.3): what is added to a sampled latent so that hand and object agree."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grasp_nodes.learning.object_encoders import Norm, PointNet
from grasp_nodes.synthesis.fastgrasp.layers import LENGTH, perceptron


@dataclass(frozen=True)
class AdaptationConfig:
    """Sizes.

    latent: N_z. widths: of its own PointNet of the object; transform, norm: see there. layers: of the MLP.
    points: of the object that are read.
    """

    latent: int = 768
    widths: tuple[int, ...] = (64, 128, 1024)
    transform: bool = True
    norm: Norm = "batch"
    layers: tuple[int, ...] = (2048, 1024)
    points: int = 3000


PAPER_ADAPTATION = AdaptationConfig()
SMALL_ADAPTATION = AdaptationConfig(96, (32, 64, 256), False, "layer", (512, 256), 256)


class Adaptation(nn.Module):
    """``z2 = f(z1, object)``; the hand is decoded from ``z1 + z2``. Before any training z2 is 0.

    Latents are the standardised ones of the diffusion (`LatentDenoiser.standardise`).
    """

    def __init__(self, config: AdaptationConfig) -> None:
        super().__init__()
        self.config = config
        self.object_encoder = PointNet(3, config.widths, config.transform, config.norm)
        self.layers = perceptron((config.latent + config.widths[-1], *config.layers, config.latent))
        last = self.layers[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def encode_object(self, points: Tensor) -> Tensor:
        """What is told of objects (B, width); points (B, P, 3), m, their mean at the origin; the first are read."""
        return self.object_encoder(points[:, : self.config.points] / LENGTH).relu()

    def forward(self, latents: Tensor, told: Tensor) -> Tensor:
        """z2 (B, N_z) of latents z1 (B, N_z) and objects told (B, width)."""
        return self.layers(torch.cat([latents, told], dim=1))
