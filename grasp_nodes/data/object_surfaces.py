"""Points on the surfaces of a data set's objects: sampled once, kept in the cache."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grasp_nodes.data.labelled_grasps import GraspedObject
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.mesh import sample_surface
from grasp_nodes.npz import read_npz, write_npz
from grasp_nodes.objects.loading import close_mesh, load_mesh
from grasp_nodes.objects.registry import SPEC_PREFIX
from grasp_nodes.objects.registry import VERSION as REGISTRY_VERSION
from grasp_nodes.paths import cache_dir

_CACHE_VERSION = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ObjectSurfaces:
    """P points on each of K objects, uniform by area, in the frame of their grasps.

    points: (K, P, 3) float32, m. normals: (K, P, 3) float32, outward.
    centers: (K, 3) float32, m: the points' mean, which a rotation of the object turns with it.
    """

    points: np.ndarray
    normals: np.ndarray
    centers: np.ndarray

    def __len__(self) -> int:
        return len(self.points)


def sample_surfaces(
    objects: Sequence[GraspedObject],
    count: int = 2048,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ObjectSurfaces:
    """Points on objects; the same ones for the same objects, count and seed.

    Args:
        objects: of a data set, with meshes. count: points of each. seed: of the samples.
        progress: is told objects done and in all, while they are sampled.

    Raises:
        InputError: an object without a mesh, or one that cannot be used. MissingFileError: a mesh that is not there.
    """
    nameless = [one.name for one in objects if not one.mesh]
    if nameless:
        raise InputError(f"surfaces: {len(nameless)} objects have no mesh ({', '.join(nameless[:3])}, ...)")
    path = cache_dir("surfaces") / f"{objects_key(objects, _CACHE_VERSION, count, seed)}.npz"
    found = _cached(path, (len(objects), count, 3))
    if found is None:
        rows = []
        for number, one in enumerate(objects):
            rows.append(_sampled(one, count, seed))
            if progress is not None:
                progress(number + 1, len(objects))
        found = tuple(np.stack([row[k] for row in rows]).astype(np.float32) for k in (0, 1))
        try:
            write_npz(path, dict(zip(("points", "normals"), found, strict=True)))
        except OSError as error:
            _log.warning("%s: the sampled surfaces were not kept (%s)", path, error)
    turn = np.stack([one.transform[:3, :3] for one in objects])
    shift = np.stack([one.transform[:3, 3] for one in objects])
    points = np.einsum("kij,kpj->kpi", turn, found[0]) + shift[:, None]
    normals = np.einsum("kij,kpj->kpi", turn, found[1])
    return ObjectSurfaces(points.astype(np.float32), normals.astype(np.float32), points.mean(axis=1).astype(np.float32))


def _sampled(one: GraspedObject, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of one object, in the frame of its scaled mesh."""
    vertices, faces, _ = load_mesh(one.mesh)
    if not one.mesh.startswith(SPEC_PREFIX):  # a file's faces may look inward
        vertices, faces = close_mesh(vertices, faces, one.name)
    points, normals, _ = sample_surface(vertices * one.scale, faces, count, seed)
    return points, normals


def objects_key(objects: Sequence[GraspedObject], version: int, *settings: int) -> str:
    """A name for what is worked out of the meshes of objects: it changes with them, and with the settings."""
    rows = []
    for one in objects:
        content: list[object] = [one.mesh, one.scale, one.mesh_sha256]
        if not one.mesh.startswith(SPEC_PREFIX) and Path(one.mesh).is_file():
            status = Path(one.mesh).stat()
            content += [status.st_size, status.st_mtime_ns]
        rows.append(content)
    text = json.dumps([version, REGISTRY_VERSION, *settings, rows])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _cached(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, ...] | None:
    if not path.is_file():
        return None
    try:
        saved = read_npz(path, "file of sampled surfaces")
        found = tuple(saved[name] for name in ("points", "normals"))
    except (InputError, KeyError) as error:
        _log.warning("%s: unreadable, made again (%s)", path, error)
        return None
    return found if all(one.shape == shape for one in found) else None
