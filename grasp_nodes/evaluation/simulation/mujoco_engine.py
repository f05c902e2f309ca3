"""A fast simulator of many hands on one object, in MuJoCo: displacement, six-direction hold and shake.

Not Hasson's simulator: contacts are soft, and the hand is balls just below its skin, at the vertices near the object,
instead of one concave mesh. Convex parts of the hand were tried and fill its hollows by up to a centimetre. The numbers
go by their own names. The scene is compiled once per object; a new hand only moves the balls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import trimesh
from scipy.spatial import cKDTree

from grasp_nodes.errors import InputError, MissingDependencyError
from grasp_nodes.evaluation.simulation.convex_parts import ConvexPart, convex_parts
from grasp_nodes.evaluation.simulation.protocol import HASSON, HOLD, DisplacementProtocol, HoldProtocol
from grasp_nodes.evaluation.solid import Solid, check_hands, finite_hands
from grasp_nodes.geometry.mesh import sample_surface

DIRECTIONS = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float64)
BALLS = 200
"""Those of the vertices nearest to the object; the others of 778 lie farther than it moves before it is lost."""
BALL_RADIUS = 0.003
"""m; a third of a finger's thickness: smaller than the gaps between vertices would let edges slip in."""
SOFT = (0.02, 1.0)
REBOUND = (0.05, 0.3)
"""solref, s and damping ratio. The hold pushes an overlap apart without a kick. Bullet leaves the object with the speed
that resolved the overlap, and keeps bodies some way apart; the displacement imitates both, as it is to be compared."""
BULLET_MARGIN = 0.002
_SURFACE_POINTS = 4096
_FAR = (0.0, 0.0, 100.0)
_HAND, _OBJECT = 1, 2


class Hold(NamedTuple):
    """Of B hands: did the object stay?

    holds: (B,) bool, within the limit in every direction. displacement: (B, D) m, of its centre of mass, in 6
    directions of gravity or 3 of shaking; a direction after the first lost one is not simulated and is inf.
    """

    holds: np.ndarray
    displacement: np.ndarray


class MujocoEngine:
    """Simulates hands of one topology on one object.

    Args:
        solid: the object, cut into convex parts (kept in the cache). hand_faces: (F, 3) int, closed.

    Raises:
        MissingDependencyError: MuJoCo is not installed.
    """

    def __init__(self, solid: Solid, hand_faces: np.ndarray) -> None:
        self._mujoco = _import_mujoco()
        self._solid, self._faces = solid, np.asarray(hand_faces, np.int64)
        corners = self._faces.ravel()
        owners = np.repeat(np.arange(len(self._faces)), 3)
        self._face_to_vertex = sp.csr_matrix((np.ones(len(corners)), (corners, owners)))
        self._surface = cKDTree(sample_surface(solid.vertices, solid.faces, _SURFACE_POINTS, seed=0)[0])
        self._model = self._compile(convex_parts(solid))
        self._data = self._mujoco.MjData(self._model)
        nodes = self._model.body_bvhadr[0] + np.arange(self._model.body_bvhnum[0])
        ball = self._model.bvh_nodeid[nodes]
        self._leaves, self._branches, self._ball_of_leaf = nodes[ball >= 0], nodes[ball < 0], ball[ball >= 0]
        self._unit_inertia = self._model.body_inertia[1].copy()

    def displacement(self, hand_vertices: np.ndarray, protocol: DisplacementProtocol = HASSON) -> np.ndarray:
        """MuJoCo displacement: Hasson's protocol in this engine; report it as `mujoco_displacement`.

        Args:
            hand_vertices: (B, V, 3), m, object frame. protocol: without a press force.

        Returns:
            (B,) m, NaN for a hand with NaN.
        """
        if protocol.press_force > 0:
            raise InputError(f"simulation protocol {protocol.name!r} presses fingertips, which only PyBullet does here")
        vertices = self._check(hand_vertices)
        friction = protocol.hand_friction * protocol.object_friction  # as Bullet combines them
        self._set_up(protocol.timestep, protocol.object_mass, friction, protocol.center(self._solid), True)
        self._model.dof_damping[:] = protocol.linear_damping * protocol.object_mass * np.array([1.0, 1, 1, 0, 0, 0])
        self._model.opt.gravity[:] = protocol.gravity
        result = np.full(len(vertices), np.nan)
        for i in np.flatnonzero(finite_hands(vertices)):
            self._pose_hand(vertices[i])
            result[i] = self._simulate(protocol.steps, np.inf)
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
        self._set_up(protocol.timestep, protocol.object_mass, protocol.friction, self._solid.center_of_volume, False)
        self._model.dof_damping[:] = 0.0
        steps = round(protocol.duration / protocol.timestep)
        moved = np.full((len(vertices), len(DIRECTIONS)), np.inf)
        for i in np.flatnonzero(finite_hands(vertices)):
            self._pose_hand(vertices[i])
            for k, direction in enumerate(DIRECTIONS):
                self._model.opt.gravity[:] = protocol.gravity * direction
                moved[i, k] = self._simulate(steps, protocol.limit)
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
        self._set_up(protocol.timestep, protocol.object_mass, protocol.friction, self._solid.center_of_volume, False)
        self._model.dof_damping[:] = 0.0
        steps = round(protocol.duration / protocol.timestep)
        phase = 2 * np.pi * protocol.shake_frequency * protocol.timestep * np.arange(steps)
        swing = protocol.shake_acceleration * np.sin(phase)
        moved = np.full((len(vertices), 3), np.inf)
        for i in np.flatnonzero(finite_hands(vertices)):
            self._pose_hand(vertices[i])
            for axis in range(3):
                pull = np.zeros((steps, 3))
                pull[:, 2] = -protocol.gravity
                pull[:, axis] += swing
                moved[i, axis] = self._simulate(steps, protocol.limit, pull)
                if moved[i, axis] > protocol.limit:
                    break
        return Hold(np.asarray((moved <= protocol.limit).all(axis=1)), moved)

    def _check(self, hand_vertices: np.ndarray) -> np.ndarray:
        return check_hands(hand_vertices, self._faces)

    def _compile(self, object_parts: Sequence[ConvexPart]) -> Any:
        mujoco = self._mujoco
        spec = mujoco.MjSpec()
        spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        for k in range(BALLS):
            geom = spec.worldbody.add_geom()
            geom.pos = [0.01 * k, 0.0, 0.0]
            geom.type, geom.size = mujoco.mjtGeom.mjGEOM_SPHERE, [BALL_RADIUS, 0, 0]
            geom.contype, geom.conaffinity = _HAND, _OBJECT
        body = spec.worldbody.add_body()
        body.add_freejoint()
        body.explicitinertial = True
        body.mass = 1.0
        body.ipos = self._solid.center_of_volume
        inertia = trimesh.Trimesh(self._solid.vertices, self._solid.faces, process=False).moment_inertia
        inertia = inertia / self._solid.volume
        body.fullinertia = [*np.diag(inertia), inertia[0, 1], inertia[0, 2], inertia[1, 2]]
        for k, part in enumerate(object_parts):
            self._add_mesh(spec, f"object{k}", part.vertices, part.faces)
            geom = body.add_geom()
            geom.type, geom.meshname = mujoco.mjtGeom.mjGEOM_MESH, f"object{k}"
            geom.contype, geom.conaffinity = _OBJECT, _HAND
        return spec.compile()

    def _add_mesh(self, spec: Any, name: str, vertices: np.ndarray, faces: np.ndarray) -> None:
        mesh = spec.add_mesh()
        mesh.name = name
        mesh.uservert = np.asarray(vertices, np.float64).ravel().tolist()
        mesh.userface = np.asarray(faces).ravel().tolist()
        mesh.inertia = self._mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX

    def _set_up(self, timestep: float, mass: float, friction: float, center: np.ndarray, rebound: bool) -> None:
        model = self._model
        model.geom_solref[:] = REBOUND if rebound else SOFT
        model.geom_margin[:] = 0.5 * BULLET_MARGIN if rebound else 0.0
        model.opt.timestep = timestep
        model.geom_friction[:, 0] = friction
        model.body_mass[1] = mass
        model.body_inertia[1] = mass * self._unit_inertia
        model.body_ipos[1] = center
        self._mujoco.mj_setConst(model, self._data)
        model.geom_sameframe[:BALLS] = 0  # else a ball that was at the origin just now would stay there

    def _pose_hand(self, vertices: np.ndarray) -> None:
        """Balls below the skin of the vertices that are nearest to the object; the rest far away."""
        distance, _ = self._surface.query(vertices)
        near = np.argsort(distance, kind="stable")[:BALLS]
        corner = vertices[self._faces]
        normals = self._face_to_vertex @ np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        normals = normals[near] / np.maximum(np.linalg.norm(normals[near], axis=1, keepdims=True), 1e-30)
        centers = vertices[near] - BALL_RADIUS * normals
        self._model.geom_pos[:BALLS] = _FAR
        self._model.geom_pos[: len(near)] = centers
        # The tree of boxes by which pairs are found: leaves where the balls are, every branch around all of them.
        self._model.bvh_aabb[self._branches, :3], self._model.bvh_aabb[self._branches, 3:] = 0.0, 2 * _FAR[2]
        self._model.bvh_aabb[self._leaves, :3] = self._model.geom_pos[self._ball_of_leaf]
        self._model.bvh_aabb[self._leaves, 3:] = BALL_RADIUS

    def _simulate(self, steps: int, limit: float, pull: np.ndarray | None = None) -> float:
        """Displacement of the centre of mass at the end, m, or where it first passes the limit."""
        mujoco, model, data = self._mujoco, self._model, self._data
        mujoco.mj_resetData(model, data)
        mujoco.mj_forward(model, data)
        start = data.xipos[1].copy()
        if pull is None and np.isinf(limit):
            mujoco.mj_step(model, data, steps)
        else:
            for k in range(steps):
                if pull is not None:
                    model.opt.gravity[:] = pull[k]
                mujoco.mj_step(model, data)
                if ((data.xipos[1] - start) ** 2).sum() > limit**2:
                    break
        # Positions of bodies are those at the beginning of the last step.
        mujoco.mj_kinematics(model, data)
        return float(np.linalg.norm(data.xipos[1] - start))


def _import_mujoco() -> Any:
    try:
        import mujoco
    except ImportError as error:
        raise MissingDependencyError(
            "the fast simulator needs MuJoCo: install it with 'pip install grasp_nodes[sim]'"
        ) from error
    return mujoco
