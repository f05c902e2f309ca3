"""The worst frames as pictures: the answer beside the truth, as the camera sees both and from the side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from grasp_nodes.cli.clip_evaluation.results import RESULTS, ClipResult, WorstFrame
from grasp_nodes.cli.clip_evaluation.variants import Variant
from grasp_nodes.contact.interaction import HandObjectState
from grasp_nodes.data.clip_readers import ClipSource
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.clip_metrics import FrameScore
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.rendering import contact_sheet
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.viewer.pictures import captioned, write_jpeg, write_png
from grasp_nodes.viewer.state_pictures import StatePainter

PER_CLIP = 2
APART = 5
"""Frames between two that are drawn of one clip: neighbours look alike."""
WIDTH, HEIGHT = 320, 240
"""px, of the camera's pictures; those from the side are square."""
_MARGIN, _LEAST_SHARE = 0.3, 0.3
"""Room around what is shown, as a share of it, and the least share of the image's width that is cut out."""
_TEXT, _LINE = 0.5, 19
"""Size of the text, and px from line to line."""
MOST_BYTES = 290_000
"""Of a sheet, so that it can stand in a page."""


def frame_error(score: FrameScore, use_depth: bool) -> float:
    """What is looked at, m: hand and object together; without depth the hand's place counts from the wrist."""
    hand = score.hand_mpjpe if use_depth else score.hand_root_aligned_mpjpe
    return float(np.nansum([hand, score.object_add_s]))


def worst_rows(scores: Sequence[FrameScore], use_depth: bool, count: int = PER_CLIP) -> list[int]:
    """Rows of the worst frames that count, apart from each other."""
    errors = [frame_error(score, use_depth) for score in scores]
    rows: list[int] = []
    for row in sorted(range(len(scores)), key=lambda row: -errors[row]):
        if len(rows) < count and scores[row].counts and all(abs(row - other) >= APART for other in rows):
            rows.append(row)
    return rows


def draw_worst(
    result_file: Path,
    variant: Variant,
    clip: ClipSource,
    states: Sequence[HandObjectState],
    scores: Sequence[FrameScore],
    object_model: ObjectModel,
) -> list[WorstFrame]:
    """Draw the worst frames of a clip beside its result, under the result's name: other results keep their pictures.

    Each picture shows, from left to right, the answer with its errors and the truth in the same part of the image, and
    both from the side, in one scale: there errors of depth show.

    Raises:
        InputError: a picture cannot be written.
    """
    assert clip.trajectory is not None  # without truth there are no scores
    by_stamp = {state.stamp: state for state in states}
    painter, result = StatePainter([object_model]), []
    for row in worst_rows(scores, variant.use_depth):
        score, frame, truth = scores[row], clip.frame(row), clip.trajectory.states[row]
        answer = by_stamp.get(score.stamp, HandObjectState(score.stamp, clip.camera.frame_id))
        points = np.concatenate([painter.points(truth), painter.points(answer)])
        part = _part_of_image(clip.camera, points)
        hand, from_wrist, add_s = (
            f"{1e3 * value:.0f}" for value in (score.hand_mpjpe, score.hand_root_aligned_mpjpe, score.object_add_s)
        )
        # The side is chosen by the truth, which is drawn first.
        from_side = [painter.side_view(one, HEIGHT, (other,)) for one, other in ((truth, answer), (answer, truth))]
        panels = [
            _labelled(
                _cut(painter.overlay(frame, answer), part),
                "answer",
                f"hand {hand} mm ({from_wrist})",
                f"object {add_s} mm",
            ),
            _labelled(_cut(painter.overlay(frame, truth), part), "truth"),
            _labelled(from_side[1], "answer, side"),
            _labelled(from_side[0], "truth, side"),
        ]
        path = result_file.with_name(f"{result_file.stem}.{row:04d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, np.hstack(panels))
        view = clip.info.extra.get("view", "")
        errors = f"hand {hand} mm, from the wrist {from_wrist} mm, object ADD-S {add_s} mm"
        caption = f"{clip.folder.name} {view} frame {row}: {errors}"
        result.append(WorstFrame(score.stamp, frame_error(score, variant.use_depth), caption, path.name))
    return result


def _part_of_image(camera: CameraModel, points: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the part of the image that shows these points (N, 3), m, in the panels' proportions."""
    size = np.array([camera.width, camera.height])
    ahead = points[points[:, 2] > 0]
    pixels = camera.project(ahead) if len(ahead) else np.zeros((0, 2))
    pixels = pixels[np.isfinite(pixels).all(axis=1) & ((pixels >= 0) & (pixels < size)).all(axis=1)]
    if not len(pixels):
        return slice(0, camera.height), slice(0, camera.width)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    width, height = (1 + 2 * _MARGIN) * (high - low)
    width = max(width, height * WIDTH / HEIGHT, _LEAST_SHARE * camera.width)
    span = np.minimum(np.round([width, width * HEIGHT / WIDTH]), size).astype(int)
    first = np.clip(np.round((low + high - span) / 2), 0, size - span).astype(int)
    return slice(first[1], first[1] + span[1]), slice(first[0], first[0] + span[0])


def _cut(picture: np.ndarray, part: tuple[slice, slice]) -> np.ndarray:
    """That part in the panel's size; black beside a part of other proportions."""
    cut = picture[part]
    scale = min(WIDTH / cut.shape[1], HEIGHT / cut.shape[0])
    size = (max(round(scale * cut.shape[1]), 1), max(round(scale * cut.shape[0]), 1))
    panel = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    shown = cv2.resize(cut, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    panel[: size[1], : size[0]] = shown
    return panel


def _labelled(picture: np.ndarray, *lines: str) -> np.ndarray:
    """The picture with lines of text on white in its upper left corner."""
    labelled = np.ascontiguousarray(picture)
    font = (cv2.FONT_HERSHEY_SIMPLEX, _TEXT)
    for number, line in enumerate(lines):
        width = cv2.getTextSize(line, *font, 1)[0][0]
        top = _LINE * number
        labelled[top : top + _LINE, : width + 10] = 255
        cv2.putText(labelled, line, (5, top + round(0.75 * _LINE)), *font, (20, 20, 20), 1, cv2.LINE_AA)
    return labelled


def write_worst_sheet(path: Path, folder: Path, results: Sequence[ClipResult], count: int) -> list[WorstFrame]:
    """Put the worst frames of one variant into one JPEG of at most 290 kB, one below the other, worst first.

    Returns:
        The frames that are shown.

    Raises:
        InputError: the sheet cannot be written.
    """
    frames = sorted((frame for result in results for frame in result.worst), key=lambda frame: -frame.error)
    cells: list[np.ndarray] = []
    shown: list[WorstFrame] = []
    for frame in frames:
        picture = cv2.imread(str(folder / RESULTS / frame.picture))
        if picture is not None and len(cells) < count and (not shown or picture.shape[1] == cells[0].shape[1]):
            cells.append(captioned(np.ascontiguousarray(picture[..., ::-1]), frame.caption))
            shown.append(frame)
    if not cells:
        raise InputError(f"sheet {path}: there is no picture of a frame in {folder / RESULTS}")
    write_jpeg(path, contact_sheet(cells, 1), MOST_BYTES)
    return shown
