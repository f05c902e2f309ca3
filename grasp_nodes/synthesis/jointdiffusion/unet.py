"""The 3D U-Net on the grid of basis points, and the encoder of what it is conditioned on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from grasp_nodes.synthesis.jointdiffusion.config import JointConfig
from grasp_nodes.synthesis.jointdiffusion.layers import GridAttention, ResidualBlock3d, group_norm

_BLOCK = 2
"""Basis points of a block along each side, where blocks have linear maps of their own."""


class OwnBlocks(nn.Module):
    """A linear map of its own for each block of 2^3 cells, to features (`down`) or from features."""

    def __init__(self, per_side: int, inputs: int, outputs: int, down: bool) -> None:
        super().__init__()
        self.down, self.blocks, self.cells = down, per_side // _BLOCK, _BLOCK**3
        wide = (inputs * self.cells, outputs) if down else (inputs, outputs * self.cells)
        self.weight = nn.Parameter(torch.randn(self.blocks**3, *wide) * wide[0] ** -0.5 * (1.0 if down else 0.1))
        self.bias = nn.Parameter(torch.zeros(self.blocks**3, 1, wide[1]))

    def forward(self, features: Tensor) -> Tensor:
        """(B, outputs, n / 2, ...) of (B, inputs, n, ...), or the other way."""
        batch, n = len(features), self.blocks
        if self.down:
            split = features.view(batch, -1, n, _BLOCK, n, _BLOCK, n, _BLOCK)
            rows = split.permute(2, 4, 6, 0, 1, 3, 5, 7).reshape(n**3, batch, -1)
            found = torch.baddbmm(self.bias, rows, self.weight)
            return found.permute(1, 2, 0).reshape(batch, -1, n, n, n)
        rows = features.flatten(2).permute(2, 0, 1)
        found = torch.baddbmm(self.bias, rows, self.weight).view(n, n, n, batch, -1, _BLOCK, _BLOCK, _BLOCK)
        return found.permute(3, 4, 0, 5, 1, 6, 2, 7).reshape(batch, -1, *[n * _BLOCK] * 3)


class UNet3d(nn.Module):
    """Numbers of basis points, of noisy numbers, of others, of a time and of a context.

    Args:
        config: sizes. per_side: of the grid. inputs: channels.
    """

    def __init__(self, config: JointConfig, per_side: int, inputs: int) -> None:
        super().__init__()
        channels, told, context = config.channels, config.time, config.context
        own = config.stem == "own"
        self.stem: nn.Module = (
            OwnBlocks(per_side, inputs, channels[0], True) if own else nn.Conv3d(inputs, channels[0], 3, padding=1)
        )
        self.head: nn.Module = (
            OwnBlocks(per_side, channels[0], 1, False)
            if own
            else nn.Sequential(group_norm(channels[0]), nn.SiLU(), nn.Conv3d(channels[0], 1, 3, padding=1))
        )
        self.down, self.narrow, self.down_asks = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.up, self.widen, self.up_asks = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()

        def asking(level: int) -> nn.Module | None:
            return GridAttention(channels[level], context, config.head) if config.attention[level] else None

        for level, size in enumerate(channels):
            before = channels[max(level - 1, 0)]
            self.narrow.append(nn.Conv3d(before, size, 3, stride=2, padding=1) if level else nn.Identity())
            self.down.append(ResidualBlock3d(size, size, told))
            self.down_asks.append(asking(level) or nn.Identity())
        self.tunnel = nn.ModuleList([ResidualBlock3d(channels[-1], channels[-1], told) for _ in range(2)])
        self.tunnel_asks = GridAttention(channels[-1], context, config.head)
        for level in reversed(range(len(channels) - 1)):
            self.widen.append(nn.Conv3d(channels[level + 1], channels[level], 1))
            self.up.append(ResidualBlock3d(2 * channels[level], channels[level], told))
            self.up_asks.append(asking(level) or nn.Identity())

    def forward(self, numbers: Tensor, told: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Of numbers (B, inputs, n, n, n), the time's code (B, time) and a context (B, M, context).

        Returns:
            (B, n^3) and the bottleneck's features (B, C, m, m, m).
        """
        features, kept = self.stem(numbers), []
        for narrow, block, asks in zip(self.narrow, self.down, self.down_asks, strict=True):
            features = _asked(asks, block(narrow(features), told), context)
            kept.append(features)
        features = self.tunnel_asks(self.tunnel[0](features, told), context)
        bottleneck = features = self.tunnel[1](features, told)
        kept.pop()
        for widen, block, asks in zip(self.widen, self.up, self.up_asks, strict=True):
            beside = kept.pop()
            wide = nn.functional.interpolate(widen(features), size=beside.shape[2:], mode="nearest")
            features = _asked(asks, block(torch.cat([wide, beside], dim=1), told), context)
        return self.head(features).flatten(1), bottleneck


class ContextEncoder(nn.Module):
    """A 3D residual network: channels of numbers of basis points to tokens of a context.

    Args:
        config: sizes. per_side: of the grid. inputs: channels.
    """

    def __init__(self, config: JointConfig, per_side: int, inputs: int) -> None:
        super().__init__()
        sizes: Sequence[int] = config.encoder
        own = config.stem == "own"
        first: nn.Module = (
            OwnBlocks(per_side, inputs, sizes[0], True) if own else nn.Conv3d(inputs, sizes[0], 3, stride=2, padding=1)
        )
        layers: list[nn.Module] = [first, ResidualBlock3d(sizes[0], sizes[0])]
        for before, size in pairwise(sizes):
            layers += [nn.Conv3d(before, size, 3, stride=2, padding=1), ResidualBlock3d(size, size)]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(sizes[-1], config.context)
        cells = -((-per_side // 2 ** len(sizes)) ** 3)
        self.place = nn.Parameter(0.02 * torch.randn(cells, config.context))

    def forward(self, numbers: Tensor) -> Tensor:
        """Tokens (B, M, context) of numbers (B, inputs, n, n, n)."""
        return self.out(self.layers(numbers).flatten(2).mT) + self.place


def _asked(asks: nn.Module, features: Tensor, context: Tensor) -> Tensor:
    return asks(features, context) if isinstance(asks, GridAttention) else features
