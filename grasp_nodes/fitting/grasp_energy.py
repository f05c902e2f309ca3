"""What makes a grasp good, as a differentiable energy: contact without penetration, balance, a natural hand.

The terms of DexGraspNet (Wang et al., ICRA 2023: penetration, distance, force closure, joint limits, self-penetration)
on a human hand, with contact asked only of the fingers that a grasp kind uses, and a prior of how fingers bend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.fitting.grasp_hand import GraspHand
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.hand.naturalness import GraspKind, unnaturalness
from grasp_nodes.hand.pads import contact_patches


@dataclass(frozen=True)
class EnergyWeights:
    """Weights and lengths of the terms.

    penetration: per m^2, of every vertex deeper than `skin` m.
    flesh: per m^2, of spheres inside the fingers that the object enters deeper than `skin`: what a finger through a
    thin wall feels, no vertex of which is deep.
    contact: per m, of patches that should touch. press: m, depth at which they are at rest: soft skin, and what lets a
    rigid hand hold an object that it does not cage. reach: m, over which a patch that may touch is attracted.
    balance: of the squared sum of unit forces and of torques over `lever` m.
    self_contact: per m^2, of spheres in each other beyond `give` m.
    natural, prior: of unnaturalness and of the squared angles, rad, to where the hand started.
    """

    penetration: float = 3e4
    flesh: float = 3e4
    skin: float = 0.0012
    contact: float = 25.0
    press: float = 0.0008
    reach: float = 0.010
    balance: float = 0.06
    lever: float = 0.03
    self_contact: float = 1.5e4
    give: float = 0.001
    natural: float = 0.5
    prior: float = 0.02


@dataclass(frozen=True)
class ContactGoal:
    """Which patches of skin should touch.

    patches: P names of `hand.pads.contact_patches`. required: (B, P) or (P,), weight of contact. optional: the same,
    weight of contact where the patch is near anyway. kinds: of grasp, for what is natural: one, one for each hand, or
    None = not known.
    """

    patches: Sequence[str]
    required: Tensor
    optional: Tensor
    kinds: GraspKind | Sequence[GraspKind | None] | None = None


class GraspEnergy:
    """The energy of hands at one object.

    Args:
        hand: in the search's variables; patches must be among its vertices. distance: to the object. goal: contacts.
        start_angles: (B, D), rad, for the prior.
    """

    def __init__(
        self,
        hand: GraspHand,
        distance: SignedDistanceGrid,
        goal: ContactGoal,
        start_angles: Tensor,
        weights: EnergyWeights | None = None,
    ) -> None:
        self._hand, self._distance, self._goal = hand, distance, goal
        self._start = start_angles
        self._weights = weights or EnergyWeights()
        every = contact_patches(hand.model)
        rows = [every[name] for name in goal.patches]
        longest = max(len(row) for row in rows)
        # Padded by repeats of the patch's own vertices.
        self._patches = torch.from_numpy(np.stack([np.resize(row, longest) for row in rows]))

    def __call__(self, angles: Tensor, vertices: Tensor, keypoints: Tensor) -> Tensor:
        """Energy (B,) of angles (B, D) rad and the posed hand's vertices (B, V, 3) and keypoints (B, 21, 3), m."""
        w = self._weights
        signed = self._distance(vertices)
        penetration = (-signed - w.skin).clamp(min=0).square().sum(dim=1)
        contact, balance = self._contact(vertices, signed)
        spheres = self._hand.spheres
        centres = spheres.centres(keypoints)
        flesh = (spheres.radius - w.skin - self._distance(centres)).clamp(min=0).square().sum(dim=1)
        overlap = (spheres.overlap(centres) - w.give).clamp(min=0).square().sum(dim=1)
        return (
            w.penetration * penetration
            + w.flesh * flesh
            + w.contact * contact
            + w.balance * balance
            + w.self_contact * overlap
            + w.natural * unnaturalness(angles, self._goal.kinds)
            + w.prior * (angles - self._start).square().sum(dim=1)
        )

    def _contact(self, vertices: Tensor, signed: Tensor) -> tuple[Tensor, Tensor]:
        """Distance of the patches to where they should be, m, and the squared imbalance of their unit forces."""
        w = self._weights
        at_patch = signed[:, self._patches]
        gap = (at_patch + w.press).abs()
        share = torch.softmax(-gap / 0.002, dim=-1)
        near = torch.exp(-(at_patch.detach().amin(dim=-1).clamp(min=0) / w.reach))
        active = self._goal.required + self._goal.optional * near
        contact = (active * (share * gap).sum(dim=-1)).sum(dim=1)

        points = (share[..., None] * vertices[:, self._patches]).sum(dim=2)  # (B, P, 3)
        normals = self._normals(points) * (active * near)[..., None]
        centre = points.detach().mean(dim=1, keepdim=True)
        torque = torch.linalg.cross(points - centre, normals).sum(dim=1) / w.lever
        return contact, normals.sum(dim=1).square().sum(dim=1) + torque.square().sum(dim=1)

    def _normals(self, points: Tensor, step: float = 0.002) -> Tensor:
        """Unit normals (B, P, 3) of the object at points, differentiable in them: central differences, `step` m."""
        offsets = step * torch.eye(3, dtype=points.dtype, device=points.device)
        around = torch.stack([points[..., None, :] + offsets, points[..., None, :] - offsets])
        ahead, behind = self._distance(around)
        return torch.nn.functional.normalize(ahead - behind, dim=-1)
