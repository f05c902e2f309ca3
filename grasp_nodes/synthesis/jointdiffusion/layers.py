"""What JointDiffusion's networks are made of: residual blocks in 3D, attention, residual layers on vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_GROUPS = 16


def group_norm(channels: int) -> nn.GroupNorm:
    """Of 16 groups, or of fewer where the channels cannot be divided so."""
    return nn.GroupNorm(math.gcd(_GROUPS, channels), channels)


class ResidualBlock3d(nn.Module):
    """Two convolutions with a way around them; a vector (such as the time's code) scales and shifts in between."""

    def __init__(self, inputs: int, outputs: int, told: int = 0) -> None:
        super().__init__()
        self.first = nn.Sequential(group_norm(inputs), nn.SiLU(), nn.Conv3d(inputs, outputs, 3, padding=1))
        self.told = nn.Linear(told, 2 * outputs) if told else None
        self.norm = group_norm(outputs)
        self.second = nn.Conv3d(outputs, outputs, 3, padding=1)
        self.around = nn.Conv3d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, told: Tensor | None = None) -> Tensor:
        """(B, outputs, X, Y, Z) of (B, inputs, X, Y, Z) and (B, told)."""
        inner = self.norm(self.first(features))
        if self.told is not None and told is not None:
            scale, shift = self.told(nn.functional.silu(told))[..., None, None, None].chunk(2, dim=1)
            inner = inner * (1 + scale) + shift
        return self.around(features) + self.second(nn.functional.silu(inner))


class Attention(nn.Module):
    """Tokens ask tokens: each other, or those of a context.

    Args:
        size: of a token. context: of a token that is asked; None = the tokens ask each other. head: of a head.
    """

    def __init__(self, size: int, context: int | None = None, head: int = 32) -> None:
        super().__init__()
        self.heads = max(1, size // head)
        self.norm = nn.LayerNorm(size)
        self.query = nn.Linear(size, size, bias=False)
        self.key_value = nn.Linear(context or size, 2 * size, bias=False)
        self.out = nn.Linear(size, size)
        self.on_itself = context is None
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, N, size), the tokens with what they were told, of (B, N, size) and (B, M, context)."""
        normed = self.norm(tokens)
        asked = normed if self.on_itself or context is None else context
        key, value = self.key_value(asked).chunk(2, dim=-1)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query(normed), key, value)
        )
        found = _attended(query, key, value)
        return tokens + self.out(found.transpose(1, 2).flatten(2))


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention; bfloat16 in float32 on a CPU, where its derivative takes ten times as long otherwise (torch 2.13)."""
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return nn.functional.scaled_dot_product_attention(query, key, value)
    with torch.autocast("cpu", enabled=False):
        found = nn.functional.scaled_dot_product_attention(query.float(), key.float(), value.float())
    return found.to(query.dtype)


class GridAttention(nn.Module):
    """`Attention` of the cells of a grid, to each other and to a context."""

    def __init__(self, channels: int, context: int, head: int) -> None:
        super().__init__()
        self.own = Attention(channels, None, head)
        self.across = Attention(channels, context, head)

    def forward(self, features: Tensor, context: Tensor) -> Tensor:
        """(B, C, X, Y, Z) of the same and (B, M, context)."""
        tokens = self.across(self.own(features.flatten(2).mT), context)
        return tokens.mT.unflatten(2, features.shape[2:])


class TokenLayer(nn.Module):
    """A transformer's layer: tokens ask each other, then the context, then think; the time scales and shifts them."""

    def __init__(self, size: int, context: int, told: int, head: int) -> None:
        super().__init__()
        self.own, self.across = Attention(size, None, head), Attention(size, context, head)
        self.told = nn.Linear(told, 2 * size)
        self.norm = nn.LayerNorm(size)
        self.layers = nn.Sequential(nn.Linear(size, 2 * size), nn.SiLU(), nn.Linear(2 * size, size))

    def forward(self, tokens: Tensor, context: Tensor, told: Tensor) -> Tensor:
        """(B, N, size) of tokens, context (B, M, .) and the time's code (B, told)."""
        tokens = self.across(self.own(tokens), context)
        scale, shift = self.told(nn.functional.silu(told))[:, None].chunk(2, dim=-1)
        return tokens + self.layers(self.norm(tokens) * (1 + scale) + shift)


class ResidualLayers(nn.Module):
    """Two linear layers with a way around them; a vector scales and shifts in between."""

    def __init__(self, width: int, told: int = 0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.told = nn.Linear(told, 2 * width) if told else None

    def forward(self, features: Tensor, told: Tensor | None = None) -> Tensor:
        """(B, width) of (B, width) and (B, told)."""
        inner = self.first(nn.functional.silu(self.norm(features)))
        if self.told is not None and told is not None:
            scale, shift = self.told(nn.functional.silu(told)).chunk(2, dim=-1)
            inner = inner * (1 + scale) + shift
        return features + self.second(nn.functional.silu(inner))
