"""A light stand-in of an object's mesh for silhouettes: about 1000 vertices, as HOMan resamples its meshes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.fitting.homan.losses import collision_unit
from grasp_nodes.geometry.mesh import merge_vertices
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.objects.model import ObjectModel

MOST_FACES = 2000
SURFACE_POINTS = 384
"""Points of the surface that are compared with what was measured behind them."""


@dataclass(frozen=True)
class ObjectProxy:
    """What the fit needs of an object, in its own frame.

    vertices: (V, 3) float32, m, about 1000, and faces: (F, 3) int64, of a closed mesh. points, normals: (P, 3) float32,
    of the surface. collision_unit: m, see `losses.collision_unit`.
    """

    vertices: Tensor
    faces: np.ndarray
    signed_distance: SignedDistanceGrid
    points: Tensor
    normals: Tensor
    collision_unit: float


def make_proxy(model: ObjectModel, most_faces: int = MOST_FACES) -> ObjectProxy:
    """What the joint fit needs of an object.

    Args:
        model: of any number of faces. most_faces: a mesh with more is decimated by quadric errors.
    """
    vertices, faces = merge_vertices(model.vertices.astype(np.float64), model.faces)
    if len(faces) > most_faces:
        vertices, faces = _decimate(vertices, faces, most_faces)
    step = max(1, len(model.points) // SURFACE_POINTS)
    return ObjectProxy(
        torch.from_numpy(vertices.astype(np.float32)),
        np.ascontiguousarray(faces, np.int64),
        model.signed_distance,
        torch.from_numpy(model.points[::step].astype(np.float32)),
        torch.from_numpy(model.normals[::step].astype(np.float32)),
        collision_unit(torch.from_numpy(model.vertices)),
    )


def _decimate(vertices: np.ndarray, faces: np.ndarray, most_faces: int) -> tuple[np.ndarray, np.ndarray]:
    import open3d  # slow to import, and only large meshes need it

    mesh = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(vertices), open3d.utility.Vector3iVector(faces.astype(np.int32))
    )
    light = mesh.simplify_quadric_decimation(most_faces)
    light.remove_unreferenced_vertices()
    return np.asarray(light.vertices).copy(), np.asarray(light.triangles).astype(np.int64)
