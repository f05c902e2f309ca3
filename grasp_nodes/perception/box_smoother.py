"""Boxes of one thing in all frames, from those in which it was seen: the Kalman tracker of boxes, run both ways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grasp_nodes.perception.box_tracker import BoxTrackerOptions, KalmanBox


def smooth_boxes(
    boxes: Sequence[np.ndarray | None], options: BoxTrackerOptions | None = None
) -> list[np.ndarray | None]:
    """The most likely boxes given those of all frames (Rauch, Tung and Striebel, 1965).

    Args:
        boxes: (4,), px, of consecutive frames; None = not seen.
        options: of the tracker; frames farther than `max_missed` from every seen one stay without a box.

    Returns:
        (4,) float32, px, per frame, or None.
    """
    options = options or BoxTrackerOptions()
    seen = [index for index, box in enumerate(boxes) if box is not None]
    if not seen:
        return [None] * len(boxes)
    first = boxes[seen[0]]
    assert first is not None
    kalman = KalmanBox(first, options)
    states, covariances, predicted = [kalman.state], [kalman.covariance], []
    for box in boxes[seen[0] + 1 :]:
        kalman.predict()
        predicted.append((kalman.state, kalman.covariance))
        if box is not None:
            kalman.correct(box)
        states.append(kalman.state)
        covariances.append(kalman.covariance)
    step = np.eye(8)
    step[:4, 4:] = np.eye(4)
    for index in range(len(states) - 2, -1, -1):
        expected, spread = predicted[index]
        gain = np.linalg.solve(spread, step @ covariances[index]).T
        states[index] = states[index] + gain @ (states[index + 1] - expected)
    found: list[np.ndarray | None] = []
    for index in range(len(boxes)):
        near = min(abs(index - other) for other in seen) <= options.max_missed
        # Before the first box there is nothing to run forward from: its smoothed motion is followed back.
        back = min(index - seen[0], 0)
        state = states[max(index - seen[0], 0)]
        found.append(_box(state[:4] + back * np.array([1, 1, 0, 0]) * state[4:]) if near else None)
    return found


def _box(state: np.ndarray) -> np.ndarray:
    center, extent = state[:2], np.maximum(state[2:4], 1.0)
    return np.concatenate([center - extent / 2, center + extent / 2]).astype(np.float32)
