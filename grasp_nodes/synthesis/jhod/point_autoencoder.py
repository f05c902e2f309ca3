"""The object's point latents: a variational auto-encoder whose latent is one of 3 + 1 numbers for each point.

As LION's (Vahdat et al., NeurIPS 2022) without its global latent (JHOD, Eq. 6), written anew. A latent's first three
numbers are near the point itself; the fourth is free. Encoder and decoder look at each point alone and, through a grid
of voxels, at its surroundings (point-voxel layers: Liu et al., NeurIPS 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError

LENGTH = 0.05
"""m, that is 1 to the networks."""
LATENT = 4
"""Numbers of a point: place and one more."""


@dataclass(frozen=True)
class PointAutoEncoderConfig:
    """Sizes.

    points: of an object, a power of 2. width: features of a point. blocks: point-voxel layers of each half. grid:
    voxels along an edge. voxel_width: features of a voxel. spread: deviation of the posterior that training begins
    with, in units of 5 cm. divergence: weight of the Kullback-Leibler term, of each number.
    """

    points: int = 2048
    width: int = 32
    blocks: int = 1
    grid: int = 12
    voxel_width: int = 16
    spread: float = 0.03
    divergence: float = 1e-4

    def __post_init__(self) -> None:
        if self.points < 64 or self.points & (self.points - 1):
            raise InputError(f"points: expected a power of 2 of at least 64, got {self.points}")
        for name in ("width", "blocks", "voxel_width"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if self.grid < 2 or not self.spread > 0 or self.divergence < 0:
            raise InputError(f"auto-encoder: expected a grid of 2 and more and a spread above 0, got {self}")


SMALL_POINTS = PointAutoEncoderConfig()
PAPER_POINTS = PointAutoEncoderConfig(width=64, blocks=3, grid=24, voxel_width=64)


class PointAutoEncoder(nn.Module):
    """Points (B, N, 3), m, to latents (B, N, 4) and back; the order of the points is kept."""

    def __init__(self, config: PointAutoEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _Half(3, 2 * LATENT, config)
        self.decoder = _Half(LATENT, 3, config)
        self._begin = 2.0 * torch.log(torch.tensor(config.spread))

    def encode(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, N, 4) of the latents of points (B, N, 3), m."""
        places = points / LENGTH
        change, log_variance = self.encoder(places, places).split(LATENT, dim=2)
        mean = change + torch.nn.functional.pad(places, (0, LATENT - 3))
        return mean, (self._begin.to(log_variance) + log_variance).clamp(-14.0, 2.0)

    def decode(self, latents: Tensor) -> Tensor:
        """Points (B, N, 3), m, of latents (B, N, 4)."""
        places = latents[..., :3]
        return LENGTH * (places + self.decoder(latents, places))


class _Half(nn.Module):
    """Features of points to outputs, which are zero at the beginning."""

    def __init__(self, inputs: int, outputs: int, config: PointAutoEncoderConfig) -> None:
        super().__init__()
        self.entrance = nn.Sequential(nn.Linear(inputs, config.width), nn.SiLU(), nn.Linear(config.width, config.width))
        self.layers = nn.ModuleList(_PointVoxelLayer(config) for _ in range(config.blocks))
        self.exit = nn.Linear(config.width, outputs)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)

    def forward(self, features: Tensor, places: Tensor) -> Tensor:
        """(B, N, outputs) of features (B, N, inputs) of points at places (B, N, 3)."""
        hidden = self.entrance(features)
        for layer in self.layers:
            hidden = layer(hidden, places)
        return self.exit(hidden.relu())


class _PointVoxelLayer(nn.Module):
    """Adds to each point what its own features say, and what the voxels about it say."""

    def __init__(self, config: PointAutoEncoderConfig) -> None:
        super().__init__()
        self.grid, inner = config.grid, config.voxel_width
        self.norm = nn.LayerNorm(config.width)
        self.own = nn.Sequential(nn.Linear(config.width, config.width), nn.SiLU())
        # Beside its features a voxel is told where in it its points lie on average, and that it has some.
        self.into = nn.Linear(config.width + 3, inner)
        self.around = nn.Sequential(
            nn.Conv3d(inner + 1, inner, 3, padding=1), nn.SiLU(), nn.Conv3d(inner, inner, 3, padding=1), nn.SiLU()
        )
        self.back = nn.Linear(inner + config.width, config.width)

    def forward(self, hidden: Tensor, places: Tensor) -> Tensor:
        """(B, N, width) of the same, of points at places (B, N, 3)."""
        batch, count, _ = hidden.shape
        normed = self.norm(hidden)
        middle = places.mean(dim=1, keepdim=True)
        reach = (places - middle).abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-6)
        inside = (0.5 * self.grid) * ((places - middle) / reach + 1.0)  # 0..grid
        cell = inside.detach().floor().clamp(0, self.grid - 1).long()
        number = (cell[..., 0] * self.grid + cell[..., 1]) * self.grid + cell[..., 2]
        offset = inside - cell - 0.5
        told = self.into(torch.cat([normed, offset], dim=2))
        told = torch.cat([told, torch.ones_like(told[..., :1])], dim=2)
        total = told.new_zeros(batch, self.grid**3, told.shape[2])
        total = total.scatter_add(1, number[..., None].expand_as(told), told)
        has = total[..., -1:]
        mean = torch.cat([total[..., :-1] / has.clamp(min=1.0), has.clamp(max=1.0)], dim=2)
        cells = mean.mT.unflatten(2, (self.grid, self.grid, self.grid))
        around = self.around(cells)
        # The sampler's x runs along the last axis of the grid.
        at = (inside / (0.5 * self.grid) - 1.0).flip(-1)[:, :, None, None]
        felt = torch.nn.functional.grid_sample(around, at, padding_mode="border", align_corners=False)
        felt = felt[..., 0, 0].mT
        return hidden + self.back(torch.cat([self.own(normed), felt], dim=2)).view(batch, count, -1)
