"""The denoiser: a transformer over the hand's token and the object's four that predicts the clean ones.

Each of the two has a time of its own, 0 = clean up to T = noise: asynchronous schedulers (JHOD, section 3.3.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError
from grasp_nodes.hand.codes import HandCoder, HandLayout
from grasp_nodes.hand.parameters import NUM_BETAS
from grasp_nodes.synthesis.flow.fields import DistanceField
from grasp_nodes.synthesis.flow.hand_points import HandPoints, PointCounts
from grasp_nodes.synthesis.flow.network import ANY_KIND, Wishes
from grasp_nodes.synthesis.jhod.point_autoencoder import LATENT
from grasp_nodes.synthesis.jhod.tokens import HandTokens, ObjectTokens
from grasp_nodes.synthesis.schedules import Kind, NoiseSchedule

_WAVES = 16
PAPER_LAYOUT = HandLayout(point="wrist", orient="axis_angle", pose="axis_angle")
"""48 angles and 3 of a place: the paper's 51 numbers."""
SMALL_LAYOUT = HandLayout()


@dataclass(frozen=True)
class JhodConfig:
    """Sizes, and what goes beyond the paper.

    points: of an object, a power of 2. hand: size of its token, 0 = the vector itself. token: size of an object's
    tokens. hidden: width of the networks that make tokens. width, layers, heads, feedforward: of the transformer.
    noise_schedule, noise_steps: kind, and T. layout: of the hand's vector.

    Beyond the paper: local: the hand's token is told what the hand feels at a clean object where it was last thought
    to end (as in `fastgrasp-flow`), at `felt` points. residual: what the transformer gives is added to the noisy
    tokens, in the shares that make both right at either end of the noise. told: the hand's shape and the kind of grasp
    are told; without, every hand has the mean shape.
    """

    points: int = 2048
    hand: int = 512
    token: int = 512
    hidden: int = 1024
    width: int = 512
    layers: int = 8
    heads: int = 4
    feedforward: int = 1024
    noise_schedule: Kind = "cosine"
    noise_steps: int = 1000
    layout: HandLayout = PAPER_LAYOUT
    local: bool = False
    residual: bool = False
    told: bool = False
    felt: PointCounts = field(default_factory=PointCounts)

    def __post_init__(self) -> None:
        for name in ("points", "token", "hidden", "width", "layers", "heads", "feedforward"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if self.hand < 0 or self.width % self.heads:
            raise InputError(
                f"hand {self.hand}, width {self.width}: expected 0 or more, and a multiple of {self.heads}"
            )


PAPER_JHOD = JhodConfig()
SMALL_JHOD = JhodConfig(*(2048, 0, 64, 192, 256, 6, 4, 512), layout=SMALL_LAYOUT, local=True, residual=True, told=True)


class Tokens(NamedTuple):
    """hand: (B, size). object: (B, 4, size)."""

    hand: Tensor
    object: Tensor


class Felt(NamedTuple):
    """Of B hands at clean objects: what they feel where they are thought to end.

    thought: (B, D), clean vectors as they were predicted before; NaN in rows without, or whose object is not clean.
    betas: (B, 10), of the hands. field: distance to the objects.
    """

    thought: Tensor
    betas: Tensor
    field: DistanceField


class JhodNetwork(nn.Module):
    """Clean tokens of noisy ones.

    latent_mean, latent_deviation: (4,), of the auto-encoder's latents over the training's objects.

    Args:
        coder: of the hands' vectors. config: sizes.
    """

    latent_mean: Tensor
    latent_deviation: Tensor
    _waves: Tensor

    def __init__(self, coder: HandCoder, config: JhodConfig) -> None:
        super().__init__()
        self.coder, self.config = coder, config
        width = config.width
        self.schedule = NoiseSchedule.make(config.noise_schedule, config.noise_steps, "clean")
        self.hand_points = HandPoints(coder, config.felt)
        self.hand_tokens = HandTokens(coder.size, config.hand, config.hidden)
        self.object_tokens = ObjectTokens(config.points, config.token, config.hidden)
        self.hand_entrance = nn.Linear(self.hand_tokens.size, width)
        self.object_entrance = nn.Linear(config.token, width)
        self.channels = nn.Parameter(0.02 * torch.randn(LATENT, width))
        self.hand_time, self.object_time = _TimeEmbedding(width), _TimeEmbedding(width)
        if config.told:
            self.kind, self.betas = nn.Embedding(ANY_KIND + 1, width), nn.Linear(NUM_BETAS, width)
        if config.local:
            self.felt = nn.Linear(coder.size + 4 * config.felt.total + 1, width)
        layer = nn.TransformerEncoderLayer(
            *(width, config.heads, config.feedforward),
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.body = nn.TransformerEncoder(layer, config.layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.hand_exit, self.object_exit = nn.Linear(width, self.hand_tokens.size), nn.Linear(width, config.token)
        for last in (self.hand_exit, self.object_exit):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.register_buffer("latent_mean", torch.zeros(LATENT))
        self.register_buffer("latent_deviation", torch.ones(LATENT))
        self.register_buffer("_waves", math.pi * torch.arange(1, _WAVES + 1), persistent=False)

    @property
    def steps(self) -> int:
        """T: the time at which nothing but noise is left."""
        return self.config.noise_steps

    def encode_object(self, latents: Tensor) -> Tensor:
        """Tokens (B, 4, size) of the auto-encoder's latents (B, N, 4) in `tree_order`."""
        return self.object_tokens.encode((latents - self.latent_mean) / self.latent_deviation)

    def decode_object(self, tokens: Tensor) -> Tensor:
        """The auto-encoder's latents (B, N, 4) of tokens."""
        return self.object_tokens.decode(tokens) * self.latent_deviation + self.latent_mean

    def forward(
        self,
        noisy: Tokens,
        hand_time: Tensor,
        object_time: Tensor,
        wishes: Wishes | None = None,
        felt: Felt | None = None,
        no_hand: Tensor | None = None,
    ) -> Tokens:
        """Clean tokens.

        Args:
            noisy: tokens with the noise of their times. hand_time, object_time: (B,) int64, 0 = clean, up to T.
            wishes: kind and shape of the hands, where the network is told them.
            felt: what hands feel, where it is local; None = nothing.
            no_hand: (B,) bool, rows whose hand's token is noise without a hand behind it: the loss of their objects
                reaches nothing that belongs to the hand.
        """
        hand = self.hand_entrance(noisy.hand) + self.hand_time(self._waved(hand_time))
        if self.config.told and wishes is not None:
            hand = hand + self.kind(wishes.kind) + self.betas(wishes.betas)
        if self.config.local and felt is not None:
            hand = hand + self._felt(felt)
        if no_hand is not None:
            hand = torch.where(no_hand[:, None], hand.detach(), hand)
        item = self.object_entrance(noisy.object) + self.channels + self.object_time(self._waved(object_time))[:, None]
        found = self.body(torch.cat([hand[:, None], item], dim=1))
        with torch.autocast(found.device.type, enabled=False):  # half precision would move fingertips by a millimetre
            found = found.float()
            clean = Tokens(self.hand_exit(found[:, 0]), self.object_exit(found[:, 1:]))
        if not self.config.residual:
            return clean
        return Tokens(
            self._mixed(noisy.hand, clean.hand, hand_time), self._mixed(noisy.object, clean.object, object_time)
        )

    def noised(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Tokens (B, ...) with the noise of times (B,), 0..T; at 0 they are clean."""
        alpha, sigma = self.shares(time, clean)
        return alpha * clean + sigma * noise

    def shares(self, time: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Share of the clean tokens and of the noise at times (B,), 0..T, to be multiplied with `like` (B, ...)."""
        # The schedule counts from 0 what the paper counts from 1; its index -1 is the clean sample.
        shape = (-1, *[1] * (like.ndim - 1))
        alpha, sigma = self.schedule.alpha(time - 1), self.schedule.sigma(time - 1)
        return alpha.to(like.dtype).view(shape), sigma.to(like.dtype).view(shape)

    def _mixed(self, noisy: Tensor, given: Tensor, time: Tensor) -> Tensor:
        """What is best known of unit variance without a network, and what the network adds to it."""
        alpha, sigma = self.shares(time, noisy)
        return alpha * noisy + sigma * given

    def _waved(self, time: Tensor) -> Tensor:
        share = time.to(self._waves.dtype)[:, None] / self.steps
        waves = share * self._waves
        return torch.cat([share, (time == 0)[:, None].to(share), waves.sin(), waves.cos()], dim=1)

    def _felt(self, felt: Felt) -> Tensor:
        """(B, width): nothing where there is no thought yet, or no clean object."""
        rows = torch.nonzero(torch.isfinite(felt.thought[:, 0]))[:, 0]
        told = felt.thought.new_zeros(len(felt.thought), self.felt.in_features)
        if len(rows):
            with torch.autocast(told.device.type, enabled=False):
                thought = felt.thought[rows].detach().to(self.coder.model.dtype)
                sensed = self.hand_points.felt(thought, felt.betas[rows], felt.field.rows(rows))
            row = torch.cat([thought, sensed, torch.ones_like(thought[:, :1])], dim=1)
            told = told.index_copy(0, rows, row.to(told.dtype))
        return self.felt(told)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> JhodNetwork:
        """As `nn.Module`: the coder, which is none, goes with the rest to another device."""
        super()._apply(fn, recurse)
        self.coder = self.hand_points.coder = self.coder.to(self.latent_mean.device)
        return self


class _TimeEmbedding(nn.Module):
    """Of one modality's time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * _WAVES + 2, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, waved: Tensor) -> Tensor:
        """(B, width)."""
        return self.layers(waved)
