"""Which hands are accepted as grasps: shallow, in contact as their kind demands, natural, and held in physics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from grasp_nodes.data.grasp_kinds import RECIPES, THUMB
from grasp_nodes.evaluation.contact_metrics import fingers_in_contact
from grasp_nodes.evaluation.penetration import (
    finger_of_vertices,
    hand_signed_distance,
    object_depth_in_hand,
    penetration_depth,
)
from grasp_nodes.evaluation.self_penetration import SelfPenetration
from grasp_nodes.evaluation.simulation.mujoco_engine import MujocoEngine
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.fitting.grasp_hand import GraspHand
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.kinds import GraspKind
from grasp_nodes.hand.naturalness import is_natural
from grasp_nodes.hand.pads import PALM, contact_patches
from grasp_nodes.hand.parameters import HandParams


@dataclass(frozen=True)
class AcceptanceSettings:
    """Limits.

    depth, self_depth: m, largest penetration of the object and of the hand itself.
    flesh: m, how far the object may be in spheres inside the fingers: the skin of a finger through a thin wall is
    nowhere deep in it.
    object_depth: m, how deep the object's surface may be in the hand, measured on what passed all other tests.
    touching: m, of a pad that its kind requires. palm_away: m, of the palm in kinds that hold with the fingers alone.
    wrap: patches besides the pads that touch in a power grasp.
    """

    depth: float = 0.003
    self_depth: float = 0.002
    flesh: float = 0.0035
    object_depth: float = 0.004
    touching: float = 0.002
    palm_away: float = 0.004
    wrap: int = 2


class Verdict(NamedTuple):
    """Of B hands.

    accepted: (B,) bool. passed: (B,) int64, how many tests were passed: shape, contact, itself, hold (4 = accepted);
    the last look, `from_the_objects_side`, comes after them.
    metrics: by name, (B,) float: penetration_depth, m; fingers, count; self_penetration and hold_displacement, m, NaN
    where a test before it failed, inf where the object was lost.
    """

    accepted: np.ndarray
    passed: np.ndarray
    metrics: dict[str, np.ndarray]


class GraspAcceptance:
    """Tests of hands on one object, the cheap ones first.

    Args:
        hand: that is tested. solid: the object. settings: limits.
    """

    def __init__(self, hand: GraspHand, solid: Solid, settings: AcceptanceSettings | None = None) -> None:
        model = hand.model
        self._hand, self._model, self._solid, self._settings = hand, model, solid, settings or AcceptanceSettings()
        self._spheres = hand.spheres
        self._faces = closed_faces(model.arrays.faces)
        self._fingers = finger_of_vertices(model.arrays.weights)
        self._patches = contact_patches(model)
        self._self_penetration = SelfPenetration(self._faces, model.arrays.weights)
        self._engine = MujocoEngine(solid, self._faces)

    def __call__(self, hands: HandParams, angles: torch.Tensor, kinds: Sequence[GraspKind]) -> Verdict:
        """Test hands.

        Args:
            hands: B >= 1, object frame. angles: (B, D), rad, of the same hands. kinds: of each.
        """
        self._hand.check(hands)
        with torch.no_grad():
            posed = self._model(hands)
            vertices = posed.vertices.numpy().astype(np.float64)
            centres = self._spheres.centres(posed.keypoints).numpy()
        signed = hand_signed_distance(vertices, self._solid)
        depth = penetration_depth(signed)
        touching = fingers_in_contact(signed, self._fingers)
        in_flesh = self._spheres.radius.numpy() - hand_signed_distance(centres, self._solid)
        shallow = (depth < self._settings.depth) & (in_flesh.max(axis=1) < self._settings.flesh)
        shaped = shallow & is_natural(angles, list(kinds)).numpy()
        right = shaped & self._contact_as_kind(signed, touching, kinds)
        self_depth, moved = np.full(len(hands), np.nan), np.full(len(hands), np.nan)
        if right.any():
            self_depth[right] = self._self_penetration(vertices[right])
        whole = right & (self_depth < self._settings.self_depth)
        accepted = whole.copy()
        if whole.any():
            hold = self._engine.six_direction_hold(vertices[whole])
            accepted[whole], moved[whole] = hold.holds, hold.displacement.max(axis=1)
        return Verdict(
            accepted,
            shaped.astype(np.int64) + right + whole + accepted,
            {
                "penetration_depth": depth,
                "fingers": touching.sum(axis=1).astype(np.float64),
                "self_penetration": self_depth,
                "hold_displacement": moved,
            },
        )

    def from_the_objects_side(self, hands: HandParams) -> tuple[np.ndarray, np.ndarray]:
        """The last test, the exact answer to what the spheres in the hand only sample: webs and edges of the palm, too.

        Returns:
            (B,) bool, passed, and (B,) m, `object_depth_in_hand`.
        """
        with torch.no_grad():
            vertices = self._model(hands).vertices.numpy().astype(np.float64)
        depth = object_depth_in_hand(vertices, self._faces, self._solid)
        return depth < self._settings.object_depth, depth

    def _contact_as_kind(self, signed: np.ndarray, touching: np.ndarray, kinds: Sequence[GraspKind]) -> np.ndarray:
        """(B,) bool: enough fingers touch, with the skin and only the skin that the kind is named for."""
        s = self._settings
        names = sorted(self._patches)
        nearest = np.stack([signed[:, self._patches[name]].min(axis=1) for name in names], axis=1)
        near = nearest < s.touching
        result = touching[:, THUMB] & (touching.sum(axis=1) >= np.array([RECIPES[kind].least for kind in kinds]))
        for kind in set(kinds):
            rows, recipe = np.array([one == kind for one in kinds]), RECIPES[kind]
            if recipe.placement == "palm":
                wraps = [name in recipe.optional for name in names]
                result[rows] &= near[rows][:, wraps].sum(axis=1) >= s.wrap
            else:
                must = [recipe.required.get(name, 0.0) >= 1.0 for name in names]
                result[rows] &= near[rows][:, must].all(axis=1)
            if recipe.palm_free:
                result[rows] &= nearest[rows, names.index(PALM)] > s.palm_away
        return result
