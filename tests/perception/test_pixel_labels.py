from __future__ import annotations

import itertools

import numpy as np
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.perception.barrier_distance import barrier_distance
from grasp_nodes.perception.pixel_labels import edge_weights, label_pixels
from grasp_nodes.perception.static_background import StaticBackground, camera_is_still, filled, scene_cost


@pytest.mark.parametrize("seed", range(4))
def test_on_a_chain_the_labels_are_the_cheapest_of_all(seed):
    rng = np.random.default_rng(seed)
    costs = rng.uniform(0, 3, (1, 7, 3)).astype(np.float32)
    image = rng.integers(0, 255, (1, 7, 3)).astype(np.uint8)
    across, _ = edge_weights(image, 1.5)

    def price(row):
        changes = sum(across[0, c] for c in range(6) if row[c] != row[c + 1])
        return sum(costs[0, c, row[c]] for c in range(7)) + changes

    cheapest = min(itertools.product(range(3), repeat=7), key=price)
    np.testing.assert_array_equal(label_pixels(costs, image, 1.5, sweeps=1)[0], cheapest)
    np.testing.assert_array_equal(
        label_pixels(costs.transpose(1, 0, 2), image.transpose(1, 0, 2), 1.5, sweeps=1)[:, 0], cheapest
    )


def test_smoothing_stops_at_edges_of_the_image():
    image = np.zeros((20, 20, 3), np.uint8)
    image[:, 10:] = 200
    rng = np.random.default_rng(0)
    truth = (image[..., 0] > 0).astype(int)
    costs = rng.normal(0, 1.0, (20, 20, 2)).astype(np.float32)
    costs[np.arange(20)[:, None], np.arange(20), truth] -= 1.0
    alone = costs.argmin(axis=-1)
    assert (label_pixels(costs, image, 2.0) == truth).mean() > 0.99
    assert (alone == truth).mean() < 0.9
    with pytest.raises(InputError, match="label_pixels"):
        label_pixels(costs, image[:5], 1.0)


def test_barriers_are_the_least_rise_along_a_path():
    image = np.full((9, 11, 1), 50, np.uint8)
    image[2:7, 3:8] = 90  # a wall around a court of another height
    image[3:6, 4:7] = 70
    seeds = np.zeros((9, 11), bool)
    seeds[[0, -1]] = seeds[:, [0, -1]] = True
    distance = barrier_distance(image, seeds)
    np.testing.assert_array_equal(distance[3:6, 4:7], 40)
    image[4, 7] = 55  # a gate
    np.testing.assert_array_equal(barrier_distance(image, seeds)[3:6, 4:7], 20)
    np.testing.assert_array_equal(barrier_distance(np.repeat(image, 3, axis=2), seeds)[3:6, 4:7], 60)
    with pytest.raises(InputError, match="barrier_distance"):
        barrier_distance(image, seeds[:4])


def test_the_background_is_the_median_of_what_is_free():
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 255, (6, 7, 3)).astype(np.uint8) for _ in range(5)]
    covered = [rng.random((6, 7)) < 0.4 for _ in range(5)]
    covered[0][0, 0] = covered[1][0, 0] = covered[2][0, 0] = covered[3][0, 0] = covered[4][0, 0] = True
    background = StaticBackground()
    background.learn(images, covered)
    values = np.where(np.stack(covered)[..., None], np.nan, np.stack(images).astype(float))
    free = ~np.stack(covered).all(axis=0)
    np.testing.assert_array_equal(background.known, free)
    upper = np.nanpercentile(values[:, free], 50, axis=0, method="higher")
    np.testing.assert_array_equal(background.image[free], upper)
    # The next window keeps what it does not see.
    background.learn([np.zeros((6, 7, 3), np.uint8)], [np.ones((6, 7), bool)])
    np.testing.assert_array_equal(background.image[free], upper)
    with pytest.raises(InputError, match="background"):
        background.learn(images, covered[:2])


def test_a_shadow_is_the_scene_and_another_colour_is_not():
    scene = np.full((8, 8, 3), (150, 110, 80), np.uint8)
    same, shadow = scene_cost(scene, scene), scene_cost((scene * 0.7).astype(np.uint8), scene)
    blue = scene_cost(np.full((8, 8, 3), (60, 80, 150), np.uint8), scene)
    assert same.max() < shadow.min() < blue.min() - 5


def test_a_hole_is_filled_from_around_it():
    columns = np.broadcast_to(np.linspace(40, 200, 32)[None, :, None], (32, 32, 3))
    image, known = columns.astype(np.uint8), np.ones((32, 32), bool)
    known[10:22, 10:22] = False
    broken = image.copy()
    broken[~known] = 255
    whole = filled(broken, known)
    np.testing.assert_array_equal(whole[known], image[known])
    assert np.abs(whole - image)[~known].max() < 25
    assert not filled(broken, np.zeros((32, 32), bool)).any()


def test_a_camera_is_still_while_a_part_of_the_image_moves():
    rng = np.random.default_rng(2)
    coarse = rng.integers(40, 220, (24, 32, 3)).astype(np.uint8)
    table = np.kron(coarse, np.ones((10, 10, 1), np.uint8))
    covered = [np.zeros(table.shape[:2], bool)] * 4
    moving_thing = []
    for step in range(4):
        image = table.copy()
        image[60:160, 40 + 30 * step : 120 + 30 * step] = 30
        moving_thing.append(image)
    assert camera_is_still(moving_thing, covered)
    assert not camera_is_still([np.roll(table, (2 * step, 3 * step), (0, 1)) for step in range(4)], covered)
    assert camera_is_still([np.full((48, 64, 3), 90, np.uint8)] * 3, [np.zeros((48, 64), bool)] * 3)
