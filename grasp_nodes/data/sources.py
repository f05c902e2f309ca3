"""Opening whatever the user points at: a clip, a stereo folder, a video, images, a recording, a camera."""

from __future__ import annotations

from pathlib import Path

from grasp_nodes.data.bag_source import BagSource
from grasp_nodes.data.clip_readers import ClipSource
from grasp_nodes.data.frame_source import DEFAULT_FIELD_OF_VIEW, FrameSource
from grasp_nodes.data.stereo_source import CALIBRATION_FILE, StereoSource
from grasp_nodes.data.video_sources import CameraSource, ImageFolderSource, VideoSource
from grasp_nodes.errors import InputError, MissingFileError

BAG_SUFFIXES = (".mcap", ".db3", ".bag")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")

TABLE = "table"

__all__ = ["FrameSource", "open_source"]


def open_source(
    uri: str = "",
    object_spec: str = "",
    frames: int = 0,
    seed: int = 0,
    field_of_view: float = DEFAULT_FIELD_OF_VIEW,
) -> FrameSource:
    """The frames behind a name.

    Args:
        uri: '' = the default clip (rendered if need be); table = an object on a table, rendered as it is asked for; a
            clip folder, a stereo folder, a folder of images, a rosbag2 folder; a video file; an .mcap, .db3 or .bag
            file; or the number of a camera.
        object_spec: mesh or shape of the object, '' = the clip's own.
        frames: only the first so many, 0 = all. seed: of the default clip.
        field_of_view: deg, horizontal, assumed where the camera is not known.

    Raises:
        InputError, MissingFileError: the message names the file and what was expected.
    """
    if frames < 0:
        raise InputError(f"frames: expected 0 or more, got {frames}")
    if not uri:
        return _default_clip(object_spec, frames, seed)
    if uri == TABLE:
        from grasp_nodes.data.table_source import TableSource

        return TableSource(object_spec, frames, seed)
    if uri.isascii() and uri.isdigit():
        return CameraSource(int(uri), object_spec, frames, field_of_view)
    path = Path(uri).expanduser()
    if not path.exists():
        raise MissingFileError(
            f"source {uri!r}: not found; expected a clip, stereo or image folder, a video file, a recording "
            f"({', '.join(BAG_SUFFIXES)}) or the number of a camera"
        )
    if path.is_dir():
        return _open_folder(path, object_spec, frames, field_of_view)
    suffix = path.suffix.lower()
    if suffix in BAG_SUFFIXES:
        return BagSource(path, object_spec, frames, field_of_view=field_of_view)
    if suffix in VIDEO_SUFFIXES:
        return VideoSource(path, object_spec, frames, field_of_view)
    raise InputError(
        f"source {uri!r}: the ending {suffix!r} is not known; expected a video ({', '.join(VIDEO_SUFFIXES)}) or a "
        f"recording ({', '.join(BAG_SUFFIXES)})"
    )


def _open_folder(path: Path, object_spec: str, frames: int, field_of_view: float) -> FrameSource:
    if (path / "clip.json").is_file():
        return ClipSource(path, frames, object_spec)
    if (path / CALIBRATION_FILE).is_file() or ((path / "left").is_dir() and (path / "right").is_dir()):
        return StereoSource(path, object_spec, frames)
    if (path / "metadata.yaml").is_file():
        return BagSource(path, object_spec, frames, field_of_view=field_of_view)
    return ImageFolderSource(path, object_spec, frames, field_of_view)


def _default_clip(object_spec: str, frames: int, seed: int) -> FrameSource:
    # Here and not above: the renderer pulls in Open3D and torch, which other sources do not need.
    from grasp_nodes.data.rendered_clips import MAX_FRAMES, default_clip

    return ClipSource(default_clip(frames or MAX_FRAMES, seed), 0, object_spec)
