"""A light stand-in of an object's mesh for silhouettes: about 1000 vertices, as HOMan resamples its meshes."""

from __future__ import annotations

import numpy as np
import torch

from grasp_nodes.fitting.homan.losses import collision_unit
from grasp_nodes.fitting.homan.objective import ObjectProxy
from grasp_nodes.geometry.mesh import merge_vertices
from grasp_nodes.objects.model import ObjectModel

MOST_FACES = 2000
SURFACE_POINTS = 384
"""Points of the surface that are compared with what was measured behind them."""


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
