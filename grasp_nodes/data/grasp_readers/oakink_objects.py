"""The objects of OakInk: its grasps are in the frame of the mesh with the centre of its bounding box at the origin."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np

from grasp_nodes.data.grasp_readers.mesh_units import unit_of
from grasp_nodes.data.labelled_grasps import GraspedObject
from grasp_nodes.errors import InputError
from grasp_nodes.objects.loading import read_mesh

logger = logging.getLogger(__name__)

Intent = Literal["use", "hold", "liftup", "handover"]
INTENTS: dict[str, Intent] = {"0001": "use", "0002": "hold", "0003": "liftup", "0004": "handover"}
"""By their code in the name of a sequence, ``<object>_<intent>_<subject>[_<receiver>]``."""


def centred_object(name: str, path: Path | None, category: str = "", split: str = "") -> GraspedObject:
    """An object whose grasps are in the frame of the centred mesh.

    Args:
        name, category, split: see `GraspedObject`.
        path: its mesh, m or mm; where there is none, or it is broken, the object has no mesh and a warning says so.
    """
    if path is None:
        logger.warning("object %s: the data set's folders hold no mesh of it; its grasps have none", name)
        return GraspedObject(name, category=category, split=split)
    try:
        vertices, faces = read_mesh(path)
        scale = unit_of(vertices[np.unique(faces)], str(path))
    except InputError as error:
        logger.warning("object %s has no mesh: %s", name, error)
        return GraspedObject(name, category=category, split=split)
    transform = np.eye(4)
    transform[:3, 3] = -0.5 * scale * (vertices.min(0) + vertices.max(0))
    return GraspedObject(name, str(path), scale, transform, category, split)
