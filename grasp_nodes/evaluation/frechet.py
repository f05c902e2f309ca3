"""Fréchet distance between two sets of features, each taken as a normal distribution.

M. Heusel et al., "GANs trained by a two time-scale update rule ...", NeurIPS 2017 (FID, where the features are
Inception's); D. Dowson and B. Landau, "The Fréchet distance between multivariate normal distributions", 1982. The
number has the name of the network that made the features; those of two networks cannot be compared. Of finite sets it
is too large, by about the features' number over the grasps': compare numbers of equally many grasps only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from grasp_nodes.errors import InputError


class FrechetDistance(NamedTuple):
    """distance: at least 0, in the features' unit squared.

    samples, reference_samples: how many rows it is of, those with NaN left out.
    """

    distance: float
    samples: int
    reference_samples: int


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> FrechetDistance:
    """``|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))`` of the means m and covariances C of two sets.

    Args:
        features: (N, D), N >= 2. reference: (M, D), M >= 2. Rows with NaN are left out.

    Raises:
        InputError: widths that differ, or fewer than two rows.
    """
    a, b = (np.asarray(one, np.float64) for one in (features, reference))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise InputError(f"features: expected (N, D) and (M, D) of one D, got {a.shape} and {b.shape}")
    a, b = a[np.isfinite(a).all(axis=1)], b[np.isfinite(b).all(axis=1)]
    if len(a) < 2 or len(b) < 2:
        raise InputError(f"features: a distribution needs at least two rows, got {len(a)} and {len(b)}")
    distance = _distance(a.mean(axis=0), _factor(a), b.mean(axis=0), _factor(b))
    return FrechetDistance(distance, len(a), len(b))


def frechet_distance_of_normals(
    mean: np.ndarray, covariance: np.ndarray, reference_mean: np.ndarray, reference_covariance: np.ndarray
) -> float:
    """The same distance of distributions that are known, such as published statistics of a data set.

    Args:
        mean, reference_mean: (D,). covariance, reference_covariance: (D, D), symmetric, no negative eigenvalue.

    Raises:
        InputError: shapes that differ, or no covariance.
    """
    means = [np.asarray(one, np.float64) for one in (mean, reference_mean)]
    covariances = [np.asarray(one, np.float64) for one in (covariance, reference_covariance)]
    size = means[0].shape[:1]
    if means[0].ndim != 1 or means[1].shape != size or any(one.shape != size + size for one in covariances):
        shapes = [one.shape for one in (*means, *covariances)]
        raise InputError(f"distributions: expected means (D,) and covariances (D, D), got {shapes}")
    factors = []
    for one in covariances:
        values, vectors = np.linalg.eigh((one + one.T) / 2)
        scale = max(float(np.abs(values).max(initial=0)), 1e-300)
        if not np.allclose(one, one.T, atol=1e-6 * scale) or values.min(initial=0) < -1e-6 * scale:
            raise InputError("covariance: expected a symmetric matrix without negative eigenvalues")
        factors.append(np.sqrt(np.maximum(values, 0))[:, None] * vectors.T)
    return _distance(means[0], factors[0], means[1], factors[1])


def _factor(rows: np.ndarray) -> np.ndarray:
    """F with F^T F the covariance of rows (N, D), without ever squaring a number of the features."""
    centred = (rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(rows) > rows.shape[1] else centred


def _distance(mean: np.ndarray, factor: np.ndarray, other_mean: np.ndarray, other_factor: np.ndarray) -> float:
    """The distance of normal distributions with covariances F^T F and G^T G.

    ``tr (F^T F G^T G)^(1/2)`` is the sum of the singular values of ``F G^T``: its squared singular values are the
    eigenvalues of that product. No square root of a matrix, and nothing complex where covariances are singular.
    """
    cross = np.linalg.svd(factor @ other_factor.T, compute_uv=False).sum()
    spread = (factor**2).sum() + (other_factor**2).sum() - 2 * cross
    return float(max(((mean - other_mean) ** 2).sum() + spread, 0.0))
