"""Objects without hands of ours: DexGraspNet, AffordPose and plain folders of meshes, as `GraspedObject`.

Their grasps are of a robot's hand (DexGraspNet: Shadow) or of GraspIt's copy of MANO (AffordPose), whose parameters
are not MANO's; a generator that learns from objects alone takes what is read here. ShapeNet-, YCB- and OakInk-like
folders are told apart by `grasp_nodes.objects.folders`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from grasp_nodes.data.grasp_readers.mesh_units import mesh_scale
from grasp_nodes.data.labelled_grasps import GraspedObject
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.objects.folders import find_meshes
from grasp_nodes.objects.loading import LARGEST_EXTENT, SMALLEST_EXTENT, read_mesh

logger = logging.getLogger(__name__)

DEXGRASPNET_SCALES = (0.06, 0.08, 0.1, 0.12, 0.15)
"""m per unit of its meshes, whose vertices lie within a unit sphere; each object was grasped at these five."""
DEXGRASPNET_SOURCE = (
    "DexGraspNet is at https://pku-epic.github.io/DexGraspNet (CC BY-NC 4.0): unpack meshdata.tar.gz and give the "
    "folder meshdata"
)
AFFORDPOSE_SOURCE = (
    "AffordPose is at https://affordpose.github.io: unpack it and give the folder AffordPose, which holds "
    "<class>/<object id>/<object id>_<affordance>/<number>.json"
)


def folder_objects(folder: str | Path, scale: float = 1.0, size: float | None = None) -> list[GraspedObject]:
    """The meshes of a folder, each in its own frame; the layouts are those of `objects.folders`.

    Where a size is asked for, a mesh that has none is left out with a warning.

    Args:
        folder: of meshes.
        scale: factor from the files' unit to metres.
        size: m, longest side that every object gets, for normalised meshes (ShapeNet's); `scale` is then not used.

    Raises:
        MissingFileError, InputError: no such folder, no mesh in it, or a wrong size.
    """
    if size is not None and not SMALLEST_EXTENT <= size <= LARGEST_EXTENT:
        raise InputError(f"size: expected {SMALLEST_EXTENT:g} to {LARGEST_EXTENT:g} m, got {size}")
    objects = []
    for file in find_meshes(Path(folder)):
        factor = scale
        if size is not None:
            try:
                factor = size / _extent(file.path)
            except InputError as error:
                logger.warning("left out: %s", error)
                continue
        category = file.object_id.split("/")[0] if "/" in file.object_id else ""
        objects.append(GraspedObject(file.object_id, str(file.path), factor, category=category))
    return objects


def _extent(path: Path) -> float:
    """Longest side of a mesh, in its file's unit."""
    vertices, faces = read_mesh(path)
    extent = float(np.ptp(vertices[np.unique(faces)], axis=0).max())
    if not (np.isfinite(extent) and extent > 0):
        raise InputError(f"{path}: its extent is {extent}: it cannot be given a size")
    return extent


def dexgraspnet_objects(
    folder: str | Path, scales: Sequence[float] = DEXGRASPNET_SCALES, limit: int | None = None
) -> list[GraspedObject]:
    """DexGraspNet's objects, ``meshdata/<code>/coacd/decomposed.obj``, each at each scale.

    The mesh is the union of its convex parts. A code is ``<source>-<category>-<id>`` (``core``, ``sem``) or
    ``<source>-<id>`` (``ddg``, ``mujoco``).

    Args:
        folder: ``meshdata``.
        scales: m per unit of the mesh.
        limit: the first so many codes.

    Returns:
        One object per code and scale, named ``<code>@<scale>``, in the frame of DexGraspNet's grasps.

    Raises:
        MissingFileError: there is no such folder. InputError: it has none of these files.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingFileError(f"{root}: there is no such folder. {DEXGRASPNET_SOURCE}")
    files = sorted(root.glob("*/coacd/decomposed.obj"))[:limit]
    if not files:
        raise InputError(f"{root}: holds no <code>/coacd/decomposed.obj. {DEXGRASPNET_SOURCE}")
    objects = []
    for file in files:
        code = file.parent.parent.name
        parts = code.split("-")
        category = parts[1].lower() if len(parts) > 2 and parts[0] in ("core", "sem") else ""
        objects += [GraspedObject(f"{code}@{scale:g}", str(file), float(scale), category=category) for scale in scales]
    return objects


def affordpose_objects(folder: str | Path, target: str | Path, limit: int | None = None) -> list[GraspedObject]:
    """AffordPose's objects, whose meshes are inside the files of its grasps; each is written out once as .obj.

    Args:
        folder: ``AffordPose``, with ``<class>/<object id>/<object id>_<affordance>/<number>.json``.
        target: folder that gets ``<class>/<object id>.obj``; a file that is there is not made again.
        limit: the first so many objects.

    Returns:
        Objects named ``<class>/<object id>`` in the frame of the files' meshes; one of a size that no hand holds is
        left out with a warning.

    Raises:
        MissingFileError: there is no such folder. InputError: it has no such file, or one without an object.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingFileError(f"{root}: there is no such folder. {AFFORDPOSE_SOURCE}")
    first: dict[str, Path] = {}
    for path in sorted(root.glob("*/*/*/*.json")):
        first.setdefault("/".join(path.relative_to(root).parts[:2]), path)
    if not first:
        raise InputError(f"{root}: holds no grasp files. {AFFORDPOSE_SOURCE}")
    objects = []
    for name, path in list(first.items())[:limit]:
        written = Path(target) / f"{name}.obj"
        if not written.is_file():
            _write_affordpose_mesh(path, written)
        try:
            scale = mesh_scale(written)
        except InputError as error:
            logger.warning("left out: %s", error)
            continue
        objects.append(GraspedObject(name, str(written), scale, category=name.split("/")[0]))
    return objects


def _write_affordpose_mesh(path: Path, target: Path) -> None:
    """Lines of an .obj, ``v x y z affordance`` and ``f a b c``, without the affordance: other readers stumble on it."""
    try:
        lines = json.loads(path.read_text())["object_mesh"]
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise TypeError("object_mesh is not a list of lines")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a grasp of AffordPose ({type(error).__name__}: {error})") from error
    words = (line.split() for line in lines)
    kept = [" ".join(word[:4]) for word in words if word and word[0] in ("v", "f")]
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    unfinished.write_text("\n".join(kept) + "\n")
    unfinished.replace(target)
