"""PiCR: from an image and an object's pose, where the hand touches the object, after MIHO (section 5.2 and D.1).

Features of the image are read off where the object's points project, joined with what is known of the points, and a
PointNet tells three things of each: whether it is touched (VC), by which of the hand's 17 regions (CR), and how firm
the springs to that region's anchors are (AE). Each head is told what the one before it said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from grasp_nodes.contact.springs import CONTACT_PROBABILITY
from grasp_nodes.errors import InputError
from grasp_nodes.hand.anchors import MOST_ANCHORS, NUM_REGIONS
from grasp_nodes.learning.object_encoders import PointNet
from grasp_nodes.miho.honet import PIXEL_MEAN, PIXEL_SCALE
from grasp_nodes.miho.hourglass import HourglassConfig, StackedHourglass, sample_features

DEPTH_UNIT = 0.1
"""m: points are told relative to the hand's root in this unit."""
RARE_CONTACT = -2.0
"""Where the first head starts: one point in eight is touched."""


@dataclass(frozen=True)
class PiCRConfig:
    """Sizes.

    hourglass: see there. size: px, of the square crops. points: layers of the PointNet, the last is pooled over all
    points. heads: layers inside each head. told: what is told of a point besides the image: ``depth`` relative to the
    hand's root, as in the paper, or the whole position relative to it and the normal.
    """

    hourglass: HourglassConfig = field(default_factory=HourglassConfig)
    size: int = 256
    points: tuple[int, ...] = (128, 128, 128, 512, 2048)
    heads: tuple[int, ...] = (256, 256, 128)
    told: Literal["depth", "position_normal"] = "depth"

    @property
    def num_told(self) -> int:
        """Numbers that are told of a point."""
        return 1 if self.told == "depth" else 6


PAPER_PICR = PiCRConfig()
SMALL_PICR = PiCRConfig(
    HourglassConfig(stacks=2, depth=3, width=64, features=48),
    size=128,
    points=(48, 64, 96, 128),
    heads=(64, 32),
    told="position_normal",
)


@dataclass(frozen=True)
class PiCROutput:
    """Of B objects, N points each, as logits.

    contact: (B, N). region: (B, N, 17). elasticity: (B, N, 4), columns as in `HandAnchors.anchors_of_region` of the
    point's region. in_image: (B, N) bool, whether the point projects into the crop.
    """

    contact: Tensor
    region: Tensor
    elasticity: Tensor
    in_image: Tensor


class PiCR(nn.Module):
    """The network; its point encoder and heads serve every stack."""

    def __init__(self, config: PiCRConfig) -> None:
        super().__init__()
        self.config = config
        self.threshold = CONTACT_PROBABILITY
        """Of the probability of contact from which a point has springs; files of weights bring their own."""
        self.image = StackedHourglass(config.hourglass)
        self.encoder = PointNet(config.hourglass.features + config.num_told, config.points, transform=False)
        known = self.encoder.num_features
        self.contact = _head(known, config.heads, 1)
        self.region = _head(known + 1, config.heads, NUM_REGIONS)
        self.elasticity = _head(known + NUM_REGIONS, config.heads, MOST_ANCHORS)
        last = self.contact[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias, RARE_CONTACT)

    def forward(self, images: Tensor, points: Tensor, normals: Tensor, root: Tensor, focal: Tensor) -> list[PiCROutput]:
        """One answer for each stack; the last is the one to use.

        Args:
            images: (B, 3, S, S) in [0, 1], of right hands. points, normals: (B, N, 3), m and unit, of the object's
                surface in the crop's camera. root: (B, 3), m, of the hand, see `ROOT_JOINT`. focal: (B,), px.

        Raises:
            InputError: images of another size than the network's.
        """
        size = self.config.size
        if images.shape[1:] != (3, size, size):
            raise InputError(f"PiCR: expected images (B, 3, {size}, {size}), got {tuple(images.shape)}")
        pixels = points[..., :2] / points[..., 2:].clamp(min=1e-3) * focal[:, None, None] + 0.5 * (size - 1)
        in_image = ((pixels >= 0) & (pixels <= size - 1)).all(dim=-1) & (points[..., 2] > 0)
        relative = (points - root[:, None]) / DEPTH_UNIT
        told = relative[..., 2:] if self.config.told == "depth" else torch.cat([relative, normals], dim=-1)
        seen = ((images - PIXEL_MEAN) / PIXEL_SCALE).contiguous(memory_format=torch.channels_last)
        return [self._heads(features.float(), pixels, told, in_image) for features in self.image(seen)]

    def _heads(self, features: Tensor, pixels: Tensor, told: Tensor, in_image: Tensor) -> PiCROutput:
        sampled = sample_features(features, pixels, self.config.size)
        known = self.encoder.features(torch.cat([sampled, told.to(sampled.dtype)], dim=2))
        contact = self.contact(known)
        region = self.region(torch.cat([known, contact.sigmoid().to(known.dtype)], dim=1))
        elasticity = self.elasticity(torch.cat([known, region.softmax(dim=1).to(known.dtype)], dim=1))
        shape = told.shape[:2]
        return PiCROutput(
            contact[:, 0].float().view(shape),
            region.float().view(*shape, -1),
            elasticity.float().view(*shape, -1),
            in_image,
        )


def _head(inputs: int, layers: tuple[int, ...], outputs: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for width in layers:
        parts += [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*parts, nn.Linear(inputs, outputs))
