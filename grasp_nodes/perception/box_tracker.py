"""Boxes followed through time: a constant-velocity Kalman filter per box, and the assignment of new boxes to them.

After SORT (Bewley et al. 2016), with centre, width and height as the state, so that a box that shrinks keeps its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from grasp_nodes.errors import InputError
from grasp_nodes.perception.boxes import box_iou


@dataclass(frozen=True)
class BoxTrackerOptions:
    """How boxes are followed."""

    max_missed: int = 10
    """Images for which a box that was not seen is predicted before it is dropped."""
    confidence_decay: float = 0.85
    """Factor on the score for every image in which the box was not seen."""
    min_iou: float = 0.2
    """Lowest overlap of a predicted box and a seen one that are taken for the same."""
    measurement_noise: float = 0.02
    """Standard deviation of a seen box, as a share of its size."""
    process_noise: float = 0.03
    """Standard deviation of the change of velocity from image to image, as a share of the box's size."""

    def __post_init__(self) -> None:
        if self.max_missed < 0:
            raise InputError(f"max_missed: expected at least 0, got {self.max_missed}")
        for name in ("confidence_decay", "min_iou", "measurement_noise", "process_noise"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise InputError(f"{name}: expected a number in (0, 1], got {getattr(self, name)}")


@dataclass(frozen=True)
class TrackedBox:
    """A box and its track. box: (4,) float32, px. missed: images since it was last seen. index: of the seen box."""

    track_id: int
    box: np.ndarray
    score: float
    missed: int
    index: int | None


class KalmanBox:
    """One box: state (centre x, y, width, height and their velocities per image), px."""

    def __init__(self, box: np.ndarray, options: BoxTrackerOptions) -> None:
        self._options = options
        self.state = np.concatenate([_measurement(box), np.zeros(4)])
        size = self._size()
        self.covariance = np.diag(np.repeat([(options.measurement_noise * size) ** 2, (0.2 * size) ** 2], 4))

    @property
    def box(self) -> np.ndarray:
        """(4,) float32: x_min, y_min, x_max, y_max."""
        center, extent = self.state[:2], np.maximum(self.state[2:4], 1.0)
        return np.concatenate([center - extent / 2, center + extent / 2]).astype(np.float32)

    def predict(self) -> None:
        """Move on by one image."""
        step = np.eye(8)
        step[:4, 4:] = np.eye(4)
        # White noise on the acceleration, integrated over one image.
        variance = (self._options.process_noise * self._size()) ** 2
        noise = np.kron(np.array([[0.25, 0.5], [0.5, 1.0]]), np.eye(4)) * variance
        self.state = step @ self.state
        self.covariance = step @ self.covariance @ step.T + noise

    def correct(self, box: np.ndarray) -> None:
        """Take in a box that was seen."""
        noise = np.eye(4) * (self._options.measurement_noise * self._size()) ** 2
        gain = np.linalg.solve(self.covariance[:4, :4] + noise, self.covariance[:4]).T
        self.state = self.state + gain @ (_measurement(box) - self.state[:4])
        shrink = np.eye(8)
        shrink[:, :4] -= gain
        # Joseph's form stays symmetric and positive.
        self.covariance = shrink @ self.covariance @ shrink.T + gain @ noise @ gain.T

    def _size(self) -> float:
        return float(max(self.state[2:4].mean(), 1.0))


def _measurement(box: np.ndarray) -> np.ndarray:
    box = np.asarray(box, np.float64)
    if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] <= box[:2]).any():
        raise InputError(f"box: expected x_min < x_max and y_min < y_max, got {box.tolist()}")
    return np.concatenate([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])


class BoxTracker:
    """Follows any number of boxes; gives predicted boxes, with falling confidence, where one was missed."""

    def __init__(self, options: BoxTrackerOptions | None = None) -> None:
        self.options = options or BoxTrackerOptions()
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Forget every box; track ids go on counting."""
        self._tracks: list[tuple[int, KalmanBox]] = []
        self._scores: dict[int, float] = {}
        self._missed: dict[int, int] = {}

    def update(self, boxes: Sequence[np.ndarray], scores: Sequence[float]) -> list[TrackedBox]:
        """The boxes of the next image.

        Args:
            boxes: of (4,), px.
            scores: in [0, 1], one per box.

        Returns:
            Seen and predicted boxes, filtered, best first.

        Raises:
            InputError: a box without area, or not as many scores as boxes.
        """
        if len(boxes) != len(scores):
            raise InputError(f"scores: expected {len(boxes)}, one per box, got {len(scores)}")
        for _, kalman in self._tracks:
            kalman.predict()
        pairs = self._assign(boxes)
        seen: dict[int, int] = {}
        for row, column in pairs:
            track_id, kalman = self._tracks[row]
            kalman.correct(boxes[column])
            seen[track_id] = column
        for column in set(range(len(boxes))) - {column for _, column in pairs}:
            self._tracks.append((self._next_id, KalmanBox(boxes[column], self.options)))
            seen[self._next_id] = column
            self._next_id += 1
        self._age(seen, scores)
        tracked = [
            TrackedBox(track_id, kalman.box, self._scores[track_id], self._missed[track_id], seen.get(track_id))
            for track_id, kalman in self._tracks
        ]
        return sorted(tracked, key=lambda box: -box.score)

    def _assign(self, boxes: Sequence[np.ndarray]) -> list[tuple[int, int]]:
        if not self._tracks or not len(boxes):
            return []
        overlap = np.stack([box_iou(kalman.box, np.stack(boxes)) for _, kalman in self._tracks])
        rows, columns = linear_sum_assignment(-overlap)
        return [(r, c) for r, c in zip(rows, columns, strict=True) if overlap[r, c] >= self.options.min_iou]

    def _age(self, seen: dict[int, int], scores: Sequence[float]) -> None:
        for track_id, _ in self._tracks:
            if track_id in seen:
                self._scores[track_id], self._missed[track_id] = float(scores[seen[track_id]]), 0
            else:
                self._scores[track_id] *= self.options.confidence_decay
                self._missed[track_id] += 1
        kept = {track_id for track_id, missed in self._missed.items() if missed <= self.options.max_missed}
        self._tracks = [(track_id, kalman) for track_id, kalman in self._tracks if track_id in kept]
        self._scores = {track_id: score for track_id, score in self._scores.items() if track_id in kept}
        self._missed = {track_id: missed for track_id, missed in self._missed.items() if track_id in kept}
