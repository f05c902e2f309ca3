"""Grasps out of nothing but GeO (CPF, appendix C.2, equation 13): hands about the object's box, drawn in and relaxed.

There are no springs to attract the hand, so that ObMan's attraction takes their place:
``min L_A + E_rpl + L_anat`` over wrist and joints.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
import trimesh
from torch import Tensor

from grasp_nodes.contact.hand_states import make_grasps, stack_params
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.contact.repulsion import RepulsiveSprings
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.geo import adam
from grasp_nodes.fitting.geo.contact_terms import ObManContact, repulsion_of
from grasp_nodes.fitting.geo.energy import GraspingEnergy, GraspShift
from grasp_nodes.fitting.geo.settings import HANDS_AT_ONCE, GeoSettings
from grasp_nodes.fitting.homan.losses import contact_zones
from grasp_nodes.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.model import ObjectModel

METHOD = "geo-generation"
_GAP = (0.01, 0.04)
"""m, from a face of the box to the middle of the palm."""
_PALM = [0, 9]
"""Keypoints whose middle is the middle of the palm."""
_OUT_OF_PALM = (0.0, -1.0, 0.0)


class GenerationContact:
    """ObMan's attraction and CPF's repulsion.

    Args:
        attraction: of which the repulsion is left out. repulsion: of the object, None = without.
        settings: the unit of length.
    """

    def __init__(self, attraction: ObManContact, repulsion: RepulsiveSprings | None, settings: GeoSettings) -> None:
        self._attraction, self._repulsion, self._unit = attraction, repulsion, settings.length

    def __call__(self, at_object: Tensor) -> tuple[Tensor, Tensor]:
        """As `ContactTerms`."""
        attraction = self._attraction(at_object)[0]
        if self._repulsion is None:
            return attraction, torch.zeros_like(attraction)
        return attraction, self._repulsion.energy(at_object) / self._unit

    def part(self, rows: Tensor) -> GenerationContact:  # noqa: ARG002 - the protocol has it
        """As `ContactTerms`: one rule for all hands."""
        return self


class GeoGenerator:
    """Proposes grasps by placing hands about the object's tight box and lowering equation 13.

    Args:
        model: of the hands. settings: weights and steps; hands are not held where they begin.
    """

    def __init__(self, model: HandModel, settings: GeoSettings | None = None) -> None:
        self._model = model
        self._settings = settings or GeoSettings(offset=0.0)
        self._zones = contact_zones(model)

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """`count` grasps, those of the least energy first.

        Raises:
            InputError: a count below 1, or an object without usable normals.
        """
        if count < 1:
            raise InputError(f"GeO: expected at least 1 grasp to generate, got count {count}")
        started = time.perf_counter()
        placed = self.placed(object_model, count, seed)
        repulsion = repulsion_of(object_model, self._settings)
        attraction = ObManContact(self._zones, object_model, self._settings)
        contact = GenerationContact(attraction, repulsion, self._settings)
        found, left = [], []
        for first in range(0, count, HANDS_AT_ONCE):
            hands = placed[first : first + HANDS_AT_ONCE]
            energy = GraspingEnergy(self._model, hands, object_model, contact, self._settings)
            descent = adam.descend(energy, GraspShift.none(hands))
            found.append(energy.params(descent.best))
            left.append(descent.final_total)
        total = torch.cat(left)
        order = torch.argsort(total)
        scores = -total[order].double().numpy()
        grasps = make_grasps(stack_params(found)[order], self._model, scores)
        return GraspSet(object_model.object_id, METHOD, seed, time.perf_counter() - started, grasps)

    def placed(self, object_model: ObjectModel, count: int, seed: int) -> HandParams:
        """Hands with the mean pose, palms to the faces of the object's tight box, rolled at random.

        Faces are taken in turn; a place on a face is drawn uniformly.
        """
        rng = np.random.default_rng(seed)
        to_box, extent = trimesh.bounds.oriented_bounds(object_model.vertices.astype(np.float64))
        from_box = np.linalg.inv(to_box)
        hands = replace(
            HandParams.zeros(count, self._model.side, self._model.dtype),
            hand_pose=self._model.hands_mean.expand(count, -1).clone(),
        )
        turn = np.empty((count, 3, 3))
        goal = np.empty((count, 3))
        for number in range(count):
            axis, sign = divmod(number % 6, 2)
            outward = np.zeros(3)
            outward[axis] = 1.0 - 2.0 * sign
            place = rng.uniform(-0.35, 0.35, 3) * extent
            place[axis] = outward[axis] * (0.5 * extent[axis] + rng.uniform(*_GAP))
            goal[number] = from_box[:3, :3] @ place + from_box[:3, 3]
            turn[number] = _facing(-(from_box[:3, :3] @ outward), rng.uniform(0, 2 * np.pi))
        hands = replace(hands, global_orient=matrix_to_axis_angle(torch.from_numpy(turn)).to(self._model.dtype))
        with torch.no_grad():
            here = self._model(hands).keypoints[:, _PALM].mean(dim=1)
        return replace(hands, transl=torch.from_numpy(goal).to(here) - here)


def _facing(direction: np.ndarray, roll: float) -> np.ndarray:
    """A rotation (3, 3) that turns the palm to look along a unit direction, rolled about it."""
    palm = np.array(_OUT_OF_PALM)
    first = np.cross(palm, direction)
    sine, cosine = np.linalg.norm(first), float(palm @ direction)
    axis = first / sine if sine > 1e-9 else np.array([1.0, 0.0, 0.0])
    vectors = torch.from_numpy(np.stack([axis * np.arctan2(sine, cosine), direction * roll]))
    align, spin = axis_angle_to_matrix(vectors).numpy()
    return np.asarray(spin @ align)
