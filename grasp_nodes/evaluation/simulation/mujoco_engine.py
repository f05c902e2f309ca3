"""A fast simulator of many hands on one object, in MuJoCo: displacement, six-direction hold and shake.

Of hold and shake, contacts are soft, and the hand is a ball just below its skin at each vertex near the object. What a
ball touches is a flat patch of the object's own mesh (`contact_patches`), so that a mug is as thin as it is. The
displacement is there to be compared with Hasson's and has Bullet's contacts (`mujoco_displacement`); it goes by its own
name. A scene is compiled once per object.
"""

from __future__ import annotations

import logging
import math
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import trimesh

from grasp_nodes.errors import InputError, MissingDependencyError
from grasp_nodes.evaluation.simulation.contact_patches import (
    BALL_RADIUS,
    MOST_PATCHES,
    PATCH_HALF_DEPTH,
    PATCH_HALF_WIDTH,
    Patches,
    SkinBalls,
    skin_normals,
)
from grasp_nodes.evaluation.simulation.mujoco_displacement import BulletLikeScene
from grasp_nodes.evaluation.simulation.protocol import HASSON, HOLD, DisplacementProtocol, HoldProtocol
from grasp_nodes.evaluation.solid import Solid, check_hands, finite_hands

logger = logging.getLogger(__name__)

DIRECTIONS = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float64)
SOFT = (0.02, 1.0)
"""solref, s and damping ratio: an overlap is pushed apart without a kick."""
FRICTION_STIFFNESS = 10.0
"""impratio: with 1, objects that friction holds creep by a centimetre per second."""
REMAKE_AFTER = 0.001
"""m, that a plate may have moved since it was made; on a finger of 7 mm it is 0.07 mm wrong."""
REACH = 0.003
"""m, between ball and surface, up to which there is a patch, and what the object moves in two steps on top."""
_AT_ONCE = 2
"""Steps between two looks at a slow object."""
_SLOW = 0.1
_FAR = (0.0, 0.0, 100.0)


class Hold(NamedTuple):
    """Of B hands: did the object stay?

    holds: (B,) bool, within the limit in every direction. displacement: (B, D) m, of its centre of mass when the
    simulation stopped, in the 6 `DIRECTIONS` of gravity or 3 of shaking; a direction that was not simulated, because
    another was lost before, or that diverged, is inf.
    """

    holds: np.ndarray
    displacement: np.ndarray


class MujocoEngine:
    """Simulates hands of one topology on one object.

    Args:
        solid: the object. hand_faces: (F, 3) int, closed.

    Raises:
        MissingDependencyError: MuJoCo is not installed.
    """

    def __init__(self, solid: Solid, hand_faces: np.ndarray) -> None:
        self._mujoco = _import_mujoco()
        self._solid, self._faces = solid, np.asarray(hand_faces, np.int64)
        corners = self._faces.ravel()
        owners = np.repeat(np.arange(len(self._faces)), 3)
        self._face_to_vertex = sp.csr_matrix((np.ones(len(corners)), (corners, owners)))
        self._model = self._compile()
        self._data = self._mujoco.MjData(self._model)
        self._unit_inertia = self._model.body_inertia[1].copy()
        self._center = self._solid.center_of_volume
        self._size = float(np.linalg.norm(self._solid.vertices - self._center, axis=1).max())
        self._dropped: dict[DisplacementProtocol, BulletLikeScene] = {}

    def displacement(self, hand_vertices: np.ndarray, protocol: DisplacementProtocol = HASSON) -> np.ndarray:
        """MuJoCo displacement: Hasson's protocol in this engine; report it as `mujoco_displacement`.

        Args:
            hand_vertices: (B, V, 3), m, object frame. protocol: without a press force.

        Returns:
            (B,) m, NaN for a hand with NaN and where the simulation diverged.

        Raises:
            MissingDependencyError: PyBullet is not installed, which cuts the object as the protocol says.
        """
        if protocol.press_force > 0:
            raise InputError(f"simulation protocol {protocol.name!r} presses fingertips, which only PyBullet does here")
        vertices = self._check(hand_vertices)
        if protocol not in self._dropped:
            self._dropped[protocol] = BulletLikeScene(self._mujoco, self._solid, protocol)
        result = np.full(len(vertices), np.nan)
        for i in np.flatnonzero(finite_hands(vertices)):
            result[i] = self._dropped[protocol].displacement(vertices[i][self._faces])
        return result

    def six_direction_hold(
        self, hand_vertices: np.ndarray, protocol: HoldProtocol = HOLD, every_direction: bool = False
    ) -> Hold:
        """Six-direction hold: the object stays in the hand under gravity along each of six axes, from the same start.

        Args:
            hand_vertices: (B, V, 3), m, object frame.
            every_direction: simulate the others, too, after one direction was lost.
        """
        vertices = self._check(hand_vertices)
        self._set_up(protocol)
        steps = round(protocol.duration / protocol.timestep)
        moved = np.full((len(vertices), len(DIRECTIONS)), np.inf)
        for i in np.flatnonzero(finite_hands(vertices)):
            balls = self._balls(vertices[i])
            patches = balls.start(REACH)
            for k in _weakest_first(patches):
                pull = protocol.gravity * DIRECTIONS[k]
                moved[i, k] = self._simulate(balls, patches, pull, steps, protocol)
                if moved[i, k] > protocol.limit and not every_direction:
                    break
        return Hold(np.asarray((moved <= protocol.limit).all(axis=1)), moved)

    def shake(self, hand_vertices: np.ndarray, protocol: HoldProtocol = HOLD) -> Hold:
        """Shake: the hand swings along x, then y, then z, with gravity along -z; does the object stay?

        Simulated in the hand's own frame, where the swing is a force on the object.

        Args:
            hand_vertices: (B, V, 3), m, object frame.
        """
        vertices = self._check(hand_vertices)
        self._set_up(protocol)
        steps = round(protocol.duration / protocol.timestep)
        phase = 2 * np.pi * protocol.shake_frequency * protocol.timestep * np.arange(steps)
        swing = protocol.shake_acceleration * np.sin(phase)
        moved = np.full((len(vertices), 3), np.inf)
        for i in np.flatnonzero(finite_hands(vertices)):
            balls = self._balls(vertices[i])
            patches = balls.start(REACH)
            for axis in range(3):
                pull = np.zeros((steps, 3))
                pull[:, 2] = -protocol.gravity
                pull[:, axis] += swing
                moved[i, axis] = self._simulate(balls, patches, pull, steps, protocol)
                if moved[i, axis] > protocol.limit:
                    break
        return Hold(np.asarray((moved <= protocol.limit).all(axis=1)), moved)

    def _check(self, hand_vertices: np.ndarray) -> np.ndarray:
        return check_hands(hand_vertices, self._faces)

    def _balls(self, vertices: np.ndarray) -> SkinBalls:
        return SkinBalls(self._solid, vertices, skin_normals(vertices, self._faces, self._face_to_vertex))

    def _compile(self) -> Any:
        """Balls of the world and plates of the object, of which the k-th may touch, and nothing else."""
        mujoco = self._mujoco
        spec = mujoco.MjSpec()
        spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, FRICTION_STIFFNESS
        body = spec.worldbody.add_body()
        body.add_freejoint()
        body.explicitinertial = True
        body.mass = 1.0
        body.ipos = self._solid.center_of_volume
        inertia = trimesh.Trimesh(self._solid.vertices, self._solid.faces, process=False).moment_inertia
        inertia = inertia / self._solid.volume
        body.fullinertia = [*np.diag(inertia), inertia[0, 1], inertia[0, 2], inertia[1, 2]]
        sizes = {"ball": [BALL_RADIUS, 0, 0], "plate": [PATCH_HALF_WIDTH, PATCH_HALF_WIDTH, PATCH_HALF_DEPTH]}
        for k in range(MOST_PATCHES):
            ball, plate, pair = spec.worldbody.add_geom(), body.add_geom(), spec.add_pair()
            ball.type, plate.type = mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_BOX
            for geom, name in ((ball, "ball"), (plate, "plate")):
                geom.name, geom.size = f"{name}{k}", sizes[name]
                geom.contype = geom.conaffinity = 0
            pair.geomname1, pair.geomname2, pair.condim, pair.solref = ball.name, plate.name, 3, SOFT
        return spec.compile()

    def _set_up(self, protocol: HoldProtocol) -> None:
        model = self._model
        model.opt.timestep = protocol.timestep
        model.pair_friction[:, :2] = protocol.friction
        model.body_mass[1] = protocol.object_mass
        model.body_inertia[1] = protocol.object_mass * self._unit_inertia
        self._mujoco.mj_setConst(model, self._data)
        model.geom_sameframe[:] = 0  # else what was at the origin of its body just now would stay there

    def _show(self, patches: Patches) -> float:
        """Balls and plates where the patches are; the rest far from each other.

        Returns:
            How far a plate lies from the centre of mass, m.
        """
        position, count = self._model.geom_pos, len(patches.balls)
        position[:MOST_PATCHES] = _FAR
        position[:count] = patches.balls
        position[MOST_PATCHES : MOST_PATCHES + count] = patches.plates
        self._model.geom_quat[MOST_PATCHES : MOST_PATCHES + count] = patches.turns
        return float(np.linalg.norm(patches.plates - self._center, axis=1).max(initial=0.0))

    def _simulate(self, balls: SkinBalls, start: Patches, pull: np.ndarray, steps: int, hold: HoldProtocol) -> float:
        """Displacement of the centre of mass at the end, m, or where it first passes the limit, or settles.

        inf where the simulation diverged.

        Args:
            start: the patches of the object where it starts. pull: (3,) or, for each step, (steps, 3) m/s^2.
            hold: gives the limit, and when the object has settled.
        """
        mujoco, model, data, center = self._mujoco, self._model, self._data, self._center
        mujoco.mj_resetData(model, data)
        balls.restart()
        arm = self._show(start)
        settled_after = math.inf if pull.ndim > 1 else round(hold.settle_time / hold.timestep)
        seen, seen_turn, last = center, np.array([1.0, 0.0, 0.0, 0.0]), center
        matrix, moved, speed, calm, k = np.empty(9), 0.0, 0.0, 0, 0
        while k < steps:
            ahead = 1 if pull.ndim > 1 or speed > _SLOW else min(_AT_ONCE, steps - k)
            model.opt.gravity[:] = pull[k] if pull.ndim > 1 else pull
            mujoco.mj_step(model, data, ahead)
            k += ahead
            if data.time < (k - 0.5) * model.opt.timestep:  # MuJoCo begins anew after a step that is not finite
                return math.inf
            turn = data.qpos[3:]
            mujoco.mju_quat2Mat(matrix, turn)
            rotation = matrix.reshape(3, 3)
            now = data.qpos[:3] + rotation @ center
            moved, speed = math.dist(now, center), math.dist(now, last) / (ahead * model.opt.timestep)
            last = now
            calm = calm + ahead if speed < hold.settle_speed else 0
            left = (steps - k) * hold.timestep
            if moved > hold.limit or (calm >= settled_after and moved + 2 * speed * left < hold.limit):
                break
            turned = 2 * math.acos(min(1.0, abs(float(turn @ seen_turn))))
            if math.dist(now, seen) + turned * arm > REMAKE_AFTER:
                spin = math.hypot(*data.qvel[3:]) * self._size
                reach = REACH + _AT_ONCE * model.opt.timestep * (speed + spin)
                arm = self._show(balls.patches(data.qpos[:3], rotation, reach))
                seen, seen_turn = now, turn.copy()
        return moved


def _weakest_first(patches: Patches) -> np.ndarray:
    """The six directions, first the one that fewest patches look along: a lost grasp is lost soonest there."""
    return np.argsort(np.maximum(DIRECTIONS @ patches.outward.T, 0.0).sum(axis=1), kind="stable")


def _import_mujoco() -> Any:
    try:
        import mujoco
    except ImportError as error:
        raise MissingDependencyError(
            "the fast simulator needs MuJoCo: install it with 'pip install grasp_nodes[sim]'"
        ) from error
    # Else it writes a file into the working folder; a simulation that diverges is found by its result.
    mujoco.set_mju_user_warning(logger.debug)
    return mujoco
