"""The settings of every simulation, each a named constant that is printed with the results."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.solid import Solid

BULLET_GAP = 0.002
"""m, between bodies that rest on each other in PyBullet, which wraps each of them in a margin of 1 mm."""


@dataclass(frozen=True)
class DisplacementProtocol:
    """Simulation displacement: the hand stands still, gravity pulls at the object, how far does its centre move?

    gravity: m/s^2, in the object's frame: the score depends on how the object lies in it.
    steps, timestep (s): duration. object_mass: kg, whatever the object.
    hand_friction, object_friction: lateral. hand_restitution, object_restitution. solver_iterations.
    linear_damping: 1/s, Bullet's default.
    center_of_mass: mean of the mesh's "vertices" (depends on the tessellation) or of its "volume".
    vhacd_resolution, vhacd_concavity: of the object's convex decomposition.
    press_force: N, with which each fingertip near the object is pressed against it; 0 = the hand is one rigid mesh.
    """

    name: str
    gravity: tuple[float, float, float] = (0.0, 9.8, 0.0)
    steps: int = 35
    timestep: float = 1 / 240
    object_mass: float = 1.0
    hand_friction: float = 3.0
    object_friction: float = 3.0
    hand_restitution: float = 0.0
    object_restitution: float = 0.5
    linear_damping: float = 0.04
    solver_iterations: int = 150
    center_of_mass: Literal["vertices", "volume"] = "vertices"
    vhacd_resolution: int = 1000
    vhacd_concavity: float = 0.001
    press_force: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.timestep > 0 or not self.object_mass > 0 or self.press_force < 0:
            raise InputError(
                f"simulation protocol {self.name!r}: steps, timestep and mass must be positive and the force not "
                f"negative, got {self.steps}, {self.timestep:g}, {self.object_mass:g} and {self.press_force:g}"
            )

    @property
    def free_fall(self) -> float:
        """m: how far an object falls that nothing holds, in Bullet's steps (it damps with v and with v^2)."""
        pull, speed, fall = float(np.linalg.norm(self.gravity)), 0.0, 0.0
        for _ in range(self.steps):
            speed += self.timestep * (pull - self.linear_damping * (1 + speed) * speed)
            fall += self.timestep * speed
        return fall

    def center(self, solid: Solid) -> np.ndarray:
        """(3,) m: the centre of mass that the protocol takes."""
        return solid.vertices.mean(axis=0) if self.center_of_mass == "vertices" else solid.center_of_volume

    def describe(self) -> dict[str, object]:
        """Every setting by name, for the report."""
        return asdict(self)


HASSON = DisplacementProtocol("hasson")
"""Hasson et al. 2019 and its followers (GraspTTA, CPF, FastGrasp): 35 steps of 1/240 s; free fall is 10.68 cm."""

OAKINK = replace(HASSON, name="oakink", vhacd_resolution=100_000, vhacd_concavity=0.0025)
"""OakInk's finer decomposition. Its script's number is in `as_released`; this is the displacement itself."""

CHOIR = replace(HASSON, name="choir", press_force=2.0)
"""CHOIR, section C.1, applies "inward forces to the hand grasp". The paper gives neither size nor direction: here each
fingertip within 2 cm of the object slides towards it with 2 N, along the surface's normal, by 5 mm at most."""


@dataclass(frozen=True)
class HoldProtocol:
    """Six-direction hold and shake, in the MuJoCo engine: does the object stay in a hand that stands still?

    gravity: m/s^2, along +x, -x, +y, -y, +z and -z of the object's frame, one after the other.
    duration, timestep: s. object_mass: kg. friction. limit: m, of the centre of mass, at any time.
    settle_speed: m/s, and settle_time: s: a direction is held before its time is over once the centre of mass has been
        slower than that for so long, and twice its speed does not carry it to the limit in the time that is left.
    shake_acceleration: m/s^2, amplitude, and shake_frequency: Hz, along x, then y, then z, on top of gravity along -z.
    """

    gravity: float = 9.8
    duration: float = 0.5
    timestep: float = 1 / 120
    object_mass: float = 0.1
    friction: float = 1.0
    limit: float = 0.02
    settle_speed: float = 0.005
    settle_time: float = 1 / 15
    shake_acceleration: float = 9.8
    shake_frequency: float = 4.0

    def __post_init__(self) -> None:
        positive = (self.timestep, self.object_mass, self.friction, self.limit)
        if not all(value > 0 for value in positive) or round(self.duration / self.timestep) < 1:
            raise InputError(
                "hold protocol: timestep, mass, friction and limit must be positive and the duration a timestep or "
                f"more, got {', '.join(f'{value:g}' for value in positive)} and {self.duration:g}"
            )

    def describe(self) -> dict[str, object]:
        """Every setting by name, for the report."""
        return asdict(self)


HOLD = HoldProtocol()
