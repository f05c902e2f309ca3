"""Forward kinematics and Jacobians of a tree of joints, compiled.

Links that are fixed to each other are one *body*. Body 0 is the base, which holds the root link; every other body is
moved by one joint. *Driven* joints are the free variables; a follower (URDF's mimic) is
``multiplier * driven + offset``. All joints are counted in the description's order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from grasp_nodes.errors import InputError
from grasp_nodes.retargeting.robot_description import Joint, RobotDescription


class Chain(NamedTuple):
    """What compiled functions need; B bodies, those of parents before their children.

    parent: (B,) int64, body 0 has -1. variable: (B,) int64, driven joint that moves the body, -1 of the base.
    multiplier, offset: (B,), of the joint's value from the driven one's. slides: (B,) bool, prismatic.
    turn: (B, 3, 3) and place: (B, 3) m, joint frame in the parent body's frame. axis: (B, 3), in the joint's frame.
    """

    parent: np.ndarray
    variable: np.ndarray
    multiplier: np.ndarray
    offset: np.ndarray
    slides: np.ndarray
    turn: np.ndarray
    place: np.ndarray
    axis: np.ndarray


@dataclass(frozen=True, eq=False)
class Kinematics:
    """A robot's tree of joints.

    joint_names: all moving joints. driven_names: those that mimic none. lower, upper: (n,) rad or m, of the driven
    joints, so that their followers are within theirs too. velocity: (n,) 1/s of them, in the same way.
    body_of_link: body of each link, and link_offset: (4, 4) link frame in its body's frame.
    """

    chain: Chain
    joint_names: tuple[str, ...]
    driven_names: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    body_of_link: dict[str, int]
    link_offset: dict[str, np.ndarray]
    _expand: np.ndarray
    _expand_offset: np.ndarray

    @staticmethod
    def of(description: RobotDescription) -> Kinematics:
        """The kinematics of a description.

        Raises:
            InputError: a joint mimics a chain that ends nowhere, or no value suits a joint and its followers.
        """
        moving = description.moving_joints
        roots = {joint.name: _follow(joint, {each.name: each for each in moving}) for joint in moving}
        driven = [joint for joint in moving if joint.mimic is None]
        order = {joint.name: k for k, joint in enumerate(driven)}
        lower, upper, velocity = _ranges(description.name, moving, roots, driven)
        chain, body_of_link, link_offset = _bodies(description, roots, order)
        expand, expand_offset = np.zeros((len(moving), len(driven))), np.zeros(len(moving))
        for row, joint in enumerate(moving):
            root, multiplier, offset = roots[joint.name]
            expand[row, order[root]], expand_offset[row] = multiplier, offset
        return Kinematics(
            chain,
            tuple(joint.name for joint in moving),
            tuple(joint.name for joint in driven),
            lower,
            upper,
            velocity,
            body_of_link,
            link_offset,
            expand,
            expand_offset,
        )

    @property
    def num_driven(self) -> int:
        """n, the free joints."""
        return len(self.driven_names)

    def expand(self, driven: np.ndarray) -> np.ndarray:
        """Positions of all joints, (..., J), from those of the driven ones, (..., n)."""
        return driven @ self._expand.T + self._expand_offset

    def reduce(self, positions: np.ndarray) -> np.ndarray:
        """Positions of the driven joints, (..., n), out of those of all, (..., J)."""
        rows = [self.joint_names.index(name) for name in self.driven_names]
        return np.asarray(positions)[..., rows]

    def body_poses(self, driven: np.ndarray, T_world_base: np.ndarray | None = None) -> np.ndarray:
        """(B, 4, 4) m: the bodies in the world where the base is at `T_world_base`, by default at its origin."""
        T = np.eye(4) if T_world_base is None else np.asarray(T_world_base, np.float64)
        turn, place, _ = forward(
            self.chain, np.ascontiguousarray(driven, np.float64), T[:3, :3].copy(), T[:3, 3].copy()
        )
        poses = np.tile(np.eye(4), (len(turn), 1, 1))
        poses[:, :3, :3], poses[:, :3, 3] = turn, place
        return poses

    def link_poses(self, driven: np.ndarray, T_world_base: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """(4, 4) m of every link by name; arguments as of `body_poses`."""
        poses = self.body_poses(driven, T_world_base)
        return {name: poses[body] @ self.link_offset[name] for name, body in self.body_of_link.items()}

    def jacobian(
        self, driven: np.ndarray, body: int, point: np.ndarray, T_world_base: np.ndarray | None = None
    ) -> np.ndarray:
        """(3, n): how a point fixed to a body moves with the driven joints.

        Args:
            point: (3,) m, in the body's frame. Others as of `body_poses`.
        """
        T = np.eye(4) if T_world_base is None else np.asarray(T_world_base, np.float64)
        turn, place, axis = forward(
            self.chain, np.ascontiguousarray(driven, np.float64), T[:3, :3].copy(), T[:3, 3].copy()
        )
        rows = np.zeros((3, self.num_driven))
        add_point_jacobian(self.chain, place, axis, body, place[body] + turn[body] @ np.asarray(point), 1.0, rows)
        return rows


def _follow(joint: Joint, by_name: dict[str, Joint]) -> tuple[str, float, float]:
    """The driven joint that a joint follows, with multiplier and offset."""
    multiplier, offset, seen = 1.0, 0.0, joint
    for _ in range(len(by_name)):
        if seen.mimic is None:
            return seen.name, multiplier, offset
        multiplier, offset = multiplier * seen.mimic.multiplier, offset + multiplier * seen.mimic.offset
        seen = by_name[seen.mimic.joint]
    raise InputError(f"robot description: joint {joint.name!r} mimics joints that mimic each other in a circle")


def _ranges(
    robot: str, moving: list[Joint], roots: dict[str, tuple[str, float, float]], driven: list[Joint]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lower = {joint.name: joint.lower for joint in driven}
    upper = {joint.name: joint.upper for joint in driven}
    velocity = {joint.name: joint.velocity for joint in driven}
    for joint in moving:
        root, multiplier, offset = roots[joint.name]
        if joint.mimic is None or multiplier == 0:
            continue
        ends = sorted(((joint.lower - offset) / multiplier, (joint.upper - offset) / multiplier))
        if max(lower[root], ends[0]) < min(upper[root], ends[1]):
            lower[root], upper[root] = max(lower[root], ends[0]), min(upper[root], ends[1])
        else:
            raise InputError(
                f"robot description {robot}: no value of joint {root!r} keeps its follower {joint.name!r} within its "
                f"limits ({joint.lower:g} to {joint.upper:g}); correct the mimic or the limits"
            )
        velocity[root] = min(velocity[root], joint.velocity / abs(multiplier))
    names = [joint.name for joint in driven]
    return tuple(np.array([table[name] for name in names]) for table in (lower, upper, velocity))  # type: ignore[return-value]


def _bodies(
    description: RobotDescription, roots: dict[str, tuple[str, float, float]], order: dict[str, int]
) -> tuple[Chain, dict[str, int], dict[str, np.ndarray]]:
    children: dict[str, list[Joint]] = {}
    for joint in description.joints:
        children.setdefault(joint.parent, []).append(joint)
    moving = {joint.name for joint in description.moving_joints}
    body_of_link, link_offset = {description.root: 0}, {description.root: np.eye(4)}
    rows: list[tuple[int, int, float, float, bool, np.ndarray, np.ndarray]] = [
        (-1, -1, 0.0, 0.0, False, np.eye(4), np.array([0.0, 0.0, 1.0]))
    ]
    waiting = [description.root]
    while waiting:
        link = waiting.pop(0)
        for joint in children.get(link, []):
            T = link_offset[link] @ joint.T_parent_joint
            if joint.name in moving:
                root, multiplier, offset = roots[joint.name]
                slides = joint.kind == "prismatic"
                rows.append((body_of_link[link], order[root], multiplier, offset, slides, T, joint.axis))
                body_of_link[joint.child], link_offset[joint.child] = len(rows) - 1, np.eye(4)
            else:
                body_of_link[joint.child], link_offset[joint.child] = body_of_link[link], T
            waiting.append(joint.child)
    placed = np.array([row[5] for row in rows])
    chain = Chain(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows]),
        np.array([row[3] for row in rows]),
        np.array([row[4] for row in rows], np.bool_),
        np.ascontiguousarray(placed[:, :3, :3]),
        np.ascontiguousarray(placed[:, :3, 3]),
        np.array([row[6] for row in rows]),
    )
    return chain, body_of_link, link_offset


@njit(cache=True)
def forward(
    chain: Chain, driven: np.ndarray, base_turn: np.ndarray, base_place: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses of all bodies.

    Args:
        driven: (n,). base_turn: (3, 3), base_place: (3,) m, of the base in the world.

    Returns:
        turn (B, 3, 3), place (B, 3) m, and axis (B, 3), of the joint that moves each body; world frame.
    """
    count = len(chain.parent)
    turn, place, axis = np.empty((count, 3, 3)), np.empty((count, 3)), np.empty((count, 3))
    turn[0], place[0] = base_turn, base_place
    axis[0] = 0.0
    local, own = np.empty((3, 3)), np.empty((3, 3))
    for b in range(1, count):
        p = chain.parent[b]
        value = chain.multiplier[b] * driven[chain.variable[b]] + chain.offset[b]
        for i in range(3):
            place[b, i] = place[p, i]
            for k in range(3):
                place[b, i] += turn[p, i, k] * chain.place[b, k]
                total = 0.0
                for m in range(3):
                    total += turn[p, i, m] * chain.turn[b, m, k]
                local[i, k] = total
        x, y, z = chain.axis[b, 0], chain.axis[b, 1], chain.axis[b, 2]
        for i in range(3):
            axis[b, i] = local[i, 0] * x + local[i, 1] * y + local[i, 2] * z
        if chain.slides[b]:
            for i in range(3):
                place[b, i] += value * axis[b, i]
                for k in range(3):
                    turn[b, i, k] = local[i, k]
            continue
        c, s = math.cos(value), math.sin(value)
        t = 1.0 - c
        own[0, 0], own[0, 1], own[0, 2] = c + t * x * x, t * x * y - s * z, t * x * z + s * y
        own[1, 0], own[1, 1], own[1, 2] = t * x * y + s * z, c + t * y * y, t * y * z - s * x
        own[2, 0], own[2, 1], own[2, 2] = t * x * z - s * y, t * y * z + s * x, c + t * z * z
        for i in range(3):
            for k in range(3):
                turn[b, i, k] = local[i, 0] * own[0, k] + local[i, 1] * own[1, k] + local[i, 2] * own[2, k]
    return turn, place, axis


@njit(cache=True)
def add_point_jacobian(
    chain: Chain, place: np.ndarray, axis: np.ndarray, body: int, point: np.ndarray, factor: float, rows: np.ndarray
) -> None:
    """Add ``factor`` times the Jacobian of a point on a body to (3, >= n) rows.

    Args:
        place, axis: of `forward`. point: (3,) m, world frame.
    """
    b = body
    while b > 0:
        f, v = factor * chain.multiplier[b], chain.variable[b]
        ax, ay, az = axis[b, 0], axis[b, 1], axis[b, 2]
        if chain.slides[b]:
            rows[0, v] += f * ax
            rows[1, v] += f * ay
            rows[2, v] += f * az
        else:
            rx, ry, rz = point[0] - place[b, 0], point[1] - place[b, 1], point[2] - place[b, 2]
            rows[0, v] += f * (ay * rz - az * ry)
            rows[1, v] += f * (az * rx - ax * rz)
            rows[2, v] += f * (ax * ry - ay * rx)
        b = chain.parent[b]


@njit(cache=True)
def add_direction_jacobian(
    chain: Chain, axis: np.ndarray, body: int, direction: np.ndarray, factor: float, rows: np.ndarray
) -> None:
    """Add ``factor`` times the Jacobian of a direction fixed to a body (3,), world frame, to (3, >= n) rows."""
    b = body
    while b > 0:
        if not chain.slides[b]:
            f, v = factor * chain.multiplier[b], chain.variable[b]
            ax, ay, az = axis[b, 0], axis[b, 1], axis[b, 2]
            rows[0, v] += f * (ay * direction[2] - az * direction[1])
            rows[1, v] += f * (az * direction[0] - ax * direction[2])
            rows[2, v] += f * (ax * direction[1] - ay * direction[0])
        b = chain.parent[b]
