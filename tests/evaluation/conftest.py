"""The open hand, posed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.parameters import HandParams


@dataclass
class PosedHand:
    model: torch.nn.Module
    faces: np.ndarray
    weights: np.ndarray

    def posed(self, pose: np.ndarray, orient: np.ndarray | None = None) -> np.ndarray:
        params = HandParams.zeros(1, dtype=torch.float64)
        params = replace(params, hand_pose=torch.from_numpy(pose)[None])
        if orient is not None:
            params = replace(params, global_orient=torch.from_numpy(orient)[None])
        with torch.no_grad():
            return self.model(params).vertices[0].numpy()


@pytest.fixture(scope="session")
def hand() -> PosedHand:
    model = load_hand_model("right", OPEN_HAND_FILE, dtype=torch.float64)
    return PosedHand(model, closed_faces(model.faces.numpy()), model.arrays.weights)
