"""The motions of the benchmark's clips: 2 s of reaching, holding, lifting, turning and letting go.

World frame: z up, z = 0 the table's top, the object rests at the origin. All pieces are minimum-jerk (Flash and Hogan,
1985).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from grasp_nodes.data.motion import minimum_jerk

FPS = 15
MAX_FRAMES = 30

Course = Literal["carry", "put_down", "pick_and_place"]
"""carry: reach, grasp, lift, turn. put_down: the same backwards. pick_and_place: both, with a smaller turn."""

Window = tuple[float, float]


@dataclass(frozen=True)
class Schedule:
    """When things happen, s. turn_back, lower, open, retreat: empty where the object stays in the hand."""

    reach: Window
    close: Window
    lift: Window
    turn: Window
    turn_back: Window | None = None
    lower: Window | None = None
    open: Window | None = None
    retreat: Window | None = None


CARRY = Schedule((0.04, 0.88), (0.70, 1.00), (1.02, 1.56), (1.14, 1.98))
PICK_AND_PLACE = Schedule(
    *((0.0, 0.52), (0.40, 0.64), (0.66, 1.02), (0.74, 1.12)),
    *((1.10, 1.46), (1.16, 1.50), (1.52, 1.74), (1.60, 2.00)),
)


@dataclass(frozen=True)
class ClipMotion:
    """One clip's motion.

    standing: (4, 4), T_world_object at rest. T_object_hand: (4, 4) of the hand's rest frame while it holds.
    hand_pose, open_pose: (45,), rad. course, delay: which schedule, and by how much later, s.
    lift: m, world, of the object. turn: (3,) rad, rotation vector, world. middle: (3,) m, object frame, turned about.
    away: m, (3,) world, from the grasp to where the hand comes from. away_turn: (3,) rad, world, its turn there.
    """

    standing: np.ndarray
    T_object_hand: np.ndarray
    hand_pose: np.ndarray
    open_pose: np.ndarray
    course: Course
    delay: float
    lift: np.ndarray
    turn: np.ndarray
    middle: np.ndarray
    away: np.ndarray
    away_turn: np.ndarray

    def at(self, frame: int) -> MotionPose:
        """The instant of a frame."""
        time = frame / FPS
        if self.course == "put_down":
            time = (MAX_FRAMES - 1) / FPS - time
        plan = PICK_AND_PLACE if self.course == "pick_and_place" else CARRY
        time -= self.delay
        T_world_object = self._carried(_between(time, plan.lift, plan.lower), _between(time, plan.turn, plan.turn_back))
        T_world_hand = T_world_object @ self.T_object_hand
        away = 1 - _between(time, plan.reach, plan.retreat)
        T_world_hand[:3, :3] = Rotation.from_rotvec(away * self.away_turn).as_matrix() @ T_world_hand[:3, :3]
        T_world_hand[:3, 3] += away * self.away
        closed = _between(time, plan.close, plan.open)
        return MotionPose(T_world_hand, T_world_object, self.open_pose + closed * (self.hand_pose - self.open_pose))

    def _carried(self, lifted: float, turned: float) -> np.ndarray:
        turn = Rotation.from_rotvec(turned * self.turn).as_matrix()
        middle = self.standing[:3, :3] @ self.middle + self.standing[:3, 3]
        T_world_object = self.standing.copy()
        T_world_object[:3, :3] = turn @ self.standing[:3, :3]
        T_world_object[:3, 3] = turn @ (self.standing[:3, 3] - middle) + middle + lifted * self.lift
        return T_world_object


@dataclass(frozen=True)
class MotionPose:
    """One instant. T_world_hand (of the hand's rest frame) and T_world_object: (4, 4), m. hand_pose: (45,), rad."""

    T_world_hand: np.ndarray
    T_world_object: np.ndarray
    hand_pose: np.ndarray


def _between(time: float, start: Window, end: Window | None) -> float:
    """0, then 1 after the first window and, where there is one, 0 again after the second."""
    share = minimum_jerk(time, *start)
    return share - minimum_jerk(time, *end) if end else share
