"""Second moments of objects against covariances, and rotations that are found again from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.miho.second_moments import WEIGHT, rotation_of_moments, second_moments

SPREADS = torch.tensor([0.01, 0.02, 0.06])


def rotations(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(Rotation.random(count, random_state=seed).as_matrix())


def boxes(count: int) -> torch.Tensor:
    return (2 * torch.rand(count, 4000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1) * (
        SPREADS
    )


def test_moments_are_covariances_without_size_place_and_ball() -> None:
    points = boxes(2)
    covariance = np.cov(points[0].numpy().T)
    expected = covariance / np.trace(covariance) - np.eye(3) / 3
    np.testing.assert_allclose(second_moments(points)[0].numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(second_moments(3.0 * points + 0.2)[0].numpy(), expected, atol=1e-9)
    turn = rotations(2, 0)
    turned = second_moments(points @ turn.mT)
    torch.testing.assert_close(turned, turn @ second_moments(points) @ turn.mT)


def test_true_moments_and_a_rough_word_give_the_rotation() -> None:
    """A word that is 40 degrees off decides between the four ways, the moments do the rest."""
    own, true = second_moments(boxes(64)), rotations(64, 3)
    axis = torch.nn.functional.normalize(torch.randn(64, 3, generator=torch.Generator().manual_seed(2)), dim=1)
    off = torch.from_numpy(Rotation.from_rotvec(np.radians(40) * axis.numpy()).as_matrix())
    told = 100 * true @ own @ true.mT  # so sure that the word counts for nothing but the choice
    found = rotation_of_moments(told, own, true @ off)
    assert torch.linalg.det(found).numpy() == pytest.approx(np.ones(64), abs=1e-6)
    torch.testing.assert_close(found, true, atol=2e-3, rtol=0)


def test_a_ball_has_the_rotation_that_is_told() -> None:
    nothing, told = torch.zeros(5, 3, 3, dtype=torch.float64), rotations(5, 7)
    torch.testing.assert_close(rotation_of_moments(nothing, nothing, told), told)


def test_the_answer_is_the_best_of_all_rotations() -> None:
    own, told, word = second_moments(boxes(6)), rotations(6, 4), rotations(6, 5)
    moments = told @ own @ told.mT

    def value(turn: torch.Tensor) -> torch.Tensor:
        return WEIGHT * (turn @ own * (moments @ turn)).sum(dim=(1, 2)) + (turn * word).sum(dim=(1, 2))

    best = value(rotation_of_moments(moments, own, word))
    for seed in range(300):
        assert (value(rotations(6, seed)) <= best + 1e-9).all()
