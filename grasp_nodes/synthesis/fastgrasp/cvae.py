"""The baseline of FastGrasp's Table 1: a conditional variational auto-encoder of hands on objects."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError
from grasp_nodes.hand.parameters import NUM_VERTICES
from grasp_nodes.learning.object_encoders import Norm, PointNet
from grasp_nodes.synthesis.fastgrasp.hand_reader import HandInput, HandReader
from grasp_nodes.synthesis.fastgrasp.layers import LENGTH, perceptron


@dataclass(frozen=True)
class CVAEConfig:
    """Sizes; the paper tells none of its baseline: as in its auto-encoder, with the 64 latents of GraspTTA.

    latent: numbers. points: of the object that are read. widths: of the PointNets of hand and object.
    encoder, decoder: layers between. divergence: weight of the Kullback-Leibler divergence beside the five losses.
    vertices: of the hand that are read, spread over it; input: how (`HandReader`; there are no ``parameters`` here).
    principal: whether objects are turned to their principal axes (`principal_frames`).
    """

    latent: int = 64
    points: int = 3000
    widths: tuple[int, ...] = (64, 128, 1024)
    transform: bool = True
    norm: Norm = "batch"
    encoder: tuple[int, ...] = (1024, 512)
    decoder: tuple[int, ...] = (2048, 1024, 256)
    divergence: float = 0.01
    vertices: int = NUM_VERTICES
    input: HandInput = "vertices"
    principal: bool = False

    def __post_init__(self) -> None:
        if self.input not in ("vertices", "ordered"):
            raise InputError(f"input: expected vertices or ordered, got {self.input!r}")
        if not 0 < self.vertices <= NUM_VERTICES:
            raise InputError(f"vertices: expected 1 to {NUM_VERTICES}, got {self.vertices}")


PAPER_CVAE = CVAEConfig()
SMALL_CVAE = CVAEConfig(
    *(32, 256, (32, 64, 256), False, "layer", (256, 256), (512, 256)), vertices=160, input="ordered", principal=True
)


class GraspCVAE(nn.Module):
    """Hands on objects.

    Args:
        config: sizes. size: of a hand's vector.
    """

    def __init__(self, config: CVAEConfig, size: int) -> None:
        super().__init__()
        self.config, self.size = config, size
        wide = config.widths[-1]
        self.reader = HandReader(
            *(config.input, size, config.vertices, config.widths, config.transform, config.norm, config.encoder[0])
        )
        self.object_encoder = PointNet(3, config.widths, config.transform, config.norm)
        self.encoder = perceptron((2 * wide, *config.encoder, 2 * config.latent))
        self.decoder = perceptron((config.latent + wide, *config.decoder, size))

    def encode_object(self, points: Tensor) -> Tensor:
        """What is told of objects (B, width); points (B, P, 3), m, their mean at the origin; the first are read."""
        return self.object_encoder(points[:, : self.config.points] / LENGTH).relu()

    def encode(self, vertices: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, latent) of hands, vertices (B, V, 3), m, on objects told (B, width)."""
        mean, log_variance = self.encoder(torch.cat([self.reader(vertices), told], dim=1)).chunk(2, dim=1)
        return mean, log_variance.clamp(-10.0, 10.0)

    def decode(self, latents: Tensor, told: Tensor) -> Tensor:
        """Vectors (B, D) of latents (B, latent) and objects told (B, width)."""
        return self.decoder(torch.cat([latents, told], dim=1))


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of diagonal normals (B, D) from the standard one: sum over D, mean over B."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=1).mean()
