"""How far poses are from the truth: the paper's MPVPE, in the camera and relative to the hand's root."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.hand.model import HandModel
from grasp_nodes.miho.honet import HandObjectPoses
from grasp_nodes.miho.samples import ObjectTable
from grasp_nodes.miho.truth import TruePoses, transform_points


@dataclass(frozen=True)
class PoseErrors:
    """Of N crops, each (N,) float32, m.

    hand: mean distance of the hand's vertices. hand_relative: the same with both roots at one place.
    object: mean distance of the object's points, its rotation taken up to symmetries.
    object_relative: the same, relative to the hands' roots: whether the object is where it should be in the hand.
    """

    hand: np.ndarray
    hand_relative: np.ndarray
    object: np.ndarray
    object_relative: np.ndarray

    @staticmethod
    def of(poses: HandObjectPoses, truth: TruePoses, table: ObjectTable, model: HandModel) -> PoseErrors:
        """Of a batch."""
        vertices = model(poses.hands).vertices
        points = table.points[truth.object_index]
        same = truth.nearest_symmetric(poses.object_rotation, table.symmetries[truth.object_index])
        said = transform_points(poses.object_rotation, poses.object_position, points)
        expected = transform_points(same, truth.object_position, points)

        def mean(first: Tensor, second: Tensor) -> np.ndarray:
            return (first - second).norm(dim=2).mean(dim=1).cpu().numpy()

        shift = (truth.root - poses.root)[:, None]
        return PoseErrors(
            *(mean(vertices, truth.vertices), mean(vertices + shift, truth.vertices)),
            *(mean(said, expected), mean(said + shift, expected)),
        )

    @staticmethod
    def join(parts: list[PoseErrors]) -> PoseErrors:
        """Batches one after the other."""
        names = ("hand", "hand_relative", "object", "object_relative")
        return PoseErrors(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def means(self) -> dict[str, float]:
        """mm, by name."""
        names = ("hand", "hand_relative", "object", "object_relative")
        return {f"{name}_mpvpe_mm": 1000 * float(getattr(self, name).mean()) for name in names}


def as_pixels(images: Tensor) -> Tensor:
    """(B, 3, S, S) float32 in [0, 1] of images (B, S, S, 3) uint8."""
    return images.permute(0, 3, 1, 2).to(torch.float32) / 255
