"""JHOD's losses (Eq. 11-17): joint, conditional and object-only, and what ties hand and object together in space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.stacked_distance import StackedDistances
from grasp_nodes.hand.codes import HandCoder, HandParts
from grasp_nodes.learning.batches import Batch
from grasp_nodes.synthesis.flow.batches import field_of, wishes_of
from grasp_nodes.synthesis.flow.fields import DistanceField
from grasp_nodes.synthesis.flow.loss import excess_faults
from grasp_nodes.synthesis.flow.network import ANY_KIND, Wishes
from grasp_nodes.synthesis.jhod.batches import PLAIN
from grasp_nodes.synthesis.jhod.network import Felt, JhodNetwork, Tokens
from grasp_nodes.synthesis.jhod.point_autoencoder import LENGTH

JOINTS = (0, 1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19)
"""Keypoints that are joints: all but the fingertips."""
NEIGHBOURS = 10


@dataclass(frozen=True)
class JhodLossSettings:
    """Of the loss; the defaults are the paper's, whose weights are all 1.

    conditional: share of the grasps' rows whose object is clean. asynchronous: whether hand and object have times of
    their own in the other rows. distance, joints: weights of the distance field and of the joints, in units of 5 cm.
    field_points: of an object in the distance field, 0 = all.

    Beyond the paper: physical: weight of what conditional hands do beyond their examples (`excess_faults`), at times
    before `physical_until` (share of T). detail: largest factor by which little noise counts more than much: the
    inverse of the noise's variance. known: share of the conditional rows that are told a prediction. any_kind: share
    whose kind is kept back.
    """

    conditional: float = 0.5
    asynchronous: bool = True
    distance: float = 1.0
    joints: float = 1.0
    field_points: int = 0
    physical: float = 0.0
    physical_until: float = 0.5
    detail: float = 1.0
    known: float = 0.5
    any_kind: float = 0.15

    def __post_init__(self) -> None:
        for name in ("distance", "joints", "physical", "field_points"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        for name in ("conditional", "physical_until", "known", "any_kind"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name}: expected a share of 0 to 1, got {getattr(self, name)}")
        if self.detail < 1.0:
            raise InputError(f"detail: expected 1 or more, got {self.detail}")


SMALL_LOSS = JhodLossSettings(field_points=256, physical=0.03, detail=5.0)


class JhodLoss:
    """The loss of batches of `JhodBatches`, and of objects alone where a batch has them.

    Args:
        stack: distances to the grasps' objects. settings: weights and shares.
    """

    def __init__(self, stack: StackedDistances, settings: JhodLossSettings | None = None) -> None:
        self._stack, self._settings = stack, settings or JhodLossSettings()

    def __call__(self, network: JhodNetwork, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Terms by name: ``loss``, and of what it is the weighted sum.

        ``joint_hand``, ``joint_object``, ``conditional``, ``plain_object``: of tokens; ``rebuilt``: tokens to what they
        are of; ``distance``, ``joints``; ``too_deep`` and ``too_far``.
        """
        s, code = self._settings, batch["code"]
        count, device = len(code), code.device
        if self._stack.values.device != device:
            self._stack = self._stack.to(device)
        given = round(s.conditional * count)
        clean, rebuilt = self._tokens(network, batch)
        noise = Tokens(*(torch.randn(one.shape, generator=generator, device=device) for one in clean))
        hand_time, object_time = self._times(network, count, len(clean.object) - count, given, generator, device)
        no_hand = torch.arange(len(hand_time), device=device) >= count
        # Where there is no hand its token is noise alone (Eq. 14).
        fresh = _continued(noise.hand, len(no_hand), generator)
        hand = network.noised(_padded(clean.hand, len(no_hand)), fresh, hand_time)
        hand = torch.where(no_hand[:, None], fresh, hand)
        noisy = Tokens(hand, network.noised(clean.object, noise.object, object_time))
        field, wishes = field_of(batch, self._stack), self._kept_back(wishes_of(batch), generator)
        told = Wishes(
            torch.cat([wishes.kind, wishes.kind.new_full((int(no_hand.sum()),), ANY_KIND)]),
            _padded(wishes.betas, len(no_hand)),
        )
        felt = self._felt(network, noisy, hand_time, object_time, told, field, given)
        found = network(noisy, hand_time, object_time, told, felt, no_hand)
        weights = self._weights(network, hand_time), self._weights(network, object_time)
        terms = {"rebuilt": rebuilt, **_token_terms(found, clean, weights, given, count)}
        with torch.autocast(device.type, enabled=False):
            terms |= self._spatial(network, found, batch, given)
            if s.physical and given:
                terms |= self._physical(network, found, batch, field.rows(slice(given)), hand_time[:given])
        factors = {"distance": s.distance, "joints": s.joints, "too_deep": s.physical, "too_far": s.physical}
        loss = torch.stack([factors.get(name, 1.0) * value for name, value in terms.items()]).sum()
        return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}

    def _tokens(self, network: JhodNetwork, batch: Batch) -> tuple[Tokens, Tensor]:
        """Clean tokens of all rows (objects alone last), and how badly they are turned back.

        What the diffusion aims at is without a graph: the networks that make tokens learn to keep what tokens are of,
        not to make them easy to predict.
        """
        latents = batch["latents"]
        if PLAIN in batch:
            latents = torch.cat([latents, batch[PLAIN]])
        standard = (latents - network.latent_mean) / network.latent_deviation
        items = network.object_tokens.encode(standard)
        rebuilt = (network.object_tokens.decode(items) - standard).float().square().mean()
        hands = network.hand_tokens.encode(batch["code"])
        if not network.hand_tokens.plain:
            rebuilt = rebuilt + (network.hand_tokens.decode(hands) - batch["code"]).float().square().mean()
        return Tokens(hands.detach().float(), items.detach().float()), rebuilt

    def _times(
        self, network: JhodNetwork, count: int, plain: int, given: int, generator: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Of hands and objects, 1..T; 0 of objects that are given, T of hands that are not there."""
        drawn = network.schedule.draw_times(count + plain, generator) + 1
        other = network.schedule.draw_times(count + plain, generator) + 1
        number = torch.arange(count + plain, device=device)
        hand_time = torch.where(number < count, drawn, network.steps)
        object_time = other if self._settings.asynchronous else drawn
        return hand_time, torch.where(number < given, 0, object_time)

    def _felt(
        self,
        network: JhodNetwork,
        noisy: Tokens,
        hand_time: Tensor,
        object_time: Tensor,
        wishes: Wishes,
        field: DistanceField,
        given: int,
    ) -> Felt | None:
        """What some conditional hands feel where a first pass thinks that they end."""
        knowing = round(self._settings.known * given)
        if not network.config.local or not knowing:
            return None
        some = slice(knowing)
        with torch.no_grad():
            first = network(
                Tokens(noisy.hand[some], noisy.object[some]), hand_time[some], object_time[some], wishes.rows(some)
            )
            vectors = network.hand_tokens.decode(first.hand).float()
        thought = torch.full((len(noisy.hand), vectors.shape[1]), torch.nan, device=vectors.device)
        thought[:knowing] = vectors
        return Felt(thought, wishes.betas, field)

    def _spatial(self, network: JhodNetwork, found: Tokens, batch: Batch, given: int) -> dict[str, Tensor]:
        """Squared errors of joints and of their vectors to the object, in units of `LENGTH`."""
        s, count = self._settings, len(batch["code"])
        if not (s.distance or s.joints):
            return {}
        vectors, betas = network.hand_tokens.decode(found.hand[:count]).float(), batch["betas"]
        joints, true_joints = (
            posed_joints(network, network.coder.parts_of(one.to(network.coder.model.dtype), betas)) / LENGTH
            for one in (vectors, batch["code"])
        )
        terms = {"joints": (joints - true_joints).square().mean()}
        if s.distance:
            stride = max(1, network.config.points // s.field_points) if s.field_points else 1
            true_points = batch["latents"][:, ::stride, :3]
            # A given object is as it is; of the others the points that the latents themselves are near to.
            told = network.decode_object(found.object[given:count]).float()[:, ::stride, :3]
            points = torch.cat([true_points[:given], told])
            error = distance_field(joints, points) - distance_field(true_joints, true_points)
            terms["distance"] = error.square().mean()
        return terms

    def _physical(
        self, network: JhodNetwork, found: Tokens, batch: Batch, field: DistanceField, time: Tensor
    ) -> dict[str, Tensor]:
        late = torch.nonzero(time <= self._settings.physical_until * network.steps)[:, 0]
        if not len(late):
            return {}
        betas, dtype = batch["betas"][late], network.coder.model.dtype
        vectors = network.hand_tokens.decode(found.hand[late]).float()
        parts, own = (network.coder.parts_of(one.to(dtype), betas) for one in (vectors, batch["code"][late]))
        deep, far = excess_faults(network.hand_points, parts, own, field.rows(late))
        # Early predictions are means of many grasps: they cannot be right, and count less.
        weight = (1.0 - time[late] / network.steps).square() / len(time)
        return {"too_deep": (weight * deep).sum(), "too_far": (weight * far).sum()}

    def _weights(self, network: JhodNetwork, time: Tensor) -> Tensor:
        """(B,): how much errors at times count."""
        sigma = network.schedule.sigma((time - 1).clamp(min=0)).float()
        return (1.0 / sigma.square()).clamp(max=self._settings.detail)

    def _kept_back(self, wishes: Wishes, generator: torch.Generator) -> Wishes:
        drawn = torch.rand(len(wishes.kind), generator=generator, device=wishes.kind.device)
        return Wishes(torch.where(drawn < self._settings.any_kind, ANY_KIND, wishes.kind), wishes.betas)


def posed_joints(network: JhodNetwork, parts: HandParts) -> Tensor:
    """The 16 joints (B, 16, 3), m, of hands."""
    coder: HandCoder = network.coder
    return coder.posed(parts, network.hand_points.hand)[1][:, list(JOINTS)]


def distance_field(joints: Tensor, points: Tensor) -> Tensor:
    """Vectors (B, 16, 10, 3) from each of joints (B, 16, 3) to its ten nearest of points (B, P, 3), nearest first."""
    with torch.no_grad():
        nearest = torch.cdist(joints, points).topk(min(NEIGHBOURS, points.shape[1]), dim=2, largest=False).indices
    batch = torch.arange(len(points), device=points.device)[:, None, None]
    return points[batch, nearest] - joints[:, :, None]


def _continued(drawn: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Noise of `count` rows that begins with the drawn ones."""
    more = (count - len(drawn), *drawn.shape[1:])
    return torch.cat([drawn, torch.randn(more, generator=generator, device=drawn.device, dtype=drawn.dtype)])


def _padded(rows: Tensor, count: int) -> Tensor:
    return torch.cat([rows, rows.new_zeros(count - len(rows), *rows.shape[1:])])


def _token_terms(
    found: Tokens, clean: Tokens, weights: tuple[Tensor, Tensor], given: int, count: int
) -> dict[str, Tensor]:
    """Mean squares of hands and objects, each by itself: a hand is one token of five, but not a fifth of the task."""
    hand = weights[0][:count] * (found.hand[:count].float() - clean.hand).square().mean(dim=1)
    item = weights[1] * (found.object.float() - clean.object).square().mean(dim=(1, 2))
    terms = {}
    if given:
        # What is given is given back: the paper's loss has that, too.
        terms["conditional"] = (hand[:given] + item[:given]).mean()
    if given < count:
        terms["joint_hand"], terms["joint_object"] = hand[given:].mean(), item[given:count].mean()
    if len(item) > count:
        terms["plain_object"] = item[count:].mean()
    return terms
