"""A grey thing on a brighter grey table is no shadow, a shadow is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from grasp_nodes.perception.static_background import enclosed_shade

SIZE = 120


@pytest.fixture
def scene() -> np.ndarray:
    """A table with a grain: (120, 120, 3) uint8."""
    grain = np.random.default_rng(0).normal(0.0, 1.5, (SIZE, SIZE, 1))
    return np.clip(170.0 + grain * np.ones(3), 0, 255).astype(np.uint8)


def darkened(scene: np.ndarray, softness: float) -> tuple[np.ndarray, np.ndarray]:
    """The scene at 0.7 of its brightness within a disc, whose border is as wide as the softness, px; and the disc."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    disc = np.hypot(rows - 60, columns - 60) < 30
    soft = cv2.GaussianBlur(disc.astype(np.float32), (0, 0), softness) if softness else disc.astype(np.float32)
    return np.round(scene * (1.0 - 0.3 * soft[..., None])).astype(np.uint8), disc


def test_a_part_with_a_hard_border_is_a_thing(scene: np.ndarray) -> None:
    image, disc = darkened(scene, 0.0)
    found = enclosed_shade(image, scene)
    assert found[disc].mean() > 0.9
    assert found[~cv2.dilate(disc.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)].sum() == 0


@pytest.mark.parametrize("softness", [6.0, 10.0])
def test_a_shadow_with_a_soft_border_stays_a_shadow(scene: np.ndarray, softness: float) -> None:
    image, _ = darkened(scene, softness)
    assert not enclosed_shade(image, scene).any()


def test_the_scene_itself_is_no_thing(scene: np.ndarray) -> None:
    assert not enclosed_shade(scene, scene).any()


def test_a_shadow_that_is_hard_on_one_side_only_stays_a_shadow(scene: np.ndarray) -> None:
    """The edge of a shadow is hard where its thing stands: less than the share of the outline that makes a thing."""
    columns = np.arange(SIZE)
    fall = np.clip((columns - 40) / 60.0, 0.0, 1.0)
    shade = np.where((columns > 40), 0.3 * (1.0 - fall), 0.0)
    rows = cv2.GaussianBlur(((np.arange(SIZE) > 45) & (np.arange(SIZE) < 60)).astype(np.float32)[:, None], (1, 31), 8.0)
    image = np.round(scene * (1.0 - shade[None, :, None] * rows[:, :1, None])).astype(np.uint8)
    assert enclosed_shade(image, scene).mean() < 0.01
