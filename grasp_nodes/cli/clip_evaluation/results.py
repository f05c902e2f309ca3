"""What is known of one clip by one variant, as a file of its own that appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from grasp_nodes.cli.clip_evaluation.variants import Variant
from grasp_nodes.data.clip_files import TRUTH_FILE
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.clip_metrics import FrameScore
from grasp_nodes.evaluation.detection_metrics import ScoredBoxes
from grasp_nodes.paths import PACKAGE_DIR

FORMAT_VERSION = 2
RESULTS = "clips"
"""Folder of the results below the output's."""
JUDGED_ROOMS = ("geometry", "hand", "objects", "contact", "perception", "evaluation", "fitting")
"""A change of the code or data of these rooms makes results of before invalid."""
JUDGING_FILES = ("data/clip_readers.py", "data/true_evidence.py", "cli/clip_evaluation/work.py")
"""So does a change of what shows a clip to them and compares."""
KEY_DIGITS = 12


@dataclass(frozen=True)
class WorstFrame:
    """stamp: ns. error: m, of hand and object together. picture: file in the results' folder."""

    stamp: int
    error: float
    caption: str
    picture: str


@dataclass(frozen=True)
class ClipResult:
    """One clip by one variant.

    view, family: as the clip says. unseen: the object is held out. seconds: per stage. boxes: of ``hand`` and
    ``object``, ``with`` and ``without`` tracking, one entry per frame. mask_iou: of ``hand`` and
    ``object``, and of the hand's mask with hand and forearm (``arm``), per frame.
    error: why the reconstruction ended early; the frames that are missing count as lost.
    """

    clip: str
    variant: str
    view: str
    family: str
    unseen: bool
    seconds: dict[str, float]
    frames: list[FrameScore]
    boxes: dict[str, dict[str, list[ScoredBoxes]]] = field(default_factory=dict)
    mask_iou: dict[str, list[float]] = field(default_factory=dict)
    worst: list[WorstFrame] = field(default_factory=list)
    error: str = ""

    @property
    def total_seconds(self) -> float:
        """From images to trajectory."""
        return sum(self.seconds.values())


def result_path(folder: Path, clip: Path, variant: Variant, seed: int, frames: int) -> Path:
    """The file of a result; its name holds a hash of the clip, of the settings and of the code that is judged."""
    digest = hashlib.sha256(f"{FORMAT_VERSION} {variant} {variant.settings(seed, frames)} {frames}".encode())
    digest.update(clip_fingerprint(clip).encode())
    digest.update(code_fingerprint().encode())
    return folder / RESULTS / f"{plain_name(clip)}.{variant.name}.{digest.hexdigest()[:KEY_DIGITS]}.json"


def plain_name(clip: Path) -> str:
    """The clip's name, of characters that every file system takes."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", clip.resolve().name)


def clip_fingerprint(clip: Path) -> str:
    """SHA-256 of what the clip says of itself and of its truth."""
    digest = hashlib.sha256()
    for name in ("clip.json", TRUTH_FILE):
        path = clip / name
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def code_fingerprint() -> str:
    """SHA-256 of the files of the rooms whose work is judged, and of those that judge it."""
    digest = hashlib.sha256()
    paths = [PACKAGE_DIR / name for name in JUDGING_FILES]
    for room in JUDGED_ROOMS:
        paths += sorted((PACKAGE_DIR / room).rglob("*"))
    for path in paths:
        if path.suffix in (".py", ".json", ".npz"):
            digest.update(str(path.relative_to(PACKAGE_DIR)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def write_result(path: Path, result: ClipResult) -> None:
    """Write a result.

    Raises:
        InputError: the file cannot be written.
    """
    content = {
        "format": "grasp_nodes/clip_result",
        "format_version": FORMAT_VERSION,
        "clip": result.clip,
        "variant": result.variant,
        "view": result.view,
        "family": result.family,
        "unseen": result.unseen,
        "seconds": result.seconds,
        "frames": [frame.as_row() for frame in result.frames],
        "boxes": {
            kind: {tracking: [_from_boxes(image) for image in images] for tracking, images in by.items()}
            for kind, by in result.boxes.items()
        },
        "mask_iou": {
            kind: [float(value) if np.isfinite(value) else None for value in values]
            for kind, values in result.mask_iou.items()
        },
        "worst": [vars(frame) for frame in result.worst],
        "error": result.error,
    }
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"result {path}: cannot be written ({error})") from error


def read_result(path: Path) -> ClipResult | None:
    """Read a result; None where there is none, or where it is damaged: it is measured again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format_version"] != FORMAT_VERSION:
            return None
        return ClipResult(
            content["clip"],
            content["variant"],
            content["view"],
            content["family"],
            bool(content["unseen"]),
            {str(stage): float(seconds) for stage, seconds in content["seconds"].items()},
            [FrameScore.of_row(row) for row in content["frames"]],
            {
                kind: {tracking: [_to_boxes(image) for image in images] for tracking, images in by.items()}
                for kind, by in content["boxes"].items()
            },
            {
                kind: [float("nan") if value is None else float(value) for value in values]
                for kind, values in content["mask_iou"].items()
            },
            [WorstFrame(**frame) for frame in content["worst"]],
            content["error"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError):
        return None


def _from_boxes(image: ScoredBoxes) -> list[list[Any]]:
    return [np.asarray(part, np.float64).round(3).tolist() for part in (image.boxes, image.scores, image.truths)]


def _to_boxes(image: Sequence[Any]) -> ScoredBoxes:
    boxes, scores, truths = (np.asarray(part, np.float64) for part in image)
    return ScoredBoxes(boxes.reshape(-1, 4), scores, truths.reshape(-1, 4))
