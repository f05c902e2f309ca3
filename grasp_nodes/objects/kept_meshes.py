"""Objects that came from no file: their surfaces, written where others can read them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import trimesh
from trimesh.exchange.ply import export_ply

from grasp_nodes.errors import InputError
from grasp_nodes.objects.model import ObjectModel

MOST_KEPT = 256
"""Files in a folder; of 2,048 points about 0.1 MB each."""


def keep_mesh(model: ObjectModel, folder: Path, most: int = MOST_KEPT) -> ObjectModel:
    """Write an object's surface as a PLY file, m, and name the file in the object.

    The file's name follows from its content, so that the same object is the same file.

    Args:
        folder: made if it is not there, for such files alone: of more than `most` the ones written first are removed.

    Returns:
        The object with the file as its `mesh_resource`.

    Raises:
        InputError: it cannot be written.
    """
    content = export_ply(trimesh.Trimesh(model.vertices, model.faces, process=False))
    path = folder.resolve() / f"{hashlib.sha256(content).hexdigest()[:32]}.ply"
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise InputError(
            f"{model.object_id}: its mesh cannot be written to {folder} ({error.strerror or error}); make room there, "
            "or set GRASP_NODES_CACHE to a folder that can be written"
        ) from error
    with contextlib.suppress(FileNotFoundError):  # another process may be at it
        for old in sorted(folder.glob("*.ply"), key=lambda one: one.stat().st_mtime_ns)[:-most]:
            old.unlink()
    return replace(model, mesh_resource=str(path))
