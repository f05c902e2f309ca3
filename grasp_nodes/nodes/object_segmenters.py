"""The finder of the object's pixels that the parameters of perception_node ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_nodes.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grasp_nodes.nodes.parameters import PerceptionParameters
    from grasp_nodes.perception.evidence import ObjectSegmenter
    from grasp_nodes.perception.foreground import ForegroundFinder


@dataclass(frozen=True)
class ObjectHint:
    """What is known of the object beforehand. object_id: its name in the evidence. diameter: m, None = unknown."""

    object_id: str = "object"
    diameter: float | None = None
    box: Sequence[float] | None = None


def parse_box(text: str) -> list[float] | None:
    """Four numbers 'x_min,y_min,x_max,y_max' in px; None of an empty text.

    Raises:
        InputError: not four numbers, or no area.
    """
    if not text:
        return None
    try:
        box = [float(word) for word in text.split(",")]
    except ValueError as error:
        raise InputError(f"parameter 'object_box': expected x_min,y_min,x_max,y_max, got {text!r}") from error
    if len(box) != 4 or not box[0] < box[2] or not box[1] < box[3]:
        raise InputError(f"parameter 'object_box': expected x_min < x_max and y_min < y_max, got {text!r}")
    return box


def choose_backend(choice: str, has_depth: bool, has_box: bool) -> str:
    """What `auto` means for a camera with or without depth; another choice stays."""
    if choice != "auto":
        return choice
    if has_depth:
        return "depth"
    return "grabcut" if has_box else "none"


def make_segmenter(
    backend: str,
    settings: PerceptionParameters,
    hint: ObjectHint,
    foreground: ForegroundFinder,
    given: ObjectSegmenter | None = None,
) -> ObjectSegmenter | None:
    """The segmenter of a back end; None for the back end `none`, `given` for the back end `evidence`.

    Raises:
        InputError: grabcut or onnx without a box to start from, or a bad model file.
        MissingDependencyError, MissingFileError: what the back end needs is absent.
    """
    if backend == "depth":
        from grasp_nodes.perception.depth_segmenter import DepthObjectSegmenter

        return DepthObjectSegmenter(hint.object_id, hint.box, hint.diameter, foreground)
    if backend == "topic":
        from grasp_nodes.perception.object_mask import MaskObjectSegmenter

        return MaskObjectSegmenter(hint.object_id)
    if backend == "evidence":
        return given
    if backend == "none":
        return None
    if hint.box is None:
        raise InputError(
            f"object_backend {backend!r} needs the object's box in the first image: give the parameter object_box or "
            "publish it on object_detections"
        )
    if backend == "grabcut":
        from grasp_nodes.perception.grabcut_segmenter import GrabCutObjectSegmenter

        return GrabCutObjectSegmenter(hint.box, hint.object_id)
    from grasp_nodes.perception.onnx_segmenter import OnnxObjectSegmenter

    return OnnxObjectSegmenter.from_files(
        Path(settings.onnx_encoder),
        Path(settings.onnx_decoder),
        hint.box,
        object_id=hint.object_id,
        sha256=(settings.onnx_encoder_sha256, settings.onnx_decoder_sha256),
        threads=settings.threads,
    )
