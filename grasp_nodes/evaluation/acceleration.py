"""How jerky a motion is: the acceleration of points, by second differences over uneven clocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean_accelerations(stamps: Sequence[int], points: Sequence[np.ndarray | None]) -> np.ndarray:
    """Mean length of the points' acceleration at every instant that has both neighbours.

    Args:
        stamps: T, ns, increasing. points: T times (N, 3), m, or None where there is no answer.

    Returns:
        (T,) float64, m/s^2, NaN where it is not known.
    """
    result = np.full(len(stamps), np.nan)
    seconds = (np.asarray(stamps, np.int64) - (stamps[0] if len(stamps) else 0)) * 1e-9
    for row in range(1, len(stamps) - 1):
        before, here, after = points[row - 1], points[row], points[row + 1]
        if before is None or here is None or after is None:
            continue
        first, second = seconds[row] - seconds[row - 1], seconds[row + 1] - seconds[row]
        change = (after - here) / second - (here - before) / first
        result[row] = np.linalg.norm(2 * change / (first + second), axis=1).mean()
    return result
