"""Every metric of a batch of grasps on one object; what depends on the object alone is made once for all methods."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch

from grasp_nodes.contact.hand_states import stack_hands
from grasp_nodes.contact.interaction import Grasp
from grasp_nodes.errors import InputError, MissingDependencyError
from grasp_nodes.evaluation.contact_metrics import (
    contact_area,
    fingers_in_contact,
    in_contact,
    midpoint_upsampling,
    upsample,
)
from grasp_nodes.evaluation.good import is_good
from grasp_nodes.evaluation.harness.protocols import FeatureNetwork
from grasp_nodes.evaluation.intersection import intersection_volume, solid_intersection_volume
from grasp_nodes.evaluation.penetration import (
    disjointedness_distance,
    finger_of_vertices,
    fingertip_regions,
    hand_signed_distance,
    object_depth_in_hand,
    penetration_depth,
)
from grasp_nodes.evaluation.self_penetration import SelfPenetration
from grasp_nodes.evaluation.simulation.mujoco_engine import MujocoEngine
from grasp_nodes.evaluation.simulation.pybullet_displacement import simulation_displacement
from grasp_nodes.evaluation.solid import Solid, finite_hands
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.model import ObjectModel

logger = logging.getLogger(__name__)

MEASURES = (
    "penetration_volume",
    "solid_intersection_volume",
    "penetration_depth",
    "object_depth",
    "contact",
    "contact_area",
    "fingers_in_contact",
    "disjointedness",
    "self_penetration",
    "displacement",
    "mujoco_displacement",
    "six_direction_hold",
    "shake",
    "good",
)
"""m, m^2, m^3, a count of fingers, or 0 and 1."""


class JudgedHand:
    """What the metrics need of a hand model: computed once per process.

    model: float32, on the CPU.
    """

    def __init__(self, model: HandModel) -> None:
        self.model = model
        self.faces = model.faces.numpy()
        self.closed = closed_faces(self.faces)
        self.finger_of_vertices = finger_of_vertices(model.arrays.weights)
        self.fingertips = fingertip_regions(model.arrays.weights)
        self.self_penetration = SelfPenetration(self.closed, model.arrays.weights)

    @cached_property
    def upsampling(self) -> tuple[sp.csr_matrix, np.ndarray]:
        """See `midpoint_upsampling`: once, of the open skin."""
        return midpoint_upsampling(self.faces, self.model.num_vertices)


def judged_hands(models: Mapping[Side, HandModel]) -> dict[Side, JudgedHand]:
    """The hands of both sides."""
    return {side: JudgedHand(model) for side, model in models.items()}


@dataclass(frozen=True, eq=False)
class Measures:
    """Of B grasps.

    values: (B,) float64 for each of `MEASURES`, SI; NaN where there is nothing to say.
    finite: (B,) bool, the hand has no NaN.
    features: (B, D) of the feature network, NaN for a hand with NaN; None without one.
    """

    values: Mapping[str, np.ndarray]
    finite: np.ndarray
    features: np.ndarray | None = None


class ObjectJudge:
    """Judges grasps of one object.

    Args:
        object_model: the object. hands: of both sides. displacement: whether PyBullet runs.
        feature_network: None = no features.

    Raises:
        InputError: the object cannot be judged: its mesh is open or flat; on a call, V-HACD finds no parts of it.
        MissingDependencyError: MuJoCo is not installed.
    """

    def __init__(
        self,
        object_model: ObjectModel,
        hands: Mapping[Side, JudgedHand],
        displacement: bool = True,
        feature_network: FeatureNetwork | None = None,
    ) -> None:
        self._object, self._hands = object_model, hands
        self._displacement, self._parts, self._features = displacement, True, feature_network
        self._solid = Solid.of(object_model)
        # Both sides differ in the winding of their faces. The first one is made here, so that an object that cannot
        # be simulated is refused before any grasp of it.
        self._engines: dict[Side, MujocoEngine] = {}
        self._engine("right")

    def __call__(self, grasps: Sequence[Grasp], kinds: Sequence[str] = ()) -> Measures:
        """Measure grasps.

        Args:
            grasps: B grasps in the object's frame, of the loaded hand models, of either side.
            kinds: of labelled grasps, B names; a pinch needs two fingers to be good. Empty for generated grasps.

        Raises:
            InputError: grasps of another hand model.
        """
        count = len(grasps)
        values = {name: np.full(count, np.nan) for name in MEASURES}
        finite = np.zeros(count, bool)
        features: np.ndarray | None = None
        for side in ("right", "left"):
            rows = np.flatnonzero([grasp.hand.params.side == side for grasp in grasps])
            if not len(rows):
                continue
            vertices = posed_vertices([grasps[int(k)] for k in rows], self._hands)
            pinch = np.array([bool(kinds) and kinds[int(k)] == "pinch" for k in rows])
            for name, measured in self._measure(vertices, side, pinch).items():
                values[name][rows] = measured
            finite[rows] = finite_hands(vertices)
            if self._features is not None and finite[rows].any():
                known = rows[finite[rows]]
                found = self._features(self._object, vertices[finite[rows]])
                features = np.full((count, found.shape[1]), np.nan) if features is None else features
                features[known] = found
        return Measures(values, finite, features)

    def _engine(self, side: Side) -> MujocoEngine:
        if side not in self._engines:
            self._engines[side] = MujocoEngine(self._solid, self._hands[side].closed)
        return self._engines[side]

    def _measure(self, vertices: np.ndarray, side: Side, pinch: np.ndarray) -> dict[str, np.ndarray]:
        hand, engine, solid = self._hands[side], self._engine(side), self._solid
        matrix, fine_faces = hand.upsampling
        fine = upsample(matrix, vertices)
        # The up-sampled hand's first vertices are the hand's own.
        fine_distance = hand_signed_distance(fine, solid)
        distance = fine_distance[:, : vertices.shape[1]]
        finite = finite_hands(vertices)
        depth = penetration_depth(distance)
        object_depth = object_depth_in_hand(vertices, hand.closed, solid)
        deepest = np.maximum(depth, object_depth)
        fingers = fingers_in_contact(distance, hand.finger_of_vertices)
        holds = engine.six_direction_hold(vertices).holds
        good = np.where(pinch, is_good(deepest, fingers, holds, "pinch"), is_good(deepest, fingers, holds))
        return {
            "penetration_volume": intersection_volume(vertices, hand.closed, solid),
            "solid_intersection_volume": solid_intersection_volume(vertices, hand.closed, solid),
            "penetration_depth": depth,
            "object_depth": object_depth,
            "contact": in_contact(distance).astype(np.float64),
            "contact_area": contact_area(fine, fine_faces, fine_distance),
            "fingers_in_contact": np.where(finite, fingers.sum(axis=1), np.nan),
            "disjointedness": disjointedness_distance(distance, hand.fingertips),
            "self_penetration": hand.self_penetration(vertices),
            "displacement": self._pybullet_displacement(vertices, hand.closed),
            "mujoco_displacement": self._mujoco_displacement(vertices, engine),
            "six_direction_hold": holds.astype(np.float64),
            "shake": engine.shake(vertices).holds.astype(np.float64),
            "good": good.astype(np.float64),
        }

    def _pybullet_displacement(self, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        if not self._displacement:
            return np.full(len(vertices), np.nan)
        try:
            return simulation_displacement(vertices, faces, self._solid).displacement
        except MissingDependencyError as error:
            logger.warning("no displacement by Hasson's protocol: %s", error)
            self._displacement = False
            return np.full(len(vertices), np.nan)

    def _mujoco_displacement(self, vertices: np.ndarray, engine: MujocoEngine) -> np.ndarray:
        if not self._parts:
            return np.full(len(vertices), np.nan)
        try:
            return engine.displacement(vertices)
        except MissingDependencyError as error:
            logger.warning("no MuJoCo displacement: %s", error)
            self._parts = False
            return np.full(len(vertices), np.nan)


def posed_vertices(grasps: Sequence[Grasp], hands: Mapping[Side, JudgedHand]) -> np.ndarray:
    """Vertices (B, V, 3) float64, m, of grasps of one side.

    Raises:
        InputError: grasps of another hand model.
    """
    return _posed(grasps, hands)[0]


def posed_keypoints(grasps: Sequence[Grasp], hands: Mapping[Side, JudgedHand]) -> np.ndarray:
    """Keypoints (B, 21, 3) float64, m, of grasps of one side."""
    return _posed(grasps, hands)[1]


def _posed(grasps: Sequence[Grasp], hands: Mapping[Side, JudgedHand]) -> tuple[np.ndarray, np.ndarray]:
    params = stack_hands(grasps)
    model = hands[params.side].model
    for grasp in grasps:
        if grasp.hand.model_fingerprint and grasp.hand.model_fingerprint != model.fingerprint:
            raise InputError(
                f"grasps of the hand model {grasp.hand.model_id} ({grasp.hand.model_fingerprint[:12]}) cannot be "
                f"judged with {model.model_id} ({model.fingerprint[:12]}): name the model they are of in "
                "GRASP_NODES_HAND_MODEL"
            )
    with torch.no_grad():
        posed = model(params)
    return posed.vertices.double().numpy(), posed.keypoints.double().numpy()
