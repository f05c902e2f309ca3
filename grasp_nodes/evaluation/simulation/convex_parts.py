"""Convex decomposition of objects, made once per mesh and kept in the user's cache."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from grasp_nodes.errors import InputError, MissingDependencyError
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.npz import read_npz, write_npz
from grasp_nodes.paths import cache_dir

logger = logging.getLogger(__name__)

MOST_VERTICES = 64
"""Of a part: a dense hull makes a simulator a hundred times slower and no more right."""
_CACHE_VERSION = "1"


class ConvexPart(NamedTuple):
    """A convex mesh: vertices (V, 3) float64, m, object frame; faces (F, 3) int64."""

    vertices: np.ndarray
    faces: np.ndarray


def convex_parts(solid: Solid, resolution: int = 1000, concavity: float = 0.001) -> list[ConvexPart]:
    """Convex parts that together cover the object, by V-HACD 2 out of PyBullet.

    Args:
        solid: the object. resolution, concavity: of V-HACD; the others are those of Hasson's protocol.

    Raises:
        MissingDependencyError: PyBullet is not installed. InputError: the mesh cannot be cut.
    """
    key = f"{solid.fingerprint[:40]}-vhacd-{resolution}-{concavity:g}"
    file = cache_dir("convex_parts") / f"{key}-v{_CACHE_VERSION}.npz"
    parts = _read(file)
    if parts is None:
        parts = _vhacd(solid, resolution, concavity)
        _write(file, parts)
    return parts


def convex_hull(points: np.ndarray) -> ConvexPart:
    """Convex hull of (N, 3) points with at most 64 vertices, found along evenly spread directions."""
    import manifold3d

    hull = _mesh(manifold3d.Manifold.hull_points(np.ascontiguousarray(points, np.float64)))
    if len(hull.vertices) > MOST_VERTICES:
        chosen = np.unique((hull.vertices @ _directions(MOST_VERTICES).T).argmax(axis=0))
        hull = _mesh(manifold3d.Manifold.hull_points(hull.vertices[chosen]))
    return hull


def _directions(count: int) -> np.ndarray:
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    turn = index * np.pi * (3 - np.sqrt(5))
    return np.stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z], axis=1)


def _mesh(body: Any) -> ConvexPart:
    mesh = body.to_mesh64()
    return ConvexPart(np.array(mesh.vert_properties[:, :3], np.float64), np.array(mesh.tri_verts, np.int64))


def _vhacd(solid: Solid, resolution: int, concavity: float) -> list[ConvexPart]:
    pybullet = import_pybullet()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "object.obj"), Path(folder, "parts.obj")
        write_obj(source, [ConvexPart(solid.vertices, solid.faces)])
        with quiet_stdout():
            pybullet.vhacd(
                str(source),
                str(target),
                os.devnull,
                resolution=resolution,
                concavity=concavity,
                planeDownsampling=4,
                convexhullDownsampling=4,
                alpha=0.05,
                beta=0.0,
                pca=0,
                mode=0,
                maxNumVerticesPerCH=64,
                minVolumePerCH=0.0001,
            )
        if not target.is_file():
            raise InputError(f"{solid.name}: V-HACD found no convex parts; is the mesh closed and in metres?")
        return read_obj(target)


def import_pybullet() -> Any:
    """PyBullet, without what it prints.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        with quiet_stdout():
            import pybullet
    except ImportError as error:
        raise MissingDependencyError(
            "simulation displacement, also the fast one, needs PyBullet for V-HACD; it has wheels up to Python 3.11: "
            "install it with 'pip install grasp_nodes[sim]', or use the six-direction hold"
        ) from error
    return pybullet


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send the process's standard output to nowhere: PyBullet's C code prints there, and reports are read from it."""
    try:
        saved = os.dup(1)
    except OSError:  # there is none
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(null)


def write_obj(path: Path, parts: Sequence[ConvexPart]) -> None:
    """Write parts as the groups of one OBJ file, which PyBullet reads as one compound of convex bodies."""
    lines, first = [], 1
    for number, part in enumerate(parts):
        lines.append(f"o part{number}")
        lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in part.vertices]
        lines += [f"f {a} {b} {c}" for a, b, c in part.faces + first]
        first += len(part.vertices)
    path.write_text("\n".join(lines) + "\n")


def read_obj(path: Path) -> list[ConvexPart]:
    """The groups of an OBJ file as V-HACD writes it: vertices and triangles only."""
    parts: list[ConvexPart] = []
    vertices: list[list[float]] = []
    faces: list[list[int]] = []
    before = 0

    def finish() -> None:
        if faces:
            parts.append(ConvexPart(np.array(vertices), np.array(faces, np.int64) - 1 - before))

    for line in path.read_text().splitlines():
        kind, *values = line.split() or [""]
        if kind == "o":
            finish()
            before += len(vertices)
            vertices, faces = [], []
        elif kind == "v":
            vertices.append([float(value) for value in values])
        elif kind == "f":
            faces.append([int(value.split("/")[0]) for value in values])
    finish()
    return parts


def _read(file: Path) -> list[ConvexPart] | None:
    if not file.is_file():
        return None
    try:
        saved = read_npz(file)
        return [ConvexPart(saved[f"v{k}"], saved[f"f{k}"]) for k in range(int(saved["count"]))]
    except (InputError, KeyError, TypeError) as error:
        logger.warning("%s is damaged (%s): the object is cut again", file, error)
        return None


def _write(file: Path, parts: Sequence[ConvexPart]) -> None:
    """Store the parts."""
    arrays = {f"{name}{k}": value for k, part in enumerate(parts) for name, value in zip("vf", part, strict=True)}
    try:
        write_npz(file, {"count": np.array(len(parts)), **arrays})
    except OSError as error:
        logger.warning("convex parts could not be kept in %s: %s", file.parent, error)
