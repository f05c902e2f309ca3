"""Closed surfaces out of rings, profiles and lattices: what procedural shapes are made of. m, outward normals."""

from __future__ import annotations

import manifold3d
import numpy as np
import trimesh

from grasp_nodes.geometry.mesh import face_normals_and_areas, is_watertight, merge_vertices

ARC_PIECES = 4
"""Segments of a rounded corner of 90 degrees."""
THINNEST = 1e-5
"""m: a triangle with a smaller altitude is a needle, whose normal says nothing."""


def loft(rings: np.ndarray, start: np.ndarray, end: np.ndarray) -> trimesh.Trimesh:
    """A skin over rings, closed by a fan at each end.

    Args:
        rings: (M, S, 3); seen from `end`, each runs counter-clockwise. start, end: (3,), the tips of the fans.
    """
    count, sections = rings.shape[:2]
    vertices = np.concatenate([rings.reshape(-1, 3), [start, end]])
    here, there = np.arange(sections), np.roll(np.arange(sections), -1)
    below = (np.arange(count - 1) * sections)[:, None]
    a, b, c, d = (below + here, below + there, below + sections + here, below + sections + there)
    sides = np.concatenate([np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])
    last = (count - 1) * sections
    bottom = np.stack([np.full(sections, len(vertices) - 2), there, here], axis=1)
    top = np.stack([np.full(sections, len(vertices) - 1), last + here, last + there], axis=1)
    return trimesh.Trimesh(vertices, np.concatenate([sides, bottom, top]), process=False)


def loft_loop(rings: np.ndarray) -> trimesh.Trimesh:
    """A tube (M, S, 3) whose last ring joins the first; seen along the way, each ring runs counter-clockwise."""
    count, sections = rings.shape[:2]
    grid = np.arange(count * sections).reshape(count, sections)
    a, b = grid, np.roll(grid, -1, axis=1)
    c, d = np.roll(a, -1, axis=0), np.roll(b, -1, axis=0)
    faces = np.concatenate([np.stack([a, c, d], -1).reshape(-1, 3), np.stack([a, d, b], -1).reshape(-1, 3)])
    return trimesh.Trimesh(rings.reshape(-1, 3), faces, process=False)


def revolve(profile: np.ndarray, sections: int) -> trimesh.Trimesh:
    """Surface of revolution about z.

    Args:
        profile: (N, 2), radius and z; its two ends lie on the axis, the solid is on its left.
        sections: faces around.
    """
    turn = np.arange(sections) * 2 * np.pi / sections
    rings = profile[1:-1]
    circles = np.stack(
        [rings[:, :1] * np.cos(turn), rings[:, :1] * np.sin(turn), np.repeat(rings[:, 1:], sections, axis=1)], axis=-1
    )
    return loft(circles, np.array([0.0, 0.0, profile[0, 1]]), np.array([0.0, 0.0, profile[-1, 1]]))


def rounded(corners: np.ndarray, radii: np.ndarray | float) -> np.ndarray:
    """A polyline whose inner corners are arcs.

    Args:
        corners: (N, 2). radii: m, one per inner corner or one for all; smaller where a segment is too short for it.

    Returns:
        (M, 2), beginning and ending as `corners`.
    """
    before, corner, after = corners[:-2], corners[1:-1], corners[2:]
    back, front = before - corner, after - corner
    room = np.minimum(np.linalg.norm(back, axis=1), np.linalg.norm(front, axis=1))
    back /= np.linalg.norm(back, axis=1, keepdims=True)
    front /= np.linalg.norm(front, axis=1, keepdims=True)
    half = 0.5 * np.arccos(np.clip((back * front).sum(axis=1), -1, 1))
    reach = np.minimum(np.broadcast_to(radii, half.shape) / np.tan(half), 0.48 * room)
    pieces = []
    for k in range(len(corner)):
        turn = np.pi - 2 * half[k]
        if turn < 1e-3 or reach[k] < 1e-6:
            pieces.append(corner[k : k + 1])
            continue
        share = np.linspace(0, 1, max(2, int(np.ceil(ARC_PIECES * turn / (np.pi / 2)))) + 1)[:, None]
        center = corner[k] + (back[k] + front[k]) / 2 * reach[k] / np.cos(half[k]) ** 2
        first, last = corner[k] + reach[k] * back[k] - center, corner[k] + reach[k] * front[k] - center
        arc = (np.sin((1 - share) * turn) * first + np.sin(share * turn) * last) / np.sin(turn)
        pieces.append(center + arc)
    return np.concatenate([corners[:1], *pieces, corners[-1:]])


def divided(path: np.ndarray, spacing: float) -> np.ndarray:
    """A polyline (N, K) with points added where two are farther apart than `spacing`."""
    lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
    pieces = np.maximum(np.ceil(lengths / spacing - 1e-6).astype(int), 1)
    segment = np.repeat(np.arange(len(pieces)), pieces)
    share = (np.arange(len(segment)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) / pieces[segment]
    between = path[segment] + share[:, None] * (path[segment + 1] - path[segment])
    return np.concatenate([between, path[-1:]])


def length_of(path: np.ndarray) -> float:
    """Of a polyline (N, K)."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def box_lattice(xs: np.ndarray, ys: np.ndarray, zs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The surface of a box that is cut along the given planes.

    Args:
        xs, ys, zs: ascending coordinates, at least two each; the first and the last are the box's faces.

    Returns:
        vertices (V, 3) and outward faces (F, 3).
    """
    axes = (np.asarray(xs, float), np.asarray(ys, float), np.asarray(zs, float))
    vertices, faces, count = [], [], 0
    for k in range(3):
        u, v = axes[(k + 1) % 3], axes[(k + 2) % 3]
        grid = np.arange(len(u) * len(v)).reshape(len(u), len(v))
        a, b, c, d = (part.ravel() for part in (grid[:-1, :-1], grid[1:, :-1], grid[:-1, 1:], grid[1:, 1:]))
        outward = np.concatenate([np.stack([a, b, d], axis=1), np.stack([a, d, c], axis=1)])
        for end, patch in ((axes[k][-1], outward), (axes[k][0], outward[:, ::-1])):
            points = np.empty((len(u), len(v), 3))
            points[..., k], points[..., (k + 1) % 3], points[..., (k + 2) % 3] = end, u[:, None], v
            vertices.append(points.reshape(-1, 3))
            faces.append(patch + count)
            count += grid.size
    return merge_vertices(np.concatenate(vertices), np.concatenate(faces))


def tidied(mesh: trimesh.Trimesh, flatness: float = 5e-5, longest: float = 9e-3) -> trimesh.Trimesh:
    """The same solid without the slivers and the long triangles that a union leaves along its cuts.

    Args:
        mesh: closed. flatness: m, how far the surface may move.
        longest: m, edges are cut into pieces of this length, diagonals stay up to twice as long.
    """
    solid = manifold3d.Manifold(manifold3d.Mesh64(np.array(mesh.vertices), np.array(mesh.faces, np.uint64)))
    # The second, slightly looser pass takes the needles that the first one leaves.
    solid = solid.simplify(flatness).simplify(1.2 * flatness).refine_to_length(longest)
    result = solid.to_mesh64()
    vertices, faces = result.vert_properties[:, :3], result.tri_verts.astype(np.int64)
    merged = merge_vertices(vertices, faces, THINNEST)
    if is_watertight(merged[1]):
        vertices, faces = merged
    return trimesh.Trimesh(vertices, without_needles(vertices, faces), process=False)


def without_needles(vertices: np.ndarray, faces: np.ndarray, thinnest: float = THINNEST) -> np.ndarray:
    """Faces whose needles are gone: the longest edge of each is turned to join the corners that face it.

    The surface moves by less than `thinnest`. What has no better neighbour stays.

    Args:
        vertices: (V, 3). faces: (F, 3), closed. thinnest: m, altitude of what is a needle.
    """
    faces = faces.copy()
    thin = altitudes(vertices, faces)
    for needle in np.flatnonzero(thin < thinnest)[np.argsort(thin[thin < thinnest], kind="stable")]:
        if altitudes(vertices, faces[needle : needle + 1])[0] > thinnest:
            continue  # mended together with its neighbour
        corner = vertices[faces[needle]]
        first = int(np.linalg.norm(np.roll(corner, -1, axis=0) - corner, axis=1).argmax())
        a, b, tip = np.roll(faces[needle], -first)
        beside = [k for k in np.flatnonzero((faces == a).any(axis=1) & (faces == b).any(axis=1)) if k != needle]
        far = int(faces[beside[0]].sum() - a - b)
        if ((faces == tip).any(axis=1) & (faces == far).any(axis=1)).any():
            continue
        turned = np.array([[a, far, tip], [far, b, tip]])
        pair = [needle, beside[0]]
        if altitudes(vertices, turned).min() > altitudes(vertices, faces[pair]).min():
            faces[pair] = turned
    return faces


def altitudes(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F,), m: smallest altitude of each triangle."""
    corner = vertices[faces]
    longest = np.linalg.norm(corner - np.roll(corner, 1, axis=1), axis=2).max(axis=1)
    return 2 * face_normals_and_areas(vertices, faces)[1] / np.maximum(longest, 1e-30)
