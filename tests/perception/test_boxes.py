from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grasp_nodes.perception.boxes import box_iou, box_of_mask, box_of_points, clip_box

edges = st.integers(0, 30)


@given(edges, edges, edges, edges, edges, edges, edges, edges)
def test_iou_is_the_share_of_counted_cells(x0, y0, w0, h0, x1, y1, w1, h1):
    cells = np.zeros((2, 70, 70), bool)
    cells[0, y0 : y0 + h0, x0 : x0 + w0] = True
    cells[1, y1 : y1 + h1, x1 : x1 + w1] = True
    union = (cells[0] | cells[1]).sum()
    expected = (cells[0] & cells[1]).sum() / union if union else 0.0
    found = box_iou(np.array([x0, y0, x0 + w0, y0 + h0]), np.array([[x1, y1, x1 + w1, y1 + h1]]))
    assert found[0] == pytest.approx(expected)


def test_box_of_mask_includes_the_borders_of_its_pixels():
    mask = np.zeros((20, 30), bool)
    mask[4:8, 10:15] = True
    np.testing.assert_allclose(box_of_mask(mask), [9.5, 3.5, 14.5, 7.5])
    assert clip_box(box_of_mask(mask), 30, 20) == (10, 4, 15, 8)
    assert box_of_mask(np.zeros((5, 5), bool)) is None


def test_box_of_points_has_its_margin():
    np.testing.assert_allclose(box_of_points(np.array([[0.0, 0], [10, 4]]), 0.1), [-1, -1, 11, 5])


def test_clip_box_stays_inside_the_image():
    assert clip_box(np.array([-10.0, -10, 1000, 1000]), 30, 20) == (0, 0, 30, 20)
    x_start, _, x_stop, _ = clip_box(np.array([40.0, 0, 50, 10]), 30, 20)
    assert x_stop - x_start == 0
