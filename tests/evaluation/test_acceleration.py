"""Accelerations of points against motions whose acceleration is known."""

from __future__ import annotations

import numpy as np
import pytest

from grasp_nodes.evaluation.acceleration import mean_accelerations


def test_constant_acceleration_over_an_uneven_clock() -> None:
    # Second differences are exact for a parabola, however the instants lie.
    stamps = np.cumsum([10**18, 33_000_000, 50_000_000, 20_000_000, 33_000_000])
    seconds = (stamps - stamps[0]) * 1e-9
    rates = np.array([[3.0, 0, 4.0], [0, 0, 0]])
    points = [0.5 * rates * time**2 + np.array([0.1, 0.2, 0.5]) + time for time in seconds]
    values = mean_accelerations(stamps.tolist(), points)
    assert np.isnan(values[[0, -1]]).all()
    np.testing.assert_allclose(values[1:-1], 2.5, rtol=1e-6)


def test_frames_without_an_answer_have_neighbours_without_a_value() -> None:
    points: list[np.ndarray | None] = [np.zeros((1, 3))] * 7
    points[2] = None
    values = mean_accelerations([row * 10**7 for row in range(7)], points)
    assert np.isnan(values).tolist() == [True, True, True, True, False, False, True]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_frames_have_no_value(count: int) -> None:
    values = mean_accelerations(list(range(count)), [np.zeros((2, 3))] * count)
    assert values.shape == (count,)
    assert np.isnan(values).all()
