"""An order of an object's points: like places of like objects have the same number.

A layer that reads all points at once, as the token of a channel does, needs to know which is which. Points are split
into halves at the middle of x, each half at the middle of y, then of z, and so on: the leaves of that tree, one point
each, are the order. It depends on the cloud alone, not on the order in which points came.
"""

from __future__ import annotations

import numpy as np

from grasp_nodes.errors import InputError


def tree_order(points: np.ndarray) -> np.ndarray:
    """(B, N) int64, the number of the point that comes first, second, ...

    Args:
        points: (B, N, 3), finite, N a power of 2.

    Raises:
        InputError: another number of points, or some that are not finite.
    """
    batch, count, _ = points.shape
    if count < 1 or count & (count - 1):
        raise InputError(f"order of points: expected a power of 2 of them, got {count}")
    if not np.isfinite(points).all():
        raise InputError(f"order of points: {int((~np.isfinite(points).all(axis=2)).sum())} points are not finite")
    order = np.broadcast_to(np.arange(count), (batch, count))
    for level in range(count.bit_length() - 1):
        cells = (batch, 1 << level, count >> level)
        along = np.take_along_axis(points[..., level % 3], order, axis=1).reshape(cells)
        order = np.take_along_axis(order.reshape(cells), along.argsort(axis=2, kind="stable"), axis=2).reshape(
            batch, count
        )
    return order
