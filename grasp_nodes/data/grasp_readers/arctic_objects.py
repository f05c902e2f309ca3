"""ARCTIC's objects: a bottom and a top part that turns about the z axis, in one mesh (Fan et al., CVPR 2023)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.spatial

from grasp_nodes.data.grasp_readers.mano_hands import rotation_matrices
from grasp_nodes.data.grasp_readers.mesh_units import unit_of
from grasp_nodes.data.grasp_readers.registry import require
from grasp_nodes.errors import InputError
from grasp_nodes.objects.loading import make_object, read_mesh
from grasp_nodes.objects.model import ObjectModel

_HINGE = np.array([0.0, 0.0, -1.0])
"""Axis of the articulation through the origin of the template, for a positive angle."""


@dataclass(frozen=True, eq=False)
class ArticulatedMesh:
    """vertices: (V, 3), m, closed as in the template. faces: (F, 3). top: (V,) bool, the part that turns."""

    name: str
    path: Path
    vertices: np.ndarray
    faces: np.ndarray
    top: np.ndarray

    def at(self, angle: float) -> np.ndarray:
        """(V, 3), m, in the frame of the bottom part, with the top turned by an angle in rad."""
        turned = self.vertices @ rotation_matrices(_HINGE * angle).T
        return np.where(self.top[:, None], turned, self.vertices)


def arctic_root(folder: str | Path) -> Path:
    """The folder that holds ``meta``, at or below the given one."""
    folder = require("arctic", Path(folder), "folder")
    for candidate in (folder, folder / "data", folder / "arctic_data" / "data"):
        if (candidate / "meta").is_dir():
            return candidate
    return require("arctic", folder / "meta", "folder")


def read_articulated(folder: str | Path, name: str) -> ArticulatedMesh:
    """One object's template.

    Args:
        folder: of ARCTIC. name: such as ``box``.

    Raises:
        MissingFileError, InputError: a file is not there, or not what it should be.
    """
    home = arctic_root(folder) / "meta" / "object_vtemplates" / name
    path = require("arctic", home / "mesh.obj")
    vertices, faces = read_mesh(path)
    scale = unit_of(vertices[np.unique(faces)], str(path))
    return ArticulatedMesh(name, path, vertices * scale, faces, _top_of(home, vertices))


def arctic_object(folder: str | Path, name: str, angle: float = 0.0) -> ObjectModel:
    """An object at an angle (rad) of its top part, both parts as one closed mesh.

    Raises:
        MissingFileError, InputError: as for `read_articulated`, or the mesh cannot be closed.
    """
    mesh = read_articulated(folder, name)
    return make_object(mesh.at(angle), mesh.faces, f"{name}@{np.degrees(angle):.1f}deg", name=str(mesh.path))


def _top_of(home: Path, vertices: np.ndarray) -> np.ndarray:
    """(V,) bool: which of the template's vertices, in the unit of the files, belong to the top.

    ARCTIC's documentation and its code disagree on which of the labels 0 and 1 is the top. The meshes of the single
    parts tell; without them the code is followed: 0.
    """
    path = require("arctic", home / "parts.json")
    try:
        labels = np.asarray(json.loads(path.read_text(encoding="utf-8")), np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path}: expected a list of a part's number per vertex ({error})") from error
    if labels.shape != (len(vertices),) or not np.isin(labels, (0, 1)).all():
        raise InputError(f"{path}: expected 0 or 1 for each of the {len(vertices)} vertices of mesh.obj")
    first = labels == 0
    parts = [home / "top.obj", home / "bottom.obj"]
    if not all(part.is_file() for part in parts) or first.all() or not first.any():
        return first
    to_top, to_bottom = (scipy.spatial.cKDTree(read_mesh(part)[0]).query(vertices)[0] for part in parts)
    if_first = to_top[first].mean() + to_bottom[~first].mean()
    if_second = to_top[~first].mean() + to_bottom[first].mean()
    return first if if_first <= if_second else ~first
