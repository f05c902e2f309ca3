"""Boxes of the manipulated object from the user's own detector, exported to ONNX; the class does not matter.

Input: one image (1, 3, H, W) float32, RGB in [0, 1], scaled to fit, at the top left of a grey canvas. Outputs, in the
canvas's pixels or, where no number exceeds 1.5, as shares of its edges:

``boxes_scores``: two or three arrays, as detectors with the suppression inside export it (torchvision, many others):
    (N, 4) or (1, N, 4) corners x_min, y_min, x_max, y_max, (N,) or (1, N) scores; the array of classes is not read.
``detections``: one array (1, N, 6) or (N, 6): corners, score, class (exports "with NMS").
``grid``: one array (1, 4 + C, N): centre x, centre y, width, height, scores of C classes; no suppression yet.
``grid_objectness``: one array (1, N, 5 + C): centre x, centre y, width, height, objectness, scores of C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.boxes import box_iou
from grasp_nodes.perception.evidence import HandEvidence, ObjectEvidence
from grasp_nodes.perception.model_files import sha256_of
from grasp_nodes.perception.object_boxes import nearest_to_hands
from grasp_nodes.perception.onnx_segmenter import OnnxNetwork, Session

Layout = Literal["boxes_scores", "detections", "grid", "grid_objectness"]
GREY = 114
RELATIVE_LIMIT = 1.5
"""Coordinates that stay below are shares of the image's edges."""
DEFAULT_SIZE = 640
MAX_DETECTIONS = 50

logger = logging.getLogger(__name__)


class OnnxBoxDetector:
    """`ObjectBoxSource` of one detection network."""

    def __init__(
        self,
        network: Session,
        object_id: str = "object",
        layout: Layout | None = None,
        input_name: str = "images",
        size: tuple[int, int] = (DEFAULT_SIZE, DEFAULT_SIZE),
        min_score: float = 0.25,
        max_overlap: float = 0.5,
    ) -> None:
        """Set up the detector.

        Args:
            network: named inputs to outputs.
            object_id: name of the object in the evidence.
            layout: of the outputs; None = told by their shapes.
            input_name: of the image. size: height and width of the network's input, px.
            min_score: of detections that are used.
            max_overlap: IoU beyond which the weaker of two boxes goes.

        Raises:
            InputError: an unknown layout.
        """
        if layout is not None and layout not in get_args(Layout):
            raise InputError(f"detector layout: expected one of {', '.join(get_args(Layout))}, got {layout!r}")
        self._network, self._object_id, self._layout = network, object_id, layout
        self._input_name, self._size = input_name, size
        self._min_score, self._max_overlap = min_score, max_overlap

    @staticmethod
    def from_file(
        path: Path, object_id: str = "object", layout: Layout | None = None, sha256: str = "", threads: int = 1
    ) -> OnnxBoxDetector:
        """Load the network and log its SHA-256.

        Args:
            path: ``.onnx`` file. object_id: name of the object in the evidence. layout: see the constructor.
            sha256: what the file's has to be; empty = not checked. threads: CPU threads.

        Raises:
            MissingDependencyError, MissingFileError, InputError: as `OnnxNetwork` does, or no single image input.
        """
        network = OnnxNetwork(path, sha256, threads)
        logger.info("object detector %s: SHA-256 %s", path, sha256_of(path))
        name, shape = next(iter(network.input_shapes.items()))
        if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
            raise InputError(f"{path}: expected one image input (1, 3, H, W), got {name!r} with shape {shape}")
        height, width = (edge if isinstance(edge, int) else DEFAULT_SIZE for edge in shape[2:])
        return OnnxBoxDetector(network, object_id, layout, name, (height, width))

    def boxes(self, frame: Frame, hands: Sequence[HandEvidence]) -> Sequence[ObjectEvidence]:
        """Detections of any class, those at the hands first.

        Raises:
            InputError: the network's outputs have none of the known layouts.
        """
        canvas, scale = self._canvas(frame.color)
        boxes, scores = self._read(self._network({self._input_name: canvas}))
        if len(boxes) and float(np.abs(boxes).max()) <= RELATIVE_LIMIT:
            boxes = boxes * np.array([self._size[1], self._size[0]] * 2, np.float64)
        # Networks count pixels from their corners.
        boxes = boxes / scale - 0.5
        limit = np.array([frame.camera.width, frame.camera.height] * 2) - 0.5
        boxes = np.clip(boxes, -0.5, limit)
        good = (
            np.isfinite(boxes).all(axis=1) & (scores >= self._min_score) & (boxes[:, 2:] - boxes[:, :2] > 1).all(axis=1)
        )
        kept = self._suppressed(boxes[good], scores[good])
        return nearest_to_hands(*kept, hands, self._object_id)

    def reset(self) -> None:
        """Nothing is remembered."""

    def _canvas(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        height, width = self._size
        scale = min(height / image.shape[0], width / image.shape[1])
        size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
        canvas = np.full((height, width, 3), GREY, np.uint8)
        canvas[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32) / np.float32(255), scale

    def _read(self, outputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Corners (N, 4) and scores (N,), float64."""
        arrays = [np.asarray(array, np.float64) for array in outputs]
        arrays = [array[0] if array.ndim == 3 and array.shape[0] == 1 else array for array in arrays]
        layout = self._layout or _layout_of(arrays)
        if layout == "boxes_scores":
            corners = next((a for a in arrays if a.ndim == 2 and a.shape[1] == 4), None)
            # Classes are whole numbers; scores hardly ever are.
            flat = [
                a.reshape(-1) for a in arrays if a is not corners and corners is not None and a.size == len(corners)
            ]
            if corners is not None and flat:
                return corners, min(flat, key=lambda a: bool(len(a)) and bool((a == np.round(a)).all()))
        elif len(arrays) == 1 and arrays[0].ndim == 2:
            rows = arrays[0].T if layout == "grid" else arrays[0]
            if layout == "detections" and rows.shape[1] == 6:
                return rows[:, :4], rows[:, 4]
            if layout == "grid" and rows.shape[1] > 4:
                return _corners(rows[:, :4]), rows[:, 4:].max(axis=1)
            if layout == "grid_objectness" and rows.shape[1] > 5:
                return _corners(rows[:, :4]), rows[:, 4] * rows[:, 5:].max(axis=1)
        raise InputError(
            f"detector: outputs of shapes {[np.shape(array) for array in outputs]} are not of the layout {layout!r}; "
            f"known are {', '.join(get_args(Layout))}"
        )

    def _suppressed(self, boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best of boxes that overlap: non-maximum suppression over all classes."""
        order = list(np.argsort(-scores, kind="stable"))
        kept: list[int] = []
        while order and len(kept) < MAX_DETECTIONS:
            best = order.pop(0)
            kept.append(best)
            if order:
                overlap = box_iou(boxes[best], boxes[order])
                order = [index for index, iou in zip(order, overlap, strict=True) if iou <= self._max_overlap]
        return boxes[kept], scores[kept]


def _layout_of(arrays: Sequence[np.ndarray]) -> Layout:
    """The layout that the outputs' shapes, without the batch axis, suggest."""
    if len(arrays) > 1:
        return "boxes_scores"
    shape = arrays[0].shape
    if len(shape) == 2 and shape[1] == 6:
        return "detections"
    return "grid" if len(shape) == 2 and shape[0] < shape[1] else "grid_objectness"


def _corners(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) centre and size to corners."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
