from __future__ import annotations

import numpy as np
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.perception.box_tracker import BoxTracker, BoxTrackerOptions


def moving_box(t, start=(50.0, 60.0), velocity=(4.0, -1.5), size=(40.0, 30.0)):
    center = np.array(start) + t * np.array(velocity)
    return np.concatenate([center - np.array(size) / 2, center + np.array(size) / 2])


def test_a_missed_box_is_predicted_along_its_motion():
    tracker = BoxTracker()
    rng = np.random.default_rng(0)
    for t in range(20):
        (seen,) = tracker.update([moving_box(t) + rng.normal(0, 0.5, 4)], [0.9])
    identity = seen.track_id
    for t in range(20, 26):
        (predicted,) = tracker.update([], [])
        assert predicted.track_id == identity
        assert predicted.index is None
        assert predicted.missed == t - 19
        assert predicted.score == pytest.approx(0.9 * 0.85 ** (t - 19))
    assert np.abs(predicted.box - moving_box(25)).max() < 0.35 * np.abs(moving_box(19) - moving_box(25)).max()
    (again,) = tracker.update([moving_box(26)], [0.8])
    assert again.track_id == identity
    assert again.missed == 0
    assert again.score == pytest.approx(0.8)


def test_filtering_reduces_noise():
    rng = np.random.default_rng(1)
    tracker = BoxTracker(BoxTrackerOptions(measurement_noise=0.1, process_noise=0.005))
    raw, filtered = [], []
    for t in range(80):
        noisy = moving_box(t) + rng.normal(0, 3.0, 4)
        (seen,) = tracker.update([noisy], [1.0])
        if t > 20:
            raw.append(noisy - moving_box(t))
            filtered.append(seen.box - moving_box(t))
    assert np.std(filtered) < 0.6 * np.std(raw)


def test_a_box_is_dropped_after_the_limit_and_its_id_is_not_used_again():
    tracker = BoxTracker(BoxTrackerOptions(max_missed=3))
    (first,) = tracker.update([moving_box(0)], [0.9])
    for _ in range(3):
        assert len(tracker.update([], [])) == 1
    assert tracker.update([], []) == []
    (second,) = tracker.update([moving_box(0)], [0.9])
    assert second.track_id != first.track_id


def test_two_boxes_that_pass_keep_their_ids():
    tracker = BoxTracker()
    for t in range(30):
        left = moving_box(t, (20.0, 40.0), (5.0, 0.0))
        right = moving_box(t, (180.0, 75.0), (-5.0, 0.0))
        boxes = [left, right] if t % 2 else [right, left]
        tracked = {seen.index: seen.track_id for seen in tracker.update(boxes, [0.9, 0.9])}
        order = (0, 1) if t % 2 else (1, 0)
        ids = [tracked[order[0]], tracked[order[1]]]
        if t == 0:
            expected = ids
    assert ids == expected


@pytest.mark.parametrize("box", [[0, 0, 0, 10], [5, 5, 1, 10], [np.nan, 0, 1, 1], [0, 0, 1]])
def test_boxes_without_area_are_refused(box):
    with pytest.raises(InputError, match="box"):
        BoxTracker().update([np.array(box, float)], [0.5])
    with pytest.raises(InputError, match="scores"):
        BoxTracker().update([moving_box(0)], [])


def test_options_are_checked():
    with pytest.raises(InputError, match="confidence_decay"):
        BoxTrackerOptions(confidence_decay=1.5)
