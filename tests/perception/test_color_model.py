"""Colour histograms of things."""

from __future__ import annotations

import numpy as np
import pytest

from grasp_nodes.perception.color_model import FINE_BINS, LEARN_MIN_PIXELS, UNIFORM, ColorModel, color_cells


def shades(color: tuple[int, int, int], count: int = 400) -> np.ndarray:
    """(1, N, 3) uint8 of one surface in changing light."""
    light = np.random.default_rng(0).uniform(0.8, 1.0, (1, count, 1))
    return (np.array(color) * light).astype(np.uint8)


@pytest.mark.parametrize("shape", [(1, 0, 3), (0, 5, 3)])
def test_no_pixels_have_no_cells_and_teach_nothing(shape: tuple[int, int, int]) -> None:
    cells = color_cells(np.zeros(shape, np.uint8), FINE_BINS)
    assert cells.shape == shape[:2]
    model = ColorModel(bins=FINE_BINS)
    model.learn(cells.reshape(-1))
    assert not model.is_known


def test_what_was_learned_is_likelier_than_anything_and_anything_than_what_was_not() -> None:
    skin, cloth = color_cells(shades((225, 170, 140)))[0], color_cells(shades((40, 60, 130)))[0]
    model = ColorModel()
    assert not model.log_likelihood(skin).any()
    model.learn(skin[: LEARN_MIN_PIXELS - 1])
    assert not model.is_known
    model.learn(skin)
    assert model.log_likelihood(skin).mean() > UNIFORM + 2
    assert (model.log_likelihood(cloth) < UNIFORM - 2).all()
