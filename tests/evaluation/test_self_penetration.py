"""A hand in itself: fingers that cross, fists that do not, and boxes through each other."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.self_penetration import SelfPenetration, self_intersection_volume


def two_boxes(gap: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The 'middle fingertip' (part 6) and the 'index fingertip' (part 3) as boxes of 2 cm, `gap` apart along x."""
    first = trimesh.creation.box((0.02, 0.02, 0.02)).subdivide().subdivide()
    second = first.copy().apply_translation([0.02 + gap, 0.0031, 0.0017])
    both = trimesh.util.concatenate([first, second])
    weights = np.zeros((len(both.vertices), 16))
    weights[: len(first.vertices), 3] = 1
    weights[len(first.vertices) :, 6] = 1
    return both.vertices, both.faces, weights


@pytest.mark.parametrize(("gap", "depth"), [(0.001, 0.0), (-0.003, 0.003), (-0.0005, 0.0005)])
def test_depth_of_two_boxes(gap, depth):
    vertices, faces, weights = two_boxes(gap)
    assert SelfPenetration(faces, weights)(vertices[None])[0] == pytest.approx(depth, abs=1e-9)


def test_parts_next_to_each_other_in_a_finger_do_not_count():
    vertices, faces, weights = two_boxes(-0.003)
    weights[:, 2], weights[:, 6] = weights[:, 6], 0
    assert SelfPenetration(faces, weights)(vertices[None])[0] == 0


def test_volume_of_two_boxes():
    vertices, faces, _ = two_boxes(-0.003)
    expected = 0.003 * (0.02 - 0.0031) * (0.02 - 0.0017)
    assert self_intersection_volume(vertices[None], faces)[0] == pytest.approx(expected, rel=0.05)


def test_flat_and_bent_hands_are_free_and_crossed_fingers_are_not(hand):
    measure = SelfPenetration(hand.faces, hand.weights)
    bent = np.zeros(45)
    bent[[2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35]] = 0.6  # +z flexes the four fingers
    crossed = np.zeros(45)
    crossed[1], crossed[10] = -0.35, 0.35
    hands = np.stack([hand.posed(pose) for pose in (np.zeros(45), bent, crossed)])
    hands = np.concatenate([hands, np.full((1, 778, 3), np.nan)])
    depth, volume = measure(hands), self_intersection_volume(hands, hand.faces)
    assert depth[:2].max() == 0
    assert volume[:2].max() < 1e-8
    assert depth[2] > 0.003
    assert volume[2] > 1e-6
    assert np.isnan(depth[3])
    assert np.isnan(volume[3])


def test_an_open_hand_is_refused(hand):
    with pytest.raises(InputError, match="closed_faces"):
        self_intersection_volume(hand.posed(np.zeros(45))[None], hand.model.faces.numpy())
