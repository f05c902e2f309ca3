"""What HoNet is trained to make small.

MeshRegNet (Hasson et al., CVPR 2020) weighs errors of vertices and of the coefficients of weak perspective; we add the
rotations, which vertices alone teach slowly, and take an object's rotation up to its symmetries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from grasp_nodes.hand.model import HandModel
from grasp_nodes.miho.honet import DEPTH_SCALE, HoNetOutput, place_in_crop, place_root, width_value
from grasp_nodes.miho.samples import ObjectTable
from grasp_nodes.miho.second_moments import second_moments
from grasp_nodes.miho.truth import TruePoses, transform_points

LENGTH = 0.05
"""m: unit of the vertices' errors."""
WEIGHTS = {
    "hand_vertices": 1.0,
    "object_vertices": 1.0,
    "hand_place": 2.0,
    "object_place": 2.0,
    "width": 1.0,
    "depth": 0.5,
    "hand_rotation": 0.5,
    "object_rotation": 0.5,
    "moments": 10.0,
    "pca": 0.05,
    "betas": 0.05,
}
OBJECT_POINTS = 128


def honet_loss(
    output: HoNetOutput, truth: TruePoses, table: ObjectTable, size: int, model: HandModel
) -> dict[str, Tensor]:
    """The terms and their weighted sum, ``loss``; scalars.

    Args:
        output: of B crops. truth: of the same. table: of the objects. size: px, of the crops. model: the right hand.
    """
    hands = place_root(output.hand_rotation, output.pca, output.betas, torch.zeros_like(truth.root), model)
    vertices = model(hands).vertices
    true_rotation = truth.nearest_symmetric(output.object_rotation, table.symmetries[truth.object_index])
    points = table.points[truth.object_index, :OBJECT_POINTS]
    still = torch.zeros_like(truth.root)
    said = transform_points(output.object_rotation, still, points)
    expected = transform_points(true_rotation, still, points)
    depth = (truth.object_position[:, 2] - truth.root[:, 2]) / DEPTH_SCALE
    width = width_value(truth.root[:, 2] * size / truth.focal)
    terms = {
        "hand_vertices": (vertices - (truth.vertices - truth.root[:, None])).norm(dim=2).mean() / LENGTH,
        "object_vertices": (said - expected).norm(dim=2).mean() / LENGTH,
        "hand_place": (output.hand_place - place_in_crop(truth.root, truth.focal, size)).abs().mean(),
        "object_place": (output.object_place - place_in_crop(truth.object_position, truth.focal, size)).abs().mean(),
        "width": (output.width - width).abs().mean(),
        "depth": (output.depth - depth).abs().mean(),
        "hand_rotation": (output.hand_rotation - truth.hand_rotation).square().sum(dim=(1, 2)).mean(),
        "object_rotation": (output.object_rotation - true_rotation).square().sum(dim=(1, 2)).mean(),
        "pca": (output.pca - truth.pca).square().mean(),
        "betas": (output.betas - truth.hands.betas).square().mean(),
    }
    if output.moments is not None:
        own = second_moments(table.points[truth.object_index])
        true_moments = truth.object_rotation @ own @ truth.object_rotation.mT
        terms["moments"] = (output.moments - true_moments).square().sum(dim=(1, 2)).mean()
    total = torch.stack([WEIGHTS[name] * value for name, value in terms.items()]).sum()
    return {"loss": total, **terms}
