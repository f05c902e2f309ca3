"""The nouns of retargeting: a robot hand at one instant, its trajectory, and its grasps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class RobotHandState:
    """A robot hand at one instant.

    stamp: ns. frame_id: of the human hand that it follows. positions: (J,) rad or m, of all joints in the order of the
    description. T_frame_base: (4, 4) m, its root link. residual: m, root of the mean square of what the mode asks for.
    seconds: that the solver took. iterations: that it tried.
    """

    stamp: int
    frame_id: str
    positions: np.ndarray
    T_frame_base: np.ndarray
    residual: float = 0.0
    seconds: float = 0.0
    iterations: int = 0


@dataclass(frozen=True)
class RobotTrajectory:
    """A clip as states of one robot hand in time order.

    Frames without a hand have no state. joint_names: of `RobotHandState.positions`. source: of the human trajectory.
    """

    source: str
    robot: str
    side: str
    joint_names: tuple[str, ...]
    states: Sequence[RobotHandState]


@dataclass(frozen=True)
class RobotGrasp:
    """A robot hand on an object. positions: (J,). T_object_base: (4, 4) m. metrics: what was measured, SI units.

    number: of the human grasp that it comes from, in its set.
    """

    positions: np.ndarray
    T_object_base: np.ndarray
    number: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RobotGraspSet:
    """Grasps of one object by one robot hand."""

    object_id: str
    robot: str
    side: str
    joint_names: tuple[str, ...]
    grasps: Sequence[RobotGrasp]
    mesh_resource: str = ""
