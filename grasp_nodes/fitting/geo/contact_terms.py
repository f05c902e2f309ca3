"""What draws a hand to an object and pushes it out: CPF's springs, and the two heuristics that the paper compares with.

Each takes hand vertices in the object's frame and returns attraction and repulsion, (B,) each, in GeO's unit of length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from grasp_nodes.contact.repulsion import RepulsiveSprings, check_surface
from grasp_nodes.contact.springs import (
    SPRING_REACH,
    AnchorPotential,
    AttractiveSprings,
    anchor_elasticities,
)
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.geo.settings import GeoSettings
from grasp_nodes.fitting.homan.losses import local_contact_parts
from grasp_nodes.hand.anchors import FINGERTIP_REGIONS, HandAnchors
from grasp_nodes.objects.model import ObjectModel

VANILLA_WEIGHT = 30.0
"""Springs that one fingertip anchor of the vanilla contact is worth."""
OBMAN_WEIGHT = 300.0
"""Of ObMan's contact, both parts of which are at most one length. Neither is tuned: `evaluate-geo` tries several."""
_THICKNESS_STEP = 1e-3
"""m; the least half thickness, too: the signed distance knows no thinner walls."""


class ContactTerms(Protocol):
    """Attraction and repulsion of B hands at one object."""

    def __call__(self, at_object: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) each, of hand vertices (B, V, 3), m, in the object's frame; differentiable."""
        ...

    def part(self, rows: Tensor) -> ContactTerms:
        """Those of some of the hands."""
        ...


@dataclass(frozen=True)
class SpringContact:
    """CPF's springs (equation 3).

    anchors: of the hand. attraction: of B hands. repulsion: None = without. settings: lengths and weights.
    """

    anchors: HandAnchors
    attraction: AnchorPotential
    repulsion: RepulsiveSprings | None
    settings: GeoSettings

    def __call__(self, at_object: Tensor) -> tuple[Tensor, Tensor]:
        """As `ContactTerms`."""
        unit = self.settings.length
        attraction = self.attraction.energy(self.anchors.positions(at_object))
        attraction = attraction * (self.settings.attraction / unit**2)
        if self.repulsion is None:
            return attraction, torch.zeros_like(attraction)
        return attraction, self.repulsion.energy(at_object) / unit

    def part(self, rows: Tensor) -> SpringContact:
        """As `ContactTerms`."""
        every = self.attraction
        return replace(self, attraction=AnchorPotential(every.stiffness[rows], every.centre[rows], every.rest[rows]))


class VanillaContact:
    """The paper's baseline (a): fingertip anchors are drawn to their nearest object point within 20 mm, nothing else.

    Args:
        anchors: of the hand. object_model: the object. settings: the unit of length. weight: springs per fingertip
            anchor.
    """

    def __init__(
        self, anchors: HandAnchors, object_model: ObjectModel, settings: GeoSettings, weight: float = VANILLA_WEIGHT
    ) -> None:
        self._anchors, self._unit, self._weight = anchors, settings.length, weight
        self._tips = torch.tensor([k for k, region in enumerate(anchors.region) if region in FINGERTIP_REGIONS])
        self._tree, self._points = cKDTree(object_model.points), torch.as_tensor(object_model.points)

    def __call__(self, at_object: Tensor) -> tuple[Tensor, Tensor]:
        """As `ContactTerms`."""
        tips = self._anchors.positions(at_object)[:, self._tips]
        distance, nearest = self._tree.query(tips.detach().numpy())
        near = torch.from_numpy(distance < SPRING_REACH)
        goal = self._points[torch.from_numpy(nearest)].to(tips.dtype)
        squared = ((tips - goal) / self._unit).square().sum(dim=-1)
        attraction = 0.5 * self._weight * (squared * near).sum(dim=1)
        return attraction, torch.zeros_like(attraction)

    def part(self, rows: Tensor) -> VanillaContact:  # noqa: ARG002 - the protocol has it
        """As `ContactTerms`: one rule for all hands."""
        return self


class ObManContact:
    """The paper's baseline (b): attraction and repulsion of ObMan (Hasson et al., CVPR 2019, equations 4 to 6).

    Args:
        zones: vertex ids of each zone that touches objects. object_model: the object. settings: the unit of length.
        weight: of both parts.
    """

    def __init__(
        self,
        zones: Sequence[Tensor],
        object_model: ObjectModel,
        settings: GeoSettings,
        weight: float = OBMAN_WEIGHT,
    ) -> None:
        self._zones, self._distance, self._scale = zones, object_model.signed_distance, weight / settings.length

    def __call__(self, at_object: Tensor) -> tuple[Tensor, Tensor]:
        """As `ContactTerms`."""
        attraction, repulsion = local_contact_parts(self._distance(at_object), self._zones)
        return self._scale * attraction, self._scale * repulsion

    def part(self, rows: Tensor) -> ObManContact:  # noqa: ARG002 - the protocol has it
        """As `ContactTerms`: one rule for all hands."""
        return self


def repulsion_of(object_model: ObjectModel, settings: GeoSettings) -> RepulsiveSprings | None:
    """An object's repulsive springs as settings want them; None without repulsion.

    Raises:
        InputError: no usable normals, or normals that look inwards; without repulsion, too.
    """
    check_surface(object_model.points, object_model.normals)
    if not settings.repulsion:
        return None
    reach = settings.reach
    depth = half_thickness(object_model, reach) if settings.thin_walls else None
    return RepulsiveSprings(
        object_model.points, object_model.normals, settings.repulsion, settings.length, reach, depth
    )


def half_thickness(object_model: ObjectModel, reach: float) -> np.ndarray:
    """Half of an object's thickness below each of its points, (N,) m, at most `reach`.

    It is the largest depth that a ray against the normal comes to, looked up in the signed distance.
    """
    points, normals = object_model.points.astype(np.float64), object_model.normals.astype(np.float64)
    if points.shape != normals.shape:
        raise InputError(
            f"{object_model.object_id}: expected a normal for each of {len(points)} points, got normals "
            f"{normals.shape}: make the object from a mesh (load_object)"
        )
    steps = np.arange(_THICKNESS_STEP, reach + _THICKNESS_STEP, _THICKNESS_STEP)
    along = points - steps[:, None, None] * normals
    distance = object_model.signed_distance.query(along.reshape(-1, 3))[0].reshape(len(steps), -1)
    # Only as far as the ray stays inside.
    inside = np.logical_and.accumulate(distance < 0, axis=0)
    deepest = np.where(inside, -distance, 0.0).max(axis=0)
    return np.clip(deepest, _THICKNESS_STEP, reach)


def annotated_springs(anchors: HandAnchors, vertices: Tensor, points: Tensor) -> AttractiveSprings:
    """The springs of hands where they are, as CPF annotates them (section 4, equation 4).

    Every object point within 20 mm of an anchor is in contact, with the region of its nearest anchor.

    Args:
        anchors: of the hand. vertices: (B, V, 3), m, object frame. points: (N, 3), m, of the object.
    """
    positions = anchors.positions(vertices)
    nearest = torch.cdist(points.expand(len(vertices), -1, 3), positions).min(dim=2)
    region = torch.as_tensor(anchors.region, device=points.device)[nearest.indices]
    elasticity = anchor_elasticities(anchors, positions, points, region)
    return AttractiveSprings.of_contact(
        anchors, points, (nearest.values < SPRING_REACH).to(points.dtype), region, elasticity
    )
