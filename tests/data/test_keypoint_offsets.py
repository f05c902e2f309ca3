"""The measured keypoint offsets: the fit recovers known ones, and the shipped table belongs to the shipped hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import grasp_nodes
from grasp_nodes.data.keypoint_offsets import View, fit_offsets, fit_skin_depth, measure
from grasp_nodes.errors import GraspNodesError
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model

K = np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
TABLE = Path(grasp_nodes.__file__).parent / "fitting" / "keypoint_offsets.json"


def make_views(offsets, depth, count=80, noise=1.0, outliers=0.0):
    rng = np.random.default_rng(0)
    views = []
    for _ in range(count):
        keypoints = rng.normal(0, 0.05, (21, 3)) + [0, 0, 0.6]
        frames = Rotation.random(21, random_state=rng).as_matrix()
        moved = keypoints + np.einsum("kij,kj->ki", frames, offsets)
        seen = (moved @ K.T)[:, :2] / moved[:, 2:] + rng.normal(0, noise, (21, 2))
        wrong = rng.random(21) < outliers
        seen[wrong] += rng.normal(0, 80, (wrong.sum(), 2))
        visible = rng.random(21) < 0.8
        seen[~visible] += 50
        views.append(View(keypoints, frames, seen, moved[:, 2] - depth, visible))
    return views


@pytest.fixture
def known():
    rng = np.random.default_rng(1)
    return rng.uniform(-0.012, 0.012, (21, 3)), rng.uniform(0.004, 0.012, 21)


@pytest.mark.parametrize(("noise", "outliers", "tolerance"), [(0.0, 0.0, 1e-4), (2.0, 0.1, 1.5e-3)])
def test_fit_recovers_known_offsets(known, noise, outliers, tolerance):
    offsets, depth = known
    views = make_views(offsets, depth, noise=noise, outliers=outliers)
    found = fit_offsets(views, K)
    assert np.abs(found - offsets).max() < tolerance
    assert np.abs(fit_skin_depth(views, found) - depth).max() < tolerance


def test_residuals_fall_to_the_noise(known):
    offsets, depth = known
    fit = measure(make_views(offsets, depth, noise=1.0), K)
    assert fit.views == 80
    assert fit.residual_before > 6
    assert fit.residual_after == pytest.approx(np.sqrt(np.pi / 2), rel=0.1)  # mean length of a 2D unit normal


def test_too_few_views_are_refused(known):
    with pytest.raises(GraspNodesError, match="5 views"):
        measure(make_views(*known, count=5), K)


def test_shipped_table_belongs_to_the_shipped_hand():
    table = json.loads(TABLE.read_text())
    assert table["hand_fingerprint"] == load_hand_model("right", OPEN_HAND_FILE).fingerprint
    offsets, depth = np.array(table["offsets"]), np.array(table["skin_depth"])
    assert offsets.shape == (21, 3)
    assert np.abs(offsets).max() < 0.025
    assert depth.shape == (21,)
    assert ((depth > 0.003) & (depth < 0.025)).all()
    assert table["residual_px_after"] < table["residual_px_before"]
    assert table["views"] >= 100
