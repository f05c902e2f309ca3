"""CHOIR's contacts in few numbers: one 3D Gaussian for each anchor, of the skin in contact about it.

A dense contact map of the hand (a value in [0, 1] at each vertex) is divided among the anchors: each vertex belongs to
the anchor of its own region that is nearest in the rest pose. The Gaussian of an anchor has the mean and covariance of
its skin in contact, weighted by contact and area, relative to the anchor; anchors without contact are not *active*.

Decoded, contact falls from 1 at the mean as ``exp(-m^2 / 2)``, m = Mahalanobis' distance: the border of a patch of even
contact (a disc of radius r has deviations r / 2) comes out at `BORDER`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.mesh import face_normals_and_areas
from grasp_nodes.hand.anchors import NUM_ANCHORS, HandAnchors, anchors_of
from grasp_nodes.hand.model import HandModel

BORDER = math.exp(-2.0)
"""Decoded contact above which a vertex is in contact."""
REACH = 0.004
"""m; CHOIR counts skin nearer than this to the object as in contact."""
LEAST_VERTICES = 3
"""In contact, of an active anchor. CHOIR wants 4 on a denser mesh."""
FURTHEST_MEAN = 0.02
"""m from the anchor; as CHOIR."""
LEAST_DEVIATION = 1e-3
"""m, added in every direction: skin in contact is flat, and Cholesky's factor of a flat Gaussian has a zero."""
NUMBERS = 10
"""Of an anchor in `ContactGaussians.numbers`: activity, mean, Cholesky's factor row by row."""
_MEAN_UNIT, _SPREAD_UNIT = 0.004, 0.002
"""m: about the deviations of these numbers over grasps."""
_ROWS, _COLUMNS = np.tril_indices(3)


@dataclass(frozen=True)
class ContactSkin:
    """How a hand's skin is divided. anchor: (V,) int64, of each vertex. area: (V,), m^2, in the rest pose."""

    anchors: HandAnchors
    anchor: Tensor
    area: Tensor

    @staticmethod
    def of_model(model: HandModel) -> ContactSkin:
        """Of a full hand model of either side; on the CPU."""
        anchors, arrays = anchors_of(model), model.arrays
        vertices = arrays.v_template
        places = anchors.positions(torch.from_numpy(vertices)[None])[0].numpy()
        distance = np.linalg.norm(vertices[:, None] - places, axis=2)
        distance[anchors.vertex_region[:, None] != anchors.region] = np.inf
        _, areas = face_normals_and_areas(vertices, arrays.faces)
        area = np.bincount(arrays.faces.ravel(), np.repeat(areas / 3, 3), minlength=len(vertices))
        return ContactSkin(anchors, torch.from_numpy(distance.argmin(axis=1)), torch.from_numpy(area).float())


@dataclass(frozen=True)
class ContactGaussians:
    """Of B hands.

    mean: (B, 32, 3), m, from each anchor, in the axes of the object's frame. cholesky: (B, 32, 3, 3), m, lower, its
    diagonal positive: the covariance is ``L L^T``. active: (B, 32) bool; of the others mean and factor mean nothing.
    """

    mean: Tensor
    cholesky: Tensor
    active: Tensor

    def __len__(self) -> int:
        return len(self.active)

    def __getitem__(self, rows: slice | Tensor) -> ContactGaussians:
        """Some of the hands."""
        return ContactGaussians(self.mean[rows], self.cholesky[rows], self.active[rows])

    def turned(self, turn: Tensor) -> ContactGaussians:
        """Of hands that are turned together with their objects by rotations (B, 3, 3)."""
        turned = turn[:, None] @ self.cholesky
        mean = (turn[:, None] @ self.mean[..., None])[..., 0]
        return ContactGaussians(mean, _factor(turned @ turned.mT), self.active)

    def numbers(self) -> Tensor:
        """(B, 32, `NUMBERS`) for a network: activity 1 or -1, mean, Cholesky's factor; zeros where not active."""
        rest = torch.cat([self.mean / _MEAN_UNIT, self.cholesky[..., _ROWS, _COLUMNS] / _SPREAD_UNIT], dim=-1)
        sign = torch.where(self.active, 1.0, -1.0).to(rest)
        return torch.cat([sign[..., None], rest * self.active[..., None]], dim=-1)

    @staticmethod
    def of_numbers(numbers: Tensor) -> ContactGaussians:
        """The inverse of `numbers`; what a network tells of a factor's diagonal is kept positive."""
        if numbers.shape[1:] != (NUM_ANCHORS, NUMBERS):
            raise InputError(f"contacts: expected numbers (B, {NUM_ANCHORS}, {NUMBERS}), got {tuple(numbers.shape)}")
        factor = numbers.new_zeros(*numbers.shape[:2], 3, 3)
        factor[..., _ROWS, _COLUMNS] = numbers[..., 4:] * _SPREAD_UNIT
        diagonal = factor.diagonal(dim1=-2, dim2=-1).clamp(min=LEAST_DEVIATION)
        factor = factor.tril(-1) + torch.diag_embed(diagonal)
        return ContactGaussians(numbers[..., 1:4] * _MEAN_UNIT, factor, numbers[..., 0] > 0)


def skin_contact(signed_distance: Tensor, reach: float = REACH) -> Tensor:
    """Contact in [0, 1] of skin at signed distances (...), m: 1 at the surface and inside, 0 from `reach` on."""
    return 1.0 - (signed_distance / reach).clamp(0.0, 1.0)


def encode_contacts(skin: ContactSkin, vertices: Tensor, contact: Tensor) -> ContactGaussians:
    """Gaussians of dense contact maps.

    Args:
        skin: of the hand model. vertices: (B, V, 3), m, object frame. contact: (B, V) in [0, 1], of each vertex.

    Raises:
        InputError: shapes that do not go together.
    """
    if vertices.shape[:2] != contact.shape or len(skin.anchor) != contact.shape[1]:
        raise InputError(
            f"contacts: expected vertices (B, {len(skin.anchor)}, 3) and contact (B, {len(skin.anchor)}), got "
            f"{tuple(vertices.shape)} and {tuple(contact.shape)}"
        )
    owner = skin.anchor.to(vertices.device)
    away = vertices - skin.anchors.positions(vertices)[:, owner]
    weight = contact * skin.area.to(contact)
    total = _sums(weight[..., None], owner)[..., 0]
    known = total > 0
    share = torch.where(known, total, 1.0)[..., None]
    mean = _sums(weight[..., None] * away, owner) / share
    off = away - mean[:, owner]
    outer = (off[..., :, None] * off[..., None, :]).flatten(2)
    covariance = (_sums(weight[..., None] * outer, owner) / share).unflatten(-1, (3, 3))
    count = _sums((contact > 0).to(contact)[..., None], owner)[..., 0]
    active = known & (count >= LEAST_VERTICES) & (mean.norm(dim=-1) < FURTHEST_MEAN)
    covariance = covariance + LEAST_DEVIATION**2 * torch.eye(3, dtype=mean.dtype, device=mean.device)
    return ContactGaussians(mean, _factor(covariance), active)


def decode_contacts(skin: ContactSkin, gaussians: ContactGaussians, vertices: Tensor) -> Tensor:
    """Dense contact maps (B, V) in [0, 1] of Gaussians, on hands (B, V, 3), m, posed as they may be.

    Each vertex asks the Gaussian of its own anchor; differentiable in the vertices.
    """
    owner = skin.anchor.to(vertices.device)
    away = vertices - skin.anchors.positions(vertices)[:, owner] - gaussians.mean[:, owner]
    whitened = torch.linalg.solve_triangular(gaussians.cholesky[:, owner], away[..., None], upper=False)[..., 0]
    return torch.exp(-0.5 * whitened.square().sum(dim=-1)) * gaussians.active[:, owner]


def _sums(values: Tensor, owner: Tensor) -> Tensor:
    """(B, 32, C): sums over the vertices of each anchor of values (B, V, C)."""
    return values.new_zeros(len(values), NUM_ANCHORS, values.shape[2]).index_add_(1, owner, values)


def _factor(covariance: Tensor) -> Tensor:
    """Cholesky's factor (..., 3, 3), in float64: small patches have covariances of 1e-6 m^2."""
    return torch.linalg.cholesky(covariance.double()).to(covariance.dtype)
