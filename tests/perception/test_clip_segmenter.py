from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grasp_nodes.data.clip_readers import open_clip
from grasp_nodes.data.rendered_clips import default_clip
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception import clip_segmenter
from grasp_nodes.perception.boxes import box_of_points
from grasp_nodes.perception.clip_segmenter import ClipObjectSegmenter, StreamedClipSegmenter
from grasp_nodes.perception.evidence import HandEvidence
from grasp_nodes.perception.object_boxes import FirstFrameBox
from grasp_nodes.perception.object_mask import MaskObjectSegmenter
from grasp_nodes.perception.thing_tracker import ThingTracker

OBJECT, HAND = 2, 3


def iou(mask, truth):
    return (mask & truth).sum() / (mask | truth).sum()


def pick_up(scene, frames=20):
    """The hand comes from the right, covers the ball in part, and lifts it."""
    scenes = []
    for t in range(frames):
        near = min(t / 6, 1.0)
        lift = 0.1 * max(t - 8, 0) / 12
        hand = (0.05 + 0.12 * (1 - near), 0.09 - lift, 0.55)
        scenes.append(scene((0.0, 0.02 - lift, 0.6), hand_origin=hand, stamp=t, seed=t))
    return scenes


def inputs(scenes, depth):
    frames = [each.frame if depth else replace(each.frame, depth=None) for each in scenes]
    hands = [[] if each.hand is None else [replace(each.hand, mask=each.labels == HAND)] for each in scenes]
    return frames, hands


def scores(found, scenes):
    return [
        iou(objects[0].mask, each.labels == OBJECT) if objects else 0.0
        for objects, each in zip(found, scenes, strict=True)
    ]


@pytest.mark.parametrize(("depth", "mean", "least"), [(False, 0.85, 0.7), (True, 0.85, 0.7)])
def test_a_ball_that_a_hand_lifts_is_found_in_all_frames_without_a_prompt(scene, depth, mean, least):
    scenes = pick_up(scene)
    found = ClipObjectSegmenter("ball").segment_clip(*inputs(scenes, depth))
    values = scores(found, scenes)
    assert np.mean(values) > mean
    assert min(values) > least
    assert {each[0].object_id for each in found} == {"ball"}
    assert len({each[0].track_id for each in found}) == 1
    for each in found:
        rows, columns = np.nonzero(each[0].mask)
        np.testing.assert_allclose(
            each[0].box, [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]
        )


def test_depth_is_left_alone_when_told_so(scene):
    scenes = pick_up(scene, 8)
    frames, hands = inputs(scenes, True)
    ignored = ClipObjectSegmenter(use_depth=False).segment_clip(frames, hands)
    absent = ClipObjectSegmenter().segment_clip(*inputs(scenes, False))
    for one, other in zip(ignored, absent, strict=True):
        np.testing.assert_array_equal(one[0].mask, other[0].mask)


@pytest.mark.parametrize(("moving", "told"), [(0, False), (3, False), (7, True)])
def test_a_window_is_one_of_a_moving_camera_where_it_mostly_moves(scene, monkeypatch, moving, told):
    class Watch:
        def moves(self, images):
            return np.arange(len(images)) < moving

    asked = []
    follow = ThingTracker.follow

    def noted(self, sights, still, start=None, camera_moves=False):
        asked.append(camera_moves)
        follow(self, sights, still, start, camera_moves)

    monkeypatch.setattr(clip_segmenter, "CameraWatch", Watch)
    monkeypatch.setattr(ThingTracker, "follow", noted)
    ClipObjectSegmenter().segment_clip(*inputs(pick_up(scene, 8), False))
    assert set(asked) == {told}


def test_the_object_is_the_same_in_the_next_window(scene):
    scenes = pick_up(scene)
    frames, hands = inputs(scenes, False)
    segmenter = ClipObjectSegmenter()
    found = segmenter.segment_clip(frames[:10], hands[:10]) + segmenter.segment_clip(frames[10:], hands[10:])
    assert min(scores(found, scenes)) > 0.6
    assert len({each[0].track_id for each in found}) == 1
    segmenter.reset()
    again = segmenter.segment_clip(frames[:10], hands[:10])
    for one, other in zip(again, found[:10], strict=True):
        np.testing.assert_array_equal(one[0].mask, other[0].mask)


@pytest.mark.parametrize("depth", [False, True])
def test_a_window_of_one_frame_and_one_without_hands(scene, depth):
    still = scene()
    frames, hands = inputs([still], depth)
    (alone,) = ClipObjectSegmenter().segment_clip(frames, hands)
    assert iou(alone[0].mask, still.labels == OBJECT) > 0.8
    assert ClipObjectSegmenter().segment_clip([], []) == []


@pytest.mark.parametrize("depth", [False, True])
def test_no_object_no_answer(scene, depth):
    scenes = [scene((0.0, 5.0, 0.6), stamp=t, seed=t) for t in range(3)]
    assert ClipObjectSegmenter().segment_clip(*inputs(scenes, depth)) == [(), (), ()]


def test_the_users_box_decides_between_two_things(scene):
    """Two balls: without a box the one at the hand, with a box the other."""
    scenes = []
    for t in range(6):
        first = scene((0.0, 0.02, 0.6), hand_origin=(0.1, 0.09, 0.55), stamp=t, seed=t)
        second = scene((-0.14, 0.03, 0.6), radius=0.03, seed=t)
        color = np.where((second.labels == OBJECT)[..., None], second.frame.color, first.frame.color)
        scenes.append((replace(first, frame=replace(first.frame, color=color)), second.labels == OBJECT))
    frames, hands = inputs([each for each, _ in scenes], False)
    free = ClipObjectSegmenter().segment_clip(frames, hands)
    rows, columns = np.nonzero(scenes[0][1])
    box = FirstFrameBox([columns.min() - 3, rows.min() - 3, columns.max() + 3, rows.max() + 3])
    prompted = ClipObjectSegmenter(source=box).segment_clip(frames, hands)
    for (each, other), one, two in zip(scenes, free, prompted, strict=True):
        assert iou(one[0].mask, each.labels == OBJECT) > 0.8
        assert iou(two[0].mask, other) > 0.8


def test_of_two_things_the_one_that_is_lifted_bears_the_name(scene):
    """A larger ball lies beside the hand all the time."""
    other = scene((-0.1, 0.01, 0.6), radius=0.035)
    resting = other.labels == OBJECT
    scenes = []
    for each in pick_up(scene, 14):
        visible = resting & (each.labels != HAND) & (each.labels != OBJECT)
        color = np.where(visible[..., None], other.frame.color, each.frame.color)
        scenes.append(replace(each, frame=replace(each.frame, color=color)))
    found = ClipObjectSegmenter("ball").segment_clip(*inputs(scenes, False))
    assert np.mean(scores(found, scenes)) > 0.8
    tracks: dict[str, set[int]] = {}
    for objects in found:
        assert [each.object_id for each in objects].count("ball") == 1
        assert np.sum([each.mask for each in objects], axis=0).max() == 1
        for each in objects:
            tracks.setdefault(each.object_id, set()).add(each.track_id)
    assert all(len(ids) == 1 for ids in tracks.values())
    assert len(set.union(*tracks.values())) == len(tracks)
    others = {each.object_id: each.mask for each in found[0] if each.object_id != "ball"}
    assert max(iou(mask, resting) for mask in others.values()) > 0.7


def test_what_the_hand_takes_later_becomes_the_object(scene):
    """First the hand is beside a ball that nothing moves; in the next window it lifts one of another colour."""
    other = scene((-0.1, 0.01, 0.6), radius=0.035)
    resting = other.labels == OBJECT
    first = [scene((0.0, 5.0, 0.6), hand_origin=(0.06, 0.09, 0.55), stamp=t, seed=t) for t in range(4)]
    second = pick_up(scene, 14)
    scenes = []
    for each in first + second:
        visible = resting & (each.labels != HAND) & (each.labels != OBJECT)
        color = np.where(visible[..., None], other.frame.color[..., ::-1], each.frame.color)
        scenes.append(replace(each, frame=replace(each.frame, color=color)))
    frames, hands = inputs(scenes, False)
    segmenter = ClipObjectSegmenter("ball")
    before = segmenter.segment_clip(frames[:4], hands[:4])
    assert min(iou(each[0].mask, resting) for each in before) > 0.5
    after = segmenter.segment_clip(frames[4:], hands[4:])
    assert np.mean(scores(after, second)) > 0.8
    named = {each.track_id for objects in after for each in objects if each.object_id == "ball"}
    assert named.isdisjoint({each[0].track_id for each in before})


def test_windows_that_do_not_fit_are_refused(scene):
    frames, hands = inputs(pick_up(scene, 3), False)
    segmenter = ClipObjectSegmenter()
    with pytest.raises(InputError, match="3 frames but hands of 2"):
        segmenter.segment_clip(frames, hands[:2])
    camera = replace(frames[0].camera, width=160, height=120)
    small = Frame(9, np.zeros((120, 160, 3), np.uint8), camera)
    with pytest.raises(InputError, match="frame 3"):
        segmenter.segment_clip([*frames, small], [*hands, []])
    with pytest.raises(InputError, match="hand mask of frame 0"):
        segmenter.segment_clip([small], [hands[0]])
    segmenter.segment_clip(frames, hands)
    with pytest.raises(InputError, match="reset"):
        segmenter.segment_clip([small], [[]])
    with pytest.raises(InputError, match="diameter"):
        ClipObjectSegmenter(diameter=-1.0)


def test_any_segmenter_takes_windows(scene):
    frames, hands = inputs(pick_up(scene, 3), False)
    masks = MaskObjectSegmenter("mug", max_age=0)
    mask = np.zeros(frames[0].color.shape[:2], bool)
    mask[10:20, 30:50] = True
    masks.set_mask(mask, frames[1].stamp)
    streamed = StreamedClipSegmenter(masks)
    first, second, third = streamed.segment_clip(frames, hands)
    assert not first
    assert not third
    np.testing.assert_array_equal(second[0].mask, mask)
    streamed.reset()
    assert streamed.segment_clip(frames, hands) == [(), (), ()]


@pytest.mark.parametrize("use_depth", [False, True])
def test_the_mug_of_the_default_clip(use_depth):
    clip = open_clip(default_clip(frames=6))
    frames = [clip.frame(index) for index in range(6)]
    hands = []
    for index, state in enumerate(clip.trajectory.states):
        pixels = clip.camera.project(state.hands[0].keypoints).astype(np.float32)
        arm = np.isin(clip.labels(index), (1, 3))
        hands.append([HandEvidence("right", 1.0, 1.0, box_of_points(pixels), pixels, None, arm, 1)])
    found = ClipObjectSegmenter(use_depth=use_depth).segment_clip(frames, hands)
    values = [iou(each[0].mask, clip.labels(index) == OBJECT) for index, each in enumerate(found)]
    assert min(values) > 0.9
