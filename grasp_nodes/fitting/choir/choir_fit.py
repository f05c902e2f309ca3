"""Hands out of CHOIR fields by our solver: test-time optimisation in milliseconds (CHOIR, section B.2, replaced).

Stage 1: each anchor by multilateration, the hand's place by Kabsch, then Levenberg-Marquardt on place, pose and shape,
each anchor weighted by what its distances tell of it. Stage 2: skin that the contact Gaussians name goes onto the
surface, skin in the object out of it, anchors stay about where they were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.contact.choir.field import ChoirField
from grasp_nodes.contact.choir.gaussians import BORDER, ContactGaussians, ContactSkin, decode_contacts
from grasp_nodes.contact.choir.space import ChoirSpace
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.choir.carried_points import (
    Carrier,
    HandPlace,
    Mixed,
    anchor_points,
    carrier_of,
    keypoints_and_anchors,
    with_flesh,
)
from grasp_nodes.fitting.choir.mirrors import without_mirrors
from grasp_nodes.fitting.choir.multilateration import Multilateration
from grasp_nodes.fitting.choir.prior import HandPrior, hand_prior
from grasp_nodes.fitting.choir.solver import PointGoals, Solved, SurfaceGoals, no_surface, solve, usual_place
from grasp_nodes.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from grasp_nodes.hand.anchors import NUM_ANCHORS, anchors_of
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_POSE, HandParams
from grasp_nodes.hand.placement import wrist_positions
from grasp_nodes.objects.model import ObjectModel

_SPHERE_AREA = 4.0
"""What a sphere in the flesh counts beside a vertex."""


@dataclass(frozen=True)
class ChoirFitSettings:
    """How hands are fitted.

    steps: of stage 1 at most; least_gain: share of the cost that a step must gain. grasping_prior: postures of hands
    that hold something, or those of any hand. floor: m, deviation of every anchor beside what the field's residuals
    tell: the errors of a network are alike in neighbours, and averaging does not take them away.
    remapped_errors: see `Multilateration`. shape_known: deviation of betas that are given.

    surface_steps: of stage 2. contact, depth: m, deviations of skin that ought to touch from the surface, and of
    skin in the object from `tolerance` (m). held: m, deviation of anchors from where stage 1 put them.
    usual: weight in stage 2 of the usual posture, shape then stays within `shape_known` of stage 1's; 0 = the most
    likely hand is then what stage 1 found, and both move as they usually do. flesh: m, that the object may be in
    spheres inside the hand: skin on both sides of a thin wall is in no object, the finger's middle is. inf = anything.
    """

    steps: int = 40
    least_gain: float = 1e-5
    grasping_prior: bool = True
    floor: float = 0.0
    remapped_errors: bool = False
    shape_known: float = 0.2
    surface_steps: int = 15
    contact: float = 0.002
    depth: float = 0.001
    tolerance: float = 0.002
    held: float = 0.004
    usual: float = 0.0
    flesh: float = math.inf


NETWORK_FIT = ChoirFitSettings(
    floor=0.01,
    remapped_errors=True,
    surface_steps=40,
    contact=0.001,
    depth=0.0005,
    tolerance=0.0005,
    held=0.04,
    usual=5.0,
    flesh=0.002,
)
"""For fields that a network tells: anchors are known to centimetres, so that the object's surface says more."""
REFINED_FIT = replace(NETWORK_FIT, held=0.01)
"""Where the network was told of a noisy hand, and knows better where the hand is."""


@dataclass(frozen=True)
class FittedHands:
    """hands: in the object's frame, on the CPU. cost: (B,), at the end, in squared deviations. steps: (B,) int64.

    anchors: (B, 32, 3) float64, m, that were aimed at.
    """

    hands: HandParams
    cost: np.ndarray
    steps: np.ndarray
    anchors: Tensor


class ChoirFit:
    """Fits hands of one model to fields of one space.

    Args:
        model: full, of the side that the fields are of. space: of the fields. settings: see there.
    """

    def __init__(self, model: HandModel, space: ChoirSpace, settings: ChoirFitSettings | None = None) -> None:
        self.model, self.space, self.settings = model, space, settings or ChoirFitSettings()
        self.multilateration = Multilateration(space, self.settings.remapped_errors)
        self._prior = hand_prior(model, self.settings.grasping_prior)
        self._anchors = anchor_points(model)
        self._keypoints = keypoints_and_anchors(model)
        self._whole: tuple[Carrier, Mixed, np.ndarray] | None = None
        self._skin = ContactSkin.of_model(model)

    def stage1(self, field: ChoirField, betas: Tensor | None = None) -> FittedHands:
        """Hands whose anchors have the distances of B fields.

        Args:
            field: of the hands. betas: (B, 10), where the hands' shapes are about known, as those of noisy ones are.

        Raises:
            InputError: fields of another space, or distances that are not finite.
        """
        if not bool(torch.isfinite(field.anchor_distance).all()):
            raise InputError("CHOIR: the field holds NaN or infinite distances")
        estimate = self.multilateration(field)
        information = self._floored(estimate.information)
        solved, goals = [], []
        for row in range(len(field)):
            prior = self._prior_of(betas, row)
            aims = PointGoals(estimate.positions[row].numpy(), information[row])
            if estimate.mirrored is None:
                solved.append(self._solved(self._anchors, aims, prior))
            else:
                aims, best = without_mirrors(
                    self._anchors, aims, estimate.mirrored[row].numpy(), anchors_of(self.model).region, prior
                )
                solved.append(best)
            goals.append(aims.position)
        return self._fitted(solved, torch.from_numpy(np.stack(goals)))

    def from_keypoints(self, points: Tensor, deviation: float, betas: Tensor | None = None) -> FittedHands:
        """Hands of keypoints and anchors that were told alone.

        Args:
            points: (B, 53, 3), m: 21 keypoints, then 32 anchors. deviation: m, of each. betas: as for `stage1`.
        """
        information = np.tile(np.eye(3) / deviation**2, (points.shape[1], 1, 1))
        rows = points.detach().double().cpu().numpy()
        solved = [
            self._solved(self._keypoints, PointGoals(one, information), self._prior_of(betas, row))
            for row, one in enumerate(rows)
        ]
        return self._fitted(solved, torch.from_numpy(rows[:, -NUM_ANCHORS:]))

    def stage2(
        self,
        fitted: FittedHands,
        gaussians: ContactGaussians | None,
        object_model: ObjectModel,
        steps: int | None = None,
    ) -> FittedHands:
        """Hands on the object's surface.

        Args:
            fitted: of stage 1. gaussians: of the hands' contacts, None = nothing is drawn, only pushed out.
            object_model: in whose frame the hands are. steps: None = as the settings say.
        """
        s, model = self.settings, self.model
        if self._whole is None:
            carrier, radius = with_flesh(carrier_of(model, np.arange(model.num_vertices)), model)
            _, own = self._anchors
            self._whole = carrier, Mixed(np.ascontiguousarray(self._skin.anchors.faces), own.shares), radius
        carrier, mixed, radius = self._whole
        with torch.no_grad():
            vertices = model(fitted.hands.to(dtype=model.dtype, device=model.device)).vertices.cpu()
            contact = torch.zeros(vertices.shape[:2])
            if gaussians is not None:
                told = ContactGaussians(
                    *(part.cpu() for part in (gaussians.mean, gaussians.cholesky, gaussians.active))
                )
                contact = decode_contacts(self._skin, told, vertices.float())
            positions = self._skin.anchors.positions(vertices).double().numpy()
        # Nothing in the flesh ought to touch.
        touching = np.zeros((len(contact), len(carrier.template)))
        touching[:, : contact.shape[1]] = torch.where(contact > BORDER, contact, 0.0).double().numpy()
        surface = self._at(object_model, radius)
        held = np.tile(np.eye(3) / s.held**2, (NUM_ANCHORS, 1, 1))
        precision = self._prior.precision
        if s.usual:
            precision = self._of_known_shape(s.usual * precision)
        solved = []
        for row, start in enumerate(self._places(fitted.hands)):
            near, goals = surface._replace(contact=touching[row]), PointGoals(positions[row], held)
            count = s.surface_steps if steps is None else steps
            pose = self._prior.mean[:NUM_POSE] if s.usual else start.pose
            around = HandPrior(np.concatenate([pose, start.betas]), precision)
            solved.append(solve(carrier, mixed, goals, near, around, start, count, s.least_gain))
        return self._fitted(solved, fitted.anchors)

    def __call__(self, field: ChoirField, gaussians: ContactGaussians | None, object_model: ObjectModel) -> FittedHands:
        """Both stages."""
        return self.stage2(self.stage1(field), gaussians, object_model)

    def _at(self, object_model: ObjectModel, radius: np.ndarray) -> SurfaceGoals:
        """Goals of skin and, behind it, spheres in the flesh at an object; nothing ought to touch yet."""
        s, grid = self.settings, object_model.signed_distance
        area = (self._skin.area / self._skin.area.mean()).double().numpy()
        return SurfaceGoals(
            np.zeros(0),
            np.concatenate([area, np.full(len(radius), _SPHERE_AREA)]),
            np.concatenate([np.full(len(area), -s.tolerance), radius - s.flesh]),
            np.ascontiguousarray(grid.values.detach().cpu().numpy(), np.float32),
            grid.origin.detach().cpu().numpy().astype(np.float64),
            grid.spacing,
            s.contact,
            s.depth,
        )

    def _floored(self, information: Tensor) -> np.ndarray:
        if self.settings.floor == 0.0:
            return information.contiguous().numpy()
        covariance = torch.linalg.inv(information) + self.settings.floor**2 * torch.eye(3, dtype=information.dtype)
        return torch.linalg.inv(covariance).contiguous().numpy()

    def _solved(self, points: tuple[Carrier, Mixed], goals: PointGoals, prior: HandPrior) -> Solved:
        start = usual_place(points, goals, prior)
        return solve(*points, goals, no_surface(), prior, start, self.settings.steps, self.settings.least_gain)

    def _prior_of(self, betas: Tensor | None, row: int) -> HandPrior:
        if betas is None:
            return self._prior
        mean = self._prior.mean.copy()
        mean[NUM_POSE:] = betas[row].detach().double().cpu().numpy()
        return HandPrior(mean, self._of_known_shape(self._prior.precision))

    def _of_known_shape(self, precision: np.ndarray) -> np.ndarray:
        """A prior's precision where betas are known."""
        known = precision.copy()
        known[NUM_POSE:, NUM_POSE:] = np.eye(NUM_BETAS) / self.settings.shape_known**2
        return known

    def _places(self, hands: HandParams) -> list[HandPlace]:
        rotation = axis_angle_to_matrix(hands.global_orient.double()).numpy()
        own = hands.to(dtype=self.model.dtype, device=self.model.device)
        wrist = wrist_positions(own, self.model).double().cpu().numpy()
        pose, betas = hands.hand_pose.double().numpy(), hands.betas.double().numpy()
        return [HandPlace(rotation[k], wrist[k], pose[k], betas[k]) for k in range(len(hands))]

    def _fitted(self, solved: Sequence[Solved], anchors: Tensor) -> FittedHands:
        places = [one.place for one in solved]
        arrays = self.model.arrays
        betas = np.stack([place.betas for place in places])
        rest = arrays.J_regressor[0] @ arrays.v_template + np.einsum(
            "v,vck,bk->bc", arrays.J_regressor[0], arrays.shapedirs, betas
        )
        parts = (
            matrix_to_axis_angle(torch.from_numpy(np.stack([place.rotation for place in places]))),
            torch.from_numpy(np.stack([place.pose for place in places])),
            torch.from_numpy(betas),
            torch.from_numpy(np.stack([place.wrist for place in places]) - rest),
            torch.ones(len(places), dtype=torch.float64),
        )
        hands = HandParams(*parts, side=self.model.side).to(dtype=self.model.dtype)
        return FittedHands(
            hands, np.array([one.cost for one in solved]), np.array([one.steps for one in solved]), anchors
        )
