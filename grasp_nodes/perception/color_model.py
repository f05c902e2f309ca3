"""What colours a thing has: a histogram that is learned from its pixels and adapts slowly."""

from __future__ import annotations

import cv2
import numpy as np

BINS = (8, 16, 16)
"""Cells of lightness and of the two colour axes: lightness changes with the shading, so it counts less."""
FINE_BINS = (8, 32, 32)
"""The same for telling two things of similar colours apart, such as skin and wood."""
UNIFORM = -float(np.log(np.prod(BINS)))
"""Log likelihood of every colour for a thing of unknown colour."""
UNSEEN = 1e-4
LEARN_MIN_PIXELS = 40


def color_cells(image: np.ndarray, bins: tuple[int, int, int] = BINS) -> np.ndarray:
    """The histogram cell of each pixel.

    Args:
        image: (H, W, 3) uint8, RGB; may be empty, as of a thing that is not there. bins: of the histogram.

    Returns:
        (H, W) int32, index into the flattened CIE L*a*b* histogram.
    """
    if not image.size:  # OpenCV takes none
        return np.zeros(image.shape[:2], np.int32)
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.int32)
    lightness = lab[..., 0] * bins[0] >> 8
    # a* and b* of real surfaces keep to the middle half of their range.
    a, b = (np.clip((lab[..., axis] - 64) * bins[axis] >> 7, 0, bins[axis] - 1) for axis in (1, 2))
    return (lightness * bins[1] + a) * bins[2] + b


class ColorModel:
    """Log likelihood of colours, learned from examples."""

    def __init__(self, rate: float = 0.1, bins: tuple[int, int, int] = BINS) -> None:
        """Start without knowledge.

        Args:
            rate: weight of each new set of pixels, in (0, 1]. bins: of the cells that it is shown.
        """
        self._rate, self._bins = rate, bins
        self._histogram: np.ndarray | None = None
        self._log = np.zeros(bins, np.float32)

    @property
    def is_known(self) -> bool:
        """Whether any pixel was learned."""
        return self._histogram is not None

    def learn(self, cells: np.ndarray) -> None:
        """Take in pixels that belong to the thing: (N,) cells; too few are ignored."""
        if len(cells) < LEARN_MIN_PIXELS:
            return
        counts = np.bincount(cells, minlength=int(np.prod(self._bins))).astype(np.float32).reshape(self._bins)
        for axis in range(3):  # neighbouring cells share their counts: noise moves pixels across borders
            for _ in range(self._bins[axis] // BINS[axis]):
                counts = _spread(counts, axis)
        new = counts / counts.sum()
        old = self._histogram
        self._histogram = new if old is None else (1 - self._rate) * old + self._rate * new
        self._log = np.log((self._histogram * self._histogram.size + UNSEEN) / np.float32(np.prod(BINS)))

    def log_likelihood(self, cells: np.ndarray) -> np.ndarray:
        """(...) float32 log density of (...) cells, per cell of `BINS`; zero where nothing is known."""
        return self._log.reshape(-1)[cells]


def _spread(counts: np.ndarray, axis: int) -> np.ndarray:
    moved = np.moveaxis(counts, axis, 0)
    spread = 0.5 * moved
    spread[1:] += 0.25 * moved[:-1]
    spread[:-1] += 0.25 * moved[1:]
    return np.moveaxis(spread, 0, axis)
