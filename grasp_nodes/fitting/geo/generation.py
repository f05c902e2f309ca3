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

from grasp_nodes.contact.hand_states import make_grasps
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.contact.repulsion import RepulsiveSprings
from grasp_nodes.fitting.geo import adam
from grasp_nodes.fitting.geo.contact_terms import ObManContact, half_thickness
from grasp_nodes.fitting.geo.energy import GraspingEnergy, GraspShift
from grasp_nodes.fitting.geo.settings import GeoSettings
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
        attraction: of which the repulsion is left out. repulsion: of the object. settings: the unit of length.
    """

    def __init__(self, attraction: ObManContact, repulsion: RepulsiveSprings, settings: GeoSettings) -> None:
        self._attraction, self._repulsion, self._unit = attraction, repulsion, settings.length

    def __call__(self, at_object: Tensor) -> tuple[Tensor, Tensor]:
        """As `ContactTerms`."""
        return self._attraction(at_object)[0], self._repulsion.energy(at_object) / self._unit

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
        """`count` grasps, those of the least energy first."""
        started = time.perf_counter()
        hands = self.placed(object_model, count, seed)
        s = self._settings
        repulsion = RepulsiveSprings(
            object_model.points,
            object_model.normals,
            s.repulsion,
            s.length,
            s.reach,
            half_thickness(object_model, s.reach),
        )
        contact = GenerationContact(ObManContact(self._zones, object_model, s), repulsion, s)
        energy = GraspingEnergy(self._model, hands, object_model, contact, s)
        descent = adam.descend(energy, GraspShift.none(hands))
        order = torch.argsort(descent.final_total)
        scores = -descent.final_total[order].double().numpy()
        grasps = make_grasps(energy.params(descent.best)[order], self._model, scores)
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
