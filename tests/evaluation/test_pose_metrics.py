"""Errors against answers that are known in closed form, and the score of a clip frame by frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandState, ObjectState
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.clip_score import MISSING_ERROR, ClipScore
from grasp_nodes.evaluation.pose_metrics import (
    ContactCounts,
    add_s,
    keypoint_error,
    root_aligned_keypoint_error,
)
from grasp_nodes.hand.parameters import HandParams

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(50, 3))


def pose(rotation: Rotation, translation: np.ndarray) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation.as_matrix(), translation
    return T


@given(st.integers(0, 2**32 - 1))
def test_a_shift_of_the_whole_hand_is_the_error_and_vanishes_when_roots_are_aligned(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, shift = rng.normal(size=(21, 3)), rng.normal(size=3)
    assert keypoint_error(truth + shift, truth) == pytest.approx(np.linalg.norm(shift))
    assert root_aligned_keypoint_error(truth + shift, truth) == pytest.approx(0, abs=1e-12)


def test_keypoints_of_another_count_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(21, 3\).*\(20, 3\)"):
        keypoint_error(np.zeros((20, 3)), np.zeros((21, 3)))


@given(st.integers(0, 2**32 - 1))
def test_add_s_is_the_brute_force_mean_of_nearest_distances(seed: int) -> None:
    rng = np.random.default_rng(seed)
    estimate = pose(Rotation.random(random_state=seed), rng.normal(size=3) * 0.1)
    truth = pose(Rotation.random(random_state=seed ^ 1), rng.normal(size=3) * 0.1)
    moved_estimate = POINTS @ estimate[:3, :3].T + estimate[:3, 3]
    moved_truth = POINTS @ truth[:3, :3].T + truth[:3, 3]
    expected = np.linalg.norm(moved_truth[:, None] - moved_estimate[None], axis=2).min(1).mean()
    assert add_s(estimate, truth, POINTS) == pytest.approx(expected)


def test_add_s_does_not_see_a_symmetry() -> None:
    square = np.array([[1.0, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])
    quarter_turn = pose(Rotation.from_rotvec([0, 0, np.pi / 2]), np.zeros(3))
    assert add_s(quarter_turn, np.eye(4), square) == pytest.approx(0, abs=1e-12)


def contact_map(signed_distance: list[float], points: np.ndarray | None = None) -> ContactMap:
    count = len(signed_distance)
    return ContactMap(
        "mug",
        np.arange(3 * count, dtype=np.float32).reshape(-1, 3) if points is None else points,
        np.array(signed_distance, np.float32),
        np.zeros(count, np.float32),
        np.zeros(778, np.float32),
        np.zeros(778, np.float32),
        0.005,
    )


def test_contact_counts_pool_over_frames() -> None:
    counts = ContactCounts()
    counts.update(contact_map([0.0, 0.0, 0.02, 0.02]), contact_map([0.0, 0.02, 0.0, 0.02]))
    counts.update(contact_map([0.0]), contact_map([0.0]))
    assert (counts.true_positive, counts.false_positive, counts.false_negative) == (2, 1, 1)
    assert counts.precision == pytest.approx(2 / 3)
    assert counts.recall == pytest.approx(2 / 3)
    assert counts.f1 == pytest.approx(2 / 3)


def test_a_missing_estimate_misses_every_contact() -> None:
    counts = ContactCounts()
    counts.update(None, contact_map([0.0, 0.0, 0.02]))
    assert counts.false_negative == 2
    assert counts.f1 == 0


def test_contact_on_other_points_is_refused() -> None:
    with pytest.raises(InputError, match="same seed"):
        ContactCounts().update(contact_map([0.0, 0.0]), contact_map([0.0]))


def state(x: float, status: FitStatus = FitStatus.OK, side: str = "right") -> HandObjectState:
    """Hand and mug moved along x by `x` metres, touching at the first of two object points."""
    params = replace(HandParams.zeros(), side=side)  # type: ignore[arg-type]
    keypoints = np.zeros((21, 3))
    keypoints[:, 0] = x
    hand = HandState(params, keypoints, np.zeros((16, 7)), "m", "f", 1, 0.9, True)
    T = np.eye(4)
    T[0, 3] = x
    contact = replace(contact_map([0.0, 0.02]), hand_side=side, hand_track_id=1)
    return HandObjectState(0, "camera", [hand], [ObjectState("mug", T)], [contact], status=status)


def true_contact(_: HandObjectState, points: np.ndarray) -> ContactMap:
    return contact_map([0.0] + [0.02] * (len(points) - 1), points)


def clip_score() -> ClipScore:
    points = np.arange(6, dtype=np.float32).reshape(-1, 3)
    return ClipScore(np.zeros((1, 3)), true_contact, points)


def test_a_lost_frame_scores_the_last_answer_and_a_first_one_the_price_of_none() -> None:
    score = clip_score()
    score.update(None, state(0.0))
    score.update(state(0.01), state(0.0))
    score.update(None, state(0.03))
    summary = score.summary()
    assert summary["found_share"] == pytest.approx(1 / 3)
    assert summary["hand_mpjpe_mm"] == pytest.approx((MISSING_ERROR + 0.01 + 0.02) / 3 * 1e3)
    assert summary["object_add_s_mm"] == pytest.approx((MISSING_ERROR + 0.01 + 0.02) / 3 * 1e3)
    assert summary["contact_f1"] == pytest.approx(2 * 2 / (2 * 2 + 0 + 1))


def test_a_held_answer_is_not_found_and_a_hand_of_the_other_side_is_missing() -> None:
    score = clip_score()
    score.update(state(0.0, FitStatus.HELD), state(0.0))
    score.update(state(0.0, side="left"), state(0.0))
    assert score.found == 1
    assert score.hand_errors == [0.0, MISSING_ERROR]


def test_contact_of_another_hand_or_object_is_not_credited() -> None:
    for changes in ({"hand_side": "left"}, {"object_id": "bowl"}, {"hand_track_id": 2}):
        answer = state(0.0)
        own, other = answer.contact_maps[0], replace(answer.contact_maps[0], **changes)
        score = clip_score()
        score.update(replace(answer, contact_maps=[other]), state(0.0))
        assert (score.contacts.true_positive, score.contacts.false_negative) == (0, 1)
        score.update(replace(answer, contact_maps=[other, own]), state(0.0))
        assert (score.contacts.true_positive, score.contacts.false_negative) == (1, 1)


def test_an_answer_without_numbers_costs_as_much_as_none() -> None:
    score = clip_score()
    score.update(state(float("nan")), state(0.0))
    assert score.hand_errors == score.object_errors == [MISSING_ERROR]


def test_accelerations_are_those_of_frames_with_both_neighbours() -> None:
    score = clip_score()
    # Answers at 0, 1, 4, 9, 16 mm every 10 ms: 2 mm / (10 ms)^2 = 20 m/s^2; the truth does not move.
    for row in range(5):
        answer = None if row == 3 else replace(state(0.001 * row**2), stamp=row * 10_000_000)
        score.update(answer, replace(state(0.0), stamp=row * 10_000_000))
    summary = score.summary()
    assert summary["hand_acceleration"] == pytest.approx(20.0)
    assert summary["true_hand_acceleration"] == 0.0
    repeated = clip_score()
    for _ in range(4):
        repeated.update(state(0.0), state(0.0))  # one stamp for all
    assert "hand_acceleration" not in repeated.summary()


def test_nothing_scored_gives_no_numbers() -> None:
    assert clip_score().summary() == {}
