"""The worst frames as pictures: the answer beside the truth."""

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
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.viewer.overlay import draw_overlay
from grasp_nodes.viewer.pictures import grasp_sheet, write_png
from grasp_nodes.viewer.posed_hands import HandPoser

PER_CLIP = 2
APART = 5
"""Frames between two that are drawn of one clip: neighbours look alike."""
WIDTH = 400
"""px of each of the two pictures."""
COLUMNS = 2


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

    Raises:
        InputError: a picture cannot be written.
    """
    assert clip.trajectory is not None  # without truth there are no scores
    by_stamp = {state.stamp: state for state in states}
    poser, result = HandPoser(), []
    for row in worst_rows(scores, variant.use_depth):
        score, frame = scores[row], clip.frame(row)
        empty = HandObjectState(score.stamp, clip.camera.frame_id)
        cells = []
        for state in (by_stamp.get(score.stamp, empty), clip.trajectory.states[row]):
            hands = [poser.pose(hand, state) for hand in state.hands]
            drawn = draw_overlay(frame.color, frame.camera, state, hands, [object_model])
            height = round(WIDTH * drawn.shape[0] / drawn.shape[1])
            cells.append(cv2.resize(drawn, (WIDTH, height), interpolation=cv2.INTER_AREA))
        path = result_file.with_name(f"{result_file.stem}.{row:04d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, np.hstack(cells))
        view = clip.info.extra.get("view", "")
        hand, from_wrist = 1e3 * score.hand_mpjpe, 1e3 * score.hand_root_aligned_mpjpe
        errors = f"hand {hand:.0f}/{from_wrist:.0f}, ADD-S {1e3 * score.object_add_s:.0f} mm"
        caption = f"{clip.folder.name} {view} #{row}: {errors}"
        result.append(WorstFrame(score.stamp, frame_error(score, variant.use_depth), caption, path.name))
    return result


def write_worst_sheet(path: Path, folder: Path, results: Sequence[ClipResult], count: int) -> list[WorstFrame]:
    """Put the worst frames of one variant into one PNG, the answer left, the truth right, worst first.

    Returns:
        The frames that are shown.

    Raises:
        InputError: the sheet cannot be written.
    """
    frames = sorted((frame for result in results for frame in result.worst), key=lambda frame: -frame.error)
    cells: list[tuple[np.ndarray, str]] = []
    shown: list[WorstFrame] = []
    for frame in frames:
        picture = cv2.imread(str(folder / RESULTS / frame.picture))
        if picture is not None and len(cells) < count:
            cells.append((np.ascontiguousarray(picture[..., ::-1]), frame.caption))
            shown.append(frame)
    if not cells:
        raise InputError(f"sheet {path}: there is no picture of a frame in {folder / RESULTS}")
    grasp_sheet(cells, COLUMNS, path)
    return shown
