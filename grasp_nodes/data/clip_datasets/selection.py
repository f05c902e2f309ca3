"""Which clips HOMan was evaluated on.

Hasson et al., "Towards unconstrained joint hand-object reconstruction from RGB videos", 3DV 2021, section 4.2. Where
it does not name the clips, the authors' released code does (https://github.com/hassony2/homan); each function says
which.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grasp_nodes.data.clip_datasets import core50, ho3d
from grasp_nodes.data.clip_datasets.epic import Action, detections_path, read_actions
from grasp_nodes.data.clip_datasets.epic_detections import DetectedBox, FrameDetections, read_detections
from grasp_nodes.errors import InputError
from grasp_nodes.perception.box_tracker import BoxTracker
from grasp_nodes.perception.usable_parts import usable_parts

HO3D_TEST = (
    *("AP10", "AP11", "AP12", "AP13", "AP14", "MPM10", "MPM11", "MPM12", "MPM13", "MPM14", "SB11", "SB13", "SM1"),
)
CORE50_OBJECTS = (6, 8, 9, 10, 16, 17, 18, 19, 21, 22, 23, 24, 25, 31, 32, 34, *range(41, 51))
EPIC_NOUNS = ("cup", "plate", "can", "phone", "bottle")
MIN_SCORE = 0.5
"""Of a detection; the data set's authors and HOMan's code agree on it."""
_IMAGE = np.array([456.0, 256.0, 456.0, 256.0])
"""px, of the published frames."""


@dataclass(frozen=True)
class EpicClip:
    """A clip that was kept. first, last: frames of the video, counted from 1, in which hand and object are followed."""

    action: Action
    first: int
    last: int

    @property
    def sequence(self) -> str:
        """What it is called where a sequence is asked for."""
        return f"{self.action.name}:{self.first}-{self.last}"


def homan_clips(dataset: str, folder: str | Path) -> list[str]:
    """The sequences of a data set that HOMan was evaluated on, as far as they are there.

    Args:
        dataset: its name in the registry. folder: that it lies in.

    Raises:
        InputError: HOMan was not evaluated on it, or a file is broken. MissingFileError: a file is not there.
    """
    if dataset == "ho3d":
        return ho3d_clips(folder)
    if dataset == "core50":
        return core50_clips(folder)
    if dataset == "epic":
        return [clip.sequence for clip in epic_clips(folder)]
    raise InputError(f"data set {dataset!r}: HOMan was not evaluated on it; expected ho3d, core50 or epic")


def ho3d_clips(folder: str | Path) -> list[str]:
    """The 13 sequences of version 2's evaluation part, 11,525 frames (paper), as far as they are there."""
    known = ho3d.list_sequences(Path(folder))
    return [name for name in known if name.startswith("evaluation/") and name.split("/")[1] in HO3D_TEST]


def core50_clips(folder: str | Path) -> list[str]:
    """26 objects in 11 sessions, 286 clips (paper); which objects is in the code."""
    return [name for name in core50.list_sequences(Path(folder)) if int(name.split("/o")[1]) in CORE50_OBJECTS]


def epic_clips(folder: str | Path, nouns: Collection[str] = EPIC_NOUNS) -> list[EpicClip]:
    """The actions on cups, plates, cans, phones and bottles with long tracks (paper); how nouns are spelled: code.

    An action stays if a hand is followed together with its object over more than 20 consecutive frames, see
    `usable_parts`; the clip is the longest such part. The tracker is the one here, SORT's Kalman filter; HOMan took
    another of the same kind. An action of a video without a file of detections is left out.

    Raises:
        MissingFileError: there is no list of actions.
        InputError: no video of any action has detections, or a file is broken.
    """
    root = Path(folder)
    by_video: dict[Path, list[Action]] = {}
    for action in read_actions(root):
        if action.noun in nouns:
            by_video.setdefault(detections_path(root, action), []).append(action)
    paths = [path for path in by_video if path.is_file()]
    if by_video and not paths:
        raise InputError(
            f"{root}: expected files of detections such as {next(iter(by_video))}; they are at "
            "https://github.com/epic-kitchens/epic-kitchens-100-hand-object-bboxes"
        )
    clips = []
    for path in paths:
        detections = read_detections(path)
        clips += [clip for action in by_video[path] if (clip := _longest_part(action, detections)) is not None]
    return clips


def _longest_part(action: Action, detections: Mapping[int, FrameDetections]) -> EpicClip | None:
    """The clip of an action, None if it has no usable part."""
    frames = [detections.get(number) for number in range(action.first, action.last + 1)]
    objects = _sights([() if one is None else one.objects for one in frames])
    hands = {
        (side, name): rows
        for side in ("left", "right")
        for name, rows in _sights(
            [() if one is None else [hand for hand in one.hands if hand.side == side] for one in frames]
        ).items()
    }
    part = max(usable_parts(hands, objects), key=len, default=None)
    return None if part is None else EpicClip(action, action.first + part.start, action.first + part.stop - 1)


def _sights(frames: Sequence[Iterable[DetectedBox]]) -> dict[int, list[int]]:
    """The frames in which each track was seen, by its number."""
    tracker = BoxTracker()
    sights: dict[int, list[int]] = {}
    for row, boxes in enumerate(frames):
        kept = [one for one in boxes if one.score > MIN_SCORE and (one.box[2:] > one.box[:2]).all()]
        for tracked in tracker.update([one.box * _IMAGE for one in kept], [one.score for one in kept]):
            if tracked.missed == 0:
                sights.setdefault(tracked.track_id, []).append(row)
    return sights
