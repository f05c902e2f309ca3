"""The objects of an evaluation by name, made one at a time where they are needed."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.objects.folders import MeshFile, check_scale, find_meshes
from grasp_nodes.objects.loading import LARGEST_EXTENT, SMALLEST_EXTENT, load_mesh, make_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.objects.registry import SPEC_PREFIX, heldout_names, parse_name

HELDOUT, HELDOUT_CANONICAL = "heldout", "heldout-canonical"
SOLID_FAMILIES = (
    *("box", "cylinder", "sphere", "ellipsoid", "capsule", "superquadric", "prism", "frustum"),
    *("hammer", "screwdriver", "dumbbell", "banana", "ring", "phone", "plate"),
)
SOLID_RESOLUTION = 64
WALL_RESOLUTION = 96
"""Nodes of the distance grid that generators and polish see, for objects that are or may be thin-walled."""
_ROTATION_SEED = 20_000


@dataclass(frozen=True, eq=False)
class EvaluatedObject:
    """One object of a set, not yet made.

    name: unique in the set. family: of the breakdown. mesh: what `load_object` takes.
    scale: factor from the mesh's unit to metres. size: m, longest side to be given instead; None = as scaled.
    transform: (4, 4) float64, scaled mesh frame to the object's frame, m: a rigid motion, or one that also reflects.
    resolution: nodes of the distance grid along the longest side.
    """

    name: str
    family: str
    mesh: str
    scale: float = 1.0
    size: float | None = None
    transform: np.ndarray | None = None
    resolution: int = WALL_RESOLUTION

    def build(self) -> ObjectModel:
        """The object.

        Raises:
            InputError: its mesh is broken or has not the size of a thing to hold: the object is refused.
            MissingFileError: its file is gone.
        """
        vertices, faces, _ = load_mesh(self.mesh)
        scale = self.scale
        if self.size is not None:
            extent = float(np.ptp(vertices[np.unique(faces)], axis=0).max())
            if not (np.isfinite(extent) and extent > 0):
                raise InputError(f"{self.mesh}: its extent is {extent}: it cannot be given a size")
            scale = self.size / extent
        if self.transform is not None:
            # In the mesh's unit, as the factor is applied afterwards.
            vertices = vertices @ self.transform[:3, :3].T + self.transform[:3, 3] / scale
        return make_object(
            vertices, faces, self.name, scale, resolution=self.resolution, mesh_resource=self.mesh, name=self.mesh
        )

    def describe(self) -> dict[str, Any]:
        """What makes it this object, for the settings of a run; of a file its size in bytes, too."""
        file = Path(self.mesh)
        return {
            "name": self.name,
            "family": self.family,
            "mesh": self.mesh,
            "scale": self.scale,
            "size": self.size,
            "resolution": self.resolution,
            "transform": None if self.transform is None else np.round(self.transform, 9).tolist(),
            "bytes": file.stat().st_size if file.is_file() else 0,
        }


def object_set(
    names: Sequence[str], scale: float = 1.0, size: float | None = None, limit: int | None = None
) -> list[EvaluatedObject]:
    """The objects that a command names.

    Args:
        names: each ``heldout``, ``heldout-canonical``, a folder of meshes, a mesh file, a primitive or a procedural
            object.
        scale, size: of mesh files, see `EvaluatedObject`. limit: the first so many.

    Raises:
        InputError: nothing named, a name twice, a folder without meshes, or meshes in another unit.
        MissingFileError: no such folder or file.
    """
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"scale: expected a positive factor from mesh files' unit to metres, got {scale:g}")
    if size is not None and not SMALLEST_EXTENT <= size <= LARGEST_EXTENT:
        raise InputError(f"size: expected {SMALLEST_EXTENT:g} to {LARGEST_EXTENT:g} m, got {size:g}")
    found: list[EvaluatedObject] = []
    for name in names:
        if name in (HELDOUT, HELDOUT_CANONICAL):
            found += heldout_objects(turned=name == HELDOUT)
        elif Path(name).is_dir():
            found += _folder_objects(Path(name), scale, size)
        else:
            found.append(_single_object(name, scale, size))
    return check_set(found[:limit])


def check_set(objects: Sequence[EvaluatedObject]) -> list[EvaluatedObject]:
    """The objects, of which there is at least one and no two of a name.

    Raises:
        InputError: otherwise.
    """
    names = [one.name for one in objects]
    if not names:
        raise InputError(f"objects: none; name {HELDOUT}, a folder of meshes, or an object such as {SPEC_PREFIX}mug:12")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"objects: {', '.join(twice)} named more than once: their grasps could not be told apart")
    return list(objects)


def heldout_objects(turned: bool = True) -> list[EvaluatedObject]:
    """The 24 objects of the set ``heldout``, each turned at random, the same way in every run.

    Args:
        turned: False leaves them in the frames that their families are made in: ``heldout-canonical``.
    """
    return [
        EvaluatedObject(
            str(name),
            name.family,
            f"{SPEC_PREFIX}{name}",
            transform=_turn(str(name)) if turned else None,
            resolution=object_resolution(name.family),
        )
        for name in heldout_names()
    ]


def set_fingerprint(objects: Sequence[EvaluatedObject]) -> str:
    """SHA-256 of what describes the objects: two runs with the same one judged the same things."""
    return hashlib.sha256(repr([one.describe() for one in objects]).encode()).hexdigest()


def _turn(name: str) -> np.ndarray:
    rotation = Rotation.random(random_state=np.random.default_rng([_ROTATION_SEED, zlib.crc32(name.encode())]))
    transform = np.eye(4)
    transform[:3, :3] = rotation.as_matrix()
    return transform


def object_resolution(family: str) -> int:
    """Nodes of the distance grid: enough for thin walls unless the family is known to have none."""
    return SOLID_RESOLUTION if family in SOLID_FAMILIES else WALL_RESOLUTION


def _folder_objects(folder: Path, scale: float, size: float | None) -> list[EvaluatedObject]:
    files = find_meshes(folder)
    if size is None:
        check_scale(files, scale, folder)
    return [
        EvaluatedObject(
            file.object_id,
            file.object_id.partition("/")[0] if "/" in file.object_id else folder.name,
            str(file.path),
            scale,
            size,
        )
        for file in files
    ]


def _single_object(name: str, scale: float, size: float | None) -> EvaluatedObject:
    if name.startswith(SPEC_PREFIX):
        parsed = parse_name(name)
        return EvaluatedObject(str(parsed), parsed.family, name, resolution=object_resolution(parsed.family))
    if ":" not in name and not Path(name).suffix:
        raise MissingFileError(
            f"objects {name!r}: there is no such folder; expected {HELDOUT}, a folder of meshes, a mesh file, a file "
            f"of grasps (.npz), {SPEC_PREFIX}mug:12 or a primitive such as sphere:0.04"
        )
    _, _, default = load_mesh(name)  # fails here, before anything is computed, if there is no such thing
    if Path(name).is_file():
        if size is None:
            check_scale([MeshFile(default, Path(name))], scale, Path(name))
        return EvaluatedObject(default, default, name, scale, size)
    return EvaluatedObject(name, default, name, resolution=SOLID_RESOLUTION)
