"""Scores of clips against answers worked out by hand, and the rule for frames that are lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.contact.hand_states import hand_states
from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandState, ObjectState
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.as_released import aligned_error_as_released
from grasp_nodes.evaluation.clip_metrics import FrameScore, score_clip
from grasp_nodes.evaluation.clip_score import MISSING_ERROR
from grasp_nodes.evaluation.clip_summary import balanced_accuracy, summarise
from grasp_nodes.evaluation.detection_metrics import ScoredBoxes, average_precision, mask_iou, square_box
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel

FRAME = 33_000_000
RADIUS = 0.04


@pytest.fixture(scope="module")
def ball() -> ObjectModel:
    return load_object(f"sphere:{RADIUS}", "ball")


@pytest.fixture(scope="module")
def models() -> dict[Side, HandModel]:
    return {side: load_hand_model(side, OPEN_HAND_FILE, dtype=torch.float64) for side in ("right", "left")}


def hand_at(models, place, side: Side = "right") -> HandState:
    params = HandParams.zeros(1, side, dtype=torch.float64)
    params = replace(params, transl=torch.tensor([place], dtype=torch.float64))
    return hand_states(params, models[side])[0]


def ball_at(place, scale: float = 1.0, rotation: Rotation | None = None) -> ObjectState:
    pose = np.eye(4)
    pose[:3, 3] = place
    if rotation is not None:
        pose[:3, :3] = rotation.as_matrix()
    return ObjectState("ball", pose, scale=scale)


def state(index: int, hands=(), objects=(), status: FitStatus = FitStatus.OK) -> HandObjectState:
    return HandObjectState(index * FRAME, "camera", tuple(hands), tuple(objects), status=status)


def far_truths(models, count: int) -> list[HandObjectState]:
    """The hand 30 cm beside the ball, without contact."""
    return [state(k, [hand_at(models, [0, 0, 0.6])], [ball_at([0.4, 0, 0.6])]) for k in range(count)]


def test_a_shift_of_hand_and_object_is_their_absolute_error_and_nothing_else(models, ball) -> None:
    truths = far_truths(models, 1)
    estimate = state(0, [hand_at(models, [0.003, 0.004, 0.6])], [ball_at([0.4, 0, 0.612])])
    score = score_clip([estimate], truths, [1.0], ball, models)[0]
    assert score.found
    assert score.counts
    assert score.hand_mpjpe == pytest.approx(0.005)
    assert score.hand_absolute == pytest.approx(0.005)
    assert score.object_vertex == pytest.approx(0.012)
    assert 0.003 < score.object_add_s < 0.012
    for aligned in (score.hand_root_aligned_mpjpe, score.hand_aligned, score.hand_mepe):
        assert aligned == pytest.approx(0, abs=1e-9)
    assert score.f_5mm == score.f_15mm == 1.0
    # As released the hand is centred on the truth's mean, so that the shift stays, and is scaled.
    assert 0.004 < score.hand_aligned_as_released < 0.006


def test_turning_a_ball_costs_its_vertices_and_hardly_its_surface(models, ball) -> None:
    truths = far_truths(models, 1)
    estimate = replace(truths[0], objects=(ball_at([0.4, 0, 0.6], rotation=Rotation.from_rotvec([0, 0, np.pi])),))
    score = score_clip([estimate], truths, [1.0], ball, models)[0]
    # Half a turn about z moves a point at latitude a by 2 R cos(a); the mean of cos(a) over the sphere is pi / 4.
    assert score.object_vertex == pytest.approx(2 * RADIUS * np.pi / 4, rel=0.03)
    assert score.object_add_s < 0.002


def test_a_free_scale_is_measured(models, ball) -> None:
    truths = far_truths(models, 1)
    estimate = replace(truths[0], objects=(ball_at([0.4, 0, 0.6], scale=1.1),))
    score = score_clip([estimate], truths, [1.0], ball, models)[0]
    assert score.object_vertex == pytest.approx(0.1 * RADIUS, rel=0.01)


def test_depth_and_contact_are_those_of_a_hand_in_a_ball(models, ball) -> None:
    hand = hand_at(models, [0, 0, 0.6])
    with torch.no_grad():
        vertices = models["right"](hand.params).vertices[0].numpy()
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.03, 0.06, 0.1):
        centre = vertices[rng.integers(len(vertices))] + [0, shift, 0]
        estimate = state(0, [hand], [ball_at(centre)])
        score = score_clip([estimate], [estimate], [1.0], ball, models)[0]
        nearest = np.linalg.norm(vertices - centre, axis=1).min() - RADIUS
        # The mesh of the ball is up to 0.3 mm inside the ball.
        assert score.penetration == pytest.approx(max(-nearest, 0), abs=5e-4)
        assert score.true_penetration == score.penetration
        assert score.inside == float(score.penetration > 0)
        if abs(nearest - 0.005) > 5e-4:
            assert score.contact == score.true_contact == float(nearest < 0.005)


def test_a_lost_frame_scores_the_last_answer_or_100_mm(models, ball) -> None:
    truths = [state(k, [hand_at(models, [0.01 * k, 0, 0.6])], [ball_at([0.4 + 0.02 * k, 0, 0.6])]) for k in range(5)]
    nothing = state(0, status=FitStatus.NOTHING)
    answer = state(1, truths[1].hands, truths[1].objects)
    held = state(4, truths[3].hands, truths[3].objects, FitStatus.HELD)
    scores = score_clip([held, answer, nothing], truths, [1.0] * 5, ball, models)
    np.testing.assert_allclose([s.hand_mpjpe for s in scores], [MISSING_ERROR, 0, 0.01, 0.02, 0.01], atol=1e-9)
    np.testing.assert_allclose([s.object_vertex for s in scores], [MISSING_ERROR, 0, 0.02, 0.04, 0.02], atol=1e-9)
    assert [s.found for s in scores] == [False, True, False, False, False]
    assert [s.object_answered for s in scores] == [False, True, False, False, True]
    assert scores[0].f_5mm == 0
    assert np.isnan(scores[0].contact)
    assert np.isnan(scores[0].penetration)
    summary = summarise(scores)
    assert summary["found_share"] == pytest.approx(0.2)
    assert summary["object_answered_share"] == pytest.approx(0.4)
    assert summary["hand_mpjpe_mm"] == pytest.approx((100 + 0 + 10 + 20 + 10) / 5)


def test_wrong_side_and_nan_are_answers_that_cost_100_mm(models, ball) -> None:
    truths = far_truths(models, 3)
    broken = replace(truths[2].hands[0], keypoints=np.full((21, 3), np.nan))
    estimates = [
        truths[0],
        state(1, [hand_at(models, [0, 0, 0.6], "left")], truths[1].objects),
        state(2, [broken], [ObjectState("ball", np.full((4, 4), np.nan))]),
    ]
    scores = score_clip(estimates, truths, [1.0] * 3, ball, models)
    assert [s.hand_mpjpe for s in scores] == [0.0, MISSING_ERROR, MISSING_ERROR]
    assert [s.found for s in scores] == [True, False, False]
    assert scores[1].object_vertex == 0.0
    assert scores[2].object_add_s == MISSING_ERROR


def test_a_hand_out_of_sight_does_not_count_but_the_object_does(models, ball) -> None:
    truths = far_truths(models, 2)
    scores = score_clip([truths[0]], truths, [0.05, 1.0], ball, models)
    assert [s.counts for s in scores] == [False, True]
    assert np.isnan(scores[0].hand_mpjpe)
    assert np.isnan(scores[0].true_contact)
    assert scores[0].object_add_s == 0.0
    assert summarise(scores)["frames"] == 1


def test_acceleration_of_a_parabola_is_constant_and_gaps_have_none(models, ball) -> None:
    seconds = FRAME * 1e-9
    truths = [
        state(k, [hand_at(models, [0, 1.5 * (k * seconds) ** 2, 0.6])], [ball_at([0.4, 0, 0.6])]) for k in range(7)
    ]
    estimates = [truth for k, truth in enumerate(truths) if k != 5]
    scores = score_clip(estimates, truths, [1.0] * 7, ball, models)
    np.testing.assert_allclose([s.true_acceleration for s in scores[1:6]], 3.0, rtol=1e-6)
    np.testing.assert_allclose([s.acceleration for s in scores[1:4]], 3.0, rtol=1e-6)
    assert np.isnan([s.acceleration for s in (scores[0], *scores[4:])]).all()


def test_bad_clips_are_refused(models, ball) -> None:
    truths = far_truths(models, 1)
    with pytest.raises(InputError, match="expected 1 numbers"):
        score_clip([], truths, [1.0, 1.0], ball, models)
    with pytest.raises(InputError, match="exactly one hand"):
        score_clip([], [state(0)], [1.0], ball, models)
    other = replace(truths[0].hands[0], model_fingerprint="f" * 64)
    with pytest.raises(InputError, match="the hand model that the clip was made with"):
        score_clip([replace(truths[0], hands=(other,))], truths, [1.0], ball, models)


def test_scores_travel_as_rows() -> None:
    score = FrameScore(5, 0.5, True, False, hand_mpjpe=0.25)
    row = score.as_row()
    assert row["hand_mpjpe"] == 0.25
    assert row["penetration"] is None
    back = FrameScore.of_row(row)
    assert back.as_row() == row
    assert np.isnan(back.penetration)
    with pytest.raises(InputError, match="expected the keys"):
        FrameScore.of_row({"stamp": 1})


class TestBalancedAccuracy:
    def test_worked_example(self) -> None:
        truth = np.array([1, 1, 1, 1, 0, 0.0])
        estimate = np.array([1, 1, 1, 0, 0, 1.0])
        assert balanced_accuracy(estimate, truth) == pytest.approx((3 / 4 + 1 / 2) / 2)

    def test_always_in_contact_is_worth_one_half(self) -> None:
        assert balanced_accuracy(np.ones(10), np.array([1.0] * 9 + [0])) == 0.5

    def test_no_answer_is_wrong_in_both_classes(self) -> None:
        assert balanced_accuracy(np.full(4, np.nan), np.array([1, 1, 0, 0.0])) == 0

    def test_one_class_alone_has_none(self) -> None:
        assert np.isnan(balanced_accuracy(np.ones(3), np.ones(3)))


class TestAsReleased:
    def test_translation_is_not_removed_and_its_error_is_bounded(self) -> None:
        square = np.array([[1.0, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])
        # Shifted by s along z and scaled back to one spread: (x, y, s) * sqrt(2 / (2 + s^2)).
        for shift in (1.0, 100.0):
            factor = np.sqrt(2 / (2 + shift**2))
            expected = np.sqrt(2 * (1 - factor) ** 2 + (shift * factor) ** 2)
            assert aligned_error_as_released(square + [0, 0, shift], square) == pytest.approx(expected)
        assert aligned_error_as_released(3 * square, square) == pytest.approx(0)
        assert aligned_error_as_released(square + [0, 0, 1e6], square) == pytest.approx(2, rel=1e-3)

    def test_a_point_has_no_size(self) -> None:
        assert np.isnan(aligned_error_as_released(np.zeros((4, 3)), np.eye(4)[:, :3] - 0.25 * np.ones(3)))


def box(x: float, size: float = 10) -> list[float]:
    return [x, 0, x + size, size]


def image(found: list[tuple[float, float]], truths: list[float]) -> ScoredBoxes:
    """found: x and score of each box."""
    return ScoredBoxes(
        np.array([box(x) for x, _ in found]).reshape(-1, 4),
        np.array([score for _, score in found]),
        np.array([box(x) for x in truths]).reshape(-1, 4),
    )


class TestAveragePrecision:
    def test_worked_example(self) -> None:
        # By score: hit .9, false .8, hit .7, false .6, hit .5; four truths.
        # Precision at the hits 1, 2/3, 3/5, made falling the same; each is worth a quarter of recall.
        images = [
            image([(0, 0.9), (100, 0.8)], [0]),
            image([(0, 0.7), (50, 0.6)], [1]),
            image([(0, 0.5)], [0, 200]),
        ]
        assert average_precision(images) == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)

    def test_precision_is_made_to_fall(self) -> None:
        # false .9, hit .8, hit .7: precision 1/2 and 2/3; at the first hit it is raised to 2/3.
        images = [image([(100, 0.9), (0, 0.8)], [0]), image([(0, 0.7)], [0])]
        assert average_precision(images) == pytest.approx(2 / 3)

    def test_a_second_box_on_one_truth_is_a_false_alarm(self) -> None:
        assert average_precision([image([(0, 0.9), (1, 0.8)], [0])]) == 1.0
        assert average_precision([image([(0, 0.9), (1, 0.8)], [0]), image([(0, 0.7)], [0])]) == pytest.approx(
            (1 + 2 / 3) / 2
        )

    def test_the_threshold_is_one_half(self) -> None:
        # Overlap of two squares of 10 shifted by x: (10 - x) / (10 + x).
        assert average_precision([image([(10 / 3 - 0.01, 1)], [0])]) == 1.0
        assert average_precision([image([(10 / 3 + 0.01, 1)], [0])]) == 0.0

    def test_nothing_found_and_nothing_there(self) -> None:
        assert average_precision([image([], [0])]) == 0.0
        assert np.isnan(average_precision([image([(0, 1)], [])]))
        with pytest.raises(InputError, match="expected 1 scores"):
            average_precision([ScoredBoxes(np.zeros((1, 4)), np.zeros(2), np.zeros((0, 4)))])


def test_overlap_of_masks() -> None:
    truth, found = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    truth[:2], found[1:3] = True, True
    assert mask_iou(found, truth) == pytest.approx(4 / 12)
    assert mask_iou(None, truth) == 0.0
    assert np.isnan(mask_iou(found, np.zeros((4, 4), bool)))
    with pytest.raises(InputError, match="shape"):
        mask_iou(np.zeros((2, 2), bool), truth)


def test_square_box() -> None:
    np.testing.assert_allclose(square_box(np.array([0, 10, 4, 20])), [-3, 10, 7, 20])
