"""The energy that GeO lowers: springs, an anatomical hand, and closeness to where hand and object were (equation 11).

Unknowns of B hands at one object, all about where they were (:class:`GraspShift`). Everything is computed in the frame
of the object as it was; springs act in the frame of the object as it is.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.fitting.geo.contact_terms import ContactTerms
from grasp_nodes.fitting.geo.settings import GeoSettings
from grasp_nodes.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from grasp_nodes.hand.anatomy import HandAnatomy
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.objects.model import ObjectModel


class GraspShift(NamedTuple):
    """Where hands and object are, from where they were; (B, .) each.

    turn: (B, 3), rad, of the hand about its wrist. shift: (B, 3), m, of the wrist. pose: (B, 45), rad, as `hand_pose`.
    object_turn: (B, 3), rad, about the centre of the object's points. object_shift: (B, 3), m.
    """

    turn: Tensor
    shift: Tensor
    pose: Tensor
    object_turn: Tensor
    object_shift: Tensor

    @staticmethod
    def none(hands: HandParams) -> GraspShift:
        """Where hands are now."""
        zero = torch.zeros_like(hands.transl)
        return GraspShift(zero, zero.clone(), hands.hand_pose.clone(), zero.clone(), zero.clone())

    def rows(self, index: Tensor) -> GraspShift:
        """Some of the hands."""
        return GraspShift(*(part[index] for part in self))

    def where(self, better: Tensor, other: GraspShift) -> GraspShift:
        """These where `better` (B,) bool, else the other."""
        return GraspShift(*(torch.where(better[:, None], own, theirs) for own, theirs in zip(self, other, strict=True)))


class EnergyTerms(NamedTuple):
    """Of each hand, (B,), weighted: their sum is what is lowered."""

    attraction: Tensor
    repulsion: Tensor
    anatomy: Tensor
    offset: Tensor

    @property
    def total(self) -> Tensor:
        """(B,)."""
        return self.attraction + self.repulsion + self.anatomy + self.offset


@dataclass(frozen=True)
class PosedGrasp:
    """vertices: (B, V, 3), m, where the hand is. at_object: (B, V, 3), m, in the frame of the moved object."""

    vertices: Tensor
    at_object: Tensor


class GraspingEnergy:
    """GeO's energy of B hands at one object.

    Args:
        model: of the hands, full. hands: where they are, in the object's frame. object_model: the object.
        contact: of these hands with this object. settings: weights.
    """

    def __init__(
        self,
        model: HandModel,
        hands: HandParams,
        object_model: ObjectModel,
        contact: ContactTerms,
        settings: GeoSettings,
    ) -> None:
        self.model, self.hands, self.settings, self.contact = model, hands, settings, contact
        self.anatomy = HandAnatomy.of_model(model)
        with torch.no_grad():
            self.wrist = model.joints(hands)[0][:, 0]
            self.start = model(hands).vertices
        self.orient = axis_angle_to_matrix(hands.global_orient)
        points = torch.as_tensor(object_model.points, dtype=model.dtype)
        self.centre = points.mean(dim=0)
        away = (points - self.centre).double()
        self.spread = (away.T @ away / len(away)).to(model.dtype)
        """(3, 3), m^2: mean of the outer products of the object's points."""

    def part(self, rows: Tensor) -> GraspingEnergy:
        """That of some of the hands."""
        result = copy(self)
        result.hands, result.contact = self.hands[rows], self.contact.part(rows)
        result.wrist, result.start, result.orient = self.wrist[rows], self.start[rows], self.orient[rows]
        return result

    def posed(self, at: GraspShift) -> PosedGrasp:
        """Hands at their new places; differentiable."""
        upright = replace(self.hands, global_orient=torch.zeros_like(at.turn), hand_pose=self._posture(at))
        moved = self.model(upright).vertices
        turn = axis_angle_to_matrix(at.turn) @ self.orient
        place = self.wrist + at.shift
        vertices = (moved - self.wrist[:, None]) @ turn.mT + place[:, None]
        if not self.settings.move_object:
            return PosedGrasp(vertices, vertices)
        back = axis_angle_to_matrix(at.object_turn)
        return PosedGrasp(vertices, (vertices - (self.centre + at.object_shift)[:, None]) @ back + self.centre)

    def terms(self, at: GraspShift) -> EnergyTerms:
        """Energy of hands at their new places; once differentiable."""
        return self.terms_of(at, self.posed(at))

    def terms_of(self, at: GraspShift, posed: PosedGrasp) -> EnergyTerms:
        """`terms` of what is posed already."""
        s = self.settings
        attraction, repulsion = self.contact(posed.at_object)
        anatomy = self.anatomy.costs(self._posture(at)).paper * s.anatomy
        offset = (posed.vertices - self.start).square().sum(dim=-1).mean(dim=-1)
        if s.move_object:
            turned = axis_angle_to_matrix(at.object_turn) - torch.eye(3, dtype=at.turn.dtype)
            offset = offset + torch.einsum("bij,jk,bik->b", turned, self.spread, turned)
            offset = offset + at.object_shift.square().sum(dim=-1)
        return EnergyTerms(attraction, repulsion, anatomy, offset * (s.offset / s.length**2))

    def params(self, at: GraspShift) -> HandParams:
        """The hands in the frame of the object as it was."""
        orient = matrix_to_axis_angle(axis_angle_to_matrix(at.turn) @ self.orient)
        transl = self.hands.transl + at.shift
        return replace(self.hands, global_orient=orient, hand_pose=self._posture(at), transl=transl)

    def _posture(self, at: GraspShift) -> Tensor:
        """(B, 45), rad: the share of `settings.components` principal components."""
        if self.settings.components is None:
            return at.pose
        basis = self.model.hands_components[: self.settings.components]
        return self.model.hands_mean + (at.pose - self.model.hands_mean) @ basis.T @ basis

    def seen_from_object(self, hands: HandParams, at: GraspShift) -> HandParams:
        """Hands of the frame of the object as it was, in that of the object as it is."""
        return move_hands(hands, np.linalg.inv(self.object_transforms(at)), self.model)

    def object_transforms(self, at: GraspShift) -> np.ndarray:
        """(B, 4, 4) float64, m: the object's frame now to the object's frame as it was."""
        turn = axis_angle_to_matrix(at.object_turn.double())
        centre = self.centre.double()
        result = torch.eye(4, dtype=torch.float64).repeat(len(turn), 1, 1)
        result[:, :3, :3] = turn
        result[:, :3, 3] = centre + at.object_shift.double() - (turn @ centre)
        return result.numpy()
