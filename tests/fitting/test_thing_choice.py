"""Which of several things is the object."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grasp_nodes.fitting.thing_choice import choose_thing
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.objects.loading import load_object
from grasp_nodes.perception.evidence import Evidence, ObjectEvidence, ObservedFrame

CAMERA = CameraModel(np.array([[60.0, 0, 40], [0, 60.0, 20], [0, 0, 1]]), 80, 40)
SHAPE = (40, 80)


def rectangle(left: int, right: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[10:20, left:right] = True
    return mask


@pytest.mark.usefixtures("cache")
def test_a_thing_whose_mask_is_empty_in_some_frames_is_rated_and_one_that_is_always_empty_is_none() -> None:
    nothing = np.zeros(SHAPE, bool)
    frames = []
    for t in range(4):
        masks = [nothing, nothing if t == 2 else rectangle(10 + 5 * t, 20 + 5 * t), rectangle(60, 75)]
        objects = tuple(
            ObjectEvidence("", 0.9, np.array([10, 10, 20, 20], np.float32), mask, track_id)
            for track_id, mask in enumerate(masks)
        )
        frames.append(ObservedFrame(Evidence(t * 33_000_000, CAMERA, (), objects)))
    chosen, rated = choose_thing(load_object("box:0.05,0.05,0.05"), frames)
    assert sorted(one.track_id for one in rated) == [1, 2]
    assert all(np.isfinite(one.score) for one in rated)
    assert rated[0].track_id == 1
    assert [len(frame.evidence.objects) for frame in chosen] == [1] * 4


@pytest.mark.usefixtures("cache")
def test_what_leaves_its_place_is_the_object_unless_the_camera_moves() -> None:
    """Two rectangles alike of which only one moves."""
    frames = []
    for t in range(5):
        masks = [rectangle(60, 70), rectangle(10 + 5 * t, 20 + 5 * t)]
        objects = tuple(
            ObjectEvidence("", 0.9, np.array([10, 10, 20, 20], np.float32), mask, track_id)
            for track_id, mask in enumerate(masks)
        )
        frames.append(ObservedFrame(Evidence(t * 33_000_000, CAMERA, (), objects)))
    box = load_object("box:0.05,0.05,0.05")
    _, rated = choose_thing(box, frames)
    assert rated[0].track_id == 1
    assert rated[0].moves > 0
    _, rated = choose_thing(box, [replace(frame, camera_moves=True) for frame in frames])
    assert [one.moves for one in rated] == [0.0, 0.0]
    _, rated = choose_thing(box, [replace(frame, camera_moves=t == 4) for t, frame in enumerate(frames)])
    assert [one.moves > 0 for one in rated] == [True, False]
