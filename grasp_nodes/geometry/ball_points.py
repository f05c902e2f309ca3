"""Points that fill a ball evenly, always the same ones."""

from __future__ import annotations

import numpy as np

_STRIDES = 1.2207440846057596 ** -np.arange(1.0, 4.0)
"""Of the additive recurrence that fills a cube (Roberts, "The unreasonable effectiveness of quasirandom sequences",
2018): powers of the root of x^4 = x + 1."""


def ball_points(count: int, radius: float) -> np.ndarray:
    """(count, 3) float64: a sequence of low discrepancy, uniform over the ball about the origin."""
    share = (0.5 + np.arange(1, count + 1)[:, None] * _STRIDES) % 1.0
    turn, height = 2 * np.pi * share[:, 0], 2 * share[:, 1] - 1
    flat = np.sqrt(1 - height * height)
    directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)
    return np.asarray(radius * np.cbrt(share[:, 2:]) * directions)
