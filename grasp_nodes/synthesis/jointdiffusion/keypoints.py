"""CHOIR's keypoint baseline (section B.3): diffusion of 21 joints and 32 anchors instead of a field.

The backbone is four residual blocks of width 512, the context encoder a residual network of width 2048 on the object's
4096 points as one vector; cross-attention and time are as in JointDiffusion, contacts are not told.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError
from grasp_nodes.hand.anchors import NUM_ANCHORS
from grasp_nodes.hand.parameters import NUM_KEYPOINTS
from grasp_nodes.synthesis.fastgrasp.layers import LENGTH, TimeEmbedding
from grasp_nodes.synthesis.jointdiffusion.config import Facing
from grasp_nodes.synthesis.jointdiffusion.layers import Attention, ResidualLayers
from grasp_nodes.synthesis.schedules import Kind, Prediction

NUM_TOLD = NUM_KEYPOINTS + NUM_ANCHORS
KEYPOINT_SIZE = 3 * NUM_TOLD


@dataclass(frozen=True)
class KeypointConfig:
    """Sizes; the defaults are the paper's.

    points: of the object. width, blocks: of the backbone. encoder_width, encoder_blocks: of the context encoders.
    context: numbers of a token, into which the encoder's answer is cut. time: of the time's code.
    prediction, noise_schedule, noise_steps: see `NoiseSchedule`. facing, grid_distance: as in `JointConfig`.
    """

    points: int = 4096
    width: int = 512
    blocks: int = 4
    encoder_width: int = 2048
    encoder_blocks: int = 2
    context: int = 128
    head: int = 32
    time: int = 256
    prediction: Prediction = "noise"
    noise_schedule: Kind = "linear"
    noise_steps: int = 1000
    facing: Facing = "random"
    grid_distance: bool = True

    def __post_init__(self) -> None:
        if self.encoder_width % self.context or self.width % self.head:
            raise InputError("keypoint baseline: encoder_width must be a multiple of context, width one of head")


PAPER_KEYPOINT = KeypointConfig()
SMALL_KEYPOINT = KeypointConfig(points=1024, encoder_width=1024, prediction="clean", facing="aligned")


@dataclass(frozen=True)
class PointScene:
    """What B samples are conditioned on.

    points: (B, P, 3), m, about the object's centre. noisy: (B, 53, 3), m, of a noisy hand, whatever without one.
    has_hand: (B,) bool.
    """

    points: Tensor
    noisy: Tensor
    has_hand: Tensor

    def repeated(self, count: int) -> PointScene:
        """One scene so many times."""
        return PointScene(*(part.expand(count, *part.shape[1:]) for part in (self.points, self.noisy, self.has_hand)))


class KeypointNetwork(nn.Module):
    """The denoiser.

    Args:
        config: sizes.
    """

    def __init__(self, config: KeypointConfig) -> None:
        super().__init__()
        self.config = config
        wide = config.encoder_width

        def encoder(inputs: int) -> nn.ModuleList:
            return nn.ModuleList(
                [nn.Linear(inputs, wide), *(ResidualLayers(wide) for _ in range(config.encoder_blocks))]
            )

        self.object_encoder = encoder(3 * config.points)
        self.pair_encoder = encoder(3 * config.points + KEYPOINT_SIZE)
        self.time = TimeEmbedding(config.time)
        self.enter = nn.Linear(KEYPOINT_SIZE, config.width)
        self.layers = nn.ModuleList(ResidualLayers(config.width, config.time) for _ in range(config.blocks))
        self.asks = nn.ModuleList(Attention(config.width, config.context, config.head) for _ in range(config.blocks))
        self.leave = nn.Linear(config.width, KEYPOINT_SIZE)

    @property
    def size(self) -> int:
        """Numbers of a sample."""
        return KEYPOINT_SIZE

    def context(self, scene: PointScene) -> Tensor:
        """Tokens (B, M, context) of scenes."""
        points = (scene.points[:, : self.config.points] / LENGTH).flatten(1)
        with_hand, without = scene.has_hand.nonzero()[:, 0], (~scene.has_hand).nonzero()[:, 0]
        pair = torch.cat([points[with_hand], (scene.noisy[with_hand] / LENGTH).flatten(1)], dim=1)
        parts = []
        for layers, inputs in ((self.pair_encoder, pair), (self.object_encoder, points[without])):
            features = inputs
            for layer in layers:
                features = layer(features)
            parts.append(features)
        order = torch.cat([with_hand, without]).argsort()
        return torch.cat(parts)[order].unflatten(1, (-1, self.config.context))

    def forward(self, sample: Tensor, time: Tensor, context: Tensor) -> Tensor:
        """What the schedule's prediction names, (B, 159), of noisy samples (B, 159)."""
        told, features = self.time(time), self.enter(sample)
        for layer, asks in zip(self.layers, self.asks, strict=True):
            features = asks(layer(features, told)[:, None], context)[:, 0]
        return self.leave(features)


def keypoint_numbers(points: Tensor) -> Tensor:
    """Samples (B, 159) of keypoints and anchors (B, 53, 3), m, about the object's centre."""
    return points.flatten(1) / LENGTH


def keypoints_of_numbers(numbers: Tensor) -> Tensor:
    """The inverse of `keypoint_numbers`."""
    return numbers.unflatten(1, (NUM_TOLD, 3)) * LENGTH
