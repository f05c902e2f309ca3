"""The velocity network of `fastgrasp-flow`: a residual MLP on a hand's vector, told of the object and of the time.

It is told the object twice: as signed distances at fixed places of the object's frame, encoded once per object, and as
what the hand would feel where it is thought to end. That thought is its own previous prediction (self-conditioning:
Chen et al., "Analog Bits", ICLR 2023), so that each step corrects the one before by what it touches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.kinds import KINDS
from grasp_nodes.hand.parameters import NUM_BETAS
from grasp_nodes.learning.object_encoders import BasisPoints
from grasp_nodes.synthesis.flow.fields import DistanceField
from grasp_nodes.synthesis.flow.hand_points import HandPoints, PointCounts

ANY_KIND = len(KINDS)
"""Stands for no wish in particular."""
_WAVES = 16
_BASIS_UNIT = 0.04
"""m, that is 1 to the encoder."""
_BASIS_RANGE = (-1.0, 3.0)


@dataclass(frozen=True)
class FlowConfig:
    """Sizes of the network.

    width, blocks: of the residual MLP. condition: numbers of what it is told at every block.
    basis, basis_radius: number of the places at which an object's distance is encoded, and the radius of their ball, m.
    encoder: widths of the object's encoder. points: that are felt with; `local`: whether anything is felt at all.
    """

    width: int = 320
    blocks: int = 6
    condition: int = 256
    basis: int = 640
    basis_radius: float = 0.14
    encoder: tuple[int, ...] = (384, 256)
    points: PointCounts = field(default_factory=PointCounts)
    local: bool = True

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "condition", "basis"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected 1 or more, got {getattr(self, name)}")


SMALL_FLOW = FlowConfig()
LARGE_FLOW = FlowConfig(width=768, blocks=10, condition=512, basis=2048, encoder=(1024, 768))


@dataclass(frozen=True)
class Wishes:
    """What is known of B hands beforehand. kind: (B,) int64 into `KINDS`, or `ANY_KIND`. betas: (B, 10)."""

    kind: Tensor
    betas: Tensor

    def rows(self, chosen: Tensor | slice) -> Wishes:
        """Of some of the hands."""
        return Wishes(self.kind[chosen], self.betas[chosen])


class FlowNetwork(nn.Module):
    """Velocity of a hand's vector on its way from noise to a grasp.

    Args:
        coder: of the vectors. config: sizes.
    """

    _basis: Tensor
    _waves: Tensor

    def __init__(self, coder: HandCoder, config: FlowConfig) -> None:
        super().__init__()
        self.coder, self.config = coder, config
        self.hand_points = HandPoints(coder, config.points)
        basis = torch.from_numpy(BasisPoints(config.basis, 1.0).points)
        # Denser in the middle: from a volume's cube root to a square root.
        basis = config.basis_radius * basis * basis.norm(dim=1, keepdim=True).sqrt()
        self.register_buffer("_basis", basis, persistent=False)
        self.register_buffer("_waves", math.pi * torch.arange(1, _WAVES + 1), persistent=False)
        widths = (config.basis, *config.encoder, config.condition)
        layers: list[nn.Module] = []
        for k in range(len(widths) - 1):
            layers += [nn.Linear(widths[k], widths[k + 1]), nn.GELU()]
        self.encoder = nn.Sequential(*layers[:-1])
        self.time = nn.Sequential(
            nn.Linear(2 * _WAVES + 1, config.condition), nn.GELU(), nn.Linear(config.condition, config.condition)
        )
        self.kind = nn.Embedding(ANY_KIND + 1, config.condition)
        self.betas = nn.Linear(NUM_BETAS, config.condition)
        self.mixed = nn.Sequential(nn.SiLU(), nn.Linear(config.condition, config.condition), nn.SiLU())
        felt = 4 * config.points.total if config.local else 0
        self.entrance = nn.Linear(2 * coder.size + 1 + felt, config.width)
        self.blocks = nn.ModuleList(_Block(config.width, config.condition) for _ in range(config.blocks))
        last = nn.Linear(config.width, coder.size)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.exit = nn.Sequential(nn.LayerNorm(config.width), last)

    def encode(self, field: DistanceField, count: int) -> Tensor:
        """Codes (count, condition) of the objects of a field of `count` hands, in their frames."""
        with torch.no_grad():
            distance = field(self._basis.expand(count, -1, -1))
        return self.encoder((distance / _BASIS_UNIT).clamp(*_BASIS_RANGE))

    def told(self, time: Tensor, code: Tensor, wishes: Wishes) -> Tensor:
        """What the blocks are told: (B, blocks, 3, width). It depends on no hand, so that a sampler can ask once.

        Args:
            time: (B,), 0..1. code: (B, condition), of `encode`. wishes: of B hands.
        """
        waves = time[:, None] * self._waves
        mixed = self.time(torch.cat([time[:, None], waves.sin(), waves.cos()], dim=1))
        mixed = self.mixed(mixed + code + self.kind(wishes.kind) + self.betas(wishes.betas))
        return torch.stack([block.factors(mixed) for block in self._mlp()], dim=1)

    def forward(
        self, noisy: Tensor, told: Tensor, betas: Tensor, field: DistanceField, thought: Tensor | None
    ) -> Tensor:
        """Velocities (B, D).

        Args:
            noisy: (B, D). told: (B, blocks, 3, width), of their times. betas: (B, 10), of the hands.
            field: distance to the objects.
            thought: (B, D), the clean vectors as they were predicted before; NaN in rows without, None = in none.
        """
        known = noisy.new_zeros(len(noisy), 1)
        if thought is None:
            at = noisy
        else:
            known = torch.isfinite(thought[:, :1]).to(noisy.dtype)
            at = torch.where(known > 0, thought, noisy)
        seen = [noisy, at, known]
        if self.config.local:
            with _full_precision(noisy.device):
                seen.append(self.hand_points.felt(at.to(self.coder.model.dtype), betas, field))
        hidden = self.entrance(torch.cat(seen, dim=1))
        for block, own in zip(self._mlp(), told.unbind(1), strict=True):
            hidden = block(hidden, own)
        with _full_precision(noisy.device):  # half precision would move fingertips by a millimetre
            return self.exit(hidden.to(noisy.dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FlowNetwork:
        """As `nn.Module`: the coder, which is none, goes with the rest to another device."""
        super()._apply(fn, recurse)
        self.coder = self.hand_points.coder = self.coder.to(self._basis.device)
        return self

    def _mlp(self) -> Iterator[_Block]:
        for block in self.blocks:
            assert isinstance(block, _Block)
            yield block


class _Block(nn.Module):
    """Residual MLP whose scale, shift and gate follow from what it is told (AdaLN: Peebles and Xie, ICCV 2023)."""

    _ones: Tensor

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.told = nn.Linear(condition, 3 * width)
        self.body = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        nn.init.zeros_(self.told.weight)
        nn.init.zeros_(self.told.bias)
        self.register_buffer("_ones", torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(width), persistent=False)

    def factors(self, mixed: Tensor) -> Tensor:
        """(B, 3, width): scale, shift and gate that follow from (B, condition); scale and gate are 1 at first."""
        told = nn.functional.linear(mixed, self.told.weight, self.told.bias + self._ones)
        return told.unflatten(1, (3, -1))

    def forward(self, hidden: Tensor, told: Tensor) -> Tensor:
        """Hidden vectors (B, width), told (B, 3, width) by `factors`."""
        scale, shift, gate = told.unbind(1)
        normed = nn.functional.layer_norm(hidden, hidden.shape[1:])
        # As few operations as can be: for one hand, calling them takes longer than what they do.
        return torch.addcmul(hidden, gate, self.body(torch.addcmul(shift, normed, scale)))


def _full_precision(device: torch.device) -> AbstractContextManager[object]:
    """In which nothing is computed in half precision; free of charge where nothing would be."""
    on = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else nullcontext()


def kind_numbers(names: tuple[str, ...]) -> np.ndarray:
    """Kinds by name as numbers.

    Raises:
        InputError: no such kind.
    """
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise InputError(f"kinds of grasps: expected some of {', '.join(KINDS)}, got {', '.join(unknown)}")
    return np.array([KINDS.index(name) for name in names], np.int64)
