"""Where to put a hand before its fingers close: palm against the surface, or thumb and fingers across the object."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from grasp_nodes.fitting.grasp_hand import GraspPose
from grasp_nodes.geometry.rotations import axis_angle_to_matrix
from grasp_nodes.hand.parameters import NUM_POSE
from grasp_nodes.objects.model import ObjectModel

MARCH_STEP = 0.0005
"""m, along a line through the object."""
THUMB_CONE, FINGER_CONE = 0.5, 0.6
"""rad, largest angle of the outward normals to the line between thumb and fingers: friction 1 would allow 0.79."""
LINE_SPREAD = 0.15
"""rad, of the line against the normal under the thumb."""


class SurfacePairs(NamedTuple):
    """Two points on opposite sides of the object: thumb, finger: (N, 3), m, object frame."""

    thumb: Tensor
    finger: Tensor

    @property
    def gap(self) -> Tensor:
        """(N,) m."""
        return (self.finger - self.thumb).norm(dim=1)


def surface_pairs(
    model: ObjectModel, count: int, widest: float, generator: torch.Generator, center: Tensor, lever: float = 0.03
) -> SurfacePairs:
    """Pairs of points between which the object can be squeezed.

    Lines start at random surface points, run inwards about along the normal and end where they leave the object: at
    the far side of a wall or of the whole. Lines that pass near the centre of mass are taken more often.

    Args:
        model: the object. count: pairs wanted. widest: m, largest gap. generator: of chance, on the CPU.
        center: (3,) m, centre of mass. lever: m, a line this far from it is taken e times less often.

    Returns:
        At most `count` pairs; none for an object that is nowhere narrow enough.
    """
    tried = min(8 * count, 4096)
    chosen = torch.randint(len(model.points), (tried,), generator=generator)
    start, normal = torch.from_numpy(model.points)[chosen], torch.from_numpy(model.normals)[chosen]
    tilt = axis_angle_to_matrix(LINE_SPREAD * torch.randn(tried, 3, generator=generator))
    line = -(tilt @ normal[..., None])[..., 0]
    along = torch.arange(1, int(widest / MARCH_STEP) + 1) * MARCH_STEP
    signed = model.signed_distance(start[:, None] + along[:, None] * line[:, None])
    leaves = (signed[:, :-1] < 0) & (signed[:, 1:] >= 0)
    # One of a line's exits: a thin wall's far side or that of the whole object.
    exit_at = (leaves * torch.rand(leaves.shape, generator=generator)).argmax(dim=1)
    end = start + along[exit_at, None] * line
    end_normal = torch.nn.functional.normalize(model.signed_distance.gradient(end), dim=1)
    fits = (
        leaves.any(dim=1)
        & ((-line * normal).sum(dim=1) > torch.cos(torch.tensor(THUMB_CONE)))
        & ((line * end_normal).sum(dim=1) > torch.cos(torch.tensor(FINGER_CONE)))
    )
    offset = center - start
    off_line = (offset - (offset * line).sum(dim=1, keepdim=True) * line).norm(dim=1)
    weight = fits * torch.exp(-off_line / lever)
    available = int((weight > 0).sum())
    if not available:
        return SurfacePairs(start[:0], end[:0])
    rows = torch.multinomial(weight, min(count, available), generator=generator)
    return SurfacePairs(start[rows], end[rows])


def against_palm(
    model: ObjectModel,
    angles: Tensor,
    betas: Tensor,
    generator: torch.Generator,
    gap: tuple[float, float],
    tilt: float = 0.2,
) -> GraspPose:
    """Hands whose palm looks at a random point of the surface, turned at random about the normal there.

    Args:
        model: the object. angles: (B, D), rad. betas: (B, 10). generator: of chance.
        gap: m, range of the way between the surface and the hand's pivot, negative = the pivot is inside.
        tilt: rad, deviation of the palm from the surface.
    """
    batch = len(angles)
    chosen = torch.randint(len(model.points), (batch,), generator=generator)
    point, normal = torch.from_numpy(model.points)[chosen], torch.from_numpy(model.normals)[chosen]
    across_normal = torch.linalg.cross(normal, torch.randn(batch, 3, generator=generator))
    thumb_side = torch.nn.functional.normalize(across_normal, dim=1)
    # The palm looks along -y of the hand's frame.
    upright = torch.stack([thumb_side, normal, torch.linalg.cross(thumb_side, normal)], dim=2)
    orient = axis_angle_to_matrix(tilt * torch.randn(batch, 3, generator=generator)) @ upright
    way = gap[0] + (gap[1] - gap[0]) * torch.rand(batch, 1, generator=generator)
    return GraspPose(angles, orient, point + way * normal, betas, angles.new_zeros(batch, NUM_POSE))
