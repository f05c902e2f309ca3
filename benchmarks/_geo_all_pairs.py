"""GeO as its paper has it, faithfully and without a thought for speed: the baseline of ``benchmarks geo``.

Every step poses the hands, takes every spring by itself (all anchors of a region with all points that it touches), and
forms the distances and heights of every hand vertex at every object point, as matrix products (less to store than
their differences, and two to three times as fast); torch's Adam with autograd. The same energy as ours.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from grasp_nodes.contact.springs import AttractiveSprings
from grasp_nodes.fitting.geo.settings import GeoSettings
from grasp_nodes.geometry.rotations import axis_angle_to_matrix
from grasp_nodes.hand.anatomy import HandAnatomy
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams


class AllPairsGeo:
    """Hand-alone refinement of B hands.

    Args:
        model: of the hand. hands: B, object frame. points, normals: (N, 3), m, of the object. depth: (N,), m, below
            which a point does not push. springs: of the hands. settings: weights, as ours.
    """

    def __init__(
        self,
        model: HandModel,
        hands: HandParams,
        points: Tensor,
        normals: Tensor,
        depth: Tensor,
        springs: AttractiveSprings,
        settings: GeoSettings,
    ) -> None:
        self._model, self._hands, self._springs, self._settings = model, hands, springs, settings
        self._points, self._normals, self._depth = points, normals, depth
        self._plane = (points * normals).sum(dim=-1)
        self._anchors, self._anatomy = HandAnchors.of_model(model), HandAnatomy.of_model(model)
        with torch.no_grad():
            self._start = model(hands).vertices
            self._wrist = model.joints(hands)[0][:, 0]
        self._orient = axis_angle_to_matrix(hands.global_orient)
        self.turn = torch.zeros_like(hands.transl).requires_grad_(True)
        self.shift = torch.zeros_like(hands.transl).requires_grad_(True)
        self.pose = hands.hand_pose.clone().requires_grad_(True)
        self._adam = torch.optim.Adam(
            [
                {"params": [self.turn, self.pose], "lr": settings.rate},
                {"params": [self.shift], "lr": settings.translation_rate},
            ]
        )
        self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._adam, factor=0.5, patience=settings.patience, min_lr=settings.least_rate
        )

    def energy(self) -> Tensor:
        """The energy where the hands are, all together."""
        s, unit = self._settings, self._settings.length
        upright = replace(self._hands, global_orient=torch.zeros_like(self.turn), hand_pose=self.pose)
        vertices = self._model(upright).vertices - self._wrist[:, None]
        turn = axis_angle_to_matrix(self.turn) @ self._orient
        vertices = vertices @ turn.mT + (self._wrist + self.shift)[:, None]
        attraction = self._springs.energy(self._anchors.positions(vertices)).sum() * s.attraction / unit**2
        height = vertices @ self._normals.T - self._plane
        near = (torch.cdist(vertices, self._points.expand(len(vertices), -1, 3)) <= s.reach) & (height >= -self._depth)
        repulsion = 0.5 * s.repulsion * (torch.exp(-height / s.length).square() * near).sum()
        anatomy = self._anatomy.costs(self.pose).paper.sum() * s.anatomy
        offset = (vertices - self._start).square().sum(dim=-1).mean(dim=-1).sum() * s.offset / unit**2
        return attraction + repulsion + anatomy + offset

    def step(self) -> float:
        """One iteration; the energy before it."""
        self._adam.zero_grad()
        energy = self.energy()
        energy.backward()
        self._adam.step()
        self._plateau.step(energy.detach())
        return float(energy.detach())
