"""What stands out of its surroundings: colour barriers between each pixel and the image's border.

The minimum barrier distance of Strand et al. (2013) by raster scans (Zhang et al. 2015, Algorithm 1): the least
difference between the brightest and the darkest value along any path from a seed. A table leads to the border without
a barrier, and so does an arm that enters the image; a thing on the table or in the hand does not.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from grasp_nodes.errors import InputError


def barrier_distance(image: np.ndarray, seeds: np.ndarray, rounds: int = 2) -> np.ndarray:
    """Sum over the channels of the least barrier to a seed.

    Args:
        image: (H, W, C) uint8 or float. seeds: (H, W) bool. rounds: of one scan down and one up.

    Returns:
        (H, W) float32, in the image's units; 0 at the seeds.

    Raises:
        InputError: the shapes do not fit.
    """
    if image.ndim != 3 or seeds.shape != image.shape[:2]:
        raise InputError(f"barrier_distance: expected (H, W, C) and seeds (H, W), got {image.shape} and {seeds.shape}")
    total = np.zeros(seeds.shape, np.float32)
    for channel in range(image.shape[2]):
        values = np.ascontiguousarray(image[..., channel], np.float32)
        distance = np.where(seeds, np.float32(0), np.float32(1e9))
        _scan(values, distance, values.copy(), values.copy(), rounds)
        total += distance
    return total


@njit(cache=True, error_model="numpy")
def _scan(values: np.ndarray, distance: np.ndarray, high: np.ndarray, low: np.ndarray, rounds: int) -> None:
    height, width = values.shape
    for _ in range(rounds):
        for row in range(height):
            for column in range(width):
                if row > 0:
                    _relax(values, distance, high, low, row, column, row - 1, column)
                if column > 0:
                    _relax(values, distance, high, low, row, column, row, column - 1)
        for row in range(height - 1, -1, -1):
            for column in range(width - 1, -1, -1):
                if row < height - 1:
                    _relax(values, distance, high, low, row, column, row + 1, column)
                if column < width - 1:
                    _relax(values, distance, high, low, row, column, row, column + 1)


@njit(cache=True, error_model="numpy", inline="always")
def _relax(
    values: np.ndarray,
    distance: np.ndarray,
    high: np.ndarray,
    low: np.ndarray,
    row: int,
    column: int,
    from_row: int,
    from_column: int,
) -> None:
    """Go by way of a neighbour where that lowers the barrier."""
    if distance[from_row, from_column] < np.float32(1e8):
        top = max(high[from_row, from_column], values[row, column])
        bottom = min(low[from_row, from_column], values[row, column])
        if top - bottom < distance[row, column]:
            distance[row, column] = top - bottom
            high[row, column] = top
            low[row, column] = bottom
