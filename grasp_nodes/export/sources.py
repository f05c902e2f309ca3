"""Recordings from whatever holds one: a recorded bag, a folder of ``grasp-nodes reconstruct``, a trajectory file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from grasp_nodes.data.sources import BAG_SUFFIXES, open_source
from grasp_nodes.data.trajectory_files import RecordedTrajectory, read_trajectory
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.export.bag_recordings import read_bag
from grasp_nodes.export.demonstration import Recording
from grasp_nodes.export.state_rows import row_of_state
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.json_files import read_json_object

TRAJECTORY, SETTINGS, DEMO = "trajectory.npz", "settings.json", "demo.json"


@dataclass(frozen=True)
class SourceOptions:
    """What cannot be told from the recordings themselves.

    clip: the pictures of a trajectory, '' = the clip that it was made of. with_pictures: false leaves them out.
    state_topic, joint_topic, command_topic: of bags, '' = the one that looks right.
    """

    clip: str = ""
    with_pictures: bool = True
    state_topic: str = ""
    joint_topic: str = ""
    command_topic: str = ""


def find_recordings(paths: list[Path]) -> list[Path]:
    """Every recording that some paths name: themselves, or, of a folder that is none, the recordings right below it.

    Raises:
        MissingFileError: nothing is there. InputError: a folder without a recording.
    """
    found = []
    for path in paths:
        path = path.expanduser()
        if not path.exists():
            raise MissingFileError(f"{path}: not found; expected a bag, a folder of 'reconstruct', or a trajectory.npz")
        if path.is_file() or _holds_recording(path):
            found.append(path)
            continue
        below = sorted(one for one in path.iterdir() if one.is_dir() and _holds_recording(one))
        if not below:
            raise InputError(
                f"{path}: holds no recording; expected a bag (metadata.yaml), a folder of 'reconstruct' "
                f"({TRAJECTORY}), or a folder of such folders"
            )
        found += below
    return found


def open_recording(path: Path, options: SourceOptions) -> Recording:
    """Read a recording; pictures are opened when they are asked for.

    Raises:
        MissingFileError, InputError: it cannot be used; the message names it.
    """
    if path.is_dir() and (path / TRAJECTORY).is_file():
        return _of_trajectory(path / TRAJECTORY, path, options)
    if path.is_dir() or path.suffix.lower() in BAG_SUFFIXES:
        topics = (options.state_topic, options.joint_topic, options.command_topic)
        found = read_bag(path, *topics, with_pictures=options.with_pictures)
        return replace(found, task=_task_of(path) if path.is_dir() else "")
    return _of_trajectory(path, path.parent, options)


def _holds_recording(folder: Path) -> bool:
    return (folder / TRAJECTORY).is_file() or (folder / "metadata.yaml").is_file()


def _task_of(folder: Path) -> str:
    """What the recorder was told of the demonstration."""
    return str(_if_there(folder / DEMO).get("task", ""))


def _of_trajectory(path: Path, folder: Path, options: SourceOptions) -> Recording:
    recorded = read_trajectory(path)
    states = [row_of_state(state) for state in recorded.trajectory.states]
    clip: str | None = options.clip
    if not options.clip:
        # The empty name is the clip that the package renders itself.
        clip = _if_there(folder / SETTINGS).get("clip")
    stamps = np.array([state.stamp for state in states], np.int64)
    name = folder.name if path.name == TRAJECTORY else path.stem
    found = Recording(name, str(path), states, is_metric=recorded.camera.is_metric)
    if clip is None or not options.with_pictures:
        return found
    if not options.clip and clip and not Path(clip).exists():
        raise InputError(
            f"{path}: its clip {clip!r} is not there any more; name it with --clip, or leave pictures out with "
            "--no-images"
        )
    return replace(found, pictures=_clip_pictures(clip, _seed_of(recorded), stamps, str(path)), picture_stamps=stamps)


def _seed_of(recorded: RecordedTrajectory) -> int:
    """Of the clip that the package renders."""
    text = recorded.attributes.get("seed", "0")
    return int(text) if text.isascii() and text.isdigit() else 0


def _clip_pictures(clip: str, seed: int, stamps: np.ndarray, where: str) -> Callable[[], Iterator[Frame]]:
    def pictures() -> Iterator[Frame]:
        source = open_source(clip, frames=len(stamps), seed=seed)
        try:
            for stamp, frame in zip(stamps, source, strict=False):
                if frame.stamp != stamp:
                    raise InputError(
                        f"{where}: the clip {clip!r} has a frame of {frame.stamp} ns where the trajectory has one of "
                        f"{stamp} ns: it is another clip; name the right one with --clip"
                    )
                yield frame
        finally:
            source.close()

    return pictures


def _if_there(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}
