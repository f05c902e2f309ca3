"""Attractive springs between a hand's anchors and an object's points, after CPF (Yang et al., ICCV 2021), section 4.

A spring of elasticity k that joins anchor a and object point v stores ``k / 2 |a - v|^2`` (equation 1). Elasticities
are those of the paper (equation 4): 1 where anchor and point touch, falling to 0 at 20 mm.

An object point seen from its own frame does not move. There all springs of one anchor are together one spring to their
centre, ``K / 2 |a - c|^2 + rest``, exactly: thousands of springs become 32, however object and hand move rigidly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.hand.anchors import MOST_ANCHORS, NUM_ANCHORS, NUM_REGIONS, HandAnchors

SPRING_REACH = 0.020
"""m; s of equation 4. Anchors farther than this from a point have no spring to it."""
CONTACT_PROBABILITY = 0.8
"""t_vc of section 5.2: object points whose *predicted* contact exceeds it get springs; computed maps know distances."""


def elasticity_of_distance(distance: Tensor, reach: float = SPRING_REACH) -> Tensor:
    """Elasticity of the spring of an anchor and a point at a true distance: ``cos(pi d / reach) / 2 + 1 / 2``.

    Args:
        distance: (...), m, >= 0. reach: m.

    Returns:
        (...) in [0, 1], 0 from `reach` on.
    """
    return 0.5 + 0.5 * torch.cos(torch.pi * (distance / reach).clamp(0.0, 1.0))


def anchor_elasticities(
    anchors: HandAnchors, anchor_positions: Tensor, points: Tensor, region: Tensor, reach: float = SPRING_REACH
) -> Tensor:
    """Elasticities between object points and the anchors of the regions that touch them, from a true pose.

    Args:
        anchors: of the hand. anchor_positions: (B, 32, 3), m, object frame.
        points: (N, 3) or (B, N, 3), m, object frame. region: (B, N) int, 0..16, anything else = none.
        reach: m.

    Returns:
        (B, N, 4) in [0, 1], columns as in `HandAnchors.anchors_of_region`; 0 where there is no such anchor.
    """
    known, anchor = _anchors_at(anchors, region)
    rows = torch.arange(len(anchor), device=anchor.device)[:, None, None]
    distance = (anchor_positions[rows, anchor] - points[..., None, :]).norm(dim=-1)
    return elasticity_of_distance(distance, reach) * known


@dataclass(frozen=True)
class AttractiveSprings:
    """Springs of B hands, M for each; those with elasticity 0 are not there.

    anchor: (B, M) int64, 0..31. point: (B, M, 3), m, object frame. elasticity: (B, M).
    """

    anchor: Tensor
    point: Tensor
    elasticity: Tensor

    @staticmethod
    def of_contact(
        anchors: HandAnchors,
        points: Tensor,
        contact: Tensor,
        region: Tensor,
        elasticity: Tensor,
        threshold: float = CONTACT_PROBABILITY,
    ) -> AttractiveSprings:
        """Springs of contact maps: algorithm 1 of the paper, lines 2 to 6.

        Each object point in contact has a spring to every anchor of the region that touches it.

        Args:
            anchors: of the hand.
            points: (N, 3) or (B, N, 3), m, object frame. contact: (B, N) in [0, 1].
            region: (B, N) int, 0..16; a point with another number has no springs.
            elasticity: (B, N), one for all anchors of the region, as in the paper; or (B, N, 4), one for each, columns
                as in `HandAnchors.anchors_of_region`. NaN = no spring.
            threshold: of contact.

        Raises:
            InputError: shapes that do not go together.
        """
        batch, count = contact.shape
        if elasticity.shape not in ((batch, count), (batch, count, MOST_ANCHORS)):
            raise InputError(
                f"elasticity: expected shape {(batch, count)} or {(batch, count, MOST_ANCHORS)}, "
                f"got {tuple(elasticity.shape)}"
            )
        if region.shape != contact.shape or points.shape not in ((count, 3), (batch, count, 3)):
            raise InputError(
                f"springs: expected region {(batch, count)} and points ({count}, 3) or {(batch, count, 3)}, got "
                f"{tuple(region.shape)} and {tuple(points.shape)}"
            )
        known, anchor = _anchors_at(anchors, region)
        given = elasticity[..., None] if elasticity.ndim == 2 else elasticity
        stiffness = torch.nan_to_num(given) * known * (contact > threshold)[..., None]
        where = points.expand(batch, count, 3)[:, :, None].expand(batch, count, MOST_ANCHORS, 3)
        return AttractiveSprings(anchor.flatten(1), where.flatten(1, 2), stiffness.flatten(1))._packed()

    @property
    def count(self) -> Tensor:
        """(B,) int64: springs of each hand; 0 = the hand touches nothing, and nothing attracts it."""
        return (self.elasticity > 0).sum(dim=1)

    def within(self, anchor_positions: Tensor, length: float) -> AttractiveSprings:
        """Those that are no longer than this.

        Args:
            anchor_positions: (B, 32, 3), m, object frame. length: m.
        """
        ends = torch.gather(anchor_positions, 1, self.anchor[..., None].expand(-1, -1, 3))
        near = (ends - self.point).norm(dim=-1) <= length
        return AttractiveSprings(self.anchor, self.point, self.elasticity * near)._packed()

    def energy(self, anchor_positions: Tensor) -> Tensor:
        """Sum of all springs, spring by spring.

        Args:
            anchor_positions: (B, 32, 3), m, object frame.

        Returns:
            (B,) energy, elasticity times m^2.
        """
        ends = torch.gather(anchor_positions, 1, self.anchor[..., None].expand(-1, -1, 3))
        return 0.5 * (self.elasticity * (ends - self.point).square().sum(dim=-1)).sum(dim=1)

    def collapsed(self) -> AnchorPotential:
        """The same energy as one spring for each anchor."""
        batch = len(self.anchor)

        def total(values: Tensor) -> Tensor:
            return values.new_zeros(batch, NUM_ANCHORS).scatter_add(1, self.anchor, values)

        stiffness = total(self.elasticity)
        weighted = torch.stack([total(self.elasticity * self.point[..., k]) for k in range(3)], dim=-1)
        centre = weighted / torch.where(stiffness > 0, stiffness, 1.0)[..., None]
        away = self.point - torch.gather(centre, 1, self.anchor[..., None].expand(-1, -1, 3))
        return AnchorPotential(stiffness, centre, total(0.5 * self.elasticity * away.square().sum(dim=-1)))

    def _packed(self) -> AttractiveSprings:
        """The same springs in as few columns as the hand with the most of them needs."""
        there = self.elasticity > 0
        most = int(there.sum(dim=1).max()) if there.numel() else 0
        order = there.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
        return AttractiveSprings(
            self.anchor.gather(1, order),
            self.point.gather(1, order[..., None].expand(-1, -1, 3)),
            self.elasticity.gather(1, order),
        )


@dataclass(frozen=True)
class AnchorPotential:
    """Attraction of B hands as one spring for each anchor: ``sum K / 2 |a - c|^2 + rest``.

    stiffness: (B, 32), K. centre: (B, 32, 3), c, m, object frame; zeros where K is 0.
    rest: (B, 32), the energy that is left when an anchor is at its centre.
    """

    stiffness: Tensor
    centre: Tensor
    rest: Tensor

    def energy(self, anchor_positions: Tensor) -> Tensor:
        """As `AttractiveSprings.energy`: (B,) of anchors (B, 32, 3), m, object frame."""
        return (0.5 * self.stiffness * (anchor_positions - self.centre).square().sum(dim=-1) + self.rest).sum(dim=1)


def _anchors_at(anchors: HandAnchors, region: Tensor) -> tuple[Tensor, Tensor]:
    """Of points (B, N): whether there is such an anchor, and its id or 0, both (B, N, 4)."""
    table = torch.as_tensor(anchors.anchors_of_region, device=region.device)
    valid = (region >= 0) & (region < NUM_REGIONS)
    anchor = table[torch.where(valid, region.long(), 0)]
    return (anchor >= 0) & valid[..., None], anchor.clamp(min=0)
