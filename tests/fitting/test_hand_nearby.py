"""What hands tell of an object's distance, and what that does to an object whose mask is cut."""

from __future__ import annotations

import numpy as np
import pytest

from grasp_nodes.fitting.hand_nearby import REACH, SIZE_SPREAD, DistanceBelief, HandPath, believed_distance
from grasp_nodes.fitting.object_motions import masks_know_better
from grasp_nodes.fitting.pose_solver import DistancePrior, PosePrior, prior_cost
from grasp_nodes.geometry.camera import CameraModel

CAMERA = CameraModel(width=320, height=240, camera_k=np.array([[300.0, 0, 160], [0, 300.0, 120], [0, 0, 1]]))


def square(left: int, top: int = 100, size: int = 40) -> np.ndarray:
    mask = np.zeros((240, 320), bool)
    mask[top : top + size, left : left + size] = True
    return mask


def hand_at(pixel: tuple[float, float], distance: float, count: int) -> HandPath:
    """All keypoints within a cm."""
    middle = np.append((np.array(pixel) - [160, 120]) * distance / 300, distance)
    spread = np.random.default_rng(0).uniform(-0.005, 0.005, (21, 3))
    return HandPath(np.tile(middle + spread, (count, 1, 1)))


def believed(paths: list[HandPath], masks: list[np.ndarray | None]) -> DistanceBelief:
    return believed_distance(paths, CAMERA, masks, np.arange(len(masks)) / 30)


def test_touching_hand_tells_its_own_distance() -> None:
    belief = believed([hand_at((160, 120), 0.6, 5)], [square(140)] * 5)
    np.testing.assert_allclose(belief.distance, 0.6, atol=0.006)


def test_surer_the_closer_and_if_it_moves() -> None:
    still = believed([hand_at((160, 120), 0.6, 5)], [square(140)] * 5).spread
    moved = believed([hand_at((160, 120), 0.6, 5)], [square(130 + 5 * t) for t in range(5)]).spread
    away = believed([hand_at((30, 30), 0.6, 5)], [square(240)] * 5).spread
    assert (moved < still).all()
    assert (still < away).all()
    np.testing.assert_allclose(away, np.hypot(REACH, SIZE_SPREAD * 0.6), rtol=0.02)


def test_motion_before_a_moving_camera_makes_the_hand_no_surer() -> None:
    masks, times, moves = [square(130 + 5 * t) for t in range(6)], np.arange(6) / 30, np.arange(6) >= 4
    hand = [hand_at((160, 120), 0.6, 6)]
    at_rest = believed(hand, [square(140)] * 6).spread
    spread = believed_distance(hand, CAMERA, masks, times, moves).spread
    assert (spread[:4] < at_rest[:4]).all()
    np.testing.assert_allclose(spread[4:], at_rest[4:], rtol=1e-6)


def test_cover_makes_the_hand_no_surer() -> None:
    """A hand that comes over a thing at rest has not moved it."""
    masks: list[np.ndarray | None] = []
    for t in range(6):
        mask = square(140, size=60)
        mask[:, 140 : 140 + 6 * t] = False
        masks.append(mask)
    still = believed([hand_at((180, 120), 0.6, 6)], [square(140, size=60)] * 6).spread
    covered = believed([hand_at((180, 120), 0.6, 6)], masks).spread
    np.testing.assert_allclose(covered, still)


def test_hand_that_is_lost_for_a_while_still_bounds_the_distance() -> None:
    path = hand_at((160, 120), 0.6, 4)
    path.keypoints[2:] = np.nan
    belief = believed([path], [square(140)] * 4)
    np.testing.assert_allclose(belief.distance[2:], 0.6, atol=0.01)
    assert (belief.spread[2:] > REACH).all()


@pytest.mark.parametrize("paths", [[], [HandPath(np.full((3, 21, 3), np.nan))]])
def test_without_a_hand_nothing_is_believed(paths: list[HandPath]) -> None:
    belief = believed(paths, [square(140), None, square(150)])
    assert np.isinf(belief.spread).all()


def test_the_hand_at_the_object_counts_and_not_the_other() -> None:
    near, other = hand_at((160, 120), 0.6, 3), hand_at((20, 20), 0.9, 3)
    belief = believed([other, near], [square(140)] * 3)
    np.testing.assert_allclose(belief.distance, 0.6, atol=0.006)


def test_distance_prior_is_free_near_it_and_quadratic_beyond() -> None:
    prior = PosePrior(np.eye(3), np.zeros(3), np.zeros((6, 6)), DistancePrior(0.8, 0.1, 7.0))
    costs = [prior_cost(prior, np.eye(3), np.array([0.3, 0, z]))[0] for z in (0.71, 0.89, 1.1, 0.5)]
    np.testing.assert_allclose(costs, [0, 0, 7 * 0.04, 7 * 0.04], atol=1e-12)


@pytest.mark.parametrize("z", [0.5, 0.75, 1.1])
def test_gradient_of_a_pose_with_a_distance(z: float) -> None:
    root = np.random.default_rng(1).normal(size=(6, 6))
    prior = PosePrior(np.eye(3), np.array([0.1, 0.2, 0.7]), root @ root.T, DistancePrior(0.8, 0.1, 7.0))
    centre, step = np.array([0.3, 0.1, z]), 1e-6
    _, normal, gradient = prior_cost(prior, np.eye(3), centre)
    for axis in range(3):
        move = step * np.eye(3)[axis]
        above, below = prior_cost(prior, np.eye(3), centre + move), prior_cost(prior, np.eye(3), centre - move)
        assert (above[0] - below[0]) / (2 * step) == pytest.approx(2 * gradient[axis], abs=1e-6)
        np.testing.assert_allclose((above[2] - below[2]) / (2 * step), normal[axis], atol=1e-5)


@pytest.mark.parametrize(
    ("free", "believed", "better"),
    [(0.97, 0.93, True), (0.97, 0.96, False), (0.91, 0.7, False), (0.96, np.nan, True), (np.nan, 0.9, False)],
)
def test_only_masks_that_are_explained_nearly_whole_overrule_a_hand(free: float, believed: float, better: bool) -> None:
    assert masks_know_better(np.full(4, free), np.full(4, believed), np.ones(4)) == better


def test_frames_that_say_nothing_do_not_overrule_a_hand() -> None:
    free, believed = np.array([0.97, 0.97, 0.5]), np.array([0.8, 0.8, 0.9])
    assert masks_know_better(free, believed, np.array([1.0, 1.0, 0.0]))
    assert not masks_know_better(free, believed, np.zeros(3))
