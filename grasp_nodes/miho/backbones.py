"""Residual networks (He et al., CVPR 2016) that turn an image into features; ResNet-18 and smaller ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError


@dataclass(frozen=True)
class BackboneConfig:
    """Sizes.

    stem: channels of the first convolution. widths, blocks: of each stage; every stage but the first halves the
    image. pool: ``mean`` over the image, as ResNet; ``grid`` keeps where a feature is, squeezed to `squeezed` channels.
    """

    stem: int = 64
    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    pool: Literal["mean", "grid"] = "mean"
    squeezed: int = 64

    def __post_init__(self) -> None:
        if not self.widths or len(self.widths) != len(self.blocks) or min(*self.widths, *self.blocks, self.stem) < 1:
            raise InputError(f"backbone: expected one width and one number of blocks for each stage, got {self}")


RESNET_18 = BackboneConfig()


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        inner = torch.relu(self.norm1(self.conv1(features)))
        return torch.relu(self.norm2(self.conv2(inner)) + self.shortcut(features))


class Backbone(nn.Module):
    """Image to one feature vector.

    Args:
        config: see there. size: px, of the square images; ``grid`` needs it.
    """

    def __init__(self, config: BackboneConfig, size: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, config.stem, 7, 2, 3, bias=False),
            nn.BatchNorm2d(config.stem),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        stages, inputs = [], config.stem
        for number, (width, count) in enumerate(zip(config.widths, config.blocks, strict=True)):
            first = ResidualBlock(inputs, width, 1 if number == 0 else 2)
            stages.append(nn.Sequential(first, *(ResidualBlock(width, width) for _ in range(count - 1))))
            inputs = width
        self.stages = nn.Sequential(*stages)
        if config.pool == "mean":
            self.pool: nn.Module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.num_features = inputs
        else:
            squeeze = nn.Conv2d(inputs, config.squeezed, 1, bias=False)
            self.pool = nn.Sequential(squeeze, nn.BatchNorm2d(config.squeezed), nn.ReLU(), nn.Flatten())
            with torch.no_grad():
                shape = self.stages(self.stem(torch.zeros(2, 3, size, size))).shape
            self.num_features = config.squeezed * shape[2] * shape[3]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, num_features)."""
        return self.pool(self.stages(self.stem(images)))
