"""EPIC-KITCHENS-100: egocentric videos of kitchens; a sequence is one narrated action. RGB, no poses.

Damen et al., "Rescaling Egocentric Vision", IJCV 2022. Certain, from the authors' annotations and download scripts
(https://github.com/epic-kitchens): the columns narration_id, participant_id, video_id, start_frame, stop_frame, verb
and noun of ``EPIC_100_train.csv`` and ``EPIC_100_validation.csv``; the column fps of ``EPIC_100_video_info.csv``; the
frames ``P01/rgb_frames/P01_01/frame_0000000001.jpg``, 456x256, counted from 1 and handed out as ``P01_01.tar``; the
detections in ``P01/hand-objects``, see `epic_detections`.

Guessed: the camera, a GoPro of which 80 degrees are assumed (HOMan's authors assumed 116), so ``is_metric`` is false.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

from grasp_nodes.data.clip_datasets.annotations import frame_range, numbered_files
from grasp_nodes.data.clip_datasets.recording import RecordingSource
from grasp_nodes.data.clip_datasets.registry import ClipOptions, require, unknown_sequence
from grasp_nodes.data.clip_files import read_color
from grasp_nodes.data.frame_source import guessed_camera
from grasp_nodes.errors import InputError

NAME = "epic"
FIELD_OF_VIEW = 80.0
"""deg."""
LISTS = ("EPIC_100_train.csv", "EPIC_100_validation.csv")
_FOLDER = "epic-kitchens-100-annotations"


@dataclass(frozen=True)
class Action:
    """One narrated action; frames from first to last, both included, counted from 1."""

    name: str
    participant: str
    video: str
    first: int
    last: int
    verb: str
    noun: str


def read_actions(folder: Path) -> list[Action]:
    """The actions of both lists, as far as they are there, in the lists' order.

    Raises:
        MissingFileError: neither list is there. InputError: a column is missing or a frame is no number.
    """
    roots = [root for root in (folder, folder / _FOLDER) if any((root / name).is_file() for name in LISTS)]
    if not roots:
        require(NAME, folder / LISTS[0])
    paths = [roots[0] / name for name in LISTS if (roots[0] / name).is_file()]
    return [_action(row, path) for path in paths for row in _rows(path)]


def list_sequences(folder: Path) -> list[str]:
    """The actions, ``P01_01_0`` ..., of whose videos the frames are there."""
    there: dict[str, bool] = {}
    names = []
    for action in read_actions(folder):
        if action.video not in there:
            there[action.video] = _frames(folder, action).is_dir()
        if there[action.video]:
            names.append(action.name)
    return names


def open_sequence(folder: Path, sequence: str, options: ClipOptions) -> EpicSource:
    """A narrated action, ``P01_01_0``, or frames of it, ``P01_01_0:10-45``. See `ClipDataset.open`."""
    name, _, part = sequence.partition(":")
    action = next((one for one in read_actions(folder) if one.name == name), None)
    if action is None:
        raise unknown_sequence(NAME, folder, sequence, list_sequences(folder))
    if part:
        first, last = frame_range(sequence, part, "P01_01_0:10-45")
        if not action.first <= first <= last <= action.last:
            raise InputError(f"sequence {sequence}: expected frames within {name}:{action.first}-{action.last}")
        action = replace(action, first=first, last=last)
    return EpicSource(folder, action, options)


class EpicSource(RecordingSource):
    """The frames of one action of EPIC-KITCHENS. action: which. The object's id is the action's noun."""

    def __init__(self, folder: Path, action: Action, options: ClipOptions) -> None:
        """See `ClipDataset.open`."""
        frames = require(NAME, _frames(folder, action), "folder")
        every = numbered_files(frames, "frame_")
        self._colors = {number: path for number, path in every.items() if action.first <= number <= action.last}
        if not self._colors:
            raise InputError(f"{frames}: expected the frames {action.first} to {action.last} of action {action.name}")
        height, width = read_color(next(iter(self._colors.values()))).shape[:2]
        camera = guessed_camera(width, height, options.field_of_view or FIELD_OF_VIEW)
        super().__init__(_rate(folder, action.video), camera, list(self._colors), options.frames)
        self.action = action
        self.object_spec = options.object_spec
        self.object_id = action.noun

    def _color_path(self, number: int) -> Path:
        return self._colors[number]


def detections_path(folder: Path, action: Action) -> Path:
    """The file of the detections in the action's video, which need not be there."""
    return folder / action.participant / "hand-objects" / f"{action.video}.pkl"


def _frames(folder: Path, action: Action) -> Path:
    return folder / action.participant / "rgb_frames" / action.video


def _rate(folder: Path, video: str) -> float:
    """Frames per second of a video."""
    name = "EPIC_100_video_info.csv"
    path = folder / name if (folder / name).is_file() else folder / _FOLDER / name
    for row in _rows(require(NAME, path)):
        if _column(row, "video_id", path) == video:
            try:
                rate = float(_column(row, "fps", path))
            except ValueError as error:
                raise InputError(f"{path}: fps of {video}: expected a number ({error})") from error
            if not 1 <= rate <= 1000:
                raise InputError(f"{path}: fps of {video}: expected 1 to 1000, got {rate:g}")
            return rate
    raise InputError(f"{path}: has no line for the video {video}")


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a table of comma-separated values ({error})") from error


def _action(row: dict[str, str], path: Path) -> Action:
    texts = [_column(row, name, path) for name in ("narration_id", "participant_id", "video_id", "verb", "noun")]
    try:
        first, last = (int(_column(row, name, path)) for name in ("start_frame", "stop_frame"))
    except ValueError as error:
        raise InputError(f"{path}: {texts[0]}: start_frame, stop_frame: expected whole numbers ({error})") from error
    if any("/" in text or ".." in text for text in texts[1:3]):
        raise InputError(f"{path}: {texts[0]}: expected names such as P01 and P01_01, got {texts[1]!r}, {texts[2]!r}")
    return Action(texts[0], texts[1], texts[2], first, last, texts[3], texts[4])


def _column(row: dict[str, str], name: str, path: Path) -> str:
    value = row.get(name)
    if value is None:
        raise InputError(f"{path}: expected the column {name}; found {', '.join(map(str, row))}")
    return value
