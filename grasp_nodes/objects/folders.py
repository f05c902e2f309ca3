"""Objects out of a folder of meshes, in the layouts that data sets come in.

========  ==========================================================  ==========================
layout    files                                                       object ids
========  ==========================================================  ==========================
flat      ``FOLDER/bottle.obj`` (also OakInk-Image's ``obj``)         ``bottle``
YCB       ``FOLDER/models/025_mug/google_16k/nontextured.ply``        ``025_mug``
ShapeNet  ``FOLDER/02876657/1a2b/models/model_normalized.obj``        ``02876657/1a2b``
OakInk    ``FOLDER/OakInkObjectsV2/bottle_1/align_ds/scan.obj``       ``OakInkObjectsV2/bottle_1``
========  ==========================================================  ==========================

Nothing is told apart by name: folders and files that only say what kind of mesh they hold are left out of the id, and
of several meshes of one object the best known one is taken.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.objects.loading import FORMATS, LARGEST_EXTENT, SMALLEST_EXTENT, make_object, read_mesh
from grasp_nodes.objects.model import ObjectModel

logger = logging.getLogger(__name__)

KIND_FOLDERS = (
    "align_ds",
    "align",
    "google_16k",
    "google_64k",
    "google_512k",
    "poisson",
    "tsdf",
    "models",
    "meshes",
    "visual",
)
"""Folders that say what a mesh is, not what of; the first of several is preferred."""
KIND_FILES = ("textured_simple", "nontextured", "textured", "model_normalized", "model", "mesh")
"""File names of the same sort."""
SKIPPED_FOLDERS = ("clouds", "collision", "coacd", "vhacd")
"""Point clouds and convex parts."""
NORMALISED_NAME = "model_normalized"
PROBE = 25
"""Meshes of a folder that are read to judge its unit."""


@dataclass(frozen=True)
class MeshFile:
    """One object of a folder."""

    object_id: str
    path: Path


def find_meshes(folder: Path) -> list[MeshFile]:
    """One mesh per object, sorted by id.

    Raises:
        MissingFileError: there is no such folder. InputError: it holds no mesh.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: there is no such folder of meshes")
    best: dict[str, tuple[tuple[int, int, str], Path]] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or path.suffix.lower() not in FORMATS or not path.is_file():
            continue
        if any(part.lower() in SKIPPED_FOLDERS for part in relative.parts[:-1]):
            continue
        name, rank = _identity(folder, relative)
        if name not in best or rank < best[name][0]:
            best[name] = (rank, path)
    if not best:
        raise InputError(f"{folder}: holds no mesh; looked for {', '.join(FORMATS)} in it and in its folders")
    return [MeshFile(name, path) for name, (_, path) in sorted(best.items())]


def _identity(folder: Path, relative: Path) -> tuple[str, tuple[int, int, str]]:
    """Object id, and how well known the mesh's kind is: the smaller, the better."""
    folders = [part for part in relative.parts[:-1] if part.lower() not in KIND_FOLDERS]
    kinds = [KIND_FOLDERS.index(part.lower()) for part in relative.parts[:-1] if part.lower() in KIND_FOLDERS]
    stem = relative.stem.lower()
    # In a folder such as align_ds the scan's own name says nothing more than the object's folder.
    named_by_folder = stem in KIND_FILES or (bool(kinds) and min(kinds) < KIND_FOLDERS.index("models"))
    file_rank = KIND_FILES.index(stem) if stem in KIND_FILES else len(KIND_FILES)
    parts = folders if named_by_folder and folders else [*folders, folder.name if named_by_folder else relative.stem]
    return "/".join(parts), (min(kinds, default=len(KIND_FOLDERS)), file_rank, str(relative))


def check_scale(files: Sequence[MeshFile], scale: float, folder: Path) -> None:
    """Refuse a folder whose unit is not what `scale` says, before any object is made.

    Raises:
        InputError: most meshes are not of the size of things to hold; the message names the likely unit.
    """
    chosen = [files[k] for k in np.unique(np.linspace(0, len(files) - 1, min(PROBE, len(files))).astype(int))]
    sizes = []
    for file in chosen:
        try:
            vertices, faces = read_mesh(file.path)
        except InputError:
            continue  # named when the object is made
        used = vertices[np.unique(faces)]
        sizes.append(float(np.ptp(used, axis=0).max()) * scale)
    known = np.array([size for size in sizes if np.isfinite(size)])
    outside = (known < SMALLEST_EXTENT) | (known > LARGEST_EXTENT)
    if not len(known) or outside.mean() <= 0.5:
        return
    typical = float(np.median(known))
    if any(file.path.stem.lower() == NORMALISED_NAME for file in chosen):
        remedy = (
            "these meshes are normalised, their size says nothing: give the longest side that they shall have, "
            "for example --size 0.12, or a factor with --scale"
        )
    else:
        units = {0.001: "millimetres", 0.01: "centimetres", 0.0254: "inches", 10.0: "decametres", 1000.0: "kilometres"}
        fitting = [factor for factor in units if 0.03 <= typical * factor <= 0.35]
        remedy = "give the factor from the files' unit to metres with --scale"
        if fitting:
            remedy += f"; it looks like {units[fitting[0]]}: --scale {scale * fitting[0]:g}"
    raise InputError(
        f"{folder}: the longest side of a typical mesh is {typical:.4g} m (scale {scale:g}), {int(outside.sum())} of "
        f"{len(known)} are outside of {SMALLEST_EXTENT:g} to {LARGEST_EXTENT:g} m; {remedy}"
    )


@dataclass(frozen=True)
class RefusedMesh:
    """A mesh that cannot be an object, and why."""

    object_id: str
    path: Path
    reason: str


def load_folder(
    folder: str | Path,
    scale: float = 1.0,
    size: float | None = None,
    limit: int | None = None,
    num_points: int = 2048,
    seed: int = 0,
    resolution: int = 64,
) -> Iterator[ObjectModel | RefusedMesh]:
    """The objects of a folder one after the other; one that is broken does not end the others.

    Args:
        folder: of meshes.
        scale: factor from the files' unit to metres.
        size: m, longest side that every object gets; for normalised meshes. None = as in the files.
        limit: the first so many objects.
        num_points, seed, resolution: see `grasp_nodes.objects.loading.load_object`.

    Raises:
        MissingFileError, InputError: no folder, no mesh in it, or meshes in another unit; at the first object.
    """
    folder = Path(folder)
    if size is not None and not SMALLEST_EXTENT <= size <= LARGEST_EXTENT:
        raise InputError(f"size: expected {SMALLEST_EXTENT:g} to {LARGEST_EXTENT:g} m, got {size}")
    files = find_meshes(folder)[:limit]
    if size is None:
        check_scale(files, scale, folder)
    for file in files:
        try:
            vertices, faces = read_mesh(file.path)
            factor = scale
            if size is not None:
                extent = float(np.ptp(vertices[np.unique(faces)], axis=0).max())
                if not (np.isfinite(extent) and extent > 0):
                    raise InputError(f"{file.path}: its extent is {extent}: it cannot be given a size")
                factor = size / extent
            yield make_object(
                vertices,
                faces,
                file.object_id,
                factor,
                num_points,
                seed,
                resolution,
                mesh_resource=str(file.path),
                name=str(file.path),
            )
        except InputError as error:
            logger.warning("left out: %s", error)
            yield RefusedMesh(file.object_id, file.path, str(error))
