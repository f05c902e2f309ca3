"""Simulation displacement with Bullet's contacts and MuJoCo's dynamics: Hasson's protocol, some ten times as fast.

Which points touch, how far bodies stay apart and with what speed an overlap is resolved are Bullet's
(`bullet_contacts`); each contact is a small ball of the world on a plate of the object, and MuJoCo solves and
integrates.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from grasp_nodes.evaluation.simulation.bullet_contacts import (
    AT,
    DISTANCE,
    NORMAL,
    POINTS,
    Contacts,
    no_contacts,
    update_contacts,
)
from grasp_nodes.evaluation.simulation.bullet_scene import INERTIA_MARGIN, box_of, hulls_of, triangles_of
from grasp_nodes.evaluation.simulation.convex_parts import convex_parts
from grasp_nodes.evaluation.simulation.protocol import DisplacementProtocol
from grasp_nodes.evaluation.solid import Solid

RESOLVED = 0.08
"""Of an overlap, per step: PyBullet's contact ERP."""
SLOP = 1e-5
"""m, of a distance, that PyBullet's solver adds."""
STIFF = 0.97
"""MuJoCo's impedance of the contacts; 1 is rigid, and slower to be solved."""
ITERATIONS = 20
"""Of the projected Gauss-Seidel solver: Bullet's is of that kind, and the exact one agrees with it less."""
_BALL = 1e-4
_PLATE = 0.05
_TOUCHING = 1e-6
"""m: how deep a contact that is still apart is drawn, for MuJoCo to see it."""
_FAR = 100.0


class BulletLikeScene:
    """One object under one protocol.

    Args:
        mujoco: the module. solid: the object, cut by V-HACD as the protocol says.

    Raises:
        MissingDependencyError: PyBullet, which has V-HACD, is not installed and the parts are not in the cache.
    """

    def __init__(self, mujoco: Any, solid: Solid, protocol: DisplacementProtocol) -> None:
        self._mujoco, self._protocol = mujoco, protocol
        parts = convex_parts(solid, protocol.vhacd_resolution, protocol.vhacd_concavity)
        self._center = np.asarray(protocol.center(solid), np.float64)
        self._hulls = hulls_of(parts, self._center)
        low, high = box_of(parts, INERTIA_MARGIN)
        square = (high - low) ** 2
        # Bullet's inertia of a compound is that of its box.
        inertia = protocol.object_mass * (square.sum() - square) / 12
        self._model = self._compile(inertia)
        self._data = mujoco.MjData(self._model)

    def displacement(self, corners: np.ndarray) -> float:
        """How far the object's centre of mass moves, m; NaN where the simulation diverges.

        Args:
            corners: (T, 3, 3), m, object frame, of the hand's triangles.
        """
        mujoco, model, data, center = self._mujoco, self._model, self._data, self._center
        mujoco.mj_resetData(model, data)
        triangles = triangles_of(corners)
        contacts = no_contacts(self._hulls, triangles)
        rotation, position, end = np.eye(3), np.zeros(3), center
        for step in range(self._protocol.steps):
            update_contacts(self._hulls, triangles, contacts, rotation, position)
            _show(
                contacts,
                rotation,
                position,
                data.qvel,
                self._protocol.timestep,
                model.geom_pos,
                model.geom_quat,
                model.pair_solref,
            )
            mujoco.mj_step(model, data)
            if data.time < (step + 0.5) * self._protocol.timestep:  # it begins anew after a step that is not finite
                return math.nan
            mujoco.mju_quat2Mat(rotation.ravel(), data.qpos[3:])
            position[:] = data.qpos[:3]
            end = position + rotation @ center
        return math.dist(end, center)

    def _compile(self, inertia: np.ndarray) -> Any:
        mujoco, protocol = self._mujoco, self._protocol
        spec = mujoco.MjSpec()
        spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        spec.option.timestep = protocol.timestep
        spec.option.gravity = protocol.gravity
        spec.option.solver = mujoco.mjtSolver.mjSOL_PGS
        spec.option.iterations, spec.option.tolerance = ITERATIONS, 0.0
        body = spec.worldbody.add_body()
        body.add_freejoint()
        body.explicitinertial = True
        body.mass, body.ipos, body.inertia = protocol.object_mass, self._center, inertia
        friction = protocol.hand_friction * protocol.object_friction
        for k in range(POINTS * len(self._hulls.radius)):
            ball, plate, pair = spec.worldbody.add_geom(), body.add_geom(), spec.add_pair()
            ball.type, plate.type = mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_BOX
            ball.name, ball.size = f"ball{k}", [_BALL, 0, 0]
            plate.name, plate.size = f"plate{k}", [_PLATE, _PLATE, _PLATE]
            ball.contype = ball.conaffinity = plate.contype = plate.conaffinity = 0
            pair.geomname1, pair.geomname2, pair.condim = ball.name, plate.name, 3
            pair.friction = [friction, friction, 0.005, 1e-4, 1e-4]
            pair.margin, pair.solimp = 0.0, [STIFF, STIFF, 0.001, 0.5, 2]
        model = spec.compile()
        model.geom_sameframe[:] = 0  # else what was at the origin of its body just now would stay there
        # Else MuJoCo lengthens time constants below two steps, and one step is what Bullet takes.
        model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_REFSAFE)
        model.dof_damping[:] = protocol.linear_damping * np.concatenate([np.full(3, protocol.object_mass), inertia])
        return model


@njit(cache=True, error_model="numpy")
def _show(
    contacts: Contacts,
    rotation: np.ndarray,
    position: np.ndarray,
    velocity: np.ndarray,
    timestep: float,
    place: np.ndarray,
    turn: np.ndarray,
    reference: np.ndarray,
) -> None:
    """Write the contacts into MuJoCo's model: ball k, plate k and the acceleration of their pair.

    Bullet asks for the speed along the normal that resolves a share of an overlap in a step, or that just closes a gap.

    Args:
        rotation: (3, 3), position: (3,) m, of the object's frame. velocity: (6,) of its joint.
        place: (2 K, 3) m, turn: (2 K, 4), balls, then plates. reference: (K, 2), of the pairs.
    """
    many, used = len(reference), 0
    spin, speed, arm = np.empty(3), np.empty(3), np.empty(3)
    for k in range(3):
        spin[k] = rotation[k, 0] * velocity[3] + rotation[k, 1] * velocity[4] + rotation[k, 2] * velocity[5]
        speed[k] = velocity[k]
    outward = np.empty(3)
    for p in range(len(contacts.used)):
        for c in range(contacts.used[p]):
            contact = contacts.points[p, c]
            normal, at = contact[NORMAL : NORMAL + 3], contact[AT : AT + 3]
            for k in range(3):
                arm[k] = at[k] - position[k]
            closing = (
                normal[0] * (speed[0] + spin[1] * arm[2] - spin[2] * arm[1])
                + normal[1] * (speed[1] + spin[2] * arm[0] - spin[0] * arm[2])
                + normal[2] * (speed[2] + spin[0] * arm[1] - spin[1] * arm[0])
            )
            gap = contact[DISTANCE] + SLOP
            depth, stiffness, damping = max(-gap, 1e-9), RESOLVED / timestep**2, 1 / timestep
            if gap > 0:
                if closing >= -gap / timestep:
                    continue
                depth, stiffness, damping = _TOUCHING, 0.0, (closing + gap / timestep) / (timestep * closing)
            reference[used, 0], reference[used, 1] = -STIFF * stiffness, -STIFF * damping
            for k in range(3):
                outward[k] = 0.0
                for i in range(3):
                    outward[k] -= rotation[i, k] * normal[i]
            # MuJoCo's contact is in the middle of the overlap, Bullet's on the object.
            for k in range(3):
                place[used, k] = at[k] - normal[k] * (_BALL - 0.5 * depth)
                place[many + used, k] = (0.5 * depth - _PLATE) * outward[k]
                for i in range(3):
                    place[many + used, k] += rotation[i, k] * arm[i]
            turn[many + used, 0], turn[many + used, 1] = 1 + outward[2], -outward[1]
            turn[many + used, 2], turn[many + used, 3] = outward[0], 0.0
            length = math.sqrt(turn[many + used, 0] ** 2 + turn[many + used, 1] ** 2 + turn[many + used, 2] ** 2)
            if length < 1e-9:
                turn[many + used, 0], turn[many + used, 1], length = 0.0, 1.0, 1.0
            for k in range(4):
                turn[many + used, k] /= length
            used += 1
    for k in range(used, many):
        place[k, 0], place[k, 1], place[k, 2] = 0.0, 0.0, _FAR
