"""What is written once all windows are done: trajectory, bag, video, contact sheet and report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grasp_nodes.cli.reconstruction.report import StateSummary, make_report, measure_accuracy
from grasp_nodes.cli.reconstruction.setup import Inputs, Request, clip_frames, mesh_fingerprint
from grasp_nodes.cli.runtime import prepare_runtime
from grasp_nodes.contact.interaction import HandObjectState
from grasp_nodes.data.shards import library_versions
from grasp_nodes.data.trajectory_files import write_tables
from grasp_nodes.data.trajectory_parts import TrajectoryFolder
from grasp_nodes.errors import InputError, MissingDependencyError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.geometry.rendering import contact_sheet
from grasp_nodes.npz import replacing
from grasp_nodes.viewer.overlay_video import OverlayVideo
from grasp_nodes.viewer.pictures import captioned, write_png
from grasp_nodes.viewer.state_pictures import StatePainter

if TYPE_CHECKING:
    from grasp_nodes.nodes.trajectory_recording import TrajectoryRecording

TRAJECTORY, BAG, VIDEO, SHEET, REPORT = "trajectory.npz", "bag", "overlay.mp4", "sheet.png", "report.json"
OUTPUTS = (TRAJECTORY, BAG, f"{BAG}.partial", VIDEO, SHEET, REPORT)
SHEET_FRAMES = 8
SHEET_COLUMNS = 2
SHEET_HEIGHT = 320
"""px, of a picture in the contact sheet."""


@dataclass(frozen=True)
class Written:
    """report: content of report.json. codec: of the video; plays: in browsers."""

    report: dict[str, Any]
    codec: str
    plays: bool


def why_no_bag() -> str:
    """What hinders the messages from being written; empty = nothing.

    Raises:
        InputError: the environment asks for a ROS 2 that does not exist.
    """
    try:
        prepare_runtime()
    except MissingDependencyError as error:
        return str(error)
    return ""


def write_trajectory_file(
    folder: TrajectoryFolder, request: Request, inputs: Inputs, settings: Mapping[str, Any], complete: bool
) -> None:
    """Write trajectory.npz of the windows that are done.

    Args:
        complete: whether they are all.

    Raises:
        WorkError: it cannot be written. InputError: no window is done.
    """
    attributes = {
        "seed": str(request.seed),
        "complete": json.dumps(complete),
        "versions": json.dumps(library_versions()),
        "settings": json.dumps(settings),
        "hand_models": json.dumps({side: model.fingerprint for side, model in inputs.hands.items()}),
        "object_meshes": json.dumps(
            {
                name: {"mesh": model.mesh_resource, "scale": model.scale, "sha256": mesh_fingerprint(model)}
                for name, model in inputs.objects.items()
            }
        ),
    }
    tables = folder.tables()
    source = inputs.source
    with folder.writing():
        write_tables(folder.path / TRAJECTORY, tables, settings.get("clip", ""), source.camera, source.fps, attributes)


def write_outputs(
    folder: TrajectoryFolder,
    request: Request,
    inputs: Inputs,
    settings: Mapping[str, Any],
    hindrance: str,
    progress: Callable[[int], None],
) -> Written:
    """Write everything, reading the clip a second time, one window in memory at a time.

    Args:
        folder: with all windows. hindrance: why there can be no bag, see `why_no_bag`.
        progress: called with the number of frames that are drawn.

    Raises:
        InputError: the clip is not the one that was reconstructed. WorkError: something cannot be written.
    """
    write_trajectory_file(folder, request, inputs, settings, complete=True)
    camera, count = inputs.source.camera, folder.frames_done()
    hand_model = None if request.hand_model is None else str(request.hand_model)
    painter = StatePainter(list(inputs.objects.values()), hand_model)
    shown = set(np.unique(np.linspace(0, count - 1, SHEET_FRAMES).round().astype(int)).tolist())
    summary, cells = StateSummary(), []
    kept: list[HandObjectState] = []
    with ExitStack() as stack:
        stack.enter_context(folder.writing())
        video = OverlayVideo(folder.path / VIDEO, inputs.source.fps, camera.width, camera.height)
        stack.callback(video.discard)
        bag = None if hindrance else _open_bag(folder.path / BAG, inputs, request.images)
        if bag is not None:
            stack.callback(bag.discard)
        for row, (frame, state) in enumerate(_pairs(folder, request, inputs)):
            summary.add([state])
            picture = painter.overlay(frame, state)
            video.write(picture)
            if row in shown:
                cells.append(_cell(picture, painter.side_view(state, picture.shape[0]), row, state))
            truth = inputs.source.truth(state.stamp) if inputs.source.has_truth else None
            if inputs.source.has_truth:
                # Contact maps are most of a state, and an hour has a hundred thousand of them.
                kept.append(replace(state, contact_maps=()))
            if bag is not None:
                bag.write(frame, state, truth)
            progress(row + 1)
        video.close()
        if bag is not None:
            bag.close()
        scale = SHEET_HEIGHT / cells[0].shape[0]
        write_png(folder.path / SHEET, contact_sheet(cells, SHEET_COLUMNS, scale))
        accuracy = measure_accuracy(inputs, kept)
        report = make_report(inputs, settings, summary, folder.reports(), accuracy)
        report["video"] = {"file": VIDEO, "codec": video.codec, "plays_in_browsers": video.plays_in_browsers}
        report["bag"] = {"folder": BAG} if bag is not None else {"missing": hindrance}
        with replacing(folder.path / REPORT) as stream:
            stream.write((json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    return Written(report, video.codec, video.plays_in_browsers)


def _pairs(folder: TrajectoryFolder, request: Request, inputs: Inputs) -> Iterator[tuple[Frame, HandObjectState]]:
    """Frames with their states.

    Raises:
        InputError: the clip has other frames than when it was reconstructed.
    """
    frames = clip_frames(inputs, use_depth=not request.rgb_only)
    for start, states in folder.windows():
        for row, state in enumerate(states, start):
            frame = next(frames, None)
            if frame is None or frame.stamp != state.stamp:
                found = "no frame" if frame is None else f"the stamp {frame.stamp}"
                raise InputError(
                    f"clip {request.clip!r}: frame {row} has {found}, it had {state.stamp} when it was reconstructed: "
                    "the clip has changed; begin anew with --restart"
                )
            yield frame, state


def _open_bag(folder: Path, inputs: Inputs, images: bool) -> TrajectoryRecording:
    """A new bag in place of an older one."""
    from grasp_nodes.nodes.trajectory_recording import TrajectoryRecording

    for old in (folder, folder.with_name(f"{folder.name}.partial")):
        if old.exists():
            shutil.rmtree(old)
    return TrajectoryRecording(folder, inputs.hands.values(), images, inputs.source.has_truth)


def _cell(overlay: np.ndarray, side: np.ndarray, row: int, state: HandObjectState) -> np.ndarray:
    text = f"{row}  {state.status.name}"
    return captioned(np.hstack([overlay, side]), f"{text}  {state.status_text}" if state.status_text else text)
