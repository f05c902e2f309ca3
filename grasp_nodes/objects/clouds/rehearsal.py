"""Clouds to run through everything once before the first real one comes: so that all is compiled and loaded then."""

from __future__ import annotations

import numpy as np

_FORWARD, _DOWN = 0.6, 0.8
"""Of the look at the table: 53 degrees from above."""
_DISTANCE, _RADIUS, _HEIGHT = 0.7, 0.035, 0.1
"""m, to the thing, and of it."""


def rehearsal_clouds(seed: int = 0) -> list[np.ndarray]:
    """(N, 3) float32, m, in a camera's frame: a ball from all sides, and a can on a table as the camera sees it."""
    rng = np.random.default_rng(seed)
    ball = rng.normal(size=(8000, 3))
    ball = _RADIUS * ball / np.linalg.norm(ball, axis=1, keepdims=True) + [0.0, 0.0, _DISTANCE]
    up, ahead = np.array([0.0, -_FORWARD, -_DOWN]), np.array([0.0, -_DOWN, _FORWARD])
    right, foot = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, _DISTANCE])
    # The half of the can that looks towards the camera, and its lid.
    turn = rng.uniform(np.pi, 2 * np.pi, 4000)
    radius = np.sqrt(rng.uniform(size=1500))[:, None] * _RADIUS
    lid = rng.uniform(0, 2 * np.pi, 1500)

    def around(angle: np.ndarray) -> np.ndarray:
        return np.cos(angle)[:, None] * right + np.sin(angle)[:, None] * ahead

    side = foot + _RADIUS * around(turn) + rng.uniform(0, _HEIGHT, (4000, 1)) * up
    top = foot + radius * around(lid) + _HEIGHT * up
    across, along = rng.uniform(-0.4, 0.4, (2, 40_000, 1))
    table = foot + across * right + along * ahead
    # Behind the can its shadow, which the camera does not see.
    hidden = (np.abs(across) < _RADIUS) & (along > -_RADIUS) & (along < 3 * _HEIGHT)
    return [part.astype(np.float32) for part in (ball, np.concatenate([side, top, table[~hidden[:, 0]]]))]
