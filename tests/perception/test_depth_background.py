from __future__ import annotations

import numpy as np
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.perception.depth_background import DepthBackground, continued, free_parts


def table_with(box, near, size=(40, 60)):
    depth = np.full(size, 0.8, np.float32)
    rows, columns = box
    depth[rows, columns] = near
    return depth


def test_what_leaves_its_place_stands_before_the_background():
    first, second = (slice(5, 15), slice(5, 15)), (slice(25, 35), slice(40, 50))
    background = DepthBackground()
    depths = [table_with(first, 0.7)] * 4 + [table_with(second, 0.6)] * 4
    background.learn(depths)
    for depth, box in ((depths[0], first), (depths[-1], second)):
        expected = np.zeros(depth.shape, bool)
        expected[box] = True
        np.testing.assert_array_equal(background.before(depth), expected)


def test_what_always_stays_belongs_to_the_background_until_it_is_forgotten():
    box = (slice(5, 15), slice(5, 15))
    depth = table_with(box, 0.7)
    background = DepthBackground()
    background.learn([depth] * 5)
    assert not background.before(depth).any()
    pixels = depth < 0.75
    background.forget(pixels)
    np.testing.assert_array_equal(background.before(depth), pixels)


def test_one_image_with_a_flying_pixel_does_not_move_the_background():
    depth = np.full((20, 20), 0.8, np.float32)
    wrong = depth.copy()
    wrong[3, 4] = 2.5
    background = DepthBackground()
    background.learn([depth, depth, wrong, depth])
    assert not background.before(depth).any()


def test_a_later_window_remembers_the_earlier_one():
    box = (slice(5, 15), slice(5, 15))
    background = DepthBackground()
    background.learn([np.full((40, 60), 0.8, np.float32)] * 3)
    background.learn([table_with(box, 0.7)] * 3)
    assert background.before(table_with(box, 0.7)).sum() == 100


def test_sizes_must_agree():
    background = DepthBackground()
    background.learn([np.ones((4, 5), np.float32)] * 2)
    with pytest.raises(InputError, match="one size"):
        background.learn([np.ones((5, 4), np.float32)] * 2)


def test_hands_and_what_the_border_cuts_are_not_free():
    depth = np.full((60, 80), 0.8, np.float32)
    drawing = np.zeros(depth.shape, bool)
    parts = {
        "alone": (slice(10, 20), slice(10, 20)),
        "arm": (slice(30, 40), slice(60, 80)),
        "hand": (slice(30, 40), slice(30, 40)),
    }
    for rows, columns in parts.values():
        depth[rows, columns] = 0.7
    drawing[parts["hand"]] = True
    free = free_parts(depth < 0.75, depth, drawing)
    expected = np.zeros(depth.shape, bool)
    expected[parts["alone"]] = True
    np.testing.assert_array_equal(free, expected)


def test_a_jump_of_depth_separates_a_thing_from_the_hand_before_it():
    depth = np.full((60, 80), 0.8, np.float32)
    depth[20:40, 20:60] = 0.7
    depth[20:40, 40:60] = 0.5
    drawing = np.zeros(depth.shape, bool)
    drawing[20:40, 42:60] = True
    free = free_parts(depth < 0.75, depth, drawing)
    assert free[25:35, 25:35].all()
    assert not free[:, 42:].any()


def test_a_surface_goes_on_where_it_was_never_seen_to_move():
    depth = np.full((60, 80), 0.8, np.float32)
    depth[20:40, 20:40] = 0.7
    depth[45:55, 60:75] = 0.7
    raised = depth < 0.75
    free = np.zeros(depth.shape, bool)
    free[20:40, 26:40] = True
    more = continued(free, raised, depth)
    # The rim of the thing, where depth jumps to the table, is left out.
    assert more[22:38, 22:26].all()
    assert not more[45:55, 60:75].any()
    assert not (more & free).any()
