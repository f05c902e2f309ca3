"""Errors after alignment and F-scores against closed forms and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.pose_metrics import (
    add_s,
    f_score,
    mean_vertex_error,
    procrustes_aligned,
    procrustes_aligned_error,
    root_aligned_keypoint_error,
)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_a_similarity_is_taken_back_exactly_and_an_added_noise_is_at_its_least(seed):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(50, 3)) * 0.1
    turn = Rotation.random(random_state=seed).as_matrix()
    estimate = 1.7 * truth @ turn.T + rng.normal(size=3)
    assert procrustes_aligned_error(estimate, truth) == pytest.approx(0, abs=1e-9)
    noisy = estimate + 0.02 * rng.normal(size=estimate.shape)
    aligned = procrustes_aligned(noisy, truth)
    least = ((aligned - truth) ** 2).sum()
    # SciPy's rotation of the centred sets, with its own best scale.
    source, target = noisy - noisy.mean(axis=0), truth - truth.mean(axis=0)
    other = source @ Rotation.align_vectors(target, source)[0].as_matrix().T
    other *= (other * target).sum() / (other**2).sum()
    assert least == pytest.approx(((other - target) ** 2).sum(), rel=1e-6)


def test_a_mirror_image_is_not_aligned_away():
    truth = np.random.default_rng(0).normal(size=(50, 3))
    assert procrustes_aligned_error(truth * [-1, 1, 1], truth) > 0.5


def test_scale_and_translation_alone_keep_a_turn():
    truth = np.random.default_rng(0).normal(size=(200, 3))
    assert procrustes_aligned_error(3 * truth + 1, truth, rotate=False) == pytest.approx(0, abs=1e-9)
    turned = truth @ Rotation.from_euler("z", 90, degrees=True).as_matrix().T
    assert procrustes_aligned_error(turned, truth, rotate=False) > 0.5
    np.testing.assert_allclose(procrustes_aligned(np.zeros_like(truth), truth), truth.mean(axis=0)[None].repeat(200, 0))


def test_f_score_of_shifted_and_of_partial_points():
    line = np.stack([np.arange(100) * 0.1, np.zeros(100), np.zeros(100)], axis=1)
    assert f_score(line + [0, 0.004, 0], line, 0.005) == 1
    assert f_score(line + [0, 0.006, 0], line, 0.005) == 0
    # All of the half are right, half of all are found.
    assert f_score(line[:50], line, 0.005) == pytest.approx(2 * 1 * 0.5 / 1.5)


def test_what_is_not_a_number_is_no_score_and_never_an_exception():
    points = np.random.default_rng(0).normal(size=(9, 3))
    broken = np.where(np.arange(9)[:, None] == 4, np.nan, points)
    assert np.isnan(mean_vertex_error(broken, points))
    for rotate in (True, False):
        assert np.isnan(procrustes_aligned_error(broken, points, rotate))
    assert np.isnan(f_score(broken, points, 0.005))
    assert np.isnan(f_score(points, broken, 0.005))
    assert np.isnan(add_s(np.full((4, 4), np.nan), np.eye(4), points))


def test_empty_sets_and_batches_are_refused():
    points = np.zeros((9, 3))
    for wrong in (np.zeros((0, 3)), np.zeros((2, 9, 3))):
        with pytest.raises(InputError, match="F-score"):
            f_score(wrong, points, 0.005)
        for measure in (mean_vertex_error, root_aligned_keypoint_error, procrustes_aligned):
            with pytest.raises(InputError, match="one frame"):
                measure(wrong, wrong)


def test_mean_vertex_error_is_the_mean_distance():
    assert mean_vertex_error(np.ones((7, 3)), np.zeros((7, 3))) == pytest.approx(np.sqrt(3))
    with pytest.raises(InputError):
        mean_vertex_error(np.ones((7, 3)), np.zeros((6, 3)))
