"""The frame in which the network sees an object: that of its principal axes.

An object that is turned gets the same grasps, turned; the network need not learn that. The axes' signs, and the axes
of a ball or a cylinder, are a matter of chance: training draws them, and a sampler spreads its hands over the signs.
"""

from __future__ import annotations

import torch
from torch import Tensor

FLIPS = torch.diag_embed(torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]))
"""(4, 3, 3): the half turns about three axes, and none."""


def principal_turns(points: Tensor) -> Tensor:
    """Rotations into the frames of point sets' principal axes, x along the longest.

    Args:
        points: (B, P, 3), m, of surfaces; fewer points leave more to chance where two axes are about as long.

    Returns:
        (B, 3, 3), proper; its rows are the axes.
    """
    centred = points - points.mean(dim=1, keepdim=True)
    scatter = centred.mT @ centred / points.shape[1]
    axes = torch.linalg.eigh(scatter.double()).eigenvectors.flip(-1)
    last = torch.linalg.cross(axes[..., 0], axes[..., 1])
    return torch.stack([axes[..., 0], axes[..., 1], last], dim=-2).to(points.dtype)
