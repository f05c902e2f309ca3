from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.hand.placement import move_hands, place_wrists


def random_hands(count: int, seed: int) -> HandParams:
    rng = np.random.default_rng(seed)

    def draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.tensor(rng.normal(size=shape) * scale)

    scale = torch.tensor(rng.uniform(0.8, 1.2, count))
    return HandParams(
        draw(count, 3), draw(count, 45, scale=0.3), draw(count, 10), draw(count, 3, scale=0.3), scale, "right"
    )


def test_moved_hand_is_the_hand_moved() -> None:
    model = load_hand_model(path=OPEN_HAND_FILE, dtype=torch.float64)
    hands = random_hands(5, seed=1)
    turns = Rotation.random(5, random_state=2).as_matrix()
    shifts = np.random.default_rng(3).normal(size=(5, 3))
    transforms = np.tile(np.eye(4), (5, 1, 1))
    transforms[:, :3, :3], transforms[:, :3, 3] = turns, shifts
    expected = np.einsum("bij,bvj->bvi", turns, model(hands).vertices.numpy()) + shifts[:, None]
    np.testing.assert_allclose(model(move_hands(hands, transforms, model)).vertices.numpy(), expected, atol=1e-9)
    single = move_hands(hands, transforms[0], model)
    np.testing.assert_allclose(single.transl[0].numpy(), move_hands(hands, transforms, model).transl[0].numpy())


def test_wrists_are_placed_without_turning_the_hand() -> None:
    model = load_hand_model(path=OPEN_HAND_FILE, dtype=torch.float64)
    hands = random_hands(4, seed=4)
    target = np.random.default_rng(5).normal(size=(4, 3))
    before, after = model(hands), model(place_wrists(hands, target, model))
    np.testing.assert_allclose(after.joints[:, 0].numpy(), target, atol=1e-12)
    np.testing.assert_allclose(
        (after.vertices - after.joints[:, :1]).numpy(), (before.vertices - before.joints[:, :1]).numpy(), atol=1e-9
    )


def test_reflections_and_wrong_counts_are_refused() -> None:
    model = load_hand_model(path=OPEN_HAND_FILE, dtype=torch.float64)
    hands = random_hands(2, seed=6)
    with pytest.raises(InputError, match="reflection"):
        move_hands(hands, np.diag([-1.0, 1.0, 1.0, 1.0]), model)
    with pytest.raises(InputError, match=r"expected shape \(4, 4\) or \(2, 4, 4\)"):
        move_hands(hands, np.tile(np.eye(4), (3, 1, 1)), model)
