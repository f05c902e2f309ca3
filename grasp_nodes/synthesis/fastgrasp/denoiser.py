"""The latent diffusion network: the noise in a latent, told the object and the time step (FastGrasp, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError
from grasp_nodes.learning.object_encoders import Norm, PointNet
from grasp_nodes.synthesis.fastgrasp.layers import LENGTH, TimeEmbedding
from grasp_nodes.synthesis.fastgrasp.unet import LatentUNet
from grasp_nodes.synthesis.samplers import Denoiser
from grasp_nodes.synthesis.schedules import Kind


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes, and what the diffusion is.

    latent: N_z. points: N_o, of the object. widths: of the object's PointNet; transform, norm: see `PointNet`.
    levels: widths of the U-Net. blocks: of each level. condition: size of what tells it object and time.
    noise_schedule, noise_steps: kind, and T. unconditioned: share of the training in which the object is not told;
    above 0 the sampler can be guided away from the hands of no object in particular. The paper has no such guidance.
    """

    latent: int = 768
    points: int = 3000
    widths: tuple[int, ...] = (64, 128, 1024)
    transform: bool = True
    norm: Norm = "batch"
    levels: tuple[int, ...] = (128, 256, 384, 512)
    blocks: int = 2
    condition: int = 512
    noise_schedule: Kind = "linear"
    noise_steps: int = 1000
    unconditioned: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.unconditioned < 1.0:
            raise InputError(f"unconditioned: expected 0 to below 1, got {self.unconditioned}")


PAPER_DENOISER = DenoiserConfig()
SMALL_DENOISER = DenoiserConfig(96, 256, (32, 64, 256), False, "layer", (48, 96, 144), 1, 192)


class LatentDenoiser(nn.Module):
    """The noise of standardised latents.

    latent_mean, latent_deviation: (N_z,), of the auto-encoder's latents; diffusion runs on
    ``(z - mean) / deviation``, whose spread is that of the noise.
    """

    latent_mean: Tensor
    latent_deviation: Tensor

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        self.object_encoder = PointNet(3, config.widths, config.transform, config.norm)
        self.object_layer = nn.Linear(config.widths[-1], config.condition)
        self.nothing = nn.Parameter(torch.zeros(config.condition))
        self.time = TimeEmbedding(config.condition)
        self.unet = LatentUNet(config.latent, config.levels, config.condition, config.blocks)
        self.register_buffer("latent_mean", torch.zeros(config.latent))
        self.register_buffer("latent_deviation", torch.ones(config.latent))

    def encode_object(self, points: Tensor) -> Tensor:
        """What is told of objects (B, condition); points (B, P, 3), m, their mean at the origin; the first are read."""
        return self.object_layer(self.object_encoder(points[:, : self.config.points] / LENGTH).relu())

    def forward(self, noisy: Tensor, time: Tensor, told: Tensor) -> Tensor:
        """Noise (B, N_z) in latents (B, N_z), of times (B,) int64 and objects (B, condition)."""
        return self.unet(noisy, self.time(time) + told)

    def standardise(self, latents: Tensor) -> Tensor:
        """Latents (B, N_z) of the auto-encoder as the diffusion has them."""
        return (latents - self.latent_mean) / self.latent_deviation

    def restore(self, latents: Tensor) -> Tensor:
        """The inverse of `standardise`."""
        return latents * self.latent_deviation + self.latent_mean

    def for_sampler(self, told: Tensor, guidance: float = 0.0) -> Denoiser:
        """The network as a sampler calls it, for the objects told (B, condition).

        Args:
            guidance: w of classifier-free guidance (Ho and Salimans, 2022): ``(1 + w) e(object) - w e(nothing)``.

        Raises:
            InputError: guidance of a network that was not trained without an object.
        """
        if not guidance:
            return lambda noisy, time: self(noisy, time, told)
        if not self.config.unconditioned:
            raise InputError(
                f"guidance {guidance}: this network never saw hands of no object; train it with --set unconditioned=0.1"
            )
        nothing = self.nothing.expand_as(told)

        def guided(noisy: Tensor, time: Tensor) -> Tensor:
            both = self(torch.cat([noisy, noisy]), torch.cat([time, time]), torch.cat([told, nothing]))
            with_object, without = both.chunk(2)
            return (1.0 + guidance) * with_object - guidance * without

        return guided
