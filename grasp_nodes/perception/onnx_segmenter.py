"""The object by the user's own segmentation network, exported to ONNX as Segment Anything is: encoder and decoder.

Encoder: image (1, 3, S, S) float32, normalised, long edge first scaled to S, padded on the right and below ->
embeddings. Decoder, as the exporter of Segment Anything names its inputs: ``image_embeddings``, ``point_coords``
(1, N, 2), ``point_labels`` (1, N) with 2 and 3 for a box's corners, 1 for a point on the object, 0 beside it,
``mask_input`` (1, 1, 256, 256), ``has_mask_input`` (1,), ``orig_im_size`` (2,) -> ``masks`` as logits at the image's
size, ``iou_predictions``, ``low_res_masks``. The last low-resolution mask is the prompt of the next image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from grasp_nodes.errors import InputError, MissingDependencyError, MissingFileError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.box_tracker import BoxTracker
from grasp_nodes.perception.boxes import box_of_mask
from grasp_nodes.perception.evidence import HandEvidence, ObjectEvidence
from grasp_nodes.perception.model_files import check_sha256

PIXEL_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
PIXEL_STD = np.array([58.395, 57.12, 57.375], np.float32)
PROMPT_SIZE = 256
BOX_LABELS = (2.0, 3.0)
POINT_ON, POINT_BESIDE = 1.0, 0.0
MIN_SCORE = 0.5
MIN_PIXELS = 30

Session = Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]


class OnnxNetwork:
    """One ONNX network on the CPU, as a function from named inputs to outputs."""

    def __init__(self, path: Path, sha256: str, threads: int = 1) -> None:
        """Load the network.

        Args:
            path: the ``.onnx`` file.
            sha256: what its SHA-256 has to be; empty = not checked.
            threads: CPU threads that it may use.

        Raises:
            MissingDependencyError: onnxruntime is not installed.
            MissingFileError: there is no such file.
            InputError: it is another file, or not an ONNX network.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError(
                f"a segmentation network needs the package onnxruntime ({error}): pip install 'grasp_nodes[onnx]'"
            ) from error
        if not path.is_file():
            raise MissingFileError(f"segmentation network {path}: not found")
        if sha256:
            check_sha256(path, sha256)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises its own bare Exception types, which it does not export
            raise InputError(f"{path}: not a usable ONNX network: {error}") from error
        self.input_shapes: dict[str, list[Any]] = {entry.name: entry.shape for entry in self._session.get_inputs()}

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run once; inputs that the network does not have are left out."""
        known = {name: value for name, value in inputs.items() if name in self.input_shapes}
        return list(self._session.run(None, known))


class OnnxObjectSegmenter:
    """`ObjectSegmenter` of an encoder and a decoder in Segment Anything's layout."""

    def __init__(
        self,
        encoder: Session,
        decoder: Session,
        box: Sequence[float],
        object_id: str = "object",
        encoder_input: str = "image",
        image_size: int = 1024,
    ) -> None:
        """Set up the first image.

        Args:
            encoder: image to embeddings.
            decoder: embeddings and prompts to masks.
            box: x_min, y_min, x_max, y_max (px) of the object in the first image.
            object_id: name of the object in the evidence.
            encoder_input: name of the encoder's input.
            image_size: edge of the encoder's input, px.

        Raises:
            InputError: a box without area.
        """
        if len(box) != 4 or box[2] <= box[0] or box[3] <= box[1]:
            raise InputError(f"object box: expected x_min < x_max and y_min < y_max, got {list(box)}")
        self._encoder, self._decoder = encoder, decoder
        self._encoder_input, self._image_size = encoder_input, image_size
        self._object_id, self._box = object_id, np.asarray(box, np.float32)
        self._tracker = BoxTracker()
        self.reset()

    @staticmethod
    def from_files(
        encoder: Path,
        decoder: Path,
        box: Sequence[float],
        object_id: str = "object",
        sha256: tuple[str, str] = ("", ""),
        threads: int = 1,
    ) -> OnnxObjectSegmenter:
        """Load both networks; raises as `OnnxNetwork` does.

        Args:
            encoder: ``.onnx`` file.
            decoder: ``.onnx`` file.
            box: of the object in the first image, px.
            object_id: name of the object in the evidence.
            sha256: of encoder and decoder; empty = not checked.
            threads: CPU threads of each network.
        """
        return OnnxObjectSegmenter.starter(encoder, decoder, object_id, sha256, threads)(box)

    @staticmethod
    def starter(
        encoder: Path,
        decoder: Path,
        object_id: str = "object",
        sha256: tuple[str, str] = ("", ""),
        threads: int = 1,
    ) -> Callable[[Sequence[float]], OnnxObjectSegmenter]:
        """Load both networks once, for segmenters that start from boxes which are not known yet; see `from_files`."""
        first, second = OnnxNetwork(encoder, sha256[0], threads), OnnxNetwork(decoder, sha256[1], threads)
        name, shape = next(iter(first.input_shapes.items()))
        if len(shape) != 4:
            raise InputError(f"{encoder}: expected one image input (1, 3, S, S), got {name!r} with shape {shape}")
        size = shape[2] if isinstance(shape[2], int) else 1024
        return lambda box: OnnxObjectSegmenter(first, second, box, object_id, name, size)

    def reset(self) -> None:
        """Start again from the prompt box."""
        self._prompt_box: np.ndarray = self._box
        self._low_resolution: np.ndarray | None = None
        self._tracker.reset()

    def segment(self, frame: Frame, hands: Sequence[HandEvidence]) -> Sequence[ObjectEvidence]:
        """The object's mask; its predicted box without a mask where the network found none."""
        mask, score, low_resolution = self._infer(frame.color, hands)
        for hand in hands:
            if hand.mask is not None:
                mask &= ~hand.mask
        box = box_of_mask(mask) if score >= MIN_SCORE and mask.sum() >= MIN_PIXELS else None
        tracked = self._tracker.update([] if box is None else [box], [] if box is None else [score])
        if box is None:
            self._low_resolution = None
            if tracked:
                self._prompt_box = tracked[0].box
            else:
                self.reset()
            return [ObjectEvidence(self._object_id, seen.score, seen.box, None, seen.track_id) for seen in tracked[:1]]
        self._prompt_box, self._low_resolution = box, low_resolution
        seen = next(track for track in tracked if track.index == 0)
        return [ObjectEvidence(self._object_id, score, box, mask, seen.track_id)]

    def _infer(self, image: np.ndarray, hands: Sequence[HandEvidence]) -> tuple[np.ndarray, float, np.ndarray]:
        height, width = image.shape[:2]
        scale = self._image_size / max(height, width)
        embeddings = self._encoder({self._encoder_input: self._encoder_image(image, scale)})[0]
        points = self._prompt_box.reshape(2, 2).astype(np.float32)
        labels = list(BOX_LABELS)
        for hand in hands:  # the knuckles are not the object
            points = np.concatenate([points, hand.keypoints[[5, 9, 13, 17]]])
            labels += [POINT_BESIDE] * 4
        has_mask = self._low_resolution is not None
        prompt = self._low_resolution if has_mask else np.zeros((1, 1, PROMPT_SIZE, PROMPT_SIZE), np.float32)
        masks, scores, low_resolution = self._decoder(
            {
                "image_embeddings": embeddings,
                # Centres of pixels of the scaled image are whole numbers here; the decoder itself adds the half.
                "point_coords": ((points + 0.5) * scale - 0.5)[None].astype(np.float32),
                "point_labels": np.array([labels], np.float32),
                "mask_input": np.asarray(prompt, np.float32),
                "has_mask_input": np.array([float(has_mask)], np.float32),
                "orig_im_size": np.array([height, width], np.float32),
            }
        )[:3]
        best = int(np.argmax(scores[0]))
        if masks.shape[-2:] != (height, width):
            raise InputError(f"decoder: expected masks of the image's size {(height, width)}, got {masks.shape[-2:]}")
        return masks[0, best] > 0, float(np.clip(scores[0, best], 0, 1)), low_resolution[:, best : best + 1]

    def _encoder_image(self, image: np.ndarray, scale: float) -> np.ndarray:
        height, width = (max(round(edge * scale), 1) for edge in image.shape[:2])
        scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        padded = np.zeros((self._image_size, self._image_size, 3), np.float32)
        padded[:height, :width] = (scaled - PIXEL_MEAN) / PIXEL_STD
        return np.ascontiguousarray(padded.transpose(2, 0, 1)[None])
