"""Objects from mesh files: merged, closed, checked for size, with a signed distance and surface points."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import torch
import trimesh

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.mesh import (
    boundary_loops,
    check_mesh,
    is_watertight,
    merge_vertices,
    mesh_edges,
    sample_surface,
    signed_volume,
)
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.npz import read_npz, write_npz
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.objects.registry import SPEC_PREFIX, family_mesh, parse_name
from grasp_nodes.paths import cache_dir

logger = logging.getLogger(__name__)

FORMATS = (".obj", ".ply", ".stl", ".off", ".glb")
PRIMITIVES = {"sphere": "RADIUS", "box": "X,Y,Z", "cylinder": "RADIUS,HEIGHT", "capsule": "RADIUS,HEIGHT"}
SMALLEST_EXTENT = 0.005
LARGEST_EXTENT = 0.5
_CACHE_VERSION = "1"


def load_object(
    path: str | Path,
    object_id: str | None = None,
    scale: float = 1.0,
    num_points: int = 2048,
    seed: int = 0,
    resolution: int = 64,
) -> ObjectModel:
    """Read a mesh; its frame is the file's own.

    Args:
        path: an obj, ply, stl, off or glb file, or a primitive centred at the origin, in m: ``sphere:RADIUS``,
            ``box:X,Y,Z``, ``cylinder:RADIUS,HEIGHT``, ``capsule:RADIUS,HEIGHT`` (along z), or a procedural object,
            ``family:mug:12`` (see `registry`).
        object_id: name of the object; default the file's name without its ending, or ``mug:12``.
        scale: factor from the file's unit to metres.
        num_points, seed: of the surface samples. resolution: nodes of the signed distance along the longest side.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no mesh, cannot be closed, or its size is not that of a thing to hold.
    """
    vertices, faces, default_id = load_mesh(path)
    object_id = object_id or default_id
    return make_object(
        vertices, faces, object_id, scale, num_points, seed, resolution, mesh_resource=str(path), name=str(path)
    )


def load_mesh(path: str | Path) -> tuple[np.ndarray, np.ndarray, str]:
    """The mesh alone of whatever `load_object` takes, as it is: neither scaled nor closed.

    Returns:
        vertices (V, 3) float64, in the file's unit, faces (F, 3) int64, and the object's default name.

    Raises:
        MissingFileError: there is no such file. InputError: it is no mesh.
    """
    name, primitive, _ = str(path).partition(":")
    if str(path).startswith(SPEC_PREFIX):
        procedural = parse_name(str(path))
        return *family_mesh(procedural), str(procedural)
    if primitive and name in PRIMITIVES:
        return *_make_primitive(str(path)), name
    return *read_mesh(Path(path)), Path(path).stem


def make_object(
    vertices: np.ndarray,
    faces: np.ndarray,
    object_id: str,
    scale: float = 1.0,
    num_points: int = 2048,
    seed: int = 0,
    resolution: int = 64,
    mesh_resource: str = "",
    name: str = "",
    cached: bool = True,
) -> ObjectModel:
    """An object from arrays; the same checks and repairs as for a file.

    Args:
        vertices: (V, 3). faces: (F, 3) int. name: what messages call it; default `object_id`.
        cached: whether the signed distance is kept on disk for the next time.
    """
    name = name or object_id
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"scale: must be a positive number, got {scale}")
    vertices, faces = np.asarray(vertices, np.float64) * scale, np.asarray(faces, np.int64)
    check_mesh(vertices, faces, name)
    _check_extent(vertices[np.unique(faces)], scale, name)
    vertices, faces = close_mesh(vertices, faces, name)
    vertices = vertices.astype(np.float32)
    points, normals, _ = sample_surface(vertices.astype(np.float64), faces, num_points, seed)
    return ObjectModel(
        object_id=object_id,
        vertices=vertices,
        faces=faces,
        signed_distance=(_cached_signed_distance if cached else _signed_distance)(vertices, faces, resolution),
        points=points.astype(np.float32),
        normals=normals.astype(np.float32),
        mesh_resource=mesh_resource,
        scale=float(scale),
    )


def close_mesh(vertices: np.ndarray, faces: np.ndarray, name: str = "mesh") -> tuple[np.ndarray, np.ndarray]:
    """Merge split vertices, orient the faces outward and fill holes.

    Args:
        vertices: (V, 3). faces: (F, 3). name: what messages call it.

    Returns:
        A closed mesh: vertices (V', 3) and faces (F', 3).

    Raises:
        InputError: it cannot be closed; the message says why.
    """
    extent = float(np.ptp(vertices, axis=0).max())
    vertices, faces = merge_vertices(vertices, faces)
    if not is_watertight(faces):
        vertices, faces = merge_vertices(vertices, faces, tolerance=1e-5 * extent)
    if not len(faces):
        raise InputError(f"{name}: all of its triangles are degenerate")
    if not is_watertight(faces):
        faces = _orient(vertices, faces)
        vertices, faces = _fill_holes(vertices, faces, name)
    if not _is_closed(faces):
        edges = mesh_edges(faces)
        raise InputError(
            f"{name}: not watertight and could not be repaired: {int((edges.counts == 1).sum())} of "
            f"{len(edges.counts)} edges have one face, {int((edges.counts > 2).sum())} have more than two; close the "
            "mesh first, for example with MeshLab's 'Screened Poisson' filter or Blender's '3D Print' tools"
        )
    volume = signed_volume(vertices, faces)
    if abs(volume) < 1e-6 * extent**3:
        raise InputError(f"{name}: it encloses no volume ({abs(volume) * 1e6:.3g} cm^3): it is a sheet, not a solid")
    return vertices, faces if volume > 0 else np.ascontiguousarray(faces[:, ::-1])


def _is_closed(faces: np.ndarray) -> bool:
    """Whether each edge is run along as often one way as the other; solids that share an edge are closed, too."""
    if is_watertight(faces):
        return True
    half = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    _, inverse = np.unique(np.sort(half, axis=1), axis=0, return_inverse=True)
    return not np.bincount(inverse.reshape(-1), weights=np.where(half[:, 0] < half[:, 1], 1, -1)).any()


def _orient(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Turn faces so that neighbours agree, and closed parts outward."""
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    if not mesh.is_winding_consistent:
        trimesh.repair.fix_winding(mesh)
        trimesh.repair.fix_inversion(mesh, multibody=True)
    return np.asarray(mesh.faces, np.int64)


def _fill_holes(vertices: np.ndarray, faces: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Close each hole with a fan around its centre."""
    loops = boundary_loops(faces)
    if not loops:
        return vertices, faces
    centres = np.stack([vertices[loop].mean(axis=0) for loop in loops])
    fans = [
        np.stack([loop, np.roll(loop, -1), np.full(len(loop), len(vertices) + k)], axis=1)
        for k, loop in enumerate(loops)
    ]
    logger.warning("%s: not watertight; closed %d hole(s) of %s edges", name, len(loops), [len(x) for x in loops])
    return np.concatenate([vertices, centres]), np.concatenate([faces, *fans])


def _check_extent(vertices: np.ndarray, scale: float, name: str) -> None:
    extent = float(np.ptp(vertices, axis=0).max())
    if SMALLEST_EXTENT <= extent <= LARGEST_EXTENT:
        return
    guesses = [s for s in (0.001, 0.01, 0.1, 0.0254, 10.0, 100.0, 1000.0) if 0.02 <= extent * s <= 0.4]
    hint = f"for example {scale * guesses[0]:g} makes it {extent * guesses[0]:.3g} m" if guesses else ""
    raise InputError(
        f"{name}: its longest side is {extent:.4g} m (scale {scale:g}), but a thing to hold measures "
        f"{SMALLEST_EXTENT:g} to {LARGEST_EXTENT:g} m; give the factor from the file's unit to metres with "
        "--object-scale (render, evaluate: --scale), or to nodes as object_scale" + (f" ({hint})" if hint else "")
    )


def read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) in the file's unit and faces (F, 3), as they are.

    Raises:
        MissingFileError: there is no such file. InputError: it is no mesh.
    """
    if path.suffix.lower() not in FORMATS:
        primitives = ", ".join(f"{name}:{sizes}" for name, sizes in PRIMITIVES.items())
        raise InputError(
            f"{path}: unknown mesh format {path.suffix!r}; known: {', '.join(FORMATS)}, {primitives} and "
            f"{SPEC_PREFIX}NAME:SEED"
        )
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such mesh file")
    try:
        mesh = trimesh.load_mesh(path, process=False, skip_materials=True)
    except Exception as error:  # A mesh parser fails with whatever its malformed input provokes
        raise InputError(f"{path}: cannot be read as a {path.suffix} mesh: {error}") from error
    if not len(getattr(mesh, "faces", ())):
        raise InputError(f"{path}: holds no triangles; a point cloud or an empty scene cannot be an object")
    return np.array(mesh.vertices, np.float64), np.array(mesh.faces, np.int64)


def _make_primitive(text: str) -> tuple[np.ndarray, np.ndarray]:
    kind, _, sizes_text = text.partition(":")
    try:
        sizes = [float(size) for size in sizes_text.split(",")]
    except ValueError:
        sizes = []
    expected = PRIMITIVES[kind]
    if len(sizes) != expected.count(",") + 1 or not all(np.isfinite(size) and size > 0 for size in sizes):
        raise InputError(f"{text}: expected {kind}:{expected} with positive numbers in metres")
    if kind == "sphere":
        mesh = trimesh.creation.icosphere(subdivisions=4, radius=sizes[0])
    elif kind == "box":
        mesh = trimesh.creation.box(extents=sizes)
    elif kind == "cylinder":
        mesh = trimesh.creation.cylinder(radius=sizes[0], height=sizes[1], sections=64)
    else:
        mesh = trimesh.creation.capsule(radius=sizes[0], height=sizes[1], count=(32, 32))
        mesh.apply_translation([0, 0, -mesh.bounds.mean(axis=0)[2]])
    return np.array(mesh.vertices, np.float64), np.array(mesh.faces, np.int64)


def _signed_distance(vertices: np.ndarray, faces: np.ndarray, resolution: int) -> SignedDistanceGrid:
    return SignedDistanceGrid.from_mesh(vertices.astype(np.float64), faces, resolution)


def _cached_signed_distance(vertices: np.ndarray, faces: np.ndarray, resolution: int) -> SignedDistanceGrid:
    content = hashlib.sha256(f"{_CACHE_VERSION} {resolution} {vertices.shape}".encode())
    content.update(np.ascontiguousarray(vertices).tobytes())
    content.update(np.ascontiguousarray(faces).tobytes())
    path = cache_dir("signed_distance") / f"{content.hexdigest()[:32]}.npz"
    if path.is_file():
        try:
            saved = read_npz(path)
            return SignedDistanceGrid(
                torch.from_numpy(saved["values"]), torch.from_numpy(saved["origin"]), float(saved["spacing"])
            )
        except (InputError, KeyError, TypeError) as error:
            logger.warning("%s: unreadable, made again (%s)", path, error)
    grid = _signed_distance(vertices, faces, resolution)
    arrays = {"values": grid.values.numpy(), "origin": grid.origin.numpy(), "spacing": np.array(grid.spacing)}
    try:
        write_npz(path, arrays)
    except OSError as error:
        logger.warning("the signed distance could not be kept in %s: %s", path.parent, error)
    return grid
