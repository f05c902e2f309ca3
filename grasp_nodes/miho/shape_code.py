"""What a network is told of an object: how far the object is from fixed points about it.

Prokudin et al., "Efficient Learning on Point Clouds with Basis Point Sets", ICCV 2019. The distances tell both the
shape and how it lies in its own frame, in which the pose is to be told.
"""

from __future__ import annotations

import numpy as np
import torch

from grasp_nodes.geometry.mesh import sample_surface
from grasp_nodes.learning.object_encoders import BasisPoints

CODE_SIZE = 128
RADIUS = 0.15
"""m, of the ball that the basis points fill."""
CODE_POINTS = 2048
"""Of an object's surface, to which distances are told: training and use must agree, since fewer lie farther away."""
SCALE = 0.1
"""m: distances are told in this unit."""


_BASIS = BasisPoints(CODE_SIZE, RADIUS)


def shape_code(points: np.ndarray) -> np.ndarray:
    """The code of an object.

    Args:
        points: (N, 3), m, on its surface, object's frame, the middle of its bounding box at the origin.

    Returns:
        (CODE_SIZE + 3,) float32: distances of the basis points to the nearest of the points, then half the extents.
    """
    distance = _BASIS(torch.from_numpy(np.asarray(points, np.float64))[None])[0].numpy()
    half = 0.5 * (points.max(axis=0) - points.min(axis=0))
    return (np.concatenate([distance, half]) / SCALE).astype(np.float32)


def mesh_code(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """`shape_code` of a mesh: vertices (V, 3), m, in the canonical frame, and faces (F, 3)."""
    return shape_code(sample_surface(vertices, faces, CODE_POINTS, 0)[0])
