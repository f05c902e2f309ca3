"""Whether a thing moves: rectangles that rest, are hidden in part, or move by known shares of themselves."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from grasp_nodes.fitting.mask_motion import left_place, longest_rest, moving_frames

SHAPE = (40, 80)


def rectangle(left: int, right: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[10:20, left:right] = True
    return mask


@pytest.mark.parametrize(
    ("moves", "rests"),
    [("", ""), ("0000", "1111"), ("1111", "0000"), ("0001", "1110"), ("10001", "01110"), ("0011", "0000")],
)
def test_what_moves_is_told_from_the_longest_rest_of_the_camera(moves: str, rests: str) -> None:
    found = longest_rest([one == "1" for one in moves])
    assert found.tolist() == [one == "1" for one in rests]


def test_a_resting_thing_stays_whatever_hides_it() -> None:
    hidden = [rectangle(10, right) for right in (30, 25, 18, 12, 30)]
    assert left_place(hidden) == 0


@pytest.mark.parametrize(("shift", "share"), [(0, 0.0), (5, 0.25), (10, 0.5), (20, 1.0), (40, 1.0)])
def test_a_thing_that_moved_is_outside_by_the_share_that_it_moved(shift: int, share: float) -> None:
    masks = [rectangle(10, 30)] * 3 + [rectangle(10 + shift, 30 + shift)] * 2
    assert left_place(masks) == pytest.approx(share)


def test_one_wrong_mask_of_many_is_no_motion() -> None:
    assert left_place([rectangle(10, 30)] * 9 + [rectangle(50, 69)]) == 0


def times(count: int, rate: float = 30.0) -> np.ndarray:
    return np.arange(count) / rate


@pytest.mark.parametrize("pixels", [1, 2, 3])
def test_cover_is_no_motion(pixels: int) -> None:
    """A hand goes over a thing at rest from one side to the other, so that it is covered and comes out again."""
    masks: list[np.ndarray | None] = [rectangle(10, 40)]
    for t in range(29):
        seen = rectangle(10, 40)
        seen[:, pixels * t : pixels * t + 20] = False
        masks.append(seen if seen.any() else None)
    assert not moving_frames(masks, times(30)).any()


@pytest.mark.parametrize("rate", [5.0, 15.0, 30.0, 60.0, 120.0])
@pytest.mark.parametrize("zoom", [1, 4])
@pytest.mark.parametrize(("speed", "expected"), [(0.25, False), (1.5, True)])
def test_motion_is_by_the_things_own_size_per_second(rate: float, zoom: int, speed: float, expected: bool) -> None:
    """Whatever the camera's rate and resolution."""
    masks: list[np.ndarray | None] = []
    for time in times(round(0.8 * rate), rate):
        # 160 px of a large image, reduced: the share of a pixel that is covered decides.
        large = np.zeros((640, 1280), np.float32)
        left = 100 + round(160 * speed * time)
        large[200:360, left : left + 160] = 1
        masks.append(cv2.resize(large, (320 * zoom, 160 * zoom), interpolation=cv2.INTER_AREA) > 0.5)
    moving = moving_frames(masks, times(len(masks), rate))
    assert moving[1:-1].all() if expected else not moving.any()


def test_a_moving_thing_that_is_being_covered_moves() -> None:
    masks: list[np.ndarray | None] = [rectangle(10 + 2 * t, 30 + 2 * t) for t in range(12)]
    for t, mask in enumerate(masks):
        assert mask is not None
        mask[10 : 10 + t // 2] = False
    assert moving_frames(masks, times(12)).all()


def test_without_masks_nothing_moves() -> None:
    assert not moving_frames([None, np.zeros(SHAPE, bool), rectangle(10, 20)], times(3)).any()
