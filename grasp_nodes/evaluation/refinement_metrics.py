"""How near refined grasps are to true ones, by CHOIR's metrics (supplement, section C.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from grasp_nodes.evaluation.contact_metrics import contact_agreement, midpoint_upsampling, upsample
from grasp_nodes.evaluation.intersection import intersection_volume
from grasp_nodes.evaluation.penetration import hand_signed_distance
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams


@dataclass(frozen=True)
class RefinementMetrics:
    """Of B hands, (B,) each.

    mpjpe, root_aligned: mm, over the 21 keypoints; the latter with the wrist moved onto the true one. volume: cm^3.
    precision, recall, f1: 0..1, of contact at 2 mm on an up-sampled hand; 0 where a hand, or the true one, has none.
    """

    mpjpe: np.ndarray
    root_aligned: np.ndarray
    volume: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray

    def lists(self) -> dict[str, list[float]]:
        """By name, for JSON."""
        return {name: [float(value) for value in values] for name, values in vars(self).items()}


class RefinementJudge:
    """Compares hands of one model with true ones.

    Args:
        model: full, on the CPU.
    """

    def __init__(self, model: HandModel) -> None:
        self.model, self._closed = model, closed_faces(model.faces.numpy())
        # The wrist's cap is no skin.
        self._finer, _ = midpoint_upsampling(model.faces.numpy(), model.num_vertices)

    def __call__(self, found: HandParams, truth: HandParams, solid: Solid) -> RefinementMetrics:
        """Of B hands and the true ones, in the object's frame."""
        with torch.no_grad():
            ours, theirs = (self.model(hands.to(dtype=self.model.dtype)) for hands in (found, truth))
        joints, true_joints = (one.keypoints.double().numpy() for one in (ours, theirs))
        off = joints - true_joints
        vertices, true_vertices = (one.vertices.double().numpy() for one in (ours, theirs))
        distance, true_distance = (
            hand_signed_distance(upsample(self._finer, one), solid) for one in (vertices, true_vertices)
        )
        contact = contact_agreement(distance, true_distance)
        return RefinementMetrics(
            1e3 * np.linalg.norm(off, axis=2).mean(axis=1),
            1e3 * np.linalg.norm(off - off[:, :1], axis=2).mean(axis=1),
            1e6 * intersection_volume(vertices, self._closed, solid),
            *(np.nan_to_num(part) for part in contact),
        )
