"""Sizes of JointDiffusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from grasp_nodes.errors import InputError
from grasp_nodes.synthesis.schedules import Kind, Prediction

Stem = Literal["convolution", "own"]
Facing = Literal["random", "aligned"]


@dataclass(frozen=True)
class JointConfig:
    """Sizes and choices; the defaults are those of the paper's model.

    stem: what makes features of the 16^3 numbers and numbers of features: a ``convolution``, alike everywhere; or for
    each block of 2^3 basis points a linear map of its ``own``, which knows where it is and which anchors it measures.
    channels: of the U-Net's levels, each half as fine as the one before. attention: whether a level has it. head: of an
    attention head. tokens, token_layers: width and layers of a transformer on one token for each anchor, which reads
    that anchor's 128 distances wherever they are in the grid; 0 = none, as in the paper.
    encoder: channels of the context encoders' levels. context: numbers of a context token. time: of the time's code.
    contact_width, contact_blocks: of the branch that tells contacts. contact_weight: of its loss.
    prediction, noise_schedule, noise_steps: see `NoiseSchedule`.
    facing: ``random``: scenes are turned at random, as in the paper; ``aligned``: they are seen from the noisy hand,
    and without one along the object's principal axes.
    grid_distance: whether distances to objects are looked up in their signed distance grids (see `grid_distances`), in
    a fraction of the time of a search among the object's points.
    """

    stem: Stem = "convolution"
    channels: tuple[int, ...] = (64, 64, 128, 256)
    attention: tuple[bool, ...] = (False, False, True, True)
    head: int = 32
    tokens: int = 0
    token_layers: int = 0
    encoder: tuple[int, ...] = (64, 128, 256)
    context: int = 128
    time: int = 256
    contact_width: int = 1024
    contact_blocks: int = 4
    contact_weight: float = 0.5
    prediction: Prediction = "noise"
    noise_schedule: Kind = "linear"
    noise_steps: int = 1000
    facing: Facing = "random"
    grid_distance: bool = False

    def __post_init__(self) -> None:
        for name, kinds in (("stem", Stem), ("facing", Facing), ("prediction", Prediction)):
            if getattr(self, name) not in get_args(kinds):
                raise InputError(f"{name}: expected one of {', '.join(get_args(kinds))}, got {getattr(self, name)!r}")
        if len(self.attention) != len(self.channels) or not self.channels or not self.encoder:
            raise InputError("JointDiffusion: expected channels, as many switches of attention, and an encoder")
        if self.tokens % self.head or self.context % self.head:
            raise InputError(f"JointDiffusion: tokens and context must be multiples of head ({self.head})")


PAPER_JOINT = JointConfig()
SMALL_JOINT = JointConfig(
    stem="own",
    channels=(24, 48, 96),
    attention=(False, True, True),
    head=32,
    tokens=160,
    token_layers=4,
    encoder=(16, 32, 64),
    context=96,
    time=128,
    contact_width=256,
    contact_blocks=2,
    prediction="clean",
    facing="aligned",
    grid_distance=True,
)
"""Half an hour to an hour of one core."""
