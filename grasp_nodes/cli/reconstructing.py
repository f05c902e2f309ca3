"""``grasp-nodes reconstruct``: a clip to hands, objects and contact; can be stopped and gone on with."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from grasp_nodes.cli.long_work import INTERRUPTED
from grasp_nodes.cli.reconstruction import setup
from grasp_nodes.cli.reconstruction.outputs import (
    OUTPUTS,
    Written,
    why_no_bag,
    write_outputs,
    write_trajectory_file,
)
from grasp_nodes.cli.reconstruction.report import plain
from grasp_nodes.cli.reconstruction.setup import Inputs, Request, boxes_after, clip_frames, first_boxes, settings_of
from grasp_nodes.contact.finite_states import drop_not_finite
from grasp_nodes.contact.interaction import HandObjectState
from grasp_nodes.data.trajectory_parts import TrajectoryFolder
from grasp_nodes.data.workers import WorkError
from grasp_nodes.errors import GraspNodesError, InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.objects.symmetry import rotation_symmetries

FAILED = 1
LINE_SECONDS = 30.0
"""Where the output is no terminal, how often a line says how it goes."""
DOUBTFUL_IOU = 0.5
"""Below it, more of silhouette and mask lies apart than on each other: that it is this object is doubtful."""
OUT_OF_REACH = 0.05
"""m; an object to which no hand ever comes nearer is none that is held."""
REPORTED = ("frames_in", "frames_out", "found_share", "object_answered_share", "is_metric", "seed", "device")
HEADLINE = ("hand_mpjpe_mm", "object_add_s_mm", "penetration_mm", "contact_accuracy")


def reconstruct(request: Request) -> int:
    """Reconstruct the clip, or go on with it.

    Returns:
        Exit code: 0; 1 if nothing was found in any frame; 130 after Ctrl-C.

    Raises:
        InputError, MissingFileError: the clip, an object or the folder cannot be used.
        WorkError: the folder cannot be written, or something failed after some frames, which are kept.
    """
    console = Console(stderr=True)
    setup.check_refinement(request)
    folder = TrajectoryFolder(request.output, OUTPUTS)
    if not request.clip:
        _say(console, "The clip is the package's own, which is rendered at the very first run: a minute or two.")
    inputs = setup.open_inputs(request)
    try:
        settings = settings_of(request, inputs)
        hindrance = why_no_bag()
        _say_what_is_missing(console, inputs, hindrance)
        with folder.opened(settings, request.restart), _shown(console, len(inputs.source)) as clock:
            try:
                _fit(folder, request, inputs, clock)
            except KeyboardInterrupt:
                _keep_what_is_done(folder, request, inputs, settings)
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the work of hours is kept
                _end_early(console, folder, request, inputs, settings, error)
            clock.begin("drawing", 0)
            written = write_outputs(folder, request, inputs, settings, hindrance, clock.update)
    except KeyboardInterrupt:
        _say(console, _how_far(folder, request, inputs))
        return INTERRUPTED
    finally:
        inputs.source.close()
    return _tell(console, request, inputs, written)


def _fit(folder: TrajectoryFolder, request: Request, inputs: Inputs, clock: _Clock) -> None:
    """Reconstruct the frames that are not done yet, window by window."""
    total, done = len(inputs.source), folder.frames_done()
    clock.begin("fitting", done)
    if done >= total:
        return
    frames = _ReadableFrames(clip_frames(inputs, done, use_depth=not request.rgb_only))
    rest = iter(frames)
    head = list(islice(rest, 1))
    if not head and frames.error is None:
        if done:  # the clip announces more frames than it has
            return
        raise InputError(f"clip {request.clip!r}: holds no frame that can be read")
    if frames.error is not None:
        raise frames.error
    boxes = first_boxes(request, inputs) if not done else _boxes_to_go_on_with(folder, request, inputs, done)
    reconstructor = setup.make_reconstructor(request, inputs, boxes)
    refiner = setup.make_state_refiner(request, inputs)
    for window in reconstructor.reconstruct(chain(head, rest), first=done):
        states = [drop_not_finite(state) for state in window.states]
        if refiner is not None:
            states = refiner.refine(states)
        folder.keep(window.start, states, plain(window.report))
        done = window.start + len(states)
        clock.update(done)
    if frames.error is not None:
        raise frames.error


class _ReadableFrames:
    """Frames up to the first that cannot be read, so that those before it are reconstructed all the same.

    error: why the frames end before their time, None as long as they do not.
    """

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self.error: GraspNodesError | OSError | None = None

    def __iter__(self) -> Iterator[Frame]:
        try:
            yield from self._frames
        except (GraspNodesError, OSError) as error:
            self.error = error


def _boxes_to_go_on_with(folder: TrajectoryFolder, request: Request, inputs: Inputs, done: int) -> Mapping[str, Any]:
    """The user's boxes are of the first frame; later ones are where the objects were last seen."""
    if not request.boxes:
        return {}
    last: list[HandObjectState] = []
    for _, states in folder.windows():
        last = states
    found = boxes_after(last, inputs)
    missing = [name for name in first_boxes(request, inputs) if name not in found]
    if missing:
        raise InputError(
            f"{request.output}: {', '.join(missing)} cannot be seen in the last frames before frame {done}, so that "
            "--object-box cannot be carried on: begin anew with --restart"
        )
    return found


def _keep_what_is_done(folder: TrajectoryFolder, request: Request, inputs: Inputs, settings: Mapping[str, Any]) -> None:
    if folder.frames_done():
        write_trajectory_file(folder, request, inputs, settings, complete=False)


def _end_early(
    console: Console,
    folder: TrajectoryFolder,
    request: Request,
    inputs: Inputs,
    settings: Mapping[str, Any],
    error: Exception,
) -> NoReturn:
    """Keep what is done and say so.

    Raises:
        WorkError: with what went wrong, where some frames are done. Else, and where it is a fault of the program, the
        error itself.
    """
    if isinstance(error, WorkError) or not folder.frames_done():
        raise error
    _keep_what_is_done(folder, request, inputs, settings)
    if isinstance(error, (GraspNodesError, OSError)):
        raise WorkError(f"{error}. {_how_far(folder, request, inputs)}") from error
    _say(console, _how_far(folder, request, inputs))
    raise error


def _how_far(folder: TrajectoryFolder, request: Request, inputs: Inputs) -> str:
    done = folder.frames_done()
    if not done:
        return "Stopped before any frame was finished: the same command begins anew."
    return (
        f"Stopped after {done} of {len(inputs.source)} frames. What is finished is kept in {request.output}: the same "
        "command goes on from there."
    )


def _say_what_is_missing(console: Console, inputs: Inputs, hindrance: str) -> None:
    camera = inputs.source.camera
    if not camera.is_metric:
        field_of_view = 2 * math.degrees(math.atan(camera.width / 2 / camera.camera_k[0, 0]))
        _say(
            console,
            f"The focal length is not known: {field_of_view:.3g} degrees are assumed (--fov). Positions are "
            "right up to scale only, and is_metric is false in everything that is written.",
        )
    if not inputs.objects:
        _say(console, "No object: hands only. Name its mesh with --object.")
    if hindrance:
        _say(console, f"There will be no bag: {hindrance}")


def _tell(console: Console, request: Request, inputs: Inputs, written: Written) -> int:
    report = written.report
    if not written.plays:
        _say(console, f"overlay.mp4 is in {written.codec}, which video players know and browsers do not.")
    _tell_doubts(console, inputs, report)
    if (moves := report["camera_moves_share"]) is not None and moves > 0:
        _say(
            console,
            f"The camera moves in {moves:.0%} of the frames: poses are in its frame, and there motion does not tell "
            "what a hand holds.",
        )
    nothing = not report["found_share"] and not report["object_answered_share"]
    if nothing:
        _say(console, "Neither a hand nor an object was found in any frame; see report.json and sheet.png.")
    if report["frames_out"] < report["frames_in"]:
        _say(console, f"The clip announces {report['frames_in']} frames; {report['frames_out']} could be read.")
    accuracy = report["accuracy"] or {}
    if request.as_json:
        row = {name: report[name] for name in REPORTED}
        row |= {"output": str(request.output), "seconds": report["seconds"], "video_codec": written.codec}
        row |= {name: accuracy[name] for name in HEADLINE if name in accuracy}
        typer.echo(json.dumps(row))
    else:
        scale = "" if inputs.source.camera.is_metric else ", up to scale (is_metric: false)"
        numbers = ", ".join(f"{name} {accuracy[name]:.3g}" for name in HEADLINE if accuracy.get(name) is not None)
        placed = report["object_answered_share"]
        told = "" if placed is None else f", {'the object' if len(inputs.objects) == 1 else 'objects'} in {placed:.0%}"
        typer.echo(
            f"{request.output}: {report['frames_out']} frames, a hand in {report['found_share']:.0%}{told}{scale}"
            f"{'; ' + numbers if numbers else ''}; see trajectory.npz, sheet.png, overlay.mp4, report.json"
        )
    return FAILED if nothing else 0


def _tell_doubts(console: Console, inputs: Inputs, report: Mapping[str, Any]) -> None:
    """Why an object may not be where it is said to be."""
    for name, angle in report["rotation_ambiguity_rad"].items():
        if angle and _has_symmetry(inputs.objects[name]):
            _say(console, f"{name}: looks the same after some turns: its rotation is told up to those only.")
        elif angle:
            _say(console, f"{name}: the images do not tell it from itself turned by {math.degrees(angle):.0f} degrees.")
    for name, overlap in report["object_iou"].items():
        if overlap < DOUBTFUL_IOU:
            _say(
                console,
                f"{name}: only {overlap:.0%} of its silhouette and of what was taken for it lie on each other. It may "
                "not be in the clip, or something else was taken for it (see sheet.png): give --object-box.",
            )
    for name, distance in report["nearest_hand_m"].items():
        if distance is not None and distance > OUT_OF_REACH:
            _say(
                console,
                f"{name}: no hand comes nearer to it than {100 * distance:.0f} cm. If it is held in the clip, another "
                "thing was taken for it (see sheet.png): give --object-box.",
            )
    placed = {found["id"] for frame in report["frames"] for found in frame["objects"]}
    for name in inputs.objects:
        if name not in placed:
            _say(
                console,
                f"{name}: found in no frame. Nothing in the clip looks enough like its mesh (see sheet.png); if it is "
                "there, give --object-box.",
            )


def _has_symmetry(model: ObjectModel) -> bool:
    middle = (model.vertices.max(axis=0) + model.vertices.min(axis=0)) / 2
    return len(rotation_symmetries(model.vertices - middle, model.faces)) > 1


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Clock:
    """Shows how far a stage is: a bar on a terminal, else a line now and then; rate and time left are this run's."""

    def __init__(self, console: Console, total: int, bar: Progress | None) -> None:
        self._console, self._total, self._bar = console, total, bar
        self._task = bar.add_task("", total=total, words="") if bar is not None else None
        self._stage, self._begin, self._first = "", time.monotonic(), 0
        self._last_line = -LINE_SECONDS

    def begin(self, stage: str, done: int) -> None:
        """A stage begins, of which some frames are done already."""
        self._stage, self._begin, self._first = stage, time.monotonic(), done
        self._last_line = -LINE_SECONDS
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, total=self._total, completed=done, words="")
        self.update(done)

    def update(self, done: int) -> None:
        """So many frames are done."""
        words = self.words(done)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, description=self._stage, words=words)
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            _say(self._console, f"{self._stage}: {done} of {self._total} frames, {words}")

    def words(self, done: int) -> str:
        """Rate and time left."""
        seconds = time.monotonic() - self._begin
        rate = (done - self._first) / max(seconds, 1e-3)
        if rate <= 0:
            return "time left unknown"
        minutes, rest = divmod(round((self._total - done) / rate), 60)
        return f"{rate:.2g} frames/s, {minutes // 60}:{minutes % 60:02d}:{rest:02d} left"


@contextmanager
def _shown(console: Console, total: int) -> Iterator[_Clock]:
    if not console.is_terminal:
        yield _Clock(console, total, None)
        return
    # A window takes a while: the spinner and the time tell that it is being worked on.
    columns = (
        *(SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Clock(console, total, bar)
