"""Whether a thing left its place: rectangles that rest, are hidden in part, or move by known shares of themselves."""

from __future__ import annotations

import numpy as np
import pytest

from grasp_nodes.fitting.thing_choice import left_place

SHAPE = (40, 80)


def rectangle(left: int, right: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[10:20, left:right] = True
    return mask


def test_a_resting_thing_stays_whatever_hides_it() -> None:
    hidden = [rectangle(10, right) for right in (30, 25, 18, 12, 30)]
    assert left_place(hidden) == 0


@pytest.mark.parametrize(("shift", "share"), [(0, 0.0), (5, 0.25), (10, 0.5), (20, 1.0), (40, 1.0)])
def test_a_thing_that_moved_is_outside_by_the_share_that_it_moved(shift: int, share: float) -> None:
    masks = [rectangle(10, 30)] * 3 + [rectangle(10 + shift, 30 + shift)] * 2
    assert left_place(masks) == pytest.approx(share)


def test_one_wrong_mask_of_many_is_no_motion() -> None:
    assert left_place([rectangle(10, 30)] * 9 + [rectangle(50, 69)]) == 0
