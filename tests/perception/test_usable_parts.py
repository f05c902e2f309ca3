from __future__ import annotations

import numpy as np
import pytest

from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObjectEvidence
from grasp_nodes.perception.usable_parts import UsablePart, usable_parts

CAMERA = CameraModel(np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]]), 320, 240)
BOX = np.array([10.0, 10.0, 60.0, 60.0], np.float32)
POINTS = np.zeros((21, 2), np.float32)


def recording(count, hands, objects, low=()):
    """hands, objects: track id to the frames in which it was seen; low: frames in which hands are only predicted."""
    return [
        Evidence(
            index,
            CAMERA,
            tuple(
                HandEvidence("right", 0.3 if index in low else 0.9, 0.9, BOX, POINTS, track_id=name)
                for name, rows in hands.items()
                if index in rows
            ),
            tuple(ObjectEvidence(str(name), 0.9, BOX, None, name) for name, rows in objects.items() if index in rows),
        )
        for index in range(count)
    ]


def test_more_than_twenty_frames_of_both_are_needed():
    assert usable_parts(recording(30, {1: range(21)}, {7: range(30)})) == [UsablePart(0, 21, (1,), 7)]
    assert usable_parts(recording(30, {1: range(20)}, {7: range(30)})) == []
    assert usable_parts(recording(60, {1: range(31)}, {7: range(10, 60)})) == [UsablePart(10, 31, (1,), 7)]


def test_the_manipulated_object_is_the_longest_track():
    parts = usable_parts(recording(80, {1: range(80)}, {3: range(30), 4: range(20, 70), 5: range(25)}))
    assert parts == [UsablePart(20, 70, (1,), 4)]


def test_short_gaps_do_not_end_a_track_and_long_ones_do():
    rows = [i for i in range(90) if not 30 <= i < 35 and not 60 <= i < 75]
    parts = usable_parts(recording(90, {1: rows}, {7: range(90)}))
    assert [(part.start, part.stop) for part in parts] == [(0, 60)]
    assert usable_parts(recording(90, {1: rows}, {7: range(90)}), max_missed=2)[0] == UsablePart(0, 30, (1,), 7)


def test_predicted_hands_are_not_seen():
    parts = usable_parts(recording(60, {1: range(60)}, {7: range(60)}, low=range(25, 60)))
    assert [(part.start, part.stop) for part in parts] == [(0, 25)]


def test_two_hands():
    parts = usable_parts(recording(60, {1: range(60), 2: range(5, 15)}, {7: range(60)}))
    assert parts == [UsablePart(0, 60, (1,), 7)]
    both = usable_parts(recording(60, {1: range(60), 2: range(60)}, {7: range(60)}))
    assert both == [UsablePart(0, 60, (1, 2), 7)]


@pytest.mark.parametrize("evidence", [[], recording(40, {1: range(40)}, {}), recording(40, {}, {7: range(40)})])
def test_without_hand_or_object_nothing_is_usable(evidence):
    assert usable_parts(evidence) == []
