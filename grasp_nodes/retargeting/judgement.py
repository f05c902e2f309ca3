"""Judges what a robot hand makes of a human's contact: is it kept, does anything go into the object, does it hold?

Nothing here is shared with the solver but the hand: distances are to the object's mesh, not to its grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from grasp_nodes.evaluation.simulation.mujoco_engine import MujocoEngine
from grasp_nodes.evaluation.simulation.protocol import HOLD, HoldProtocol
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.retargeting.contact_targets import ContactTargets
from grasp_nodes.retargeting.robot_hand import RobotHand

KEPT_WITHIN = 0.005
"""m."""


class Kept(NamedTuple):
    """Of one instant, K robot fingertips whose human ones touched.

    fingertip_distance: (K,) m, to the object; negative = of the deepest point of its surface inside.
    point_distance: (K,) m, to the point that the human touched. depth: m, of the deepest point of the robot's surface
    in the object, 0 = none.
    """

    fingertip_distance: np.ndarray
    point_distance: np.ndarray
    depth: float


def judge_contact(
    hand: RobotHand, driven: np.ndarray, T_object_base: np.ndarray, targets: ContactTargets, solid: Solid
) -> Kept:
    """Measure one posed robot hand against what the contact asked for.

    Args:
        driven: (n,). T_object_base: (4, 4) m. targets: of the human hand, object frame.
    """
    surface = hand.surface
    poses = hand.kinematics.body_poses(driven, T_object_base)[surface.body]
    points = np.einsum("sij,sj->si", poses[:, :3, :3], surface.points) + poses[:, :3, 3]
    distance = solid.distance.signed(points)[0]
    touched = np.flatnonzero(targets.of_fingertips & (targets.gap < KEPT_WITHIN))
    tips, places = [], []
    for k in touched:
        own = surface.body == hand.region_body[targets.region[k]]
        if own.any():
            tips.append(distance[own].min())
            places.append(np.linalg.norm(points[own] - targets.point[k], axis=1).min())
    return Kept(np.array(tips), np.array(places), float(max(-distance.min(), 0.0)))


def kept_report(kept: Sequence[Kept]) -> dict[str, float]:
    """Shares of fingertips whose contact was kept, and depths, of several instants; nothing where none touched."""
    if not kept:
        return {}
    tips, points = (np.concatenate([getattr(one, name) for one in kept]) for name in Kept._fields[:2])
    depths = 1e3 * np.array([one.depth for one in kept])
    found = {"penetration_mm": float(depths.mean()), "penetration_p95_mm": float(np.percentile(depths, 95))}
    if len(tips):
        found["contact_kept_share"] = float(np.mean(np.abs(tips) <= KEPT_WITHIN))
        found["contact_point_kept_share"] = float(np.mean(points <= KEPT_WITHIN))
    return found


class HoldJudge:
    """Six-direction hold by robot hands that stand still, as the same judge does it for human hands.

    Args:
        hand: the robot. solid: the object.

    Raises:
        MissingDependencyError: MuJoCo is not installed.
    """

    def __init__(self, hand: RobotHand, solid: Solid) -> None:
        self._hand, self._engine = hand, MujocoEngine(solid, hand.skin_faces)

    def __call__(
        self, driven: Sequence[np.ndarray], T_object_base: Sequence[np.ndarray], protocol: HoldProtocol = HOLD
    ) -> np.ndarray:
        """(B,) bool: which of B posed hands hold the object."""
        skins = [self._hand.skin(one, T) for one, T in zip(driven, T_object_base, strict=True)]
        return self._engine.six_direction_hold(np.array(skins), protocol).holds
