"""Tensors in a byte a number: blocks of 64 numbers, each block with a scale of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK = 64
_MOST = 127


def to_bytes(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor rounded to 255 equal steps of each block: wrong by at most 1/254 of the block's largest number.

    Args:
        tensor: finite floating-point numbers of any shape; at least one.

    Returns:
        Steps (N, 64) int8, the last block filled up with zeros, and the size of a step (N, 1) float32.
    """
    flat = tensor.detach().float().flatten()
    blocks = torch.nn.functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(dim=1, keepdim=True) / _MOST
    # Of a block of zeros, or of numbers so small that their steps vanish.
    divisor = torch.where(scales > 0, scales, torch.ones_like(scales))
    return (blocks / divisor).round().clamp(-_MOST, _MOST).to(torch.int8), scales


def from_bytes(steps: Tensor, scales: Tensor, shape: Sequence[int]) -> Tensor:
    """The float32 tensor of a shape that `to_bytes` rounded.

    Raises:
        ValueError: that is no shape, or the parts are no blocks, or not as many as it has.
    """
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"no shape: {shape!r}")
    count = math.prod(shape)
    blocks = -(-count // BLOCK)
    expected = [(torch.int8, (blocks, BLOCK)), (torch.float32, (blocks, 1))]
    found = [(part.dtype, tuple(part.shape)) for part in (steps, scales)]
    if found != expected:
        raise ValueError(f"{blocks} blocks of bytes expected for shape {tuple(shape)}, got {found}")
    return (steps.float() * scales).flatten()[:count].view(*shape)
