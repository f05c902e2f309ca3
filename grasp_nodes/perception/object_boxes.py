"""Where the object's box comes from: the user, detections of another program; see also onnx_detector.

A box only says where to look. What segments then, starts from it: `PromptedSegmenter` for image after image,
`ClipObjectSegmenter` for clips.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.boxes import box_of_points, clip_box
from grasp_nodes.perception.evidence import HandEvidence, ObjectEvidence, ObjectSegmenter

REACH = 0.75
"""Sizes of the hand over which a detection beside it loses most of its weight."""
MAX_STORED = 64
"""Sets of detections that are kept until their image comes."""


class ObjectBoxSource(Protocol):
    """Says where the manipulated object is, without its pixels."""

    def boxes(self, frame: Frame, hands: Sequence[HandEvidence]) -> Sequence[ObjectEvidence]:
        """Objects of the frame with boxes and without masks, best first; empty = no opinion about this frame."""
        ...

    def reset(self) -> None:
        """Forget the clip."""
        ...


class FirstFrameBox:
    """`ObjectBoxSource` of a user who drew one box into the first frame."""

    def __init__(self, box: Sequence[float], object_id: str = "object") -> None:
        """Keep the box.

        Args:
            box: x_min, y_min, x_max, y_max, px. object_id: name of the object in the evidence.

        Raises:
            InputError: a box without area.
        """
        if len(box) != 4 or not np.isfinite(box).all() or box[2] <= box[0] or box[3] <= box[1]:
            raise InputError(f"object box: expected x_min < x_max and y_min < y_max, got {list(box)}")
        self._answer = ObjectEvidence(object_id, 1.0, np.asarray(box, np.float32))
        self._used = False

    def boxes(self, frame: Frame, hands: Sequence[HandEvidence]) -> Sequence[ObjectEvidence]:  # noqa: ARG002
        """The box, once.

        Raises:
            InputError: the box lies beside the image.
        """
        if self._used:
            return ()
        self._used = True
        x_start, y_start, x_stop, y_stop = clip_box(self._answer.box, frame.camera.width, frame.camera.height)
        if x_stop - x_start < 2 or y_stop - y_start < 2:
            raise InputError(
                f"object box {self._answer.box.tolist()} lies beside the image of "
                f"{frame.camera.width} x {frame.camera.height} px"
            )
        return (self._answer,)

    def reset(self) -> None:
        """The next frame is the first again."""
        self._used = False


class GivenBoxes:
    """`ObjectBoxSource` of detections that another program makes, image by image."""

    def __init__(self, object_id: str = "object", max_age: int = 100_000_000, min_score: float = 0.3) -> None:
        """Start without detections.

        Args:
            object_id: name of the object in the evidence; also chooses detections that bear this name.
            max_age: ns; detections whose stamp differs more from the image's are not used.
            min_score: of detections that are used.
        """
        self._object_id, self._max_age, self._min_score = object_id, max_age, min_score
        self._stored: deque[tuple[int, np.ndarray, np.ndarray]] = deque(maxlen=MAX_STORED)

    def set_boxes(self, stamp: int, boxes: np.ndarray, scores: np.ndarray, names: Sequence[str] = ()) -> None:
        """Take in the detections of one image.

        Args:
            stamp: ns, of the image. boxes: (N, 4), px. scores: (N,) in [0, 1]. names: (N) classes, or none; where one
                of them is the object's name, only the detections of that name count.

        Raises:
            InputError: shapes do not fit, or a box has no area.
        """
        boxes, scores = np.asarray(boxes, np.float64), np.asarray(scores, np.float64)
        if boxes.shape != (len(scores), 4) or scores.ndim != 1 or (names and len(names) != len(scores)):
            raise InputError(
                f"detections: expected boxes (N, 4), scores (N,) and N names or none, got {boxes.shape}, "
                f"{scores.shape} and {len(names)}"
            )
        if not np.isfinite(boxes).all() or not (boxes[:, 2:] > boxes[:, :2]).all():
            raise InputError("detections: expected x_min < x_max and y_min < y_max in every box")
        named = np.array([name == self._object_id for name in names], bool)
        if named.any():
            boxes, scores = boxes[named], scores[named]
        self._stored.append((stamp, boxes, scores))

    def boxes(self, frame: Frame, hands: Sequence[HandEvidence]) -> Sequence[ObjectEvidence]:
        """The detections that belong to the frame, those at the hands first."""
        if not self._stored:
            return ()
        stamp, boxes, scores = min(self._stored, key=lambda stored: abs(stored[0] - frame.stamp))
        if abs(stamp - frame.stamp) > self._max_age:
            return ()
        good = scores >= self._min_score
        return nearest_to_hands(boxes[good], scores[good], hands, self._object_id)

    def reset(self) -> None:
        """Forget all detections."""
        self._stored.clear()


def nearest_to_hands(
    boxes: np.ndarray, scores: np.ndarray, hands: Sequence[HandEvidence], object_id: str
) -> list[ObjectEvidence]:
    """Detections of any class as evidence: best score near a hand first.

    Args:
        boxes: (N, 4), px. scores: (N,) in [0, 1]. hands: of the same image; none = the score alone counts.
        object_id: name that all get.
    """
    weights = np.asarray(scores, np.float64).copy()
    if hands and len(weights):
        gaps = np.stack([hand_gaps(boxes, hand) for hand in hands]).min(axis=0)
        weights *= np.exp(-((gaps / REACH) ** 2))
    order = np.argsort(-weights, kind="stable")
    return [ObjectEvidence(object_id, float(np.clip(scores[i], 0, 1)), boxes[i].astype(np.float32)) for i in order]


def hand_gaps(boxes: np.ndarray, hand: HandEvidence) -> np.ndarray:
    """(N,) distance from the nearest landmark to each box (N, 4), in sizes of the hand; 0 inside the box."""
    span = box_of_points(hand.keypoints)
    size = max(float((span[2:] - span[:2]).max()), 1.0)
    points = hand.keypoints[None].astype(np.float64)
    outside = np.maximum(boxes[:, None, :2] - points, points - boxes[:, None, 2:])
    gaps: np.ndarray = np.linalg.norm(np.maximum(outside, 0.0), axis=-1).min(axis=1) / size
    return gaps


class PromptedSegmenter:
    """`ObjectSegmenter` that waits for a box and then follows with a segmenter that starts from it."""

    def __init__(self, source: ObjectBoxSource, start: Callable[[np.ndarray], ObjectSegmenter]) -> None:
        """Combine the two.

        Args:
            source: says where the object is.
            start: makes the segmenter from a box (4,), px, of the image that it is shown next.
        """
        self._source, self._start = source, start
        self._segmenter: ObjectSegmenter | None = None

    def segment(self, frame: Frame, hands: Sequence[HandEvidence]) -> Sequence[ObjectEvidence]:
        """The object's mask once there was a box; a lost object is looked for again."""
        boxes = self._source.boxes(frame, hands)
        if self._segmenter is None:
            if not boxes:
                return ()
            self._segmenter = self._start(boxes[0].box)
        found = self._segmenter.segment(frame, hands)
        if boxes and not any(each.mask is not None for each in found):
            self._segmenter = self._start(boxes[0].box)
            found = self._segmenter.segment(frame, hands)
        return found

    def reset(self) -> None:
        """Forget the object and wait for a box again."""
        self._source.reset()
        self._segmenter = None
