"""Simulation displacement in PyBullet, by Hasson's protocol and its variants.

Y. Hasson et al., "Learning joint reconstruction of hands and manipulated objects", CVPR 2019. The hand is one static
concave mesh, the object a compound of convex parts; a world is made anew for each grasp.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.simulation.convex_parts import (
    convex_hull,
    convex_parts,
    import_pybullet,
    quiet_stdout,
    write_obj,
)
from grasp_nodes.evaluation.simulation.protocol import HASSON, DisplacementProtocol
from grasp_nodes.evaluation.solid import Solid, check_hands, finite_hands

PRESS_REACH = 0.02
"""m; fingertips farther from the object are not pressed."""
PRESS_TRAVEL = 0.005
_FINGERTIP_MASS = 0.02


class Simulated(NamedTuple):
    """displacement: (B,) m. final_center_of_mass: (B, 3) m, object frame. NaN for a hand with NaN."""

    displacement: np.ndarray
    final_center_of_mass: np.ndarray


def simulation_displacement(
    hand_vertices: np.ndarray,
    hand_faces: np.ndarray,
    solid: Solid,
    protocol: DisplacementProtocol = HASSON,
    fingertips: Sequence[np.ndarray] | None = None,
) -> Simulated:
    """Simulation displacement (SD) of CPF, FastGrasp and JHOD, and with ``protocol=CHOIR`` of CHOIR.

    Args:
        hand_vertices: (B, V, 3), m, object frame. hand_faces: (F, 3) int, closed.
        solid: the object. protocol: every setting.
        fingertips: five arrays of vertex ids, from `fingertip_regions`; only a protocol with a press force needs them.

    Returns:
        Distance of the object's centre of mass between start and end, and where it ended.

    Raises:
        MissingDependencyError: PyBullet is not installed. InputError: wrong shapes, or the fingertips are missing.
    """
    vertices = check_hands(hand_vertices, hand_faces)
    good = finite_hands(vertices)
    if protocol.press_force > 0 and fingertips is None:
        raise InputError(f"simulation protocol {protocol.name!r} presses fingertips: give their vertices")
    pybullet = import_pybullet()
    center = protocol.center(solid)
    parts = convex_parts(solid, protocol.vhacd_resolution, protocol.vhacd_concavity)
    final = np.full((len(vertices), 3), np.nan)
    client = pybullet.connect(pybullet.DIRECT)
    try:
        with tempfile.TemporaryDirectory() as folder, quiet_stdout():
            file = Path(folder, "object.obj")
            write_obj(file, [part._replace(vertices=part.vertices - center) for part in parts])
            for i in np.flatnonzero(good):
                world = _World(pybullet, client, protocol)
                if protocol.press_force > 0 and fingertips is not None:
                    world.add_pressing_hand(vertices[i], hand_faces, fingertips, solid)
                else:
                    world.add_hand(vertices[i], hand_faces)
                final[i] = world.drop(file, center)
    finally:
        pybullet.disconnect(client)
    return Simulated(np.linalg.norm(final - center, axis=1), final)


class _World:
    """One grasp's world."""

    def __init__(self, pybullet: Any, client: int, protocol: DisplacementProtocol) -> None:
        self._bullet, self._client, self._protocol = pybullet, client, protocol
        self._presses: list[tuple[int, int]] = []
        pybullet.resetSimulation(physicsClientId=client)
        pybullet.setPhysicsEngineParameter(
            enableFileCaching=0,
            numSolverIterations=protocol.solver_iterations,
            fixedTimeStep=protocol.timestep,
            physicsClientId=client,
        )
        pybullet.setGravity(*protocol.gravity, physicsClientId=client)

    def add_hand(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        body = self._bullet.createMultiBody(
            baseMass=0, baseCollisionShapeIndex=self._concave(vertices, faces), physicsClientId=self._client
        )
        self._set_hand_dynamics(body, -1)

    def add_pressing_hand(
        self, vertices: np.ndarray, faces: np.ndarray, tips: Sequence[np.ndarray], solid: Solid
    ) -> None:
        """The hand without its fingertips as a static base, each fingertip on a slider towards the object."""
        is_tip = np.zeros(len(vertices), np.int64)
        for tip in tips:
            is_tip[tip] = 1
        base = self._concave(vertices, faces[is_tip[faces].sum(axis=1) < faces.shape[1]])
        shapes, places, axes, near = [], [], [], []
        for tip in tips:
            distance, _, face = solid.distance.signed(vertices[tip])
            best = int(distance.argmin())
            corner = solid.vertices[solid.faces[face[best]]]
            normal = np.cross(corner[1] - corner[0], corner[2] - corner[0])
            place = vertices[tip].mean(axis=0)
            hull = convex_hull(vertices[tip] - place)
            shapes.append(
                self._bullet.createCollisionShape(
                    self._bullet.GEOM_MESH, vertices=hull.vertices.tolist(), physicsClientId=self._client
                )
            )
            places.append(place.tolist())
            axes.append((-normal / max(float(np.linalg.norm(normal)), 1e-30)).tolist())
            near.append(bool(distance[best] < PRESS_REACH))
        count = len(tips)
        upright = [[0.0, 0.0, 0.0, 1.0]] * count
        body = self._bullet.createMultiBody(
            baseMass=0,
            baseCollisionShapeIndex=base,
            linkMasses=[_FINGERTIP_MASS] * count,
            linkCollisionShapeIndices=shapes,
            linkVisualShapeIndices=[-1] * count,
            linkPositions=places,
            linkOrientations=upright,
            linkInertialFramePositions=[[0.0, 0.0, 0.0]] * count,
            linkInertialFrameOrientations=upright,
            linkParentIndices=[0] * count,
            linkJointTypes=[self._bullet.JOINT_PRISMATIC] * count,
            linkJointAxis=axes,
            physicsClientId=self._client,
        )
        self._set_hand_dynamics(body, -1)
        for link in range(count):
            self._set_hand_dynamics(body, link)
            self._bullet.changeDynamics(
                body, link, jointLowerLimit=0.0, jointUpperLimit=PRESS_TRAVEL, physicsClientId=self._client
            )
            # The motor that holds every new joint in place; a fingertip that is not pressed keeps it.
            if near[link]:
                self._bullet.setJointMotorControl2(
                    body, link, self._bullet.VELOCITY_CONTROL, force=0, physicsClientId=self._client
                )
                self._presses.append((body, link))
            else:
                self._bullet.setJointMotorControl2(
                    body, link, self._bullet.VELOCITY_CONTROL, force=1e3, physicsClientId=self._client
                )

    def drop(self, object_file: Path, center: np.ndarray) -> np.ndarray:
        """Where the object's centre of mass is at the end, (3,) m."""
        protocol = self._protocol
        shape = self._bullet.createCollisionShape(
            self._bullet.GEOM_MESH, fileName=str(object_file), physicsClientId=self._client
        )
        body = self._bullet.createMultiBody(
            baseMass=protocol.object_mass,
            basePosition=center.tolist(),
            baseCollisionShapeIndex=shape,
            physicsClientId=self._client,
        )
        self._bullet.changeDynamics(
            body,
            -1,
            lateralFriction=protocol.object_friction,
            restitution=protocol.object_restitution,
            linearDamping=protocol.linear_damping,
            physicsClientId=self._client,
        )
        for _ in range(protocol.steps):
            for hand, link in self._presses:
                self._bullet.setJointMotorControl2(
                    hand,
                    link,
                    self._bullet.TORQUE_CONTROL,
                    force=protocol.press_force,
                    physicsClientId=self._client,
                )
            self._bullet.stepSimulation(physicsClientId=self._client)
        return np.array(self._bullet.getBasePositionAndOrientation(body, physicsClientId=self._client)[0])

    def _concave(self, vertices: np.ndarray, faces: np.ndarray) -> int:
        return self._bullet.createCollisionShape(
            self._bullet.GEOM_MESH,
            vertices=vertices.tolist(),
            indices=faces.ravel().tolist(),
            flags=self._bullet.GEOM_FORCE_CONCAVE_TRIMESH,
            physicsClientId=self._client,
        )

    def _set_hand_dynamics(self, body: int, link: int) -> None:
        self._bullet.changeDynamics(
            body,
            link,
            lateralFriction=self._protocol.hand_friction,
            restitution=self._protocol.hand_restitution,
            physicsClientId=self._client,
        )
