"""The unit of a data set's meshes: metres where things are of the size of things to hold, else millimetres."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.objects.loading import LARGEST_EXTENT, SMALLEST_EXTENT, read_mesh

_MILLIMETRE = 0.001

_log = logging.getLogger(__name__)


def mesh_scale(path: Path) -> float:
    """Factor from a mesh file's unit to metres.

    Raises:
        MissingFileError: there is no such file. InputError: it is no mesh, or too small or large in both units.
    """
    vertices, faces = read_mesh(path)
    return unit_of(vertices[np.unique(faces)], str(path))


def unit_of(vertices: np.ndarray, name: str) -> float:
    """Factor from the unit of a mesh's vertices (V, 3) to metres: 1 or 0.001.

    Raises:
        InputError: in neither unit it has the size of a thing to hold.
    """
    longest = float(np.ptp(vertices, axis=0).max()) if np.isfinite(vertices).all() else np.nan
    for scale in (1.0, _MILLIMETRE):
        if SMALLEST_EXTENT <= longest * scale <= LARGEST_EXTENT:
            if scale != 1:
                _log.info("%s: taken as millimetres, its longest side is %.4g", name, longest)
            return scale
    raise InputError(
        f"{name}: its longest side is {longest:.4g}, which is no thing to hold in metres nor in millimetres (expected "
        f"{SMALLEST_EXTENT:g} to {LARGEST_EXTENT:g} m)"
    )
