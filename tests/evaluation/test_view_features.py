"""What the feature network sees, and its weight file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.evaluation import view_features
from grasp_nodes.evaluation.view_features import (
    FEATURES,
    WEIGHTS_VARIABLE,
    ViewFeatureNetwork,
    ViewFeatures,
    find_view_features,
    load_view_features,
    save_view_features,
)
from grasp_nodes.evaluation.view_images import (
    FARTHEST,
    PIXELS,
    REACH,
    TOUCH_RANGE,
    WINDOW,
    GraspViews,
    nearness,
    touch,
    view_rays,
)
from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.hand.anatomy import mirror_pose
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.npz import write_npz
from grasp_nodes.objects.loading import load_object, make_object
from grasp_nodes.objects.model import ObjectModel

BOX = "box:0.05,0.04,0.09"


def vertices_of(side: Side = "right", pose: np.ndarray | None = None) -> np.ndarray:
    model = load_hand_model(side, OPEN_HAND_FILE)
    params = HandParams.zeros(1, side)
    if pose is not None:
        params = replace(params, hand_pose=torch.from_numpy(pose.astype(np.float32))[None])
    with torch.no_grad():
        return model(params).vertices.numpy().astype(np.float64) + [0, 0.05, 0]


def test_values_of_depth_and_touch() -> None:
    assert nearness(np.array([0.0, 2 * REACH, 1.0, np.inf])) == pytest.approx([1, FARTHEST, FARTHEST, 0])
    assert touch(np.array([np.inf, TOUCH_RANGE, 0, -TOUCH_RANGE / 2, -1])) == pytest.approx([0, 0, 0.5, 0.75, 1])


def test_lines_of_sight_are_a_grid_of_three_millimetres() -> None:
    origins, directions = (one.reshape(3, PIXELS, PIXELS, 3) for one in view_rays())
    assert np.linalg.norm(directions, axis=-1) == pytest.approx(np.ones((3, PIXELS, PIXELS)))
    for axis in (1, 2):
        step = np.diff(origins, axis=axis)
        assert np.linalg.norm(step, axis=-1) == pytest.approx(np.full(step.shape[:-1], WINDOW / PIXELS))
    # Each view's middle is REACH before the middle of the hand.
    assert origins.mean(axis=(1, 2)) == pytest.approx(-REACH * directions[:, 0, 0])


def test_a_ball_is_seen_as_a_disc_of_its_size_and_depth() -> None:
    radius = 0.03
    ball = load_object(f"sphere:{radius}")
    hand = vertices_of()
    images = GraspViews(ball)(hand - hand.mean(axis=1, keepdims=True))[0]  # the ball is in the middle of each view
    for view in images:
        seen = view[1] > 0
        assert seen.sum() * (WINDOW / PIXELS) ** 2 == pytest.approx(np.pi * radius**2, rel=0.03)
        nearest = FARTHEST + (1 - FARTHEST) * (1 - (REACH - radius) / (2 * REACH))
        assert view[1].max() == pytest.approx(255 * nearest, abs=1.5)


def test_touch_is_the_distance_to_the_object() -> None:
    hand = vertices_of()
    ball = load_object("sphere:0.03")
    depths = []
    for height in (0.0, 0.006, 0.05):
        moved = hand - hand[0, 444] + [0, 0.03 + height, 0]  # one vertex of a fingertip is so far above the ball
        depths.append(GraspViews(ball)(moved)[0, :, 2].max() / 255)
    assert depths[0] >= 0.45
    assert 0 < depths[1] < depths[0]
    assert depths[2] == 0


def test_a_hand_behind_the_object_is_still_seen() -> None:
    hand = vertices_of()
    alone = GraspViews(make_far())(hand)[0]
    both = GraspViews(load_object("sphere:0.06"))(hand)[0]
    assert (alone[:, 0] == both[:, 0]).all()


def make_far() -> ObjectModel:
    ball = load_object("sphere:0.03")
    return make_object(ball.vertices + np.array([3.0, 0, 0]), ball.faces, "far")


def test_views_turn_with_the_grasp() -> None:
    hand = vertices_of(pose=0.2 * np.random.default_rng(0).normal(size=45))
    box = load_object(BOX)
    rotation = random_rotations(1, torch.Generator().manual_seed(0))[0].double().numpy()
    turned = make_object(box.vertices @ rotation.T + 0.1, box.faces, "turned")
    first = GraspViews(box)(hand)[0].astype(int)
    second = GraspViews(turned)(hand @ rotation.T + 0.1)[0].astype(int)
    for channel in (0, 1):
        assert (np.abs(first[:, channel] - second[:, channel]) > 3).mean() < 0.01
    # The object's distance grid is laid along other axes.
    assert np.abs(first[:, 2] - second[:, 2]).mean() < 1


def test_a_left_hand_is_seen_as_its_mirror_image() -> None:
    pose = 0.2 * np.random.default_rng(1).normal(size=45)
    ball = load_object("sphere:0.04")
    right = vertices_of("right", pose)
    left = vertices_of("left", mirror_pose(pose[None])[0])
    first, second = GraspViews(ball)(right)[0].astype(int), GraspViews(ball)(left)[0].astype(int)
    assert (np.abs(first - second) > 3).mean() < 0.01


def test_hands_that_cannot_be_drawn_are_refused() -> None:
    views = GraspViews(load_object(BOX))
    for wrong in (np.zeros((1, 5, 3)), np.full((1, 778, 3), np.nan)):
        with pytest.raises(InputError, match="expected finite"):
            views(wrong)
    assert views(np.zeros((0, 778, 3))).shape == (0, 3, 3, PIXELS, PIXELS)


def make_weights(path: Path) -> ViewFeatureNetwork:
    torch.manual_seed(0)
    network = ViewFeatureNetwork().eval()
    save_view_features(path, network.state_dict(), 2.0, "made for a test")
    return network


def test_weights_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_weights(tmp_path / "weights.npz")
    assert 100_000 < sum(value.numel() for value in network.parameters()) < 200_000
    assert (tmp_path / "weights.npz").stat().st_size < 500_000
    features = load_view_features(tmp_path / "weights.npz")
    images = np.random.default_rng(0).integers(0, 255, (70, 3, 3, PIXELS, PIXELS)).astype(np.uint8)
    with torch.no_grad():
        expected = 2 * network(torch.from_numpy(images)).numpy()
    assert features.of_images(images) == pytest.approx(expected, abs=0.01 * float(np.abs(expected).max()))
    assert features.card == "made for a test"
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "weights.npz"))
    assert load_view_features().name == features.name
    assert features(load_object(BOX), vertices_of()).shape == (1, FEATURES)
    assert features(load_object(BOX), np.zeros((0, 778, 3))).shape == (0, FEATURES)


def test_missing_and_wrong_weights_name_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setattr(view_features, "WEIGHTS_FILE", tmp_path / "none.npz")
    assert find_view_features() is None
    with pytest.raises(MissingFileError, match="grasp-nodes train view-features"):
        load_view_features()
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "moved.npz"))
    with pytest.raises(MissingFileError, match=r"moved\.npz"):
        find_view_features()
    with pytest.raises(MissingFileError, match=WEIGHTS_VARIABLE):
        load_view_features(tmp_path / "absent.npz")
    write_npz(tmp_path / "other.npz", {"version": np.array("view_features_v0")})
    with pytest.raises(InputError, match="expected weights of version view_features_v1, got view_features_v0"):
        load_view_features(tmp_path / "other.npz")
    make_weights(tmp_path / "weights.npz")
    with np.load(tmp_path / "weights.npz") as file:
        arrays = dict(file)
    for name, value in (
        ("join.weight", np.zeros((2, 2))),
        ("join.bias", np.full(FEATURES, np.nan)),
        ("scale", np.array(-1)),
    ):
        write_npz(tmp_path / "bad.npz", {**arrays, name: value})
        with pytest.raises(InputError, match=f"missing or wrong: {name}"):
            load_view_features(tmp_path / "bad.npz")


def test_features_do_not_depend_on_the_batch() -> None:
    features = ViewFeatures(ViewFeatureNetwork().eval(), 1.0, "x")
    images = np.random.default_rng(0).integers(0, 255, (5, 3, 3, PIXELS, PIXELS)).astype(np.uint8)
    together, alone = features.of_images(images), features.of_images(images[3:4])
    assert together[3:4] == pytest.approx(alone, abs=1e-5)
