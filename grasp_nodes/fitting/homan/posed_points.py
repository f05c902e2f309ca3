"""Points of rigid objects in the camera's frame, and where the camera sees points."""

from __future__ import annotations

import torch
from torch import Tensor

from grasp_nodes.fitting.homan.variables import ObjectUnknowns


def project_pixels(points: Tensor, camera_k: Tensor) -> Tensor:
    """Pixels (..., 2) of points (..., 3), m, without distortion; what is behind the camera is put before it.

    Args:
        points: camera frame. camera_k: (3, 3).
    """
    flat = points[..., :2] / points[..., 2:].clamp(min=1e-2)
    skewed = flat[..., 1:] * torch.stack([camera_k[0, 1], camera_k.new_zeros(())])
    return flat * camera_k[[0, 1], [0, 1]] + camera_k[:2, 2] + skewed


def place_points(points: Tensor, item: ObjectUnknowns) -> Tensor:
    """Points (P, 3) of an object's frame in the camera's: (T, P, 3), m."""
    return torch.matmul(points, (item.scale * item.rotation).transpose(1, 2)) + item.translation[:, None]


def spread_points(vertices: Tensor) -> Tensor:
    """(4, 4): four points, each with a weight behind it, that move in the mean of squares as all vertices (V, 3) do.

    For a rigid body the mean of ``|dR v + dD|^2`` over vertices is a quadratic form in the second moments of
    ``(v, 1)``; their Cholesky factor's columns are four such points.
    """
    homogeneous = torch.cat([vertices, vertices.new_ones(len(vertices), 1)], 1).double()
    moments = homogeneous.T @ homogeneous / len(vertices)
    factor = torch.linalg.cholesky(moments + 1e-12 * torch.eye(4, dtype=torch.float64))
    return (2 * factor.T).to(vertices.dtype)  # twice: the mean is over four points


def move_spread(spread: Tensor, item: ObjectUnknowns) -> Tensor:
    """The points of `spread_points` in the camera's frame: (T, 4, 3)."""
    turned = torch.matmul(spread[:, :3], (item.scale * item.rotation).transpose(1, 2))
    return turned + spread[:, 3:] * item.translation[:, None]
