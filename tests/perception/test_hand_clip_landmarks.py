"""A landmark network that knows where a made-up hand is, and errs as the real one does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.perception.boxes import box_of_points
from grasp_nodes.perception.clip_perceiver import ClipPerceiver, ClipPerceiverOptions
from grasp_nodes.perception.evidence import HandEvidence, ObjectEvidence
from grasp_nodes.perception.hand_clip_landmarks import SEEN_SCORE, ClipHandOptions, ClipHands, consistent_hands
from grasp_nodes.perception.hand_landmarks import PIXEL_CENTER, Landmarks
from grasp_nodes.perception.landmark_search import merged, read_crops
from grasp_nodes.perception.region import Region, region_of_landmarks

CAMERA = CameraModel(np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]]), 320, 240)
COUNT = 20


def shape():
    """(21, 2) px: an upright hand about the origin."""
    points = [np.array([0.0, 40.0])]
    for x, y, dx in ((-30, 20, -8.0), (-16, -5, -3.0), (-4, -8, 0.0), (8, -5, 2.0), (18, 0, 4.0)):
        points += [np.array([x + dx * k, y - 11.0 * k]) for k in range(4)]
    return np.array(points)


def place(index, second=False):
    offset = np.array([230.0 - 2 * index, 120.0]) if second else np.array([80.0 + 4 * index, 110.0 + index])
    return (shape() + offset).astype(np.float32)


def hand(index, track_id=1, score=0.95, side="right", side_score=0.95, second=False):
    points = place(index, second)
    return HandEvidence(side, score, side_score, box_of_points(points, 0.1), points, None, None, track_id)


def frames(count=COUNT, start=0):
    """The stamp is the frame's number; the image carries it too, for the network below."""
    made = []
    for index in range(start, start + count):
        color = np.zeros((240, 320, 3), np.uint8)
        color[0, 0, 0] = index
        made.append(Frame(index, color, CAMERA))
    return made


class Scripted:
    """`HandLandmarker` that says what it was told for each frame."""

    def __init__(self, script):
        self.script = script

    def detect(self, frame):
        return self.script.get(frame.stamp, ())

    def reset(self):
        pass


class Pointed(Scripted):
    """A `RegionLandmarker` as well: it reads the hand rightly from crops that are turned by at least 25 degrees."""

    def __init__(self, script, hidden=(), presence=0.9):
        super().__init__(script)
        self.hidden, self.presence, self.looks = hidden, presence, 0

    def palms(self, image, threshold=None):
        return []

    def landmarks(self, image, region):
        self.looks += 1
        index = max(int(image[0, 0, 0]), int(image[0, -1, 0]))
        mirrored = image[0, -1, 0] > 0 and image[0, 0, 0] == 0
        truth = place(index).astype(np.float64) + PIXEL_CENTER
        here = region_of_landmarks(truth)
        points_3d = np.concatenate([shape() / 600, np.zeros((21, 1))], axis=1)
        near = np.hypot(*np.subtract(region.center, here.center)) < 0.6 * here.size
        turned = abs(np.rad2deg(region.angle - here.angle)) > 25
        if mirrored or index in self.hidden or not near:
            return Landmarks(truth, points_3d, 0.01, 0.5)
        return Landmarks(truth, points_3d, self.presence if turned or index % 2 == 0 else 0.3, 0.95)


def test_a_missed_hand_is_found_by_a_closer_look():
    script = {i: [hand(i)] for i in range(COUNT) if not 5 <= i < 12}
    found = ClipHands(Pointed(script)).follow(frames())
    for index, hands in enumerate(found):
        assert len(hands) == 1
        assert hands[0].score >= SEEN_SCORE
        assert hands[0].track_id == 1
        np.testing.assert_allclose(hands[0].keypoints, place(index), atol=1e-3)


def test_frames_before_the_first_detection_are_looked_at_from_behind():
    found = ClipHands(Pointed({i: [hand(i)] for i in range(4, COUNT)})).follow(frames())
    assert all(hands and hands[0].score >= SEEN_SCORE for hands in found[1:])


def test_what_stays_hidden_is_predicted_with_a_low_score():
    hidden = range(8, 12)
    script = {i: [hand(i)] for i in range(COUNT) if i not in hidden}
    found = ClipHands(Pointed(script, hidden)).follow(frames())
    for index in hidden:
        assert found[index][0].score < SEEN_SCORE
        assert np.isfinite(found[index][0].keypoints).all()
        assert np.abs(found[index][0].keypoints - place(index)).mean() < 8.0


def test_a_landmarker_that_cannot_be_pointed_is_completed_by_prediction():
    script = {i: [hand(i)] for i in range(COUNT) if i not in (6, 7)}
    found = ClipHands(Scripted(script)).follow(frames())
    assert [hands[0].score >= SEEN_SCORE for hands in found] == [i not in (6, 7) for i in range(COUNT)]


def test_detections_that_contradict_what_is_known_are_dropped():
    right, left = hand(0), hand(0, 2, 0.99, "left", second=True)
    spare = hand(3, 3, 0.6)
    assert consistent_hands([right, left], ClipHandOptions(sides=("right",))) == [right]
    assert consistent_hands([right, left, spare], ClipHandOptions(max_hands=1)) == [left]
    assert consistent_hands([right, left, spare], ClipHandOptions(sides=("right", "left"))) == [left, right]


def test_the_side_is_that_of_the_track():
    script = {i: [hand(i, side="left" if i == 7 else "right", side_score=0.9)] for i in range(COUNT)}
    assert all(hands[0].side == "right" for hands in ClipHands(Scripted(script)).follow(frames()))


def test_a_hand_that_is_found_again_keeps_its_track():
    script = {i: [hand(i, track_id=1 if i < 8 else 5)] for i in range(COUNT)}
    found = ClipHands(Scripted(script)).follow(frames())
    assert {hands[0].track_id for hands in found} == {1}


def test_two_hands_stay_two():
    script = {i: [hand(i), hand(i, 2, 0.9, "left", second=True)] for i in range(10)}
    found = ClipHands(Scripted(script)).follow(frames(10))
    assert all({seen.track_id for seen in hands} == {1, 2} for hands in found)
    assert all({seen.side for seen in hands} == {"right", "left"} for hands in found)


def test_windows_of_a_clip_go_on_from_each_other():
    script = {i: [hand(i)] for i in range(10)} | {i: [hand(i, track_id=9)] for i in range(13, COUNT)}
    hands = ClipHands(Scripted(script))
    hands.follow(frames(10))
    second = hands.follow(frames(10, 10))
    assert {seen.track_id for found in second for seen in found} == {1}
    assert second[0]
    assert second[0][0].score < SEEN_SCORE
    hands.reset()
    assert {seen.track_id for found in hands.follow(frames(7, 13)) for seen in found} == {9}


def test_a_jump_to_another_place_is_not_believed():
    script = {i: [hand(i)] for i in range(COUNT)}
    astray = replace(hand(9), keypoints=place(9) + np.float32(150), box=hand(9).box + np.float32(150))
    script[9] = [astray]
    found = ClipHands(Pointed(script)).follow(frames())
    assert np.abs(found[9][0].keypoints - place(9)).mean() < 10.0


def test_options_are_checked():
    with pytest.raises(InputError, match="max_hands"):
        ClipPerceiverOptions(max_hands=0)
    with pytest.raises(InputError, match="min_presence"):
        ClipPerceiverOptions(min_presence=1.0)


def test_looks_that_agree_are_merged_and_others_kept_apart():
    rng = np.random.default_rng(0)
    looks = [Landmarks(shape() + 100 + rng.normal(0, 1, (21, 2)), np.zeros((21, 3)), 0.8, 0.9) for _ in range(9)]
    other = Landmarks(shape()[:, ::-1] + 100, np.zeros((21, 3)), 0.85, 0.1)
    readings = merged([*looks, other])
    assert [reading.support for reading in readings] == [9, 1]
    assert np.abs(readings[0].landmarks.points - shape() - 100).mean() < 0.6


def test_a_mirrored_look_is_told_as_if_it_were_none():
    """A network that marks the same place of every crop: a crop and its mirror image must give mirrored answers."""

    class Fixed:
        def palms(self, image, threshold=None):
            return []

        def landmarks(self, image, region):
            affine = region.crop_to_image(224)
            points = (shape() + 112) @ affine[:, :2].T + affine[:, 2]
            return Landmarks(points, np.ones((21, 3)), 0.9, 0.8)

    region = Region((100.0, 120.0), 150.0, 0.4)
    (plain,) = read_crops(Fixed(), np.zeros((240, 320, 3), np.uint8), [region], [(0.0, 1.0, False)], 0.1)
    (mirrored,) = read_crops(Fixed(), np.zeros((240, 320, 3), np.uint8), [region], [(0.0, 1.0, True)], 0.1)
    assert plain.landmarks.right == pytest.approx(0.8)
    assert mirrored.landmarks.right == pytest.approx(0.2)
    local = (plain.landmarks.points - region.center) @ region.rotation
    other = (mirrored.landmarks.points - region.center) @ region.rotation
    np.testing.assert_allclose(other, local * [-1, 1], atol=1e-6)


class MaskOfEveryFrame:
    """`ClipSegmenter` that always sees the same pixels."""

    def __init__(self):
        self.mask = np.zeros((240, 320), bool)
        self.mask[100:140, 60:120] = True
        self.hands = []

    def segment_clip(self, frames, hands):
        self.hands = [list(found) for found in hands]
        box = np.array([59.5, 99.5, 119.5, 139.5], np.float32)
        return [(ObjectEvidence("object", 1.0, box, self.mask),) for _ in frames]

    def reset(self):
        self.hands = []


def test_a_pixel_shows_hand_or_object_but_not_both():
    segmenter = MaskOfEveryFrame()
    perceiver = ClipPerceiver(Scripted({i: [hand(i)] for i in range(6)}), segmenter)
    observed = perceiver.perceive(frames(6))
    assert [frame.evidence.stamp for frame in observed] == list(range(6))
    for frame, given in zip(observed, segmenter.hands, strict=True):
        assert given[0].mask is not None
        assert not (frame.evidence.hands[0].mask & segmenter.mask).any()
    perceiver.reset()
    assert segmenter.hands == []


def test_a_clip_without_hands_or_object_gives_empty_evidence():
    observed = ClipPerceiver(Scripted({})).perceive(frames(3))
    assert all(not frame.evidence.hands and not frame.evidence.objects for frame in observed)
