"""Hand and object as tokens: what the diffusion makes noise of and predicts (JHOD, section 3.3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError
from grasp_nodes.synthesis.jhod.point_autoencoder import LATENT


class HandTokens(nn.Module):
    """A hand's vector (B, D) to its token (B, size) and back.

    Args:
        vector: D. size: of the token; 0 = the token is the vector itself, and nothing is learned.
        hidden: width of the two-layer networks.
    """

    def __init__(self, vector: int, size: int, hidden: int) -> None:
        super().__init__()
        self.size = size or vector
        self.plain = size == 0
        self.into = nn.Identity() if self.plain else _two_layers(vector, hidden, size)
        self.back = nn.Identity() if self.plain else _two_layers(size, hidden, vector)

    def encode(self, vectors: Tensor) -> Tensor:
        """Tokens; of length sqrt(size), as noise has, unless they are the vectors themselves."""
        return vectors if self.plain else _normed(self.into(vectors))

    def decode(self, tokens: Tensor) -> Tensor:
        """Vectors (B, D)."""
        return self.back(tokens)


class ObjectTokens(nn.Module):
    """An object's ordered latents (B, N, 4), standardised, to one token of each channel (B, 4, size) and back.

    "4 x 512" of N x 4 numbers is possible in one way only: each channel's N values are a token. Every channel has
    networks of its own. Which value is of which point follows from `tree_order`.

    Args:
        points: N. size: of a token. hidden: width of the two-layer networks.
    """

    def __init__(self, points: int, size: int, hidden: int) -> None:
        super().__init__()
        if min(points, size, hidden) < 1:
            raise InputError(f"object tokens: expected sizes of 1 and more, got {points}, {size}, {hidden}")
        self.size = size
        self.into = nn.ModuleList(_two_layers(points, hidden, size) for _ in range(LATENT))
        self.back = nn.ModuleList(_two_layers(size, hidden, points) for _ in range(LATENT))

    def encode(self, latents: Tensor) -> Tensor:
        """Tokens (B, 4, size), each of length sqrt(size), as noise has."""
        channels = latents.unbind(dim=2)
        return _normed(torch.stack([one(values) for one, values in zip(self.into, channels, strict=True)], dim=1))

    def decode(self, tokens: Tensor) -> Tensor:
        """Latents (B, N, 4)."""
        channels = tokens.unbind(dim=1)
        return torch.stack([one(values) for one, values in zip(self.back, channels, strict=True)], dim=2)


def _two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


def _normed(tokens: Tensor) -> Tensor:
    """Mean 0, variance 1: a token cannot be made small to make its loss small, and has the size of the noise."""
    return torch.nn.functional.layer_norm(tokens, tokens.shape[-1:])
