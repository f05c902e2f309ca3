"""What the networks should have said: poses of a batch of crops as vertices, places and rotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from grasp_nodes.geometry.rotations import axis_angle_to_matrix
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.miho.honet import NUM_PCA, ROOT_JOINT


@dataclass(frozen=True)
class TruePoses:
    """Of B crops, in their cameras.

    hands: right hands. vertices: (B, V, 3), m. root: (B, 3), m. hand_rotation: (B, 3, 3).
    pca: (B, 15), the posture's share of the first components.
    object_rotation: (B, 3, 3), object_position: (B, 3), m. focal: (B,), px. object_index: (B,).
    """

    hands: HandParams
    vertices: Tensor
    root: Tensor
    hand_rotation: Tensor
    pca: Tensor
    object_rotation: Tensor
    object_position: Tensor
    focal: Tensor
    object_index: Tensor

    @staticmethod
    def of_batch(batch: Mapping[str, Tensor], model: HandModel) -> TruePoses:
        """Of the columns of `CropBatches`.

        The hand's place was told before the crop was turned: its wrist, at ``J0 + transl``, is turned here.

        Args:
            batch: on the model's device. model: of the right hand.
        """
        orient, pose, betas, transl = (batch[name] for name in ("global_orient", "hand_pose", "betas", "transl"))
        hands = HandParams(orient, pose, betas, transl, torch.ones_like(orient[:, 0]), "right")
        if "turn" in batch:
            wrist = model.joints(hands)[0][:, 0]
            turned = (batch["turn"] @ wrist[..., None])[..., 0]
            hands = HandParams(orient, pose, betas, transl + turned - wrist, hands.scale, "right")
        output = model(hands)
        matrix = batch["T_camera_object"]
        return TruePoses(
            *(hands, output.vertices, output.joints[:, ROOT_JOINT], axis_angle_to_matrix(orient)),
            pca=(pose - model.hands_mean) @ model.hands_components[:NUM_PCA].T,
            object_rotation=matrix[:, :3, :3],
            object_position=matrix[:, :3, 3],
            focal=batch["focal"],
            object_index=batch["object_index"],
        )

    def nearest_symmetric(self, rotation: Tensor, symmetries: Tensor) -> Tensor:
        """The object's rotation among those that look the same, as near as can be to a given one.

        Args:
            rotation: (B, 3, 3), such as a network's. symmetries: (B, G, 3, 3), of each row's object.

        Returns:
            (B, 3, 3).
        """
        same = self.object_rotation[:, None] @ symmetries
        agreement = (same * rotation.detach()[:, None]).sum(dim=(2, 3))
        return same[torch.arange(len(same), device=same.device), agreement.argmax(dim=1)]


def transform_points(rotation: Tensor, position: Tensor, points: Tensor) -> Tensor:
    """(B, N, 3), m: points (B, N, 3) of objects in the camera."""
    return points @ rotation.mT + position[:, None]
