"""An object's second moments as it lies in the camera: what an image shows of its rotation before its details.

A rotation matrix is a hard thing to tell of things held: a rod looks the same from both its ends, and which end is
which must be known before any answer is nearer to the truth than its opposite. The matrix of second moments has no
signs and knows every symmetry: it turns smoothly with the image, and its axes are those of the object's own frame
(`canonical_frame`). Which of the four ways to name these axes is right, and what they do not tell of things that are
about as long as wide, a told rotation decides.
"""

from __future__ import annotations

import torch
from torch import Tensor

WEIGHT = 100.0
"""Of the moments beside the told rotation, where both disagree; chosen on the crops that choose weights."""
ITERATIONS = 12
_HALF_TURNS = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])


def second_moments(points: Tensor) -> Tensor:
    """(B, 3, 3): covariances of points (B, N, 3), divided by their traces, less what a ball has."""
    away = points - points.mean(dim=1, keepdim=True)
    moments = away.mT @ away
    trace = moments.diagonal(dim1=1, dim2=2).sum(dim=1)
    return moments / trace[:, None, None] - torch.eye(3, dtype=points.dtype, device=points.device) / 3


def rotation_of_moments(told: Tensor, own: Tensor, rotation: Tensor) -> Tensor:
    """The rotations that bring objects to told moments, as near to told rotations as that leaves open.

    Maximises ``WEIGHT tr(R own R^T told) + tr(R^T rotation)`` over rotations R, from the told rotation and from the
    four ways to bring the axes of the moments together. A form that is convex in R is raised by every rotation that
    is nearest to its gradient.

    Args:
        told: (B, 3, 3), symmetric, in the camera. own: (B, 3, 3) of `second_moments`, object's canonical frame.
        rotation: (B, 3, 3).

    Returns:
        (B, 3, 3).
    """
    eye = torch.eye(3, dtype=told.dtype, device=told.device)
    axes = torch.linalg.eigh(told)[1] @ torch.linalg.eigh(own)[1].mT
    # The sign of one axis is free: of both handednesses the proper one.
    axes = axes * torch.linalg.det(axes)[:, None, None].sign()
    base = torch.linalg.eigh(own)[1][:, None]
    turns = base @ torch.diag_embed(_HALF_TURNS.to(told)) @ base.mT
    found = torch.cat([rotation[:, None], axes[:, None] @ turns], dim=1)
    # Multiples of the identity make both forms positive; over rotations they are constants.
    seen, known = (told + eye)[:, None], (own + eye)[:, None]
    for _ in range(ITERATIONS):
        found = _nearest_rotation(2 * WEIGHT * seen @ found @ known + rotation[:, None])
    value = WEIGHT * (found @ own[:, None] * (told[:, None] @ found)).sum(dim=(2, 3))
    value = value + (found * rotation[:, None]).sum(dim=(2, 3))
    return found[torch.arange(len(found), device=told.device), value.argmax(dim=1)]


def _nearest_rotation(matrices: Tensor) -> Tensor:
    """(..., 3, 3), by Kabsch."""
    left, _, right = torch.linalg.svd(matrices)
    signs = torch.ones_like(matrices[..., 0])
    signs[..., 2] = torch.linalg.det(left @ right)
    return left @ (signs[..., None] * right)
