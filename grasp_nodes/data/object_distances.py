"""Signed distances to all objects of a data set: worked out once, kept in the cache."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch

from grasp_nodes.data.labelled_grasps import GraspedObject
from grasp_nodes.data.object_surfaces import objects_key
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.object_set import object_resolution
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.geometry.stacked_distance import StackedDistances
from grasp_nodes.npz import read_npz, write_npz
from grasp_nodes.objects.loading import close_mesh, load_mesh
from grasp_nodes.objects.registry import SPEC_PREFIX
from grasp_nodes.paths import cache_dir

_CACHE_VERSION = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ObjectDistances:
    """Distances to K objects of a data set.

    stack: each object in the frame of its scaled mesh. turns: (K, 3, 3) float32 and shifts: (K, 3) float32, m: a
    point x of that frame is at ``turn x + shift`` in the frame of its grasps; turns may reflect.
    """

    stack: StackedDistances
    turns: torch.Tensor
    shifts: torch.Tensor

    def __len__(self) -> int:
        return len(self.turns)


def measure_objects(
    objects: Sequence[GraspedObject], progress: Callable[[int, int], None] | None = None, processes: int = 1
) -> ObjectDistances:
    """Distances to objects on grids as fine as those of an evaluation.

    Args:
        objects: of a data set, with meshes. progress: is told objects done and in all, while they are measured.
        processes: that work.

    Raises:
        InputError: an object without a mesh, or one that cannot be closed. MissingFileError: a mesh that is not there.
    """
    nameless = [one.name for one in objects if not one.mesh]
    if nameless or not objects:
        raise InputError(f"distances: {len(nameless)} of {len(objects)} objects have no mesh ({nameless[:3]})")
    path = cache_dir("object_distances") / f"{objects_key(objects, _CACHE_VERSION)}.npz"
    stack = None
    if path.is_file():
        try:
            saved = read_npz(path, "file of distances")
            stack = StackedDistances(
                *(torch.from_numpy(saved[name]) for name in ("values", "shapes", "origins", "spacings"))
            )
        except (InputError, KeyError) as error:
            _log.warning("%s: unreadable, made again (%s)", path, error)
    if stack is None:
        stack = StackedDistances.of(_measured(objects, progress, processes))
        try:
            write_npz(
                path, {name: getattr(stack, name).numpy() for name in ("values", "shapes", "origins", "spacings")}
            )
        except OSError as error:
            _log.warning("%s: the distances were not kept (%s)", path, error)
    transforms = torch.from_numpy(np.stack([one.transform for one in objects]).astype(np.float32))
    return ObjectDistances(stack, transforms[:, :3, :3].contiguous(), transforms[:, :3, 3].contiguous())


def _measured(
    objects: Sequence[GraspedObject], progress: Callable[[int, int], None] | None, processes: int
) -> list[SignedDistanceGrid]:
    grids = []
    with ExitStack() as stack:
        found: Iterable[tuple[np.ndarray, np.ndarray, float]] = map(_grid, objects)
        if processes > 1:
            pool = stack.enter_context(ProcessPoolExecutor(processes, mp_context=get_context("spawn")))
            found = pool.map(_grid, objects, chunksize=4)
        for number, (values, origin, spacing) in enumerate(found):
            grids.append(SignedDistanceGrid(torch.from_numpy(values), torch.from_numpy(origin), spacing))
            if progress is not None:
                progress(number + 1, len(objects))
    return grids


def _grid(one: GraspedObject) -> tuple[np.ndarray, np.ndarray, float]:
    vertices, faces, _ = load_mesh(one.mesh)
    if not one.mesh.startswith(SPEC_PREFIX):
        vertices, faces = close_mesh(vertices, faces, one.name)
    family = one.category or one.name.partition(":")[0]
    grid = SignedDistanceGrid.from_mesh(vertices * one.scale, faces, object_resolution(family))
    return grid.values.numpy(), grid.origin.numpy(), grid.spacing
