"""The true contact map is that of the stated hand at the stated object pose, in any precision and frame."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.contact.interaction import HandObjectState, HandState, ObjectState
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.true_contact import TrueContact
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object


@pytest.fixture(scope="module")
def ball():
    return load_object("sphere:0.03", resolution=24, num_points=200)


def state(model, T_camera_object, dtype=torch.float32):
    params = HandParams.zeros(1, "right", dtype)
    params = replace(params, transl=torch.tensor([[0.05, -0.02, 0.6]], dtype=dtype))
    hand = HandState(params, np.zeros((21, 3)), np.zeros((16, 7)), model.model_id, model.fingerprint)
    return HandObjectState(0, "camera", [hand], [ObjectState("ball", T_camera_object)])


def test_a_ball_below_the_palm(ball):
    """Points of the ball next to the palm are near it, whatever the turn of the ball's frame, in both precisions."""
    model = load_hand_model("right", dtype=torch.float64)
    with torch.no_grad():
        params = replace(
            HandParams.zeros(1, "right", torch.float64),
            transl=torch.tensor([[0.05, -0.02, 0.6]], dtype=torch.float64),
        )
        vertices = model(params).vertices[0].numpy()
    T_camera_object = np.eye(4)
    T_camera_object[:3, :3] = Rotation.from_rotvec([0.4, -0.7, 1.1]).as_matrix()
    T_camera_object[:3, 3] = vertices[vertices[:, 1].argmin()] - [0.0, 0.033, 0.0]
    true_contact = TrueContact(ball)
    points = ball.points
    first = true_contact(state(model, T_camera_object), points)
    second = true_contact(state(model, T_camera_object, torch.float64), points)
    np.testing.assert_allclose(first.signed_distance, second.signed_distance, atol=1e-6)
    in_camera = points @ T_camera_object[:3, :3].T + T_camera_object[:3, 3]
    to_vertices = np.linalg.norm(in_camera[:, None] - vertices, axis=2).min(axis=1)
    assert (np.abs(first.signed_distance) <= to_vertices + 1e-6).all()
    assert first.signed_distance.min() == pytest.approx(0.003, abs=0.002)
    np.testing.assert_allclose(first.hand_signed_distance.min(), 0.003, atol=1e-3)


def test_states_that_do_not_fit_are_refused(ball):
    model = load_hand_model("right")
    good = state(model, np.eye(4))
    with pytest.raises(InputError, match="no hand or no object"):
        TrueContact(ball)(replace(good, objects=()), ball.points)
    other = replace(good.hands[0], model_fingerprint="0" * 64)
    with pytest.raises(InputError, match="hand model that the recording was made with"):
        TrueContact(ball)(replace(good, hands=[other]), ball.points)
