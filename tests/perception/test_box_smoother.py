from __future__ import annotations

import numpy as np

from grasp_nodes.perception.box_smoother import smooth_boxes
from grasp_nodes.perception.box_tracker import BoxTrackerOptions


def moving_box(index, speed=6.0):
    low = np.array([100.0 + speed * index, 80.0 + 2.0 * index])
    return np.concatenate([low, low + [60.0, 50.0]]).astype(np.float32)


def test_a_gap_in_steady_motion_is_filled_where_the_box_was():
    boxes = [None if 6 <= i < 11 else moving_box(i) for i in range(20)]
    for index, box in enumerate(smooth_boxes(boxes)):
        np.testing.assert_allclose(box, moving_box(index), atol=4.0)


def test_the_future_counts_inside_a_gap():
    """A box that turns back inside of the gap: running forward alone would carry it on."""
    there = [moving_box(i) for i in range(6)]
    back = [moving_box(5 - i) for i in range(6)]
    found = smooth_boxes([*there, None, None, None, None, *back])
    assert abs(found[7][0] - there[-1][0]) < 25.0
    ahead = smooth_boxes([*there, None, None, None, None])
    assert ahead[-1][0] > there[-1][0] + 15.0


def test_noise_is_averaged():
    rng = np.random.default_rng(0)
    noisy = [moving_box(i) + rng.normal(0, 1.2, 4).astype(np.float32) for i in range(40)]
    smooth = smooth_boxes(noisy, BoxTrackerOptions(process_noise=0.002))
    truth = np.array([moving_box(i) for i in range(40)])
    raw = np.abs(np.array(noisy) - truth).mean()
    assert np.abs(np.array(smooth) - truth).mean() < 0.7 * raw


def test_nothing_is_predicted_far_from_every_box():
    boxes = [None, None, None, moving_box(3), moving_box(4), *[None] * 6]
    found = smooth_boxes(boxes, BoxTrackerOptions(max_missed=2))
    assert [box is not None for box in found] == [False, True, True, True, True, True, True, *[False] * 4]
    assert smooth_boxes([None, None]) == [None, None]
