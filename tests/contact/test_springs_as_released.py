"""The released springs, pair by pair."""

from __future__ import annotations

import numpy as np
import torch

from grasp_nodes.contact.as_released import attraction_as_released, repulsion_as_released
from grasp_nodes.contact.springs import AttractiveSprings
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model

ANCHORS = HandAnchors.of_model(load_hand_model("right", OPEN_HAND_FILE, torch.float64))


def test_attraction_is_a_mean_in_which_tips_count_ten_times():
    anchor = torch.tensor([[0, 2, 2], [5, 0, 0]])  # thumb's proximal phalanx and tip; the palm
    point = torch.tensor([[0.0, 0, 0.01], [0, 0, 0.02], [0, 0, 0.03]], dtype=torch.float64).expand(2, 3, 3)
    elasticity = torch.tensor([[0.5, 1.0, 0.25], [1.0, 0.0, 0.0]], dtype=torch.float64)
    springs = AttractiveSprings(anchor, point, elasticity)
    found = attraction_as_released(springs, ANCHORS, torch.zeros(2, 32, 3, dtype=torch.float64))
    expected = [(0.1 * 0.5 * 1e-4 + 4e-4 + 0.25 * 9e-4) / 3, 0.1 * 1e-4]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_repulsion_takes_the_nearest_hand_vertices_of_each_point():
    rng = np.random.default_rng(0)
    hands, points = rng.uniform(-0.03, 0.03, (2, 80, 3)), rng.uniform(-0.03, 0.03, (30, 3))
    normals = rng.normal(size=(30, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    hands[1] += 1.0  # far away
    total, touched = 0.0, 0
    for point, normal in zip(points, normals, strict=True):
        away = hands[0] - point
        nearest = np.argsort(np.linalg.norm(away, axis=1))[:5]
        near = [i for i in nearest if np.linalg.norm(away[i]) < 0.02]
        touched += bool(near)
        total += sum(5e-4 * np.exp(-(away[i] @ normal)) ** 2 for i in near)
    found = repulsion_as_released(*(torch.from_numpy(v) for v in (hands, points, normals)), candidates=5)
    np.testing.assert_allclose(found, [total / touched, 0.0], rtol=1e-9)
