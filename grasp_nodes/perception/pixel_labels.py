"""Labels of pixels that fit their own evidence and change only where the colour does.

A Markov random field on the four-connected grid with contrast-sensitive Potts terms, minimised by sequential min-sum
belief propagation (Tappen and Freeman 2003, BP-S as in Szeliski et al. 2008): sweeps to the right, left, down and up.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from grasp_nodes.errors import InputError

FLOOR = 0.08
"""Share of the smoothness that is left across the strongest edge."""


def label_pixels(costs: np.ndarray, image: np.ndarray, smoothness: float, sweeps: int = 2) -> np.ndarray:
    """The cheapest label of each pixel.

    Args:
        costs: (H, W, L) float32, cost of each label, e.g. negative log likelihoods.
        image: (H, W, 3), colours in a space where distances mean visible differences, e.g. CIE L*a*b*.
        smoothness: cost of a change of label between neighbours of the same colour.
        sweeps: rounds of the four directions.

    Returns:
        (H, W) uint8, index of the label.

    Raises:
        InputError: the shapes do not fit.
    """
    if costs.ndim != 3 or image.shape != (*costs.shape[:2], 3):
        raise InputError(f"label_pixels: expected costs (H, W, L) and image (H, W, 3), got {costs.shape} {image.shape}")
    across, below = edge_weights(image, smoothness)
    messages = np.zeros((4, *costs.shape), np.float32)
    for _ in range(sweeps):
        _sweep(np.ascontiguousarray(costs, np.float32), across, below, messages)
    labels: np.ndarray = (costs + messages.sum(axis=0)).argmin(axis=-1).astype(np.uint8)
    return labels


def edge_weights(image: np.ndarray, smoothness: float) -> tuple[np.ndarray, np.ndarray]:
    """Cost of a change of label between neighbours (Boykov and Jolly 2001; the scale is the mean, as in GrabCut).

    Args:
        image: (H, W, 3). smoothness: the cost where both colours are the same.

    Returns:
        (H, W - 1) between columns and (H - 1, W) between rows, float32.
    """
    colors = image.astype(np.float32)
    across = ((colors[:, 1:] - colors[:, :-1]) ** 2).sum(axis=-1)
    below = ((colors[1:] - colors[:-1]) ** 2).sum(axis=-1)
    count = max(across.size + below.size, 1)
    scale = np.float32(2.0 * max(float(across.sum() + below.sum()) / count, 1.0))
    return (
        np.float32(smoothness) * (np.float32(FLOOR) + np.float32(1 - FLOOR) * np.exp(-across / scale)),
        np.float32(smoothness) * (np.float32(FLOOR) + np.float32(1 - FLOOR) * np.exp(-below / scale)),
    )


@njit(cache=True, error_model="numpy")
def _sweep(costs: np.ndarray, across: np.ndarray, below: np.ndarray, messages: np.ndarray) -> None:
    """One round; messages (4, H, W, L): what comes from the left, the right, above and below."""
    height, width, count = costs.shape
    for row in range(height):
        for column in range(width - 1):
            _send(costs, messages, row, column, row, column + 1, 0, 1, across[row, column], count)
        for column in range(width - 1, 0, -1):
            _send(costs, messages, row, column, row, column - 1, 1, 0, across[row, column - 1], count)
    for row in range(height - 1):
        for column in range(width):
            _send(costs, messages, row, column, row + 1, column, 2, 3, below[row, column], count)
    for row in range(height - 1, 0, -1):
        for column in range(width):
            _send(costs, messages, row, column, row - 1, column, 3, 2, below[row - 1, column], count)


@njit(cache=True, error_model="numpy", inline="always")
def _send(
    costs: np.ndarray,
    messages: np.ndarray,
    row: int,
    column: int,
    to_row: int,
    to_column: int,
    slot: int,
    back: int,
    weight: float,
    count: int,
) -> None:
    """Message of one pixel to its neighbour: everything it heard but from there, cut off at the price of a change."""
    least = np.float32(1e30)
    for label in range(count):
        heard = costs[row, column, label]
        for other in range(4):
            if other != back:
                heard += messages[other, row, column, label]
        messages[slot, to_row, to_column, label] = heard
        least = min(least, heard)
    for label in range(count):
        messages[slot, to_row, to_column, label] = min(messages[slot, to_row, to_column, label] - least, weight)
