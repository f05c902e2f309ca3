"""GeO as one call: grasps in, refined grasps out, with what the springs and the solver had to say."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from grasp_nodes.contact.contact_map import REGION_NOT_COMPUTED, ContactMap
from grasp_nodes.contact.hand_states import stack_params
from grasp_nodes.contact.repulsion import RepulsiveSprings
from grasp_nodes.contact.springs import AttractiveSprings, anchor_elasticities
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.geo import adam, newton
from grasp_nodes.fitting.geo.contact_terms import SpringContact, annotated_springs, repulsion_of
from grasp_nodes.fitting.geo.energy import GraspingEnergy, GraspShift
from grasp_nodes.fitting.geo.result import NO_SPRINGS, Descent, GeoResult
from grasp_nodes.fitting.geo.settings import HANDS_AT_ONCE, GeoSettings
from grasp_nodes.hand.anatomy import HandAnatomy
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.model import ObjectModel

logger = logging.getLogger(__name__)

Solver = Literal["newton", "adam"]
SOLVERS: tuple[Solver, ...] = ("newton", "adam")


class GeoRefiner:
    """Refines grasps by CPF's springs (Yang et al., ICCV 2021, section 5.3).

    Args:
        model: of the hands, full, of either side. settings: weights and steps.
        solver: ``newton``: Levenberg-Marquardt on the springs; ``adam``: as the paper.
    """

    def __init__(self, model: HandModel, settings: GeoSettings | None = None, solver: Solver = "newton") -> None:
        if solver not in SOLVERS:
            raise InputError(f"GeO: solver: expected one of {', '.join(SOLVERS)}, got {solver!r}")
        self.model, self.settings, self.solver = model, settings or GeoSettings(), solver
        if self.settings.components is not None and solver != "adam":
            raise InputError("GeO: principal components are moved by the solver adam alone")
        self.anchors = anchors_of(model)
        self.anatomy = HandAnatomy.of_model(model)
        self._repulsion: tuple[ObjectModel, RepulsiveSprings | None] | None = None
        self._told: set[str] = set()

    def __call__(self, hands: HandParams, object_model: ObjectModel) -> HandParams:
        """Refined hands, with contact where hands and object are near each other now; the object stays."""
        if not len(hands):
            return hands
        alone = GeoRefiner(self.model, replace(self.settings, move_object=False), self.solver)
        return alone.refine(hands, object_model).hands

    def springs_of(self, hands: HandParams, object_model: ObjectModel) -> AttractiveSprings:
        """Springs as CPF annotates them: between what is within 20 mm of each other."""
        with torch.no_grad():
            vertices = self.model(hands).vertices
        return annotated_springs(self.anchors, vertices, torch.as_tensor(object_model.points, dtype=vertices.dtype))

    def springs_of_contact(self, contact_maps: Sequence[ContactMap], hands: HandParams) -> AttractiveSprings:
        """Springs of the computed contact maps of hands, one map for each (algorithm 1).

        A computed map knows distances: each point has a spring to every anchor of its region within 20 mm, as stiff as
        equation 4 says of that anchor, and the probability of contact, by which predicted maps are cut, says nothing
        more. The map's own elasticity is that of the nearest anchor.

        Args:
            contact_maps: with regions, in the object's frame. hands: that they were computed of, in the same frame.

        Raises:
            InputError: regions were not computed, or maps of different numbers of points or hands.
        """
        for contact in contact_maps:
            if len(contact.region) and (contact.region == REGION_NOT_COMPUTED).all():
                raise InputError(
                    f"contact map of {contact.object_id}: has no regions, which springs need: compute it with anchors "
                    "(compute_contact_map(..., anchors=HandAnchors.of_model(model)))"
                )
        if len({len(contact.points) for contact in contact_maps}) != 1:
            raise InputError("contact maps: expected at least one, all on the same points of one object")
        if len(contact_maps) != len(hands):
            raise InputError(f"contact maps: expected one for each of {len(hands)} hands, got {len(contact_maps)}")

        def stacked(name: str) -> torch.Tensor:
            return torch.from_numpy(np.stack([getattr(contact, name) for contact in contact_maps]))

        points, region = stacked("points").to(self.model.dtype), stacked("region").long()
        with torch.no_grad():
            positions = self.anchors.positions(self.model(hands).vertices)
        elasticity = anchor_elasticities(self.anchors, positions, points, region)
        near = (stacked("elasticity") > 0).to(points.dtype)
        return AttractiveSprings.of_contact(self.anchors, points, near, region, elasticity)

    def refine(
        self, hands: HandParams, object_model: ObjectModel, springs: AttractiveSprings | None = None
    ) -> GeoResult:
        """Refine B hands at one object.

        Args:
            hands: in the object's frame, of the model's side and dtype. object_model: with normals.
            springs: of each hand; None = `springs_of` the hands as they are.

        Returns:
            Refined hands. One without springs stays as it was, and its reason says so.

        Raises:
            InputError: no hands, hands with NaN, springs of another number of hands, or an object without usable
                normals.
        """
        started = time.perf_counter()
        self._check(hands)
        found = self.springs_of(hands, object_model) if springs is None else springs
        if len(found.elasticity) != len(hands):
            raise InputError(f"springs: expected those of {len(hands)} hands, got {len(found.elasticity)}")
        parts = []
        for first in range(0, len(hands), HANDS_AT_ONCE):
            rows = slice(first, first + HANDS_AT_ONCE)
            part = AttractiveSprings(found.anchor[rows], found.point[rows], found.elasticity[rows])
            parts.append(self._refine(hands[rows], object_model, part))
        result = parts[0] if len(parts) == 1 else joined(parts)
        untouched = sum(reason == NO_SPRINGS for reason in result.reason)
        if untouched:
            # Clips are refined frame by frame: each object is worth one warning.
            level = logging.DEBUG if object_model.object_id in self._told else logging.WARNING
            self._told.add(object_model.object_id)
            logger.log(
                level,
                "GeO: %d of %d hands have no springs to %s: they stay as they are",
                untouched,
                len(hands),
                object_model.object_id,
            )
        return replace(result, seconds=time.perf_counter() - started)

    def _refine(self, hands: HandParams, object_model: ObjectModel, springs: AttractiveSprings) -> GeoResult:
        contact = SpringContact(self.anchors, springs.collapsed(), self._repulsion_of(object_model), self.settings)
        energy = GraspingEnergy(self.model, hands, object_model, contact, self.settings)
        start = GraspShift.none(hands)
        descent: Descent = (newton if self.solver == "newton" else adam).descend(energy, start)
        count = springs.count
        best = descent.best.where(count > 0, start)
        with torch.no_grad():
            after = torch.stack(list(energy.terms(best)), dim=-1)
        turn = energy.object_transforms(best)
        moved = energy.params(best)
        if self.settings.move_object:
            moved = energy.seen_from_object(moved, best)
        kept = (count > 0)[:, None]
        moved = replace(
            moved,
            global_orient=torch.where(kept, moved.global_orient, hands.global_orient),
            hand_pose=torch.where(kept, moved.hand_pose, hands.hand_pose),
            transl=torch.where(kept, moved.transl, hands.transl),
        )
        return GeoResult(
            moved,
            turn,
            count.numpy(),
            descent.course[0].numpy(),
            after.numpy(),
            descent.course.numpy(),
            torch.where(count > 0, descent.steps, 0).numpy(),
            [reason if number else NO_SPRINGS for reason, number in zip(descent.reason, count.tolist(), strict=True)],
            0.0,
        )

    def _check(self, hands: HandParams) -> None:
        if not len(hands):
            raise InputError("GeO: expected at least one hand, got none")
        if hands.side != self.model.side or hands.betas.dtype != self.model.dtype:
            raise InputError(
                f"GeO: expected {self.model.side} hands in {self.model.dtype}, as {self.model.model_id} was loaded; "
                f"got {hands.side} ones in {hands.betas.dtype}"
            )
        fields = (hands.global_orient, hands.hand_pose, hands.betas, hands.transl, hands.scale)
        if not all(bool(torch.isfinite(value).all()) for value in fields):
            raise InputError("GeO: hands hold NaN or infinite numbers; leave them out")

    def _repulsion_of(self, object_model: ObjectModel) -> RepulsiveSprings | None:
        if self._repulsion is None or self._repulsion[0] is not object_model:
            self._repulsion = object_model, repulsion_of(object_model, self.settings)
        return self._repulsion[1]


def joined(parts: Sequence[GeoResult]) -> GeoResult:
    """Results of several batches at one object as one; shorter courses stay at their last value."""
    longest = max(len(part.course) for part in parts)
    return GeoResult(
        stack_params([part.hands for part in parts]),
        np.concatenate([part.T_start_object for part in parts]),
        np.concatenate([part.springs for part in parts]),
        np.concatenate([part.energy_before for part in parts]),
        np.concatenate([part.energy_after for part in parts]),
        np.concatenate(
            [
                np.concatenate([part.course, part.course[-1:].repeat(longest - len(part.course), axis=0)])
                for part in parts
            ],
            axis=1,
        ),
        np.concatenate([part.steps for part in parts]),
        [reason for part in parts for reason in part.reason],
        sum(part.seconds for part in parts),
    )
