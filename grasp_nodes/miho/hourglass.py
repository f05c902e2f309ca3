"""Stacked hourglasses (Newell et al., ECCV 2016): features of every fourth pixel that know all of the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from grasp_nodes.errors import InputError


@dataclass(frozen=True)
class HourglassConfig:
    """Sizes.

    stacks: hourglasses in a row. depth: how often one halves its image. width: channels inside. features: channels
    that a stack gives out.
    """

    stacks: int = 2
    depth: int = 4
    width: int = 256
    features: int = 64

    def __post_init__(self) -> None:
        if min(self.stacks, self.depth, self.features) < 1 or self.width < 4:
            raise InputError(f"hourglass: expected at least one stack, depth and feature and a width of 4, got {self}")


class Bottleneck(nn.Module):
    """Pre-activated residual block of 1 x 1, 3 x 3 and 1 x 1 convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.inner = nn.Sequential(
            *(nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, half, 1, bias=False)),
            *(nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, half, 3, 1, 1, bias=False)),
            *(nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, outputs, 1)),
        )
        self.shortcut: nn.Module = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        return self.inner(features) + self.shortcut(features)


class Hourglass(nn.Module):
    """Down and up again, with a shortcut at every size."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.beside = Bottleneck(width, width)
        self.down = Bottleneck(width, width)
        self.inside: nn.Module = Hourglass(depth - 1, width) if depth > 1 else Bottleneck(width, width)
        self.up = Bottleneck(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        small = self.up(self.inside(self.down(functional.max_pool2d(features, 2))))
        large = functional.interpolate(small, size=features.shape[2:], mode="nearest")
        return self.beside(features) + large


class StackedHourglass(nn.Module):
    """Image to one map of features for each stack, a quarter of its size."""

    def __init__(self, config: HourglassConfig) -> None:
        super().__init__()
        width = config.width
        self.stem = nn.Sequential(
            *(nn.Conv2d(3, width // 4, 7, 2, 3, bias=False), nn.BatchNorm2d(width // 4), nn.ReLU()),
            *(Bottleneck(width // 4, width // 2), nn.MaxPool2d(2), Bottleneck(width // 2, width)),
        )
        self.hourglasses = nn.ModuleList(Hourglass(config.depth, width) for _ in range(config.stacks))
        self.outputs = nn.ModuleList(
            nn.Sequential(
                *(Bottleneck(width, width), nn.BatchNorm2d(width), nn.ReLU()),
                nn.Conv2d(width, config.features, 1),
            )
            for _ in range(config.stacks)
        )
        self.back = nn.ModuleList(nn.Conv2d(config.features, width, 1) for _ in range(config.stacks - 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) to (B, features, S / 4, S / 4), one for each stack."""
        features = self.stem(images)
        found = []
        for number, hourglass in enumerate(self.hourglasses):
            seen = self.outputs[number](hourglass(features))
            found.append(seen)
            if number < len(self.back):
                features = features + self.back[number](seen)
        return found


def sample_features(features: Tensor, pixels: Tensor, size: int) -> Tensor:
    """Features at places of the image, bilinear; those beyond the border are the border's.

    Args:
        features: (B, C, H, W). pixels: (B, N, 2), px of the image, the centre of its first pixel is (0, 0).
        size: px, of the square image.

    Returns:
        (B, N, C).
    """
    places = (2 * pixels + 1) / size - 1
    places = torch.nan_to_num(places).clamp(-2.0, 2.0).to(features.dtype)
    found = functional.grid_sample(features, places[:, None], padding_mode="border", align_corners=False)
    return found[:, :, 0].transpose(1, 2)
