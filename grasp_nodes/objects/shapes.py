"""Meshes made by code: a mug with a handle; watertight, outward normals, m."""

from __future__ import annotations

import numpy as np
import trimesh

from grasp_nodes.errors import InputError
from grasp_nodes.objects.surfaces import revolve


def mug(
    radius: float = 0.036,
    height: float = 0.104,
    wall: float = 0.0042,
    handle_reach: float = 0.026,
    handle_angle: float = 0.0,
    sections: int = 64,
) -> trimesh.Trimesh:
    """A mug that stands on z = 0, open at the top, with a handle.

    Args:
        radius: outer, at half height. height: of the rim.
        wall: thickness of wall and floor.
        handle_reach: how far the handle stands out from the wall.
        handle_angle: rad, direction of the handle about z, from x.
        sections: faces around the body.

    Returns:
        vertices in m, origin in the middle of the foot.

    Raises:
        InputError: a size is not positive or the wall leaves no room.
    """
    if min(radius, height, wall, handle_reach) <= 0 or wall * 3 > min(radius, height):
        raise InputError(
            f"mug: sizes must be positive and the wall thinner than a third of radius and height, got "
            f"radius={radius:g} height={height:g} wall={wall:g} handle_reach={handle_reach:g}"
        )
    body = revolve(_mug_profile(radius, height, wall), sections)
    handle = _mug_handle(radius - 0.5 * wall, height, handle_reach)
    joined = trimesh.boolean.union([body, handle], engine="manifold")
    joined.apply_transform(trimesh.transformations.rotation_matrix(handle_angle, [0, 0, 1]))
    return joined


def _mug_profile(radius: float, height: float, wall: float) -> np.ndarray:
    """(N, 2) radius and z, from the axis under the foot, up the outside, over the rim and down the inside."""
    bend = np.linspace(0, np.pi / 2, 6)
    edge = 0.10 * radius
    foot = np.stack([radius - edge + edge * np.sin(bend), edge - edge * np.cos(bend)], axis=1)
    outside = np.stack([np.full(9, radius), np.linspace(edge, height - wall / 2, 10)[1:]], axis=1)
    turn = np.linspace(0, np.pi, 7)[1:-1]
    rim = np.stack(
        [radius - wall / 2 + wall / 2 * np.cos(turn), height - wall / 2 + wall / 2 * np.sin(turn)],
        axis=1,
    )
    inner = radius - wall
    inside = np.stack([np.full(9, inner), np.linspace(height - wall / 2, wall + edge, 10)[:-1]], axis=1)
    floor = np.stack([inner - edge + edge * np.cos(bend), wall + edge - edge * np.sin(bend)], axis=1)
    return np.concatenate([[[0.0, 0.0]], foot, outside, rim, inside, floor, [[0.0, wall]]])


def _mug_handle(start: float, height: float, reach: float) -> trimesh.Trimesh:
    """A bent tube in the plane y = 0 whose two ends lie inside the mug's wall."""
    count, sections = 21, 16
    phase = np.linspace(-np.pi / 2, np.pi / 2, count)
    half = 0.31 * height
    power = 0.75  # squarer than an ellipse, as potters make them
    x = start + reach * np.sign(np.cos(phase)) * np.abs(np.cos(phase)) ** power
    z = 0.52 * height + half * np.sign(np.sin(phase)) * np.abs(np.sin(phase)) ** power
    path = np.stack([x, np.zeros(count), z], axis=1)
    path[[0, -1], 0] = start
    tangent = np.gradient(path, axis=0)
    tangent[[0, -1]] = [[1.0, 0, 0], [-1.0, 0, 0]]
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    across = np.array([0.0, 1.0, 0.0])
    outward = np.cross(across, tangent)
    turn = np.arange(sections) * 2 * np.pi / sections
    rings = path[:, None] + 0.0062 * np.cos(turn)[:, None] * across + 0.0040 * np.sin(turn)[:, None] * outward[:, None]
    vertices = np.concatenate([rings.reshape(-1, 3), path[[0, -1]]])
    here, there = np.arange(sections), np.roll(np.arange(sections), -1)
    below = (np.arange(count - 1) * sections)[:, None]
    a, b, c, d = (below + here, below + there, below + sections + here, below + sections + there)
    faces = [np.stack([a, d, b], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    last = (count - 1) * sections
    faces.append(np.stack([np.full(sections, len(vertices) - 2), here, there], axis=1))
    faces.append(np.stack([np.full(sections, len(vertices) - 1), last + there, last + here], axis=1))
    tube = trimesh.Trimesh(vertices, np.concatenate(faces), process=False)
    if tube.volume < 0:
        tube.invert()
    return tube
