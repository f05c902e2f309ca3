"""What a depth camera makes of exact depth: noise, lost edges, whole counts."""

from __future__ import annotations

import cv2
import numpy as np

DEPTH_UNIT = 0.001
DEPTH_NOISE = 0.001
"""m at `NOISE_DISTANCE`, growing with the square of the distance as stereo does."""
NOISE_DISTANCE = 0.65
EDGE_STEP = 0.015
"""m: neighbouring depths that differ by more lose half of their measurements."""


def measured_depth(depth: np.ndarray, rng: np.random.Generator, noise: float = 1.0) -> np.ndarray:
    """What a depth camera would say: noise, lost edges, counts of `DEPTH_UNIT`.

    Args:
        depth: (H, W), m, exact; inf or 0 = nothing there.
        noise: factor of `DEPTH_NOISE`.

    Returns:
        (H, W) uint16, 0 = no measurement.
    """
    exact = np.where(np.isfinite(depth), depth, 0.0)
    error = noise * DEPTH_NOISE * (exact / NOISE_DISTANCE) ** 2 * rng.standard_normal(depth.shape)
    kernel = np.ones((3, 3), np.uint8)
    edge = cv2.dilate(exact, kernel) - cv2.erode(exact, kernel) > EDGE_STEP
    lost = (edge & (rng.random(depth.shape) < 0.5)) | (exact <= 0)
    counts = np.round((exact + error) / DEPTH_UNIT)
    return np.where(lost | (counts > np.iinfo(np.uint16).max), 0, counts).astype(np.uint16)
