"""A power grasp of a mug: palm against the body, fingers closed until they touch.

A small deterministic search: palms are placed on the body at several heights, tilts and thumb postures, fingers are
closed by a batched line search against the mug's signed distance, and the most natural of the firm grasps is kept.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import torch
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.data.finger_bends import FingerBends
from grasp_nodes.errors import GraspNodesError
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS, TIP_VERTICES
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams

GRIP_HEIGHT = 0.057
"""m, of the knuckles' middle above the foot."""
FOREARM_TILTS = (10.0,)
"""deg, how far the forearm rises from the fingers to the elbow."""
APPROACH_ANGLES = (5.0, 15.0, 25.0)
"""deg, from the palm's normal towards the fingers: the direction in which the mug enters the hand."""
APPROACH_OFFSETS = (0.02, 0.03, 0.04)
"""m, of the mug's axis from the knuckles, across that direction, towards the thumb's side of the opening."""
THUMB_BENDS = (10.0, 20.0, 30.0, 40.0)
THUMB_SPREADS = (-57.0, -48.0)
THUMB_TWISTS = (-5.0, 10.0, 20.0, 30.0, 45.0)
"""deg, at the thumb's root."""
THUMB_BELOW_RIM = 0.016
"""m, lowest depth of the thumb's tip below the rim that looks like holding and not like hooking."""
PALM_GAP = 0.0005
FINGER_GAP = -0.0006
"""m, signed distance at which the palm and each finger stop; a little negative, as soft flesh gives."""
LINE_STEPS = 12
MAX_PENETRATION = 0.0015


@dataclass(frozen=True)
class HandGrasp:
    """A hand on an object.

    T_object_hand: (4, 4), hand's rest frame to object frame, m. hand_pose, open_pose: (45,), rad: closed, and the
    open hand that it starts from. penetration: m, deepest hand vertex. touching: fingers within 2 mm, thumb first.
    """

    T_object_hand: np.ndarray
    hand_pose: np.ndarray
    open_pose: np.ndarray
    penetration: float
    touching: np.ndarray


class _Closer:
    """Closes the fingers of many placed hands at once."""

    def __init__(self, model: HandModel, distance: SignedDistanceGrid, bends: FingerBends) -> None:
        self.model, self.distance, self.bends = model, distance, bends
        owner = model.arrays.weights.argmax(axis=1)
        self.finger = np.zeros(len(owner), np.int64)
        for code, name in enumerate(FINGERS, start=1):
            self.finger[np.isin(owner, FINGER_JOINTS[name])] = code
        self.finger[owner == FINGER_JOINTS["thumb"][0]] = 0  # the ball of the thumb belongs to the palm
        chosen = np.flatnonzero(self.finger)[::2]
        self._fast, self._fast_finger = model.vertex_subset(chosen.tolist()), self.finger[chosen]

    def vertices(self, values: np.ndarray, model: HandModel | None = None) -> np.ndarray:
        """(B, V, 3) in the hand's rest frame."""
        params = HandParams.zeros(len(values), self.model.side, self.model.dtype)
        pose = torch.as_tensor(self.bends.pose(values), dtype=self.model.dtype)
        with torch.no_grad():
            return (model or self.model)(replace(params, hand_pose=pose)).vertices.double().numpy()

    def signed(
        self, rotation: np.ndarray, position: np.ndarray, values: np.ndarray, model: HandModel | None = None
    ) -> np.ndarray:
        """(B, V) m, of hands at (B, 3, 3) and (B, 3) in the object's frame."""
        points = self.vertices(values, model) @ rotation.transpose(0, 2, 1) + position[:, None]
        return self.distance.query(points.reshape(-1, 3))[0].reshape(points.shape[:2])

    def approach(
        self, rotation: np.ndarray, position: np.ndarray, direction: np.ndarray, values: np.ndarray
    ) -> np.ndarray:
        """Positions moved along a direction (B, 3) until the hand nearly touches (sphere tracing)."""
        vertices = self.vertices(values) @ rotation.transpose(0, 2, 1)
        for _ in range(40):
            points = vertices + position[:, None]
            nearest = self.distance.query(points.reshape(-1, 3))[0].reshape(points.shape[:2]).min(axis=1)
            position = position + 0.8 * (nearest - PALM_GAP)[:, None] * direction
        return position

    def close(self, rotation: np.ndarray, position: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Bend all joints of each finger until something touches, then the outer two, then the last."""
        batch = len(values)
        share = np.linspace(0, 1, LINE_STEPS)
        for moving in ((0, 1, 2), (1, 2), (2,)):
            step = np.zeros_like(values)
            for name in FINGERS:
                columns = [self.bends.names.index(f"{name}_bend_{k}") for k in moving]
                step[:, columns] = np.maximum(0.95 * self.bends.high[columns] - values[:, columns], 0)
            low, high = np.zeros((batch, 5)), np.ones((batch, 5))
            for _ in range(2):  # a coarse pass and one inside the last free step
                places = low[:, None] + (high - low)[:, None] * share[:, None]
                trial = values[:, None] + step[:, None] * self._per_column(places)
                signed = self.signed(
                    np.repeat(rotation, LINE_STEPS, axis=0),
                    np.repeat(position, LINE_STEPS, axis=0),
                    trial.reshape(batch * LINE_STEPS, -1),
                    self._fast,
                ).reshape(batch, LINE_STEPS, -1)
                nearest = np.stack(
                    [signed[:, :, self._fast_finger == code].min(axis=2) for code in range(1, 6)], axis=2
                )
                free = np.cumprod(nearest > FINGER_GAP, axis=1).sum(axis=1)
                last = np.maximum(free - 1, 0)
                first_blocked = np.minimum(free, LINE_STEPS - 1)
                low, high = (
                    np.take_along_axis(places, last[:, None], axis=1)[:, 0],
                    np.take_along_axis(places, first_blocked[:, None], axis=1)[:, 0],
                )
            values = values + step * self._per_column(low[:, None])[:, 0]
        return values

    def _per_column(self, per_finger: np.ndarray) -> np.ndarray:
        """Values (..., 5) per finger as (..., D) per degree of freedom."""
        order = [FINGERS.index(name.split("_")[0]) for name in self.bends.names]
        return per_finger[..., order]


def find_mug_grasp(model: HandModel, mesh: trimesh.Trimesh, palm_angle: float) -> HandGrasp:
    """The hand around a mug that stands on z = 0 about the z axis.

    Args:
        model: right hand.
        mesh: the mug, m.
        palm_angle: rad, direction from the mug's axis towards the palm.

    Raises:
        GraspNodesError: no firm grasp was found; another hand or mug than this search is made for.
    """
    with torch.no_grad():
        rest = model(HandParams.zeros(1, model.side, model.dtype)).keypoints[0].double().numpy()
    bends = FingerBends.of_right_hand(rest)
    solid = trimesh.boolean.union([mesh, _filling(mesh)], engine="manifold")  # fingers must not pass the thin wall
    distance = SignedDistanceGrid.from_mesh(solid.vertices, solid.faces, resolution=96, padding=0.03)
    closer = _Closer(model, distance, bends)
    knuckles = rest[[5, 9, 13, 17]].mean(axis=0)

    grid = itertools.product(FOREARM_TILTS, APPROACH_ANGLES, APPROACH_OFFSETS, THUMB_BENDS, THUMB_SPREADS, THUMB_TWISTS)
    tilt, angle, offset, thumb_bend, thumb_spread, thumb_twist = np.array(list(grid)).T
    values = np.tile(bends.uniform((8.0, 8.0, 5.0), (0.0, 0.0, 0.0, 0.0, 0.0)), (len(tilt), 1))
    for name, angles in (
        ("thumb_bend_0", thumb_bend),
        ("thumb_spread", thumb_spread),
        ("thumb_twist", thumb_twist),
        ("index_spread", 3.0),
        ("little_spread", -3.0),
    ):
        values[:, bends.names.index(name)] = np.deg2rad(angles)
    rotation, position, direction = _place_hands(palm_angle, np.deg2rad(tilt), np.deg2rad(angle), offset, knuckles)
    position = closer.approach(rotation, position, direction, values)
    values = closer.close(rotation, position, values)

    signed = closer.signed(rotation, position, values)
    penetration = -signed.min(axis=1)
    near = np.stack([signed[:, closer.finger == code].min(axis=1) < 0.002 for code in range(1, 6)], axis=1)
    tips = closer.vertices(values)[:, [TIP_VERTICES[name] for name in FINGERS]] @ rotation.transpose(0, 2, 1)
    tips += position[:, None]
    cost = _unnaturalness(bends, values) - 0.5 * near.sum(axis=1) - 1.0 * near[:, 0]
    cost += 10.0 * (penetration > MAX_PENETRATION)
    cost += 100.0 * np.maximum(tips[:, 0, 2] - (mesh.bounds[1, 2] - THUMB_BELOW_RIM), 0.0)
    cost += 80.0 * np.maximum(signed[:, TIP_VERTICES["thumb"]], 0.0)
    cost += 1.5 * _same_side(tips)
    best = int(np.argmin(cost))
    if penetration[best] > MAX_PENETRATION or near[best].sum() < 4 or not near[best, 0]:
        raise GraspNodesError(
            f"no firm grasp of the mug: the best touches with {int(near[best].sum())} fingers and is "
            f"{1e3 * penetration[best]:.1f} mm deep in it"
        )
    T_object_hand = np.eye(4)
    T_object_hand[:3, :3], T_object_hand[:3, 3] = rotation[best], position[best]
    return HandGrasp(
        T_object_hand,
        bends.pose(values[best]),
        bends.pose(_opened(bends, values[best])),
        float(max(penetration[best], 0.0)),
        near[best],
    )


def _place_hands(
    palm_angle: float, tilt: np.ndarray, angle: np.ndarray, offset: np.ndarray, knuckles: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hands 15 cm from the mug's axis, thumb up, opening towards it.

    Returns:
        rotation (B, 3, 3), position (B, 3) and direction of approach (B, 3) in the mug's frame.
    """
    outward = np.array([np.cos(palm_angle), np.sin(palm_angle), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    base = np.stack([np.cross(outward, up), outward, up], axis=1)  # x to the wrist, y out of the back, z to the thumb
    turn = Rotation.from_rotvec(-tilt[:, None] * outward) * Rotation.from_rotvec(-angle[:, None] * up)
    rotation = turn.as_matrix() @ base
    zero = np.zeros_like(angle)
    direction = np.stack([-np.sin(angle), -np.cos(angle), zero], axis=1)
    across = np.stack([np.cos(angle), -np.sin(angle), zero], axis=1)
    anchor = knuckles + offset[:, None] * across - 0.15 * -direction
    place = GRIP_HEIGHT * up - np.einsum("bij,bj->bi", rotation, anchor)
    return rotation, place, np.einsum("bij,bj->bi", rotation, direction)


def _filling(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """A solid that fills the mug, a little inside of its outer wall."""
    body = mesh.vertices[mesh.vertices[:, 2] > mesh.bounds[1, 2] - 0.004]  # the rim, where there is no handle
    radius = np.linalg.norm(body[:, :2], axis=1).max() - 0.001
    height = mesh.bounds[1, 2] - 0.001
    return trimesh.creation.cylinder(radius, height, sections=64).apply_translation([0, 0, height / 2 + 0.0005])


def _same_side(tips: np.ndarray) -> np.ndarray:
    """(B,) from 0, thumb opposite to the fingers, to 2, on their side, seen along the mug's axis; tips (B, 5, 3)."""
    direction = tips[..., :2] / np.linalg.norm(tips[..., :2], axis=-1, keepdims=True)
    fingers = direction[:, 1:].mean(axis=1)
    return 1.0 + np.einsum("bi,bi->b", direction[:, 0], fingers)


def _unnaturalness(bends: FingerBends, values: np.ndarray) -> np.ndarray:
    """(B,) how far fingers differ from their neighbours, bend at one joint only, or leave the middle of their range."""
    table = np.stack(
        [np.stack([values[:, bends.names.index(f"{name}_bend_{k}")] for k in range(3)], axis=1) for name in FINGERS],
        axis=1,
    )
    fingers = table[:, 1:]
    neighbours = np.abs(np.diff(fingers.sum(axis=2), axis=1)).sum(axis=1)
    uneven = np.abs(fingers[:, :, 0] - 0.8 * fingers[:, :, 1]).sum(axis=1) + np.abs(
        fingers[:, :, 2] - 0.6 * fingers[:, :, 1]
    ).sum(axis=1)
    thumb = np.abs(table[:, 0, 2] - table[:, 0, 1]) + np.abs(values[:, bends.names.index("thumb_twist")])
    return 0.6 * neighbours + 0.4 * uneven + 0.5 * thumb


def _opened(bends: FingerBends, closed: np.ndarray) -> np.ndarray:
    """The posture from which the hand reaches: fingers nearly flat and spread, thumb opposed but stretched."""
    values = 0.20 * closed
    for name, share in (("thumb_spread", 0.85), ("thumb_twist", 1.0), ("thumb_bend_0", 0.5), ("thumb_bend_2", 0.0)):
        values[bends.names.index(name)] = share * closed[bends.names.index(name)]
    for name, angle in (("index", 6.0), ("ring", -4.0), ("little", -9.0)):
        values[bends.names.index(f"{name}_spread")] = np.deg2rad(angle)
    return np.clip(values, bends.low, bends.high)
