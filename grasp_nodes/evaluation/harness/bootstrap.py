"""Confidence intervals over objects: grasps of one object are alike, so that objects are what is drawn again.

B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979; percentile intervals.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000


class Interval(NamedTuple):
    """low, high: NaN where there is none."""

    low: float
    high: float


def ratio_interval(
    sums: np.ndarray, counts: np.ndarray, seed: int, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> Interval:
    """Interval of ``sums.sum() / counts.sum()`` when objects are drawn with replacement.

    Args:
        sums, counts: (O,), of each object: a mean over grasps is the ratio of their totals.
        seed: of the draws; the same seed draws the same objects, so that methods are compared on equal draws.
        confidence: share of the draws inside. resamples: draws.

    Returns:
        NaN for fewer than two objects with grasps.
    """
    sums, counts = np.asarray(sums, np.float64), np.asarray(counts, np.float64)
    if np.count_nonzero(counts) < 2:
        return Interval(float("nan"), float("nan"))
    objects = len(counts)
    draws = np.random.default_rng(seed).multinomial(objects, np.full(objects, 1 / objects), resamples)
    total = draws @ counts
    known = total > 0
    values = (draws[known] @ sums) / total[known]
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))
