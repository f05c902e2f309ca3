from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.perception.depth_segmenter import DepthObjectSegmenter
from grasp_nodes.perception.foreground import ForegroundFinder
from grasp_nodes.perception.grabcut_segmenter import GrabCutObjectSegmenter
from grasp_nodes.perception.hand_mask import HandMasker
from grasp_nodes.perception.object_mask import MaskObjectSegmenter
from grasp_nodes.perception.perceiver import Perceiver
from grasp_nodes.perception.table_plane import TablePlane, fit_plane

OBJECT, HAND = 2, 3


def iou(mask, truth):
    return (mask & truth).sum() / (mask | truth).sum()


class KnownHands:
    """A landmarker that is told what to see."""

    def __init__(self):
        self.hands = []

    def detect(self, _frame):
        return self.hands

    def reset(self):
        self.hands = []


def run(scenes, segmenter, shared=None):
    landmarker = KnownHands()
    perceiver = Perceiver(landmarker, segmenter, shared)
    evidence = []
    for scene in scenes:
        landmarker.hands = [] if scene.hand is None else [scene.hand]
        evidence.append(perceiver.perceive(scene.frame))
    return evidence


def pick_up(scene, frames=24):
    """The hand comes from the right, covers the ball in part, and lifts it."""
    scenes = []
    for t in range(frames):
        near = min(t / 8, 1.0)
        lift = 0.08 * max(t - 12, 0) / (frames - 12)
        hand = (0.05 + 0.12 * (1 - near), 0.09 - lift, 0.55)
        scenes.append(scene((0.0, 0.02 - lift, 0.6), hand_origin=hand, stamp=t, seed=t))
    return scenes


def test_a_ball_on_a_table_is_found_without_a_prompt(scene):
    still = scene()
    (evidence,) = run([still], DepthObjectSegmenter())
    (found,) = evidence.objects
    assert iou(found.mask, still.labels == OBJECT) > 0.85  # its foot is within the plane's margin
    rows, columns = np.nonzero(found.mask)
    np.testing.assert_allclose(
        found.box, [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]
    )


def test_the_mask_follows_a_ball_that_a_hand_covers_and_lifts(scene):
    scenes = pick_up(scene)
    shared = ForegroundFinder()
    found = run(scenes, DepthObjectSegmenter(foreground=shared), shared)
    scores = [iou(e.objects[0].mask, s.labels == OBJECT) for e, s in zip(found, scenes, strict=True)]
    stolen = [(e.objects[0].mask & (s.labels == HAND)).mean() for e, s in zip(found, scenes, strict=True)]
    assert np.mean(scores) > 0.85
    assert np.min(scores) > 0.7
    assert max(stolen) < 0.005
    assert len({e.objects[0].track_id for e in found}) == 1
    hands = [iou(e.hands[0].mask, s.labels == HAND) for e, s in zip(found, scenes, strict=True)]
    assert np.mean(hands) > 0.7


def test_the_prompt_box_decides(scene):
    """Two balls: the smaller one beside the middle is taken only when the box says so."""
    first, second = scene((0.0, 0.02, 0.6)), scene((0.13, 0.03, 0.6), radius=0.03)
    nearer = second.frame.depth < np.where(first.frame.depth > 0, first.frame.depth, np.inf)
    nearer &= second.labels == OBJECT
    depth = np.where(nearer, second.frame.depth, first.frame.depth)
    color = np.where(nearer[..., None], second.frame.color, first.frame.color)
    frame = replace(first.frame, depth=depth, color=color)
    rows, columns = np.nonzero(nearer)
    box = [columns.min() - 3, rows.min() - 3, columns.max() + 3, rows.max() + 3]
    (chosen,) = DepthObjectSegmenter().segment(frame, [])
    (prompted,) = DepthObjectSegmenter(box=box).segment(frame, [])
    (sized,) = DepthObjectSegmenter(diameter=0.06).segment(frame, [])
    assert iou(chosen.mask, (first.labels == OBJECT) & ~nearer) > 0.8
    assert iou(prompted.mask, nearer) > 0.8
    assert iou(sized.mask, nearer) > 0.8


def test_without_a_table_the_nearest_thing_is_found(scene):
    still = scene()
    depth = np.where(still.labels == OBJECT, still.frame.depth, 0).astype(np.float32)
    (evidence,) = run([replace(still, frame=replace(still.frame, depth=depth))], DepthObjectSegmenter())
    assert iou(evidence.objects[0].mask, still.labels == OBJECT) > 0.95


def test_a_lost_object_is_predicted_with_falling_score_and_then_forgotten(scene):
    segmenter = DepthObjectSegmenter(max_missed=4)
    run([scene(stamp=t, seed=t) for t in range(3)], segmenter)
    empty = scene(object_center=(0.0, 0.02, -1.0))
    answers = [segmenter.segment(empty.frame, []) for _ in range(15)]
    assert all(answer[0].mask is None for answer in answers[:5])
    assert answers[3][0].score < answers[0][0].score
    assert not answers[-1]
    (back,) = segmenter.segment(scene().frame, [])
    assert back.mask is not None


@pytest.mark.parametrize("depth", ["none", "empty", "nan"])
def test_unusable_depth_gives_no_object(scene, depth):
    frame = scene().frame
    values = {"none": None, "empty": np.zeros_like(frame.depth), "nan": np.full_like(frame.depth, np.nan)}
    assert not DepthObjectSegmenter().segment(replace(frame, depth=values[depth]), [])


def test_an_object_whose_depth_is_all_holes_is_predicted_not_a_crash(scene):
    whole = [scene(stamp=k) for k in range(4)]
    segmenter = DepthObjectSegmenter(diameter=0.25)
    for seen in whole[:3]:
        assert segmenter.segment(seen.frame, [])
    depth = whole[3].frame.depth.copy()
    depth[whole[3].labels == OBJECT] = 0
    (predicted,) = segmenter.segment(replace(whole[3].frame, depth=depth), [])
    assert predicted.mask is None
    assert segmenter.segment(whole[0].frame, [])[0].mask is not None


def test_prompts_are_checked():
    for box in ([0, 0, 0, 5], [0, 0, 1]):
        with pytest.raises(InputError, match="object box"):
            DepthObjectSegmenter(box=box)
        with pytest.raises(InputError, match="object box"):
            GrabCutObjectSegmenter(box)
    with pytest.raises(InputError, match="diameter"):
        DepthObjectSegmenter(diameter=0.0)


def test_grabcut_follows_the_ball_in_colour_alone(scene):
    scenes = pick_up(scene)
    colour_only = [replace(s, frame=replace(s.frame, depth=None)) for s in scenes]
    rows, columns = np.nonzero(scenes[0].labels == OBJECT)
    box = [columns.min() - 4, rows.min() - 4, columns.max() + 4, rows.max() + 4]
    found = run(colour_only, GrabCutObjectSegmenter(box))
    scores = [
        0.0 if e.objects[0].mask is None else iou(e.objects[0].mask, s.labels == OBJECT)
        for e, s in zip(found, scenes, strict=True)
    ]
    assert np.mean(scores) > 0.8


def test_grabcut_gives_the_last_box_when_the_object_is_gone(scene):
    still = scene()
    rows, columns = np.nonzero(still.labels == OBJECT)
    segmenter = GrabCutObjectSegmenter([columns.min(), rows.min(), columns.max(), rows.max()])
    segmenter.segment(still.frame, [])
    grey = replace(still.frame, color=np.full_like(still.frame.color, 90))
    (lost,) = segmenter.segment(grey, [])
    assert lost.mask is None
    assert lost.score < 0.7


def test_the_hand_mask_without_depth_keeps_to_the_skin(scene):
    shown = scene(hand_origin=(0.05, 0.09, 0.55))
    frame = replace(shown.frame, depth=None)
    masker = HandMasker()
    for _ in range(3):
        mask = masker.mask(frame, shown.hand)
    assert iou(mask, shown.labels == HAND) > 0.7
    assert (mask & (shown.labels == OBJECT)).sum() < 0.05 * mask.sum()


def test_given_masks_are_passed_on_while_they_are_fresh(scene):
    frame = scene().frame
    segmenter = MaskObjectSegmenter("mug", max_age=10)
    assert not segmenter.segment(frame, [])
    mask = np.zeros(frame.color.shape[:2], np.uint8)
    mask[20:30, 40:60] = 255
    segmenter.set_mask(mask, stamp=5)
    (found,) = segmenter.segment(frame, [])
    assert found.object_id == "mug"
    np.testing.assert_array_equal(found.mask, mask > 0)
    assert not segmenter.segment(replace(frame, stamp=100), [])
    segmenter.set_mask(mask[:10], stamp=0)
    with pytest.raises(InputError, match="size"):
        segmenter.segment(frame, [])
    with pytest.raises(InputError, match="shape"):
        segmenter.set_mask(np.zeros((2, 2, 3)), 0)


def test_the_plane_is_the_table_whatever_stands_on_it(scene):
    shown = scene(hand_origin=(0.05, 0.09, 0.55))
    finder = ForegroundFinder()
    plane = finder(shown.frame).plane
    tilt = np.deg2rad(35)
    assert np.degrees(np.arccos(plane.normal @ [0, -np.cos(tilt), -np.sin(tilt)])) < 0.5
    on_table = np.array([0.0, 0.02, 0.6]) + 0.045 * np.array([0, np.cos(tilt), np.sin(tilt)])
    assert abs(plane.normal @ on_table + plane.offset) < 0.002
    assert finder(shown.frame) is finder(shown.frame)


def test_no_plane_where_nothing_is_flat():
    rng = np.random.default_rng(0)
    rays = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 80), np.linspace(-0.4, 0.4, 60)), -1).astype(np.float32)
    rough = rng.uniform(0.3, 2.5, (60, 80)).astype(np.float32)
    assert TablePlane().update(rays, rough) is None


def test_fit_plane_faces_the_camera():
    rng = np.random.default_rng(2)
    points = np.concatenate([rng.uniform(-1, 1, (50, 2)), np.full((50, 1), 2.0)], axis=1)
    plane = fit_plane(points)
    np.testing.assert_allclose(plane.normal, [0, 0, -1], atol=1e-9)
    assert plane.offset == pytest.approx(2.0)


def test_a_perceiver_without_a_segmenter_gives_hands_alone(scene):
    shown = scene(hand_origin=(0.05, 0.09, 0.55))
    (evidence,) = run([shown], None)
    assert evidence.objects == ()
    assert iou(evidence.hands[0].mask, shown.labels == HAND) > 0.6
    assert evidence.stamp == shown.frame.stamp
