"""The noun of an object: its mesh, a signed distance to it, and points on its surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grasp_nodes.geometry.signed_distance import SignedDistanceGrid


@dataclass(frozen=True)
class ObjectModel:
    """A rigid object in its own frame, m.

    vertices: (V, 3) float32, faces: (F, 3) int64: a closed triangle mesh with outward normals.
    signed_distance: distance to that mesh, negative inside. points, normals: (N, 3) float32, sampled uniformly by area.
    mesh_resource: path or URI of the file it came from. scale: factor that was applied to the file's coordinates.
    """

    object_id: str
    vertices: np.ndarray
    faces: np.ndarray
    signed_distance: SignedDistanceGrid
    points: np.ndarray
    normals: np.ndarray
    mesh_resource: str = ""
    scale: float = 1.0
