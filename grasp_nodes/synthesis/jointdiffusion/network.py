"""JointDiffusion: one network that takes the noise from hand distances and from contact Gaussians together.

Everything that it is told and tells are *numbers*: remapped distances about zero, and `ContactGaussians.numbers`.
A context is the object alone (synthesis), or the object with a noisy hand (refinement): each has an encoder of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grasp_nodes.contact.choir.gaussians import NUMBERS
from grasp_nodes.contact.choir.space import ChoirSpace
from grasp_nodes.errors import InputError
from grasp_nodes.hand.anchors import NUM_ANCHORS
from grasp_nodes.synthesis.fastgrasp.layers import TimeEmbedding
from grasp_nodes.synthesis.jointdiffusion.config import JointConfig
from grasp_nodes.synthesis.jointdiffusion.layers import ResidualLayers, TokenLayer
from grasp_nodes.synthesis.jointdiffusion.unet import ContextEncoder, UNet3d

CONTACT_SIZE = NUM_ANCHORS * NUMBERS
_TOLD_BY_TOKEN = 8
"""Numbers that each anchor's token tells the branch of contacts."""


@dataclass(frozen=True)
class Scene:
    """What B samples are conditioned on.

    object: (B, K) numbers. noisy: (B, K), of a noisy hand, whatever where there is none. has_hand: (B,) bool.
    """

    object: Tensor
    noisy: Tensor
    has_hand: Tensor

    def repeated(self, count: int) -> Scene:
        """One scene so many times."""
        return Scene(*(part.expand(count, *part.shape[1:]) for part in (self.object, self.noisy, self.has_hand)))


class JointNetwork(nn.Module):
    """The denoiser.

    Args:
        config: sizes. space: of the fields; must be a grid.
        field_mean, field_deviation: of remapped distances; the paper's numbers are ``2 x - 1``.
    """

    field_mean: Tensor
    field_deviation: Tensor
    _points_of_anchor: Tensor
    _place: Tensor

    def __init__(
        self, config: JointConfig, space: ChoirSpace, field_mean: float = 0.5, field_deviation: float = 0.5
    ) -> None:
        super().__init__()
        if space.settings.layout != "grid":
            raise InputError("JointDiffusion: expected basis points on a grid, whose neighbours a convolution sees")
        self.config, self.space, self.per_side = config, space, space.settings.per_side
        own = torch.from_numpy(space.assignment.points_of_anchor)
        self.register_buffer("_points_of_anchor", own.flatten(), persistent=False)
        self.register_buffer("_place", own.flatten().argsort(), persistent=False)
        # Per channel: hand, object.
        self.register_buffer("field_mean", torch.full((2,), field_mean))
        self.register_buffer("field_deviation", torch.full((2,), field_deviation))
        self.time = TimeEmbedding(config.time)
        self.unet = UNet3d(config, self.per_side, 2)
        self.object_encoder = ContextEncoder(config, self.per_side, 1)
        self.pair_encoder = ContextEncoder(config, self.per_side, 2)
        bottleneck = config.channels[-1]
        extra = 0
        if config.tokens:
            size, each = config.tokens, own.shape[1]
            scale = each**-0.5
            self.read = nn.Parameter(scale * torch.randn(NUM_ANCHORS, each, size))
            self.read_noisy = nn.Parameter(scale * torch.randn(NUM_ANCHORS, each, config.context))
            self.write = nn.Parameter(0.1 * size**-0.5 * torch.randn(NUM_ANCHORS, size, each))
            self.name = nn.Parameter(0.02 * torch.randn(NUM_ANCHORS, size))
            self.no_hand = nn.Parameter(0.02 * torch.randn(NUM_ANCHORS, config.context))
            self.read_contact = nn.Linear(NUMBERS, size)
            self.read_bottleneck = nn.Linear(bottleneck, config.context)
            self.layers = nn.ModuleList(
                TokenLayer(size, config.context, config.time, config.head) for _ in range(config.token_layers)
            )
            self.norm = nn.LayerNorm(size)
            self.tell_contact = nn.Linear(size, _TOLD_BY_TOKEN)
            extra = NUM_ANCHORS * _TOLD_BY_TOKEN
        self.contact_in = nn.Linear(CONTACT_SIZE + bottleneck + extra, config.contact_width)
        self.contact_blocks = nn.ModuleList(
            ResidualLayers(config.contact_width, config.time) for _ in range(config.contact_blocks)
        )
        self.contact_out = nn.Linear(config.contact_width, CONTACT_SIZE)

    @property
    def size(self) -> int:
        """Numbers of a sample: the field's, then the contacts'."""
        return len(self.space) + CONTACT_SIZE

    def hand_numbers(self, remapped: Tensor) -> Tensor:
        """Numbers of remapped anchor distances."""
        return (remapped - self.field_mean[0]) / self.field_deviation[0]

    def object_numbers(self, remapped: Tensor) -> Tensor:
        """Numbers of remapped object distances."""
        return (remapped - self.field_mean[1]) / self.field_deviation[1]

    def hand_remapped(self, numbers: Tensor) -> Tensor:
        """The inverse of `hand_numbers`."""
        return numbers * self.field_deviation[0] + self.field_mean[0]

    def context(self, scene: Scene) -> Tensor:
        """Tokens (B, M, context) of scenes, those with a hand and those without by encoders of their own."""
        grid = (self.per_side,) * 3
        item, noisy = (part.unflatten(1, grid)[:, None] for part in (scene.object, scene.noisy))
        with_hand, without = scene.has_hand.nonzero()[:, 0], (~scene.has_hand).nonzero()[:, 0]
        parts, rows = [], []
        if len(with_hand):
            parts.append(self.pair_encoder(torch.cat([item[with_hand], noisy[with_hand]], dim=1)))
            rows.append(with_hand)
        if len(without):
            parts.append(self.object_encoder(item[without]))
            rows.append(without)
        tokens = torch.cat(parts)[torch.cat(rows).argsort()]
        if not self.config.tokens:
            return tokens
        anchors = torch.einsum("bap,apc->bac", self._by_anchor(scene.noisy), self.read_noisy)
        anchors = torch.where(scene.has_hand[:, None, None], anchors, torch.zeros_like(anchors)) + self.no_hand
        return torch.cat([tokens, anchors], dim=1)

    def forward(self, sample: Tensor, time: Tensor, scene: Scene, context: Tensor) -> Tensor:
        """What the schedule's prediction names, (B, `size`), of noisy samples (B, `size`).

        Args:
            time: (B,) int64. scene: of the samples. context: of `context`.
        """
        field, contacts = sample[:, : len(self.space)], sample[:, len(self.space) :]
        told = self.time(time)
        grid = (self.per_side,) * 3
        numbers = torch.stack([scene.object.unflatten(1, grid), field.unflatten(1, grid)], dim=1)
        found, bottleneck = self.unet(numbers, told, context)
        features = [contacts, bottleneck.mean(dim=(2, 3, 4))]
        if self.config.tokens:
            tokens = torch.einsum("bap,apc->bac", self._by_anchor(field), self.read) + self.name
            tokens = tokens + self.read_contact(contacts.unflatten(1, (NUM_ANCHORS, NUMBERS)))
            asked = torch.cat([context, self.read_bottleneck(bottleneck.flatten(2).mT)], dim=1)
            for layer in self.layers:
                tokens = layer(tokens, asked, told)
            tokens = self.norm(tokens)
            found = found + torch.einsum("bac,acp->bap", tokens, self.write).flatten(1)[:, self._place]
            features.append(self.tell_contact(tokens).flatten(1))
        inner = self.contact_in(torch.cat(features, dim=1))
        for block in self.contact_blocks:
            inner = block(inner, told)
        return torch.cat([found, self.contact_out(inner)], dim=1)

    def _by_anchor(self, field: Tensor) -> Tensor:
        """(B, 32, K / 32) of (B, K)."""
        return field[:, self._points_of_anchor].unflatten(1, (NUM_ANCHORS, -1))
