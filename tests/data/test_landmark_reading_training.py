from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.data.landmark_reading_training import (
    Answer,
    Examples,
    ReaderTraining,
    examples_of,
    measure,
    reaches,
    reading_loss,
    train_reader,
)
from grasp_nodes.data.landmark_views import LandmarkStudio, LandmarkView, SeenLandmarks
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints
from grasp_nodes.fitting.hand_skeleton import make_hand_skeleton
from grasp_nodes.fitting.landmark_reading import load_landmark_reader
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.perception.hand_landmarks import Landmarks

MODEL = load_hand_model("right", OPEN_HAND_FILE)
SKELETON = make_hand_skeleton(MODEL)


def exact_view(rng):
    """A hand that is read without error."""
    low, high = SKELETON.angles((0, 0, 0), (0, 0, 0, -20, 0)), SKELETON.angles((40, 50, 30), (15, 20, 20, 0, 0))
    hand = HandConfiguration(
        Rotation.random(random_state=int(rng.integers(2**31))).as_matrix(),
        np.array([*rng.uniform(-0.1, 0.1, 2), rng.uniform(0.5, 0.8)]),
        low + rng.uniform(0, 1) * (high - low),
        1.0,
    )
    points = pose_keypoints(SKELETON, hand, landmarks=True)
    reading = SeenLandmarks(points[:, :2] / points[:, 2:], points - points.mean(axis=0), 0.9)
    return LandmarkView((reading,), hand.rotation, hand.angles, pose_keypoints(SKELETON, hand))


def test_training_learns_what_can_be_learned_and_its_file_is_read(tmp_path):
    rng = np.random.default_rng(0)
    views = [exact_view(rng) for _ in range(400)]
    path = tmp_path / "reader.npz"
    card = train_reader(views, MODEL, path, ReaderTraining(networks=1, width=64, epochs=40, batch=32))
    (measured,) = card["metrics"].values()
    untrained = float(np.sqrt(np.var([view.angles for view in views], axis=0).mean()))
    assert measured["rotation_median"] < 0.35
    assert measured["angles_rms"] < 0.85 * untrained
    assert measured["log_distance_mean"] < 0.1
    assert 0.5 < measured["angles_over_stated"] < 2.0
    reader = load_landmark_reader(path)
    view = exact_view(rng)
    found = reader.read(SKELETON, view.readings[0].rays, view.readings[0].relative, 0.9)
    again = reader.read(SKELETON, view.readings[0].rays, view.readings[0].relative, 0.9)
    np.testing.assert_array_equal(found.rotation, again.rotation)
    assert np.linalg.norm(Rotation.from_matrix(found.rotation @ view.rotation.T).as_rotvec()) < 1.2


def test_errors_of_one_kind_of_view_are_not_mixed_with_those_of_another():
    """Half of the readings are answered exactly, half are off by 0.4 rad in every angle and by 1 rad in rotation."""
    count = 40
    rng = np.random.default_rng(3)
    turns = Rotation.random(count, random_state=0)
    angles = torch.tensor(rng.normal(0, 0.3, (count, 21)))
    off = torch.arange(count) % 2 == 1
    truth = Examples(
        torch.zeros(count, 108), torch.tensor(turns.as_matrix()), angles, torch.zeros(count), torch.arange(count)
    )
    wrong = turns * Rotation.from_rotvec(np.outer(off, [0, 1.0, 0]))
    answer = Answer(
        torch.tensor(wrong.as_matrix()),
        angles + 0.4 * off[:, None],
        torch.zeros(count),
        torch.full((count, 21), float(np.log(0.2))),
        torch.zeros(count),
        0.1 * off,
    )
    exact = dict.fromkeys(("rotation_mean", "rotation_median", "angles_rms", "log_distance_mean"), 0.0)
    assert measure([answer], truth, ~off) == {"readings": 20, **exact, "angles_over_stated": 0.0}
    assert measure([answer], truth, off) == {
        "readings": 20,
        "rotation_mean": 1.0,
        "rotation_median": 1.0,
        "angles_rms": 0.4,
        "log_distance_mean": 0.1,
        "angles_over_stated": 2.0,
    }
    assert measure([answer], truth, torch.zeros(count, dtype=torch.bool)) == {"readings": 0}


def test_kinds_are_as_many_as_views(tmp_path):
    views = [exact_view(np.random.default_rng(1))] * 300
    with pytest.raises(InputError, match="kinds: expected one of each of the 300 views, got 2"):
        train_reader(views, MODEL, tmp_path / "reader.npz", ReaderTraining(), kinds=["grasp", "free"])


def test_too_few_views_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least"):
        train_reader([exact_view(np.random.default_rng(1))], MODEL, tmp_path / "reader.npz", ReaderTraining())


def test_the_likeliest_stated_error_is_the_error_there_is():
    count = 400
    rng = np.random.default_rng(2)
    angles = torch.tensor(rng.normal(0, 0.3, (count, 21)), dtype=torch.float32)
    eye, zeros = torch.eye(3).expand(count, 3, 3), torch.zeros(count)
    truth = Examples(torch.zeros(count, 108), eye, angles, zeros, torch.arange(count))

    def loss(error):
        stated = torch.full((count, 21), float(np.log(error)))
        answer = Answer(eye, torch.zeros(count, 21), zeros, stated, zeros, zeros)
        return float(reading_loss(answer, truth, reaches(SKELETON.dofs.names)))

    assert loss(0.3) < min(loss(0.15), loss(0.6))


def test_examples_hold_the_distance_in_units_of_the_landmarks_extent():
    view = exact_view(np.random.default_rng(3))
    nearer = LandmarkView(view.readings, view.rotation, view.angles, 0.5 * view.keypoints)
    first, second = (examples_of([one]).log_sizes[0] for one in (view, nearer))
    assert float(first - second) == pytest.approx(np.log(2.0), abs=1e-5)


class Seer:
    """A landmark network that sees the same points wherever it looks."""

    def landmarks(self, image, region):
        points = np.array(region.center) + region.size * 0.2 * np.random.default_rng(0).normal(size=(21, 2))
        return Landmarks(points, np.random.default_rng(1).normal(size=(21, 3)), 0.9, 0.9)

    def palms(self, image, threshold=None):
        return []


def test_views_are_the_same_again_and_hands_lie_in_them():
    studio = LandmarkStudio(Seer(), 5)
    views = [studio.view(number) for number in range(4)]
    seen = [view for view in views if view is not None]
    assert seen
    again = LandmarkStudio(Seer(), 5).view(next(k for k, view in enumerate(views) if view is not None))
    np.testing.assert_array_equal(again.keypoints, seen[0].keypoints)
    np.testing.assert_array_equal(again.readings[0].rays, seen[0].readings[0].rays)
    for view in seen:
        rays = view.keypoints[:, :2] / view.keypoints[:, 2:]
        apart = np.linalg.norm(view.readings[0].rays.mean(axis=0) - rays.mean(axis=0))
        assert apart < np.ptp(rays, axis=0).max()
        np.testing.assert_allclose(view.rotation @ view.rotation.T, np.eye(3), atol=1e-9)
