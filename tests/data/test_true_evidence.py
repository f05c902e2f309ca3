"""The truth's boxes and masks beside the labels of the rendered clip, which were made from pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grasp_nodes.data.clip_readers import open_clip
from grasp_nodes.data.rendered_clips import default_clip
from grasp_nodes.data.true_evidence import BACKGROUND_LABEL, FOREARM_LABEL, TrueEvidence
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.objects.loading import load_object
from grasp_nodes.perception.boxes import box_of_mask
from grasp_nodes.perception.evidence import HIDING


@pytest.fixture(scope="module")
def truth():
    clip = open_clip(default_clip(frames=4))
    models = {"right": load_hand_model("right")}
    return clip, TrueEvidence(clip, models, load_object(clip.object_spec, clip.object_id))


def test_boxes_of_what_nothing_hides_are_those_of_the_pixels(truth) -> None:
    clip, evidence = truth
    for frame in clip:
        hand, item = evidence.hand_box(frame), evidence.object_box(frame)
        # The hand's label begins at the wrist, where skin and forearm meet; the skin is a subdivided mesh.
        np.testing.assert_allclose(hand, box_of_mask(evidence.hand_mask(frame.stamp)), atol=12)
        np.testing.assert_allclose(item, box_of_mask(evidence.object_mask(frame.stamp)), atol=2)
        (given,) = evidence.boxes(frame, ())
        np.testing.assert_allclose(given.box, item, atol=1e-3)
        (seen,) = evidence.object_evidence(frame.stamp)
        assert seen.object_id == clip.object_id
        assert seen.mask.sum() == evidence.object_mask(frame.stamp).sum()


def test_masks_are_apart_and_the_arm_holds_the_hand(truth) -> None:
    clip, evidence = truth
    stamp = clip.first_stamp
    hand, item, arm = evidence.hand_mask(stamp), evidence.object_mask(stamp), evidence.arm_mask(stamp)
    assert hand.any()
    assert not (hand & item).any()
    assert not (arm & item).any()
    assert (arm & hand).sum() == hand.sum() < arm.sum()


def test_forearm_and_nearer_things_may_hide_the_object(truth, monkeypatch) -> None:
    clip, evidence = truth
    stamp = clip.first_stamp
    frame, labels = clip.frame(0), clip.labels(0)
    pose = clip.trajectory.states[0].objects[0].T_camera_object
    background = labels == BACKGROUND_LABEL
    rows, columns = (part[: background.sum() // 2] for part in np.nonzero(background))
    things = np.zeros_like(background)
    things[rows, columns] = True
    for distance, hides in ((pose[2, 3] - 0.2, True), (pose[2, 3] + 0.2, False)):
        depth = np.where(things, np.float32(distance), frame.depth)
        monkeypatch.setattr(clip, "frame", lambda _, depth=depth: replace(frame, depth=depth))
        (hiding,) = evidence.hiding_evidence(stamp)
        assert hiding.object_id == HIDING
        assert hiding.mask[things].all() == hides
        assert hiding.mask[things].any() == hides
        assert hiding.mask[labels == FOREARM_LABEL].all()
        assert not (hiding.mask & (evidence.object_mask(stamp) | evidence.hand_mask(stamp))).any()
