"""Hands on objects for measuring the judge: palms laid on the surface at random, fingers closed until they touch.

Some of them hold, some slip, some are deep in the object: a judge has to tell all of them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.data.finger_bends import FingerBends
from grasp_nodes.evaluation.penetration import finger_of_vertices
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.keypoints import FINGERS, closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.shapes import mug

STEPS = 16


@dataclass(frozen=True)
class Scene:
    """One object and hands (B, V, 3), m, in its frame."""

    name: str
    solid: Solid
    hands: np.ndarray


@dataclass(frozen=True)
class OpenHand:
    """The right open hand: model, closed faces, rest vertices (V, 3) and joints (16, 3), m."""

    model: HandModel
    faces: np.ndarray
    vertices: np.ndarray
    joints: np.ndarray
    keypoints: np.ndarray

    @staticmethod
    def load() -> OpenHand:
        """The hand that travels with the package."""
        model = load_hand_model("right", dtype=torch.float64)
        rest = model(HandParams.zeros(1, dtype=torch.float64))
        faces = closed_faces(model.faces.numpy())
        return OpenHand(model, faces, rest.vertices[0].numpy(), rest.joints[0].numpy(), rest.keypoints[0].numpy())

    def posed(self, hand_pose: np.ndarray) -> np.ndarray:
        """Vertices (B, V, 3) of poses (B, 45)."""
        params = HandParams.zeros(len(hand_pose), dtype=torch.float64)
        with torch.no_grad():
            return self.model(replace(params, hand_pose=torch.from_numpy(hand_pose))).vertices.numpy()


def objects() -> dict[str, trimesh.Trimesh]:
    """Convex and hollow things of hand scale; 256 to 20k faces."""
    return {
        "sphere": trimesh.creation.icosphere(5, 0.035),
        "box": trimesh.creation.box((0.05, 0.07, 0.1)).subdivide_to_size(0.01),
        "cylinder": trimesh.creation.cylinder(0.03, 0.12, sections=64),
        "capsule": trimesh.creation.capsule(0.08, 0.025),
        "mug": mug(),
    }


def scenes(hand: OpenHand, per_object: int, seed: int) -> Iterator[Scene]:
    """Closed hands around every object."""
    rng = np.random.default_rng(seed)
    bends = FingerBends.of_right_hand(hand.keypoints)
    for name, mesh in objects().items():
        vertices = mesh.vertices - mesh.bounds.mean(axis=0)
        solid = Solid(vertices, mesh.faces, name)
        distance = SignedDistanceGrid.from_mesh(solid.vertices, solid.faces, resolution=64, padding=0.03)
        hands = np.stack([_hand_on(hand, bends, solid, distance, rng) for _ in range(per_object)])
        yield Scene(name, solid, hands)


def _hand_on(
    hand: OpenHand, bends: FingerBends, solid: Solid, distance: SignedDistanceGrid, rng: np.random.Generator
) -> np.ndarray:
    """A palm that faces a random point of the surface and nearly touches it, fingers bent until they touch.

    How deep a part may end is random, about a millimetre and up to five, and four hands in ten stay a little open.
    """
    face = solid.faces[rng.integers(len(solid.faces))]
    corner = solid.vertices[face]
    normal = np.cross(corner[1] - corner[0], corner[2] - corner[0])
    back = normal / np.linalg.norm(normal) + 0.15 * rng.standard_normal(3)
    back /= np.linalg.norm(back)
    turn = Rotation.align_vectors([back], [[0.0, 1.0, 0.0]])[0]
    rotation = (turn * Rotation.from_rotvec([0.0, rng.uniform(0, 2 * np.pi), 0.0])).as_matrix()
    palm = hand.keypoints[[5, 9, 13]].mean(axis=0) + np.array([0.012, -0.012, 0.0])
    position = corner.mean(axis=0) - rotation @ palm
    allowed = -abs(rng.normal(0.0, 0.0015))

    start = bends.uniform((5, 5, 3), (0, 0, 0, -45 + rng.uniform(-10, 10), rng.uniform(0, 30)))
    stop = bends.uniform((80, 90, 60), (35, 45, 60, 0, 0))
    for name in ("thumb_spread", "thumb_twist"):
        stop[bends.names.index(name)] = start[bends.names.index(name)]
    trial = start + np.linspace(0, 1, STEPS)[:, None] * (stop - start)
    posed = hand.posed(bends.pose(trial)) @ rotation.T

    def nearest(vertices: np.ndarray) -> np.ndarray:
        return distance.query((vertices + position).reshape(-1, 3))[0].reshape(vertices.shape[:-1])

    for _ in range(30):
        position = position + 0.8 * (allowed - nearest(posed[0]).min()) * back
    signed, owner = nearest(posed), finger_of_vertices(hand.model.arrays.weights)
    values = start.copy()
    loose = rng.integers(0, 4, len(FINGERS)) * (rng.random() < 0.4)
    for number, finger in enumerate(FINGERS):
        free = np.cumprod(signed[:, owner == number].min(axis=1) > allowed).sum()
        columns = [k for k, name in enumerate(bends.names) if name.startswith(finger)]
        values[columns] = trial[max(int(free) - 1 - int(loose[number]), 0), columns]
    return hand.posed(bends.pose(values[None]))[0] @ rotation.T + position
