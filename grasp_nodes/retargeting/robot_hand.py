"""A robot hand as the solvers see it: joints, fingers, palm, and points on the surface of its links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.mesh import is_watertight, merge_vertices, sample_surface, signed_volume
from grasp_nodes.geometry.mesh_distance import MeshDistance
from grasp_nodes.hand.anchors import NUM_REGIONS, PALM_METACARPAL
from grasp_nodes.hand.keypoints import FINGERS
from grasp_nodes.hand.parameters import Side
from grasp_nodes.retargeting.finger_roles import finger_chains, name_fingers, palm_frame, side_of
from grasp_nodes.retargeting.kinematics import Kinematics
from grasp_nodes.retargeting.robot_description import RobotDescription, Shape, read_description

SAMPLE_SPACING = 0.004
TIP_SPACING = 0.0025
"""m, between neighbouring points on the surface of links, and on that of fingertips."""
MOST_SAMPLES = 500
"""Of one body."""
SKIN_EDGE = 0.006
"""m; faces are halved until no edge of a body's skin is longer."""
MOST_FACES = 8000
"""Of one shape; a finer one is replaced by its convex hull."""
_BURIED = 5e-4
"""m below the surface of another shape of the same body: that point touches nothing."""
_SEED = 0


@dataclass(frozen=True)
class Finger:
    """One finger. bodies: those with a shape, from knuckle to tip.

    tip: (3,) m, in the last body's frame: the end of its surface along the last phalanx.
    """

    name: str
    bodies: tuple[int, ...]
    tip: np.ndarray

    @property
    def tip_body(self) -> int:
        """The outermost body."""
        return self.bodies[-1]


@dataclass(frozen=True)
class Surface:
    """Points on the hand's links, body by body.

    points, normals: (S, 3) m and unit, in the frame of their body. body: (S,) int64, ascending.
    start: (B + 1,) int64, where each body's points begin.
    """

    points: np.ndarray
    normals: np.ndarray
    body: np.ndarray
    start: np.ndarray


@dataclass(frozen=True, eq=False)
class RobotHand:
    """A robot hand of one side.

    palm_body: that the fingers leave. T_body_palm: (4, 4) m, the palm's frame (`palm_frame`) in that body's.
    region_body: (17,) int64, body that stands for each region of the human hand, -1 = the robot has none.
    rest: (n,) driven joints, half open. skins: closed shapes of each body, in its frame, of the collision geometry
    where there is one. looks: shapes to be shown.
    """

    name: str
    side: Side
    description: RobotDescription
    kinematics: Kinematics
    fingers: tuple[Finger, ...]
    palm_body: int
    T_body_palm: np.ndarray
    region_body: np.ndarray
    rest: np.ndarray
    surface: Surface
    skins: tuple[tuple[Shape, ...], ...]
    looks: tuple[tuple[Shape, ...], ...]

    @property
    def finger_names(self) -> tuple[str, ...]:
        """The fingers it has, thumb first."""
        return tuple(finger.name for finger in self.fingers)

    @property
    def open_joints(self) -> np.ndarray:
        """(n,): every driven joint at zero, or at its limit nearest to it."""
        return np.clip(0.0, self.kinematics.lower, self.kinematics.upper)

    def fingertips(self, driven: np.ndarray, T_world_base: np.ndarray | None = None) -> np.ndarray:
        """(F, 3) m: the fingertips in the world."""
        poses = self.kinematics.body_poses(driven, T_world_base)
        return np.array([_apply(poses[finger.tip_body], finger.tip) for finger in self.fingers])

    def skin(self, driven: np.ndarray, T_world_base: np.ndarray | None = None) -> np.ndarray:
        """(V, 3) m: vertices of all closed shapes, posed; their faces are `skin_faces`."""
        return _posed(self.skins, self.kinematics.body_poses(driven, T_world_base))

    @property
    def skin_faces(self) -> np.ndarray:
        """(F, 3) int64."""
        return _joined_faces(self.skins)

    @property
    def skin_body(self) -> np.ndarray:
        """(V,) int64: body of each vertex of `skin`."""
        return np.repeat(np.arange(len(self.skins)), [sum(len(one.vertices) for one in each) for each in self.skins])

    def look(self, driven: np.ndarray, T_world_base: np.ndarray | None = None) -> np.ndarray:
        """(V, 3) m: vertices of what is shown, posed; their faces are `look_faces`."""
        return _posed(self.looks, self.kinematics.body_poses(driven, T_world_base))

    @property
    def look_parts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Vertices (V, 3) m, in the body's frame, and faces (F, 3) of what is shown of each body."""
        nothing = np.zeros((0, 3)), np.zeros((0, 3), np.int64)
        return [
            (np.concatenate([shape.vertices for shape in each]), _joined_faces([each])) if each else nothing
            for each in self.looks
        ]

    @property
    def look_faces(self) -> np.ndarray:
        """(F, 3) int64."""
        return _joined_faces(self.looks)


def load_robot_hand(path: Path, side: Side | None = None) -> RobotHand:
    """The robot hand of a URDF file.

    Args:
        path: the file. side: None = from the way in which its fingers bend.

    Raises:
        MissingFileError: the file or a mesh of it is not there. InputError: it is no hand.
    """
    return make_robot_hand(read_description(path), side)


def make_robot_hand(description: RobotDescription, side: Side | None = None) -> RobotHand:
    """The robot hand of a description; see `load_robot_hand`."""
    kinematics = Kinematics.of(description)
    count = len(kinematics.chain.parent)
    collisions: list[list[Shape]] = [[] for _ in range(count)]
    visuals: list[list[Shape]] = [[] for _ in range(count)]
    for link in description.links:
        body, T = kinematics.body_of_link[link.name], kinematics.link_offset[link.name]
        collisions[body] += _placed(link.collisions or link.visuals, T)
        visuals[body] += _placed(link.visuals or link.collisions, T)
    skins = [[_closed(shape) for shape in each] for each in collisions]
    if not any(skins):
        raise InputError(f"robot description {description.name}: no link has a shape; expected <collision> or <visual>")
    palm_body, chains = finger_chains(kinematics)
    # A chain without any shape is a sensor's frame or the like.
    chains = [chain for chain in chains if any(skins[body] for body in chain)]
    fingers = _fingers(description, kinematics, chains, skins)
    T_body_palm, bends = _palm(kinematics, fingers, palm_body)
    fine = [[_halved(shape) for shape in each] for each in skins]
    tips = {finger.tip_body for finger in fingers}
    return RobotHand(
        description.name,
        side or side_of(T_body_palm, bends),
        description,
        kinematics,
        fingers,
        palm_body,
        T_body_palm,
        _region_bodies(fingers, palm_body, skins),
        np.clip(0.3 * kinematics.upper + 0.7 * kinematics.lower.clip(None, 0.0), kinematics.lower, kinematics.upper),
        _sampled(skins, tips),
        tuple(tuple(each) for each in fine),
        tuple(tuple(each) for each in visuals),
    )


def _fingers(
    description: RobotDescription, kinematics: Kinematics, chains: list[list[int]], skins: Sequence[Sequence[Shape]]
) -> tuple[Finger, ...]:
    opened = np.clip(0.0, kinematics.lower, kinematics.upper)
    poses = kinematics.body_poses(opened)
    names = [
        [joint.name for joint in description.joints if kinematics.body_of_link[joint.child] in chain]
        + [link.name for link in description.links if kinematics.body_of_link[link.name] in chain]
        for chain in chains
    ]
    shaped = [[body for body in chain if skins[body]] for chain in chains]
    tips = [_tip(skins[each[-1]]) for each in shaped]
    knuckles = np.array([poses[chain[0], :3, 3] for chain in chains])
    ends = np.array([_apply(poses[each[-1]], tip) for each, tip in zip(shaped, tips, strict=True)])
    reach = ends - knuckles
    roles = name_fingers(chains, names, knuckles, reach / np.linalg.norm(reach, axis=1, keepdims=True))
    if len(roles) < 2:
        raise InputError(f"robot description {description.name}: fewer than two fingers were found")
    return tuple(Finger(name, tuple(shaped[k]), tips[k]) for name, k in roles.items())


def _tip(shapes: Sequence[Shape]) -> np.ndarray:
    """The end of a phalanx: on the line from its joint through its middle, as far as its surface reaches."""
    vertices = np.concatenate([shape.vertices for shape in shapes])
    along = vertices[np.linalg.norm(vertices, axis=1) > 0.5 * np.linalg.norm(vertices, axis=1).max()].mean(axis=0)
    along = along / np.linalg.norm(along)
    return float((vertices @ along).max()) * along


def _palm(kinematics: Kinematics, fingers: Sequence[Finger], palm_body: int) -> tuple[np.ndarray, np.ndarray]:
    """T_body_palm, and the direction in which fingertips move when the fingers bend, (3,) in the palm body's frame."""
    lower, upper = kinematics.lower, kinematics.upper
    opened = np.clip(0.0, lower, upper)
    far = np.where(np.abs(upper - opened) > np.abs(lower - opened), upper, lower)
    # Joints that bend as far one way as the other spread the fingers.
    bent = np.where(np.abs(upper + lower) < 0.2 * (upper - lower), opened, opened + 0.5 * (far - opened))
    row = [finger for finger in fingers if finger.name != "thumb"]
    if not row:
        raise InputError("robot hand: has no finger beside the thumb")

    def places(driven: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        poses = kinematics.body_poses(driven)
        back = np.linalg.inv(poses[palm_body])
        knuckles = np.array([(back @ poses[finger.bodies[0]])[:3, 3] for finger in row])
        return knuckles, np.array([_apply(back @ poses[finger.tip_body], finger.tip) for finger in row])

    knuckles, ends = places(opened)
    bending = (places(bent)[1] - ends).mean(axis=0)
    forward = (ends - knuckles).mean(axis=0)
    last = knuckles[-1]
    if len(row) == 1:  # the palm's width lies across finger and bending
        last = knuckles[0] - np.cross(bending, forward)
    return palm_frame(knuckles[0], last, knuckles, forward), bending


def _region_bodies(fingers: Sequence[Finger], palm_body: int, skins: Sequence[Sequence[Shape]]) -> np.ndarray:
    bodies = np.full(NUM_REGIONS, -1, np.int64)
    for finger in fingers:
        first = 3 * FINGERS.index(finger.name)
        for segment in range(3):
            bodies[first + segment] = finger.bodies[max(len(finger.bodies) - 3 + segment, 0)]
    if skins[palm_body]:
        bodies[PALM_METACARPAL:] = palm_body
    return bodies


def _sampled(skins: Sequence[Sequence[Shape]], tips: set[int]) -> Surface:
    points, normals, body = [], [], []
    for number, shapes in enumerate(skins):
        own_points, own_normals = [], []
        spacing = TIP_SPACING if number in tips else SAMPLE_SPACING
        for k, shape in enumerate(shapes):
            corner = shape.vertices[shape.faces]
            area = 0.5 * np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
            count = max(int(area.sum() / spacing**2), 12)
            at, outward, _ = sample_surface(shape.vertices, shape.faces, count, _SEED)
            free = np.ones(count, bool)
            for other in [*shapes[:k], *shapes[k + 1 :]]:
                free &= MeshDistance(other.vertices, other.faces).signed(at)[0] > -_BURIED
            own_points.append(at[free])
            own_normals.append(outward[free])
        if shapes:
            at, outward = np.concatenate(own_points), np.concatenate(own_normals)
            if len(at) > MOST_SAMPLES:
                kept = np.random.default_rng(_SEED).permutation(len(at))[:MOST_SAMPLES]
                at, outward = at[kept], outward[kept]
            points.append(at)
            normals.append(outward)
            body.append(np.full(len(at), number))
    owners = np.concatenate(body)
    return Surface(
        np.ascontiguousarray(np.concatenate(points)),
        np.ascontiguousarray(np.concatenate(normals)),
        owners,
        np.searchsorted(owners, np.arange(len(skins) + 1)),
    )


def _placed(shapes: Sequence[Shape], T: np.ndarray) -> list[Shape]:
    return [Shape(shape.vertices @ T[:3, :3].T + T[:3, 3], shape.faces) for shape in shapes]


def _closed(shape: Shape) -> Shape:
    """The shape itself where it is closed and small, else its convex hull, as physics engines take it."""
    if len(shape.faces) <= MOST_FACES:
        vertices, faces = merge_vertices(shape.vertices, shape.faces, 1e-6)
        if len(faces) > 3 and is_watertight(faces) and signed_volume(vertices, faces) > 0:
            return Shape(vertices, faces)
    hull = trimesh.convex.convex_hull(shape.vertices)
    # A hull's triangles are slivers: that of points spread over it has even ones.
    count = max(int(hull.area / (0.5 * SKIN_EDGE) ** 2), 64)
    even = trimesh.convex.convex_hull(sample_surface(hull.vertices, hull.faces, count, _SEED)[0])
    return Shape(np.array(even.vertices, np.float64), np.array(even.faces, np.int64))


def _halved(shape: Shape) -> Shape:
    vertices, faces = shape.vertices, shape.faces
    while 4 * len(faces) <= MOST_FACES:
        corner = vertices[faces]
        if np.linalg.norm(corner - np.roll(corner, 1, axis=1), axis=2).max() <= SKIN_EDGE:
            break
        vertices, faces = trimesh.remesh.subdivide(vertices, faces)
    return Shape(np.array(vertices, np.float64), np.array(faces, np.int64))


def _posed(shapes: Sequence[Sequence[Shape]], poses: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [
            shape.vertices @ pose[:3, :3].T + pose[:3, 3]
            for each, pose in zip(shapes, poses, strict=True)
            for shape in each
        ]
    )


def _joined_faces(shapes: Sequence[Sequence[Shape]]) -> np.ndarray:
    every = [shape for each in shapes for shape in each]
    starts = np.cumsum([0, *(len(shape.vertices) for shape in every)])
    return np.concatenate([shape.faces + start for shape, start in zip(every, starts, strict=False)])


def _apply(T: np.ndarray, point: np.ndarray) -> np.ndarray:
    return T[:3, :3] @ point + T[:3, 3]
