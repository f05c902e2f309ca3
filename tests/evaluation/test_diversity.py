"""Entropy and cluster size of sets whose clusters are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.as_released import cluster_size_as_released
from grasp_nodes.evaluation.diversity import assignment_entropy, diversity


def blobs(counts: list[int], spread: float, seed: int = 0) -> np.ndarray:
    """Keypoints (N, 21, 3) around well separated grasps."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(counts), 21, 3)) * 0.1
    return np.concatenate([c + spread * rng.normal(size=(n, 21, 3)) for c, n in zip(centres, counts, strict=True)])


def test_even_clusters_have_the_largest_entropy_and_the_known_size():
    found = diversity(blobs([10] * 20, 1e-4))
    assert found.entropy == pytest.approx(np.log(20))
    # Mean length of 63 normal numbers about their mean of ten.
    assert found.cluster_size == pytest.approx(1e-4 * np.sqrt(63 * 0.9), rel=0.02)
    assert found.grasps == 200


def test_entropy_of_uneven_clusters():
    found = diversity(blobs([30, 10, 10], 1e-4), clusters=3)
    share = np.array([0.6, 0.2, 0.2])
    assert found.entropy == pytest.approx(-(share * np.log(share)).sum())
    assert assignment_entropy(np.zeros(7, int), 20) == 0


def test_clusters_are_as_tight_as_those_of_scipy():
    points = np.random.default_rng(3).normal(size=(300, 21, 3))
    flat = points.reshape(300, -1)
    centres, label = kmeans2(flat, 20, minit="++", seed=1, iter=100)
    theirs = np.linalg.norm(flat - centres[label], axis=1).mean()
    assert diversity(points).cluster_size == pytest.approx(theirs, rel=0.03)


def test_a_seed_gives_the_same_answer_and_nan_is_left_out():
    points = np.random.default_rng(0).normal(size=(60, 21, 3))
    with_nan = np.concatenate([points, np.full((3, 21, 3), np.nan)])
    assert diversity(points, seed=7) == diversity(with_nan, seed=7)
    assert diversity(with_nan).grasps == 60


def test_too_few_grasps_are_refused_and_equal_ones_have_no_diversity():
    with pytest.raises(InputError, match="20 clusters"):
        diversity(np.zeros((19, 21, 3)))
    assert diversity(np.zeros((25, 21, 3))) == (0.0, 0.0, 25)


def test_the_released_size_does_not_see_that_all_grasps_became_equal():
    points = np.random.default_rng(0).normal(size=(100, 21, 3))
    assert diversity(0.001 * points).cluster_size == pytest.approx(0.001 * diversity(points).cluster_size)
    assert cluster_size_as_released(0.001 * points) == pytest.approx(cluster_size_as_released(points))
