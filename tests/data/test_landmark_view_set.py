from __future__ import annotations

import json

import numpy as np
import pytest

from grasp_nodes.cli.training_landmark_reader import ReaderData
from grasp_nodes.data import landmark_view_set, landmark_views
from grasp_nodes.data.benchmark_clips import clip_requests
from grasp_nodes.data.benchmark_search import find_plan
from grasp_nodes.data.drawn_landmarks import drawn_view
from grasp_nodes.data.finger_postures import APART, free_posture
from grasp_nodes.data.landmark_reading_training import MEASURED_ON, ReaderTraining
from grasp_nodes.data.landmark_view_set import (
    SHIPPED_SEED,
    SHIPPED_VIEWS,
    ViewRange,
    make_views,
    read_views,
    write_views,
)
from grasp_nodes.data.landmark_views import BENCHMARK_OBJECTS
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints
from grasp_nodes.fitting.hand_skeleton import make_hand_skeleton
from grasp_nodes.fitting.landmark_reading import READER_FILE
from grasp_nodes.hand.files import load_hand_model

SKELETON = make_hand_skeleton(load_hand_model("right"))


def test_free_postures_are_anatomical_differ_from_finger_to_finger_and_do_not_run_into_themselves():
    rng = np.random.default_rng(0)
    postures = np.array([free_posture(SKELETON, rng) for _ in range(150)])
    assert (postures >= SKELETON.dofs.low - 1e-9).all()
    assert (postures <= SKELETON.dofs.high + 1e-9).all()
    bends = np.rad2deg(
        postures[:, [SKELETON.dofs.names.index(f"{name}_bend_0") for name in ("index", "middle", "ring", "little")]]
    )
    assert ((bends.max(axis=1) - bends.min(axis=1)) > 45).mean() > 0.3  # counting and pointing
    assert (bends.max(axis=1) < 20).mean() > 0.05  # flat
    assert (bends.min(axis=1) > 50).mean() > 0.05  # fists
    for posture in postures[:40]:
        points = pose_keypoints(SKELETON, HandConfiguration(np.eye(3), np.array([0, 0, 0.5]), posture, 1.0))
        tips = points[[4, 8, 12, 16, 20]]
        gaps = np.linalg.norm(tips[:, None] - tips[None], axis=-1)[np.triu_indices(5, 1)]
        assert gaps.min() > APART


def test_drawn_hands_are_seen_about_where_they_are():
    for number in range(5):
        view = drawn_view(SKELETON, 3, number)
        rays = view.keypoints[:, :2] / view.keypoints[:, 2:]
        off = np.linalg.norm(view.readings[0].rays - rays, axis=1)
        assert 0 < np.median(off) < 0.3 * np.ptp(rays, axis=0).max()
        np.testing.assert_array_equal(view.readings[0].rays, drawn_view(SKELETON, 3, number).readings[0].rays)


def test_views_are_read_as_they_were_written_and_rendered_only_once(tmp_path, monkeypatch):
    views = [drawn_view(SKELETON, 1, number) for number in range(3)]
    ranges = (ViewRange("free", 0, 30),)
    chunks = list(ranges[0].chunks())
    assert [(chunk.first, chunk.count) for chunk in chunks] == [(0, 25), (25, 5)]
    write_views(tmp_path / chunks[0].file_name, views)
    write_views(tmp_path / chunks[1].file_name, [])
    monkeypatch.setattr(landmark_view_set, "ProcessPoolExecutor", None)
    told = []
    again = make_views(ranges, 1, tmp_path, 1, lambda *at: told.append(at))
    assert told == [(30, 30)]
    assert read_views(tmp_path / chunks[1].file_name) == []
    for first, second in zip(views, again, strict=True):
        np.testing.assert_array_equal(first.keypoints, second.keypoints)
        np.testing.assert_array_equal(first.readings[0].relative, second.readings[0].relative)
        assert first.readings[0].presence == second.readings[0].presence


def test_objects_of_the_benchmark_are_never_shown(monkeypatch):
    studio = landmark_views.LandmarkStudio(None, 0)
    held = {one.name for one in studio._grasps.objects}
    assert held >= BENCHMARK_OBJECTS
    monkeypatch.setattr(landmark_views, "BENCHMARK_OBJECTS", frozenset(held))
    monkeypatch.setattr(landmark_views, "replace", pytest.fail)  # nothing is posed
    assert all(studio.view(number, kind) is None for number in range(3) for kind in ("grasp", "free", "hidden"))


def test_objects_of_the_benchmark_are_those_of_its_plan():
    """A plan takes seconds: one stands for all, and changes with whatever changes the clips' objects."""
    assert find_plan(clip_requests(12, 1)[11]).object_name in BENCHMARK_OBJECTS


def test_the_shipped_reader_was_made_with_the_defaults_of_the_command():
    with np.load(READER_FILE, allow_pickle=False) as file:
        card = json.loads(str(file["card"]))
    assert card["data"]["rendered"] == [vars(part) for part in SHIPPED_VIEWS]
    assert card["data"]["drawn"] == ReaderData().drawn
    assert card["data"]["seed"] == SHIPPED_SEED
    assert set(card["data"]["objects_left_out"]) == BENCHMARK_OBJECTS
    assert card["training"] == vars(ReaderTraining())
    # What is drawn is easier than what is read from images, and is told apart.
    assert list(card["metrics"]) == ["grasp", "free", "hidden", "drawn"]
    assert card["measured_on"] == MEASURED_ON
    drawn, rendered = card["metrics"]["drawn"], [card["metrics"][kind] for kind in ("grasp", "free", "hidden")]
    assert all(drawn["rotation_mean"] < one["rotation_mean"] for one in rendered)
    assert sum(one["readings"] for one in rendered) > drawn["readings"] > 0
    assert card["command"].startswith("grasp-nodes train landmark-reader -o ")
