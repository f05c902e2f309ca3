"""A mesh of exactly 778 vertices with a rim of 16 on the hand's surface.

Marching cubes, then incremental remeshing (Botsch and Kobbelt 2004) towards a size field that is fine at fingertips,
webs and joints and coarse on the palm and the forearm. Any disk with 778 vertices and 16 rim edges has 1538 faces.
"""

from __future__ import annotations

import itertools
import logging

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import NDArray

from grasp_nodes.errors import MissingDependencyError
from grasp_nodes.hand.keypoints import FINGERS, WRIST_LOOP
from grasp_nodes.hand.open_hand.field import HandField
from grasp_nodes.hand.open_hand.proportions import CUT_X, LONG_FINGERS, Array
from grasp_nodes.hand.open_hand.surgery import CutMesh, Edge, rim_loop
from grasp_nodes.hand.parameters import NUM_VERTICES

Faces = NDArray[np.int64]

_log = logging.getLogger(__name__)


def remesh_hand(field: HandField, rounds: int = 14) -> tuple[Array, Faces]:
    """Vertices (778, 3) mm and faces (1538, 3), wound outwards.

    Raises:
        MissingDependencyError: scikit-image is not installed.
        RuntimeError: the remeshing did not reach the counts (another field may need other sizes).
    """
    mesh = CutMesh(*marching_mesh(field, 2.5))
    _even_rim(mesh)
    scale = 1.0
    for i in range(rounds):
        _remesh_round(mesh, field, scale)
        count = len(mesh.used())
        _log.info("round %d: %d vertices, sizes x %.3f", i, count, scale)
        if i > 1:
            scale *= float(np.clip((count / NUM_VERTICES) ** 0.5, 0.93, 1.07))
    for i in range(6):
        _reach_count(mesh, field)
        _valence_flips(mesh)
        _relax(mesh, field, 4)
        if i >= 3 and len(mesh.used()) == NUM_VERTICES:
            break
    for _ in range(3):
        _delaunay_flips(mesh)
        _relax(mesh, field, 2, step=0.4)
    vertices, faces, _ = mesh.compact()
    if len(vertices) != NUM_VERTICES or len(rim_loop(faces)) != len(WRIST_LOOP):
        raise RuntimeError(f"remeshing ended with {len(vertices)} vertices and a rim of {len(rim_loop(faces))}")
    return vertices, faces


def marching_mesh(field: HandField, spacing: float) -> tuple[Array, Faces]:
    """The surface on a grid of `spacing` mm that ends at the cut, which leaves the rim open and plane."""
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise MissingDependencyError(
            "building the open hand needs scikit-image: pip install 'grasp_nodes[build-hand]'"
        ) from error
    tips = np.array(list(field.skeleton.tips.values()))
    high = np.array([CUT_X, 36.0, tips[:, 2].max() + 16.0])
    low = np.array([tips[:, 0].min() - 14.0, -42.0, tips[:, 2].min() - 24.0])
    count = np.ceil((high - low) / spacing).astype(int) + 1
    axes = [high[k] - spacing * np.arange(count[k])[::-1] for k in range(3)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    values = np.concatenate([field.distance(chunk) for chunk in np.array_split(grid, len(grid) // 50_000 + 1)])
    vertices, faces, _, _ = marching_cubes(values.reshape(count), 0.0, spacing=(spacing,) * 3)
    vertices = vertices.astype(float) + [axis[0] for axis in axes]
    faces = faces.astype(np.int64)
    pairs = scipy.sparse.coo_matrix((np.ones(faces.size), (faces.ravel(), np.roll(faces, 1, 1).ravel())))
    _, part = scipy.sparse.csgraph.connected_components(pairs, directed=False)
    faces = faces[part[faces[:, 0]] == np.bincount(part).argmax()]
    kept, faces = np.unique(faces, return_inverse=True)
    return vertices[kept], faces.reshape(-1, 3)


def size_field(field: HandField, points: Array) -> Array:
    """Wanted edge lengths, mm: a ceiling by region, lowered in cones around tips, webs and joints."""
    fingers, palm = field.parts(points)
    nearest = np.min(list(fingers.values()), axis=0)
    in_finger = np.clip((palm - nearest + 7.0) / 11.0, 0, 1)
    size = 9.0 - 3.0 * in_finger + 2.0 * np.clip((points[:, 0] - 60.0) / 45.0, 0, 1)
    for centre, finest, radius in _fine_places(field):
        away = np.linalg.norm(points - centre, axis=1)
        size = np.minimum(size, finest + 0.25 * np.maximum(away - radius, 0))
    return size


def _fine_places(field: HandField) -> list[tuple[Array, float, float]]:
    """(centre, edge length, radius), mm."""
    places = []
    for finger in FINGERS:
        base, middle, end, tip = field.skeleton.chain(finger)
        places += [(tip, 4.3, 8.0), (middle, 5.6, 10.0), (end, 5.2, 9.0)]
        if finger != "thumb":
            places.append((base, 5.5, 14.0))
    for one, other in itertools.pairwise(LONG_FINGERS):
        places.append((field.web_centre(one, other), 3.6, 6.5))
    thumb, index = field.skeleton.chain("thumb"), field.skeleton.chain("index")
    places.append(((thumb[1] + index[0]) / 2, 5.5, 12.0))
    return places


def _even_rim(mesh: CutMesh) -> None:
    """Collapse the rim to 16 vertices and space them evenly on the cut."""
    _, faces, ids = mesh.compact()
    loop = [ids[i] for i in rim_loop(faces)]
    outline = np.array([mesh.positions[v] for v in loop])
    while len(loop) > len(WRIST_LOOP):
        ring = np.array([mesh.positions[v] for v in loop])
        for i in np.argsort(np.linalg.norm(np.roll(ring, -1, 0) - ring, axis=1), kind="stable"):
            a, b = loop[i], loop[(i + 1) % len(loop)]
            if mesh.collapse(a, b, (mesh.positions[a] + mesh.positions[b]) / 2, check_normals=False):
                loop.remove(b)
                break
        else:
            raise RuntimeError("the rim could not be reduced")
    ring = np.array([mesh.positions[v] for v in loop])
    closed = np.vstack([outline, outline[:1]])
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))]
    start = length[np.linalg.norm(outline - ring[0], axis=1).argmin()]
    places = (start + np.arange(len(loop)) / len(loop) * length[-1]) % length[-1]
    for v, place in zip(loop, places, strict=True):
        mesh.positions[v] = np.array([CUT_X, *(np.interp(place, length, closed[:, k]) for k in (1, 2))])


def _measured(mesh: CutMesh, field: HandField, scale: float = 1.0) -> tuple[list[Edge], Array]:
    """Edges and their lengths over the wanted ones."""
    edges = mesh.edges()
    ends = np.array([[mesh.positions[a], mesh.positions[b]] for a, b in edges])
    wanted = size_field(field, ends.mean(1)) * scale
    return edges, np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1) / wanted


def _remesh_round(mesh: CutMesh, field: HandField, scale: float) -> None:
    edges, ratio = _measured(mesh, field, scale)
    for i in np.argsort(-ratio, kind="stable"):
        if ratio[i] > 4 / 3 and len(mesh.sides(*edges[i])) == 2:
            mesh.split(*edges[i])
    edges, ratio = _measured(mesh, field, scale)
    length = [np.linalg.norm(mesh.positions[a] - mesh.positions[b]) for a, b in edges]
    for i in np.argsort(ratio, kind="stable"):
        a, b = edges[i]
        if ratio[i] > 0.8:
            break
        if not (mesh.exists(a) and mesh.exists(b)) or len(mesh.sides(a, b)) != 2:
            continue
        if mesh.on_rim(a) and mesh.on_rim(b):
            continue
        if np.linalg.norm(mesh.positions[a] - mesh.positions[b]) > 1.1 * length[i]:
            continue  # grown by an earlier collapse beside it
        if mesh.on_rim(b):
            a, b = b, a
        mesh.collapse(a, b, mesh.positions[a] if mesh.on_rim(a) else (mesh.positions[a] + mesh.positions[b]) / 2)
    _valence_flips(mesh)
    _relax(mesh, field, 2)


def _reach_count(mesh: CutMesh, field: HandField) -> None:
    """Collapse the shortest or split the longest edges until 778 vertices are left."""
    excess = len(mesh.used()) - NUM_VERTICES
    edges, ratio = _measured(mesh, field)
    for i in np.argsort(ratio if excess > 0 else -ratio, kind="stable"):
        if excess == 0:
            return
        a, b = edges[i]
        if not (mesh.exists(a) and mesh.exists(b)) or len(mesh.sides(a, b)) != 2:
            continue
        if excess < 0:
            mesh.split(a, b)
            excess += 1
        elif not (mesh.on_rim(a) or mesh.on_rim(b)):
            excess -= mesh.collapse(a, b, (mesh.positions[a] + mesh.positions[b]) / 2)


def _valence_flips(mesh: CutMesh) -> None:
    """Flip edges where that brings valences nearer to 6 (4 on the rim)."""
    ideal = {v: 4 if mesh.on_rim(v) else 6 for v in mesh.used()}

    def cost(vertices: tuple[int, ...], change: tuple[int, ...]) -> int:
        return sum((len(mesh.neighbours(v)) + c - ideal[v]) ** 2 for v, c in zip(vertices, change, strict=True))

    for a, b in mesh.edges():
        across = mesh.opposite(a, b)
        if len(across) == 2:
            four = (a, b, *across)
            if cost(four, (-1, -1, 1, 1)) < cost(four, (0, 0, 0, 0)):
                mesh.flip(a, b)


def _delaunay_flips(mesh: CutMesh) -> None:
    """Flip edges whose opposite angles sum to more than pi."""

    def angle(corner: int, a: int, b: int) -> float:
        u, v = mesh.positions[a] - mesh.positions[corner], mesh.positions[b] - mesh.positions[corner]
        return float(np.arccos(np.clip(u @ v / np.sqrt((u @ u) * (v @ v)), -1, 1)))

    for a, b in mesh.edges():
        across = mesh.opposite(a, b)
        if len(across) == 2 and angle(across[0], a, b) + angle(across[1], a, b) > np.pi + 0.05:
            mesh.flip(a, b)


def _relax(mesh: CutMesh, field: HandField, rounds: int, step: float = 0.6) -> None:
    """Move vertices along the surface towards the mean of their neighbours (finer places pull more), then onto it."""
    positions, faces, ids = mesh.compact()
    rim = np.zeros(len(ids), bool)
    rim[rim_loop(faces)] = True
    edges = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1), axis=0)
    a, b = np.concatenate([edges, edges[:, ::-1]]).T
    for _ in range(rounds):
        normals = field.gradient(positions)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        weight = 1 / size_field(field, positions)
        pull = scipy.sparse.csr_matrix((weight[b], (a, b)), shape=(len(ids), len(ids)))
        shift = (pull @ positions) / np.asarray(pull.sum(1)) - positions
        shift -= normals * (normals * shift).sum(1, keepdims=True)
        shift[rim] = 0
        positions = field.project(positions + step * shift, rounds=1, rim=rim)
    for v, position in zip(ids, positions, strict=True):
        mesh.positions[v] = position
