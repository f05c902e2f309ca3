"""The denoising U-Net: a latent vector folded to a short line of features, narrowed and widened again with skips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError
from grasp_nodes.synthesis.fastgrasp.layers import ConditionedBlock

CHANNELS = 3
"""Rows that a latent is folded to: 768 numbers become 3 x 256, as in the paper's network."""


class LatentUNet(nn.Module):
    """Predictions (B, size) of noisy latents (B, size) under a condition.

    Args:
        size: of a latent. widths: features at each level, the line half as long at each; blocks: in each level, on
            either side. condition: its size.

    Raises:
        InputError: a latent that cannot be folded and halved so often.
    """

    def __init__(self, size: int, widths: Sequence[int], condition: int, blocks: int = 2) -> None:
        super().__init__()
        if size % (CHANNELS << (len(widths) - 1)):
            raise InputError(
                f"latent: {size} numbers cannot be folded to {CHANNELS} rows and halved {len(widths) - 1} times; "
                f"expected a multiple of {CHANNELS << (len(widths) - 1)}"
            )
        self.enter = nn.Conv1d(CHANNELS, widths[0], 3, padding=1)
        self.down, self.narrow = nn.ModuleList(), nn.ModuleList()
        self.up, self.widen = nn.ModuleList(), nn.ModuleList()
        now, kept = widths[0], []
        for level, width in enumerate(widths):
            for _ in range(blocks):
                self.down.append(ConditionedBlock(now, width, condition))
                now = width
                kept.append(now)
            if level + 1 < len(widths):
                self.narrow.append(nn.Conv1d(now, now, 3, stride=2, padding=1))
        self.middle = ConditionedBlock(now, now, condition)
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(blocks):
                self.up.append(ConditionedBlock(now + kept.pop(), width, condition))
                now = width
            if level:
                self.widen.append(nn.Conv1d(now, now, 3, padding=1))
        self.leave = nn.Sequential(nn.GroupNorm(min(8, now), now), nn.SiLU(), nn.Conv1d(now, CHANNELS, 3, padding=1))
        self._blocks = blocks

    def forward(self, noisy: Tensor, condition: Tensor) -> Tensor:
        """(B, size) of noisy latents (B, size) and conditions (B, condition)."""
        features, skips = self.enter(noisy.unflatten(1, (CHANNELS, -1))), []
        for number, block in enumerate(self.down):
            features = block(features, condition)
            skips.append(features)
            level, last = divmod(number + 1, self._blocks)
            if not last and level <= len(self.narrow):
                features = self.narrow[level - 1](features)
        features = self.middle(features, condition)
        for number, block in enumerate(self.up):
            features = block(torch.cat([features, skips.pop()], dim=1), condition)
            level, last = divmod(number + 1, self._blocks)
            if not last and level <= len(self.widen):
                features = nn.functional.interpolate(features, scale_factor=2.0, mode="nearest")
                features = self.widen[level - 1](features)
        return self.leave(features).flatten(1)
