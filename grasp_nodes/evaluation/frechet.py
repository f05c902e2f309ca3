"""Fréchet distance between two sets of features, each taken as a normal distribution.

M. Heusel et al., "GANs trained by a two time-scale update rule ...", NeurIPS 2017 (FID, where the features are
Inception's). The number has the name of the network that made the features; those of two networks cannot be compared.
"""

from __future__ import annotations

import numpy as np

from grasp_nodes.errors import InputError


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """``|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))`` of means m and covariances C.

    Args:
        features: (N, D), N >= 2. reference: (M, D), M >= 2. Rows with NaN are left out.

    Returns:
        At least 0, in the features' unit squared.

    Raises:
        InputError: widths that differ, or fewer than two rows.
    """
    a, b = (np.asarray(one, np.float64) for one in (features, reference))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise InputError(f"features: expected (N, D) and (M, D) of one D, got {a.shape} and {b.shape}")
    a, b = a[np.isfinite(a).all(axis=1)], b[np.isfinite(b).all(axis=1)]
    if len(a) < 2 or len(b) < 2:
        raise InputError(f"features: a distribution needs at least two rows, got {len(a)} and {len(b)}")
    covariance_a, covariance_b = (np.atleast_2d(np.cov(one, rowvar=False)) for one in (a, b))
    # tr (A B)^(1/2) = tr (B^(1/2) A B^(1/2))^(1/2), which is symmetric: no complex numbers where a set is small.
    values, vectors = np.linalg.eigh(covariance_b)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance_a @ root), 0)).sum()
    apart = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return float(max(apart + np.trace(covariance_a) + np.trace(covariance_b) - 2 * cross, 0.0))
