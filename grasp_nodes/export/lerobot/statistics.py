"""Statistics as LeRobot keeps them, of an episode and of a whole data set: what policies are normalised with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
PICTURES = 50
"""Pictures of an episode that its statistics are made of, spread evenly."""
PICTURE_EDGE = 150
"""px; of larger pictures only every so many pixels count."""

Statistics = dict[str, np.ndarray]


def column_statistics(values: np.ndarray) -> Statistics:
    """Of a column's rows.

    Args:
        values: (T, n) or (T,).

    Returns:
        min, max, mean, std, q01, q10, q50, q90, q99: (n,) float64; count: (1,) int64.
    """
    rows = np.asarray(values, np.float64).reshape(len(values), -1)
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        "count": np.array([len(rows)], np.int64),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


class PictureStatistics:
    """Of the pictures of one episode, per colour: values in [0, 1], each of shape (3, 1, 1)."""

    def __init__(self, count: int) -> None:
        """Choose the pictures of an episode of `count`."""
        self._wanted = set(np.unique(np.linspace(0, max(count - 1, 0), PICTURES).round().astype(int)).tolist())
        self._pixels: list[np.ndarray] = []
        self._row = 0

    def add(self, picture: np.ndarray) -> None:
        """The next picture, (H, W, 3) uint8."""
        if self._row in self._wanted:
            step = max(1, max(picture.shape[:2]) // PICTURE_EDGE)
            self._pixels.append(picture[::step, ::step].reshape(-1, 3).copy())
        self._row += 1

    def statistics(self) -> Statistics:
        """As `column_statistics`, (3, 1, 1); count: of the pictures."""
        found = column_statistics(np.concatenate(self._pixels) / 255.0)
        shaped = {name: value.reshape(3, 1, 1) for name, value in found.items() if name != "count"}
        return {**shaped, "count": np.array([len(self._pixels)], np.int64)}


def together(parts: Sequence[Statistics]) -> Statistics:
    """Of several episodes as one: exact, but for quantiles, which are means weighted by count, as LeRobot has them."""
    counts = np.array([int(part["count"][0]) for part in parts], np.float64)
    total = counts.sum()

    def mean(values: Sequence[np.ndarray]) -> np.ndarray:
        return np.tensordot(counts / total, np.stack(values), axes=1)

    middle = mean([part["mean"] for part in parts])
    variance = mean([part["std"] ** 2 + (part["mean"] - middle) ** 2 for part in parts])
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": middle,
        "std": np.sqrt(variance),
        "count": np.array([int(total)], np.int64),
        **{name: mean([part[name] for part in parts]) for name in QUANTILES},
    }
