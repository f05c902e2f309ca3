from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from grasp_nodes.perception.palm_detection import INPUT_SIZE, PalmDetector, palm_anchors, weighted_nms
from grasp_nodes.perception.region import Region, region_of_landmarks, upward_angle


def brute_force_nms(boxes, scores, threshold):
    """The same by plain loops over pixels-free areas."""
    left = sorted(range(len(boxes)), key=lambda i: -scores[i])
    groups = []
    while left:
        first = left[0]
        group = []
        for i in left:
            x = min(boxes[first][2], boxes[i][2]) - max(boxes[first][0], boxes[i][0])
            y = min(boxes[first][3], boxes[i][3]) - max(boxes[first][1], boxes[i][1])
            common = max(x, 0) * max(y, 0)
            areas = [(boxes[k][2] - boxes[k][0]) * (boxes[k][3] - boxes[k][1]) for k in (first, i)]
            if i == first or common / (sum(areas) - common) > threshold:
                group.append(i)
        total = sum(scores[i] for i in group)
        blended = [sum(scores[i] * boxes[i][c] for i in group) / total for c in range(4)]
        groups.append((blended, scores[first]))
        left = [i for i in left if i not in group]
    return groups


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.just(4)), elements=st.floats(1, 20)), st.randoms())
def test_weighted_nms_agrees_with_plain_loops(raw, random):
    boxes = np.concatenate([raw[:, :2], raw[:, :2] + raw[:, 2:]], axis=1)
    scores = np.array([random.uniform(0.5, 1.0) for _ in boxes])
    ours = weighted_nms(boxes, scores, 0.3)
    theirs = brute_force_nms(boxes.tolist(), scores.tolist(), 0.3)
    assert len(ours) == len(theirs)
    for (box, score), (expected_box, expected_score) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(box, expected_box)
        assert score == pytest.approx(expected_score)


def test_anchors_are_cell_centres():
    anchors = palm_anchors()
    assert anchors.shape == (24 * 24 * 2 + 12 * 12 * 6, 2)
    np.testing.assert_allclose(anchors[0], 0.5 / 24)
    np.testing.assert_allclose(anchors[-1], 11.5 / 12)
    assert len(np.unique(anchors, axis=0)) == 24 * 24 + 12 * 12


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
def test_a_palm_is_found_where_the_network_says(angle):
    """One anchor fires; its box and keypoints come back in image coordinates, also of a turned region."""
    anchors = palm_anchors()
    chosen = 777

    def network(image):
        assert image.shape == (1, INPUT_SIZE, INPUT_SIZE, 3)
        raw, logits = np.zeros((len(anchors), 18), np.float32), np.full((len(anchors), 1), -9.0, np.float32)
        raw[chosen, 2:4] = 20.0, 30.0
        raw[chosen, 4:6] = 5.0, -7.0
        logits[chosen] = 3.0
        return [raw, logits]

    region = Region((100.0, 80.0), 96.0, angle)
    (palm,) = PalmDetector(network).detect(np.zeros((160, 200, 3), np.uint8), region)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s], [s, c]])
    expected = np.array([100.0, 80.0]) + turn @ ((anchors[chosen] - 0.5) * 96.0)
    np.testing.assert_allclose((palm.box[:2] + palm.box[2:]) / 2, expected, atol=1e-4)
    np.testing.assert_allclose(palm.box[2:] - palm.box[:2], [10.0, 15.0], atol=1e-4)
    np.testing.assert_allclose(palm.keypoints[0], expected + turn @ np.array([2.5, -3.5]), atol=1e-4)
    assert palm.score == pytest.approx(1 / (1 + np.exp(-3.0)))


@given(st.floats(-3.1, 3.1), st.floats(0.5, 3.0), st.floats(-50, 50))
def test_the_region_of_landmarks_moves_with_the_hand(angle, scale, shift):
    """Turning, scaling and moving the hand turns, scales and moves its region."""
    hand = np.random.default_rng(3).uniform(0, 40, (21, 2))
    first = region_of_landmarks(hand)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s], [s, c]])
    second = region_of_landmarks(scale * hand @ turn.T + shift)
    assert np.isclose(np.cos(second.angle - first.angle - angle), 1.0, atol=1e-9)
    # The rectangle is anchored at the upright box's middle, so that only size and direction are exact under turns.
    assert second.size > 0
    straight = region_of_landmarks(scale * hand + shift)
    assert straight.size == pytest.approx(scale * first.size)
    np.testing.assert_allclose(straight.center, scale * np.array(first.center) + shift, atol=1e-6)


def test_upward_angle():
    wrist = np.zeros(2)
    assert upward_angle(wrist, np.array([0.0, -1.0])) == pytest.approx(0.0)
    assert upward_angle(wrist, np.array([1.0, 0.0])) == pytest.approx(np.pi / 2)
    assert upward_angle(wrist, np.array([-1.0, 0.0])) == pytest.approx(-np.pi / 2)


def test_a_region_shows_what_is_inside():
    """A bright square at the region's place fills the middle of the crop, whatever the turn."""
    image = np.zeros((100, 100, 3), np.uint8)
    image[40:60, 50:70] = 255
    crop = Region((60.0, 50.0), 40.0, np.pi / 2).crop(image, 40)[0, :, :, 0]
    assert crop[13:27, 13:27].min() > 0.95
    assert crop[:8].max() == 0
