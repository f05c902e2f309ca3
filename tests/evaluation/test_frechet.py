"""Fréchet distance against closed forms, SciPy's matrix square root, and what a distance must do."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.frechet import frechet_distance, frechet_distance_of_normals


def by_matrix_root(a: np.ndarray, b: np.ndarray) -> float:
    """The formula as it is written, with SciPy's square root."""
    c, d = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(c @ d).real
    return float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + np.trace(c + d - 2 * root))


def samples(seed: int, count: int, size: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size)


@given(st.integers(0, 1000), st.integers(2, 12), st.integers(20, 60), st.integers(20, 60))
@settings(max_examples=40, deadline=None)
def test_agrees_with_the_matrix_square_root(seed: int, size: int, first: int, second: int) -> None:
    a, b = samples(seed, first, size), samples(seed + 1, second, size)
    assert frechet_distance(a, b).distance == pytest.approx(by_matrix_root(a, b), rel=1e-5, abs=1e-6)


def test_closed_form_in_one_dimension_and_on_a_diagonal() -> None:
    # (m - m')^2 + (s - s')^2 for every axis.
    assert frechet_distance_of_normals(*([1.0], [[4.0]]), *([-2.0], [[9.0]])) == pytest.approx(9 + 1)
    s, r = np.array([1.0, 0.0, 3.0]), np.array([2.0, 5.0, 0.5])
    value = frechet_distance_of_normals(np.zeros(3), np.diag(s**2), np.ones(3), np.diag(r**2))
    assert value == pytest.approx(3 + ((s - r) ** 2).sum())


def test_sets_with_exact_moments_have_the_closed_form() -> None:
    # Two points have mean (a + b) / 2 and variance (a - b)^2 / 2.
    found = frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [11.0]]))
    assert found.distance == pytest.approx((7 - 1) ** 2 + (np.sqrt(32) - np.sqrt(2)) ** 2)
    assert (found.samples, found.reference_samples) == (2, 2)


@given(st.integers(0, 1000), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_zero_to_itself_symmetric_and_blind_to_order(seed: int, size: int) -> None:
    a, b = samples(seed, 25, size), samples(seed + 7, 30, size)  # also fewer rows than columns
    scale = float((a**2).sum() + (b**2).sum())
    rng = np.random.default_rng(seed)
    assert frechet_distance(a, a).distance < 1e-10 * scale
    one = frechet_distance(a, b).distance
    assert one == pytest.approx(frechet_distance(b, a).distance, abs=1e-10 * scale)
    assert one == pytest.approx(frechet_distance(rng.permutation(a), rng.permutation(b)).distance, abs=1e-10 * scale)
    rotation = np.linalg.qr(rng.normal(size=(size, size)))[0]
    assert one == pytest.approx(frechet_distance(a @ rotation + 3, b @ rotation + 3).distance, abs=1e-8 * scale)
    assert 4 * one == pytest.approx(frechet_distance(2 * a, 2 * b).distance, abs=1e-10 * scale)


def test_fewer_rows_than_columns_stay_exact() -> None:
    """Singular covariances, where the written formula becomes complex: a rotation into few columns must not matter."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(10, 4)), rng.normal(size=(12, 4)) + 1
    wide = np.linalg.qr(rng.normal(size=(300, 4)))[0].T
    assert frechet_distance(a @ wide, b @ wide).distance == pytest.approx(frechet_distance(a, b).distance, rel=1e-9)


def test_a_tiny_spread_on_a_large_mean_is_kept() -> None:
    rng = np.random.default_rng(0)
    a = 1e4 + 1e-3 * rng.normal(size=(500, 3))
    b = 1e4 + 3e-3 * rng.normal(size=(500, 3))
    assert frechet_distance(a, b).distance == pytest.approx(3 * (2e-3) ** 2, rel=0.1)


def test_it_grows_with_noise() -> None:
    a = samples(3, 2000, 6)
    noise = np.random.default_rng(9).normal(size=a.shape)
    values = [frechet_distance(a + level * noise, a).distance for level in (0.0, 0.1, 0.3, 1.0, 3.0)]
    assert np.all(np.diff(values) > 0)


def test_rows_with_nan_are_left_out_and_counted() -> None:
    a, b = samples(0, 30, 3), samples(1, 40, 3)
    broken = np.insert(a, 5, np.nan, axis=0)
    found = frechet_distance(broken, b)
    assert found.distance == pytest.approx(frechet_distance(a, b).distance)
    assert (found.samples, found.reference_samples) == (30, 40)


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="of one D"):
        frechet_distance(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(InputError, match="at least two rows, got 1 and 4"):
        frechet_distance(np.array([[0.0], [np.nan]]), np.zeros((4, 1)))
    with pytest.raises(InputError, match=r"expected means \(D,\)"):
        frechet_distance_of_normals(np.zeros(2), np.eye(3), np.zeros(2), np.eye(2))
    for wrong in (np.array([[1.0, 1.0], [0.0, 1.0]]), -np.eye(2)):
        with pytest.raises(InputError, match="negative eigenvalues"):
            frechet_distance_of_normals(np.zeros(2), wrong, np.zeros(2), np.eye(2))
