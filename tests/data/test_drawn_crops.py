"""Further crops of recorded objects: hands that grasp the object, half of them near those that were recorded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grasp_nodes.data.drawn_crops import drawn_crops
from grasp_nodes.data.hand_object_images import HandObjectImages
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object


def recorded(count: int) -> HandObjectImages:
    """Hands half a metre before the camera, the object in their palms."""
    model = load_hand_model("right")
    hands = HandParams.zeros(count)
    with torch.no_grad():
        palm = model(hands).keypoints[:, [0, 9]].mean(dim=1).numpy()
    poses = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
    poses[:, :3, 3] = palm + [0, -0.045, 0.5]
    transl = np.tile(np.array([0, 0, 0.5], np.float32), (count, 1))
    return HandObjectImages(
        *(np.zeros((count, 64, 64, 3), np.uint8), np.full(count, 100, np.float32)),
        *(np.zeros((count, 3), np.float32), np.zeros((count, 45), np.float32), np.zeros((count, 10), np.float32)),
        *(transl, poses, np.zeros(count, np.int64), ("ball",)),
    )


def test_crops_show_recorded_and_fitted_grasps() -> None:
    model, ball = load_hand_model("right"), load_object("sphere:0.035", num_points=800)
    crops = drawn_crops(ball, recorded(3), model, 6, 64, 0)
    assert crops is not None
    assert crops.images.shape == (6, 64, 64, 3)
    assert len({image.tobytes() for image in crops.images}) == 6
    with torch.no_grad():
        vertices = model(crops.hands()).vertices.double().numpy()
    centre = crops.T_camera_object[:, :3, 3].astype(np.float64)
    nearest = np.linalg.norm(vertices - centre[:, None], axis=2).min(axis=1) - 0.035
    assert (np.abs(nearest) < 0.015).all()
    # The recorded ones are flat hands, moved a little; fitted ones hold the ball.
    assert (np.abs(crops.hand_pose).max(axis=1) < 0.5).sum() == 3
    again = drawn_crops(ball, recorded(3), model, 6, 64, 0)
    assert again is not None
    np.testing.assert_array_equal(again.images, crops.images)


def test_none_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        drawn_crops(load_object("sphere:0.03"), recorded(1), load_hand_model("right"), 0, 64, 0)
