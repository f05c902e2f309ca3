"""The noun of an object: its mesh, a signed distance to it, and points on its surface."""

from __future__ import annotations

from dataclasses import dataclass, replace

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

    def resized(self, factor: float) -> ObjectModel:
        """The object `factor` times as large, about its frame's origin."""
        grid = self.signed_distance
        return replace(
            self,
            vertices=self.vertices * np.float32(factor),
            points=self.points * np.float32(factor),
            signed_distance=SignedDistanceGrid(grid.values * factor, grid.origin * factor, grid.spacing * factor),
            scale=self.scale * factor,
        )
