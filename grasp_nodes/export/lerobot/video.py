"""Video files of several episodes, in the codecs that LeRobot reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from grasp_nodes.errors import InputError, MissingDependencyError

CODECS = {
    "h264": ("libx264", {"crf": "23", "preset": "veryfast", "bf": "0"}),
    "av1": ("libsvtav1", {"crf": "30", "preset": "12"}),
}
KEY_FRAMES = 2
"""Every so many frames one that can be read alone: training reads frames in any order."""


def load_av() -> Any:
    """The package av (FFmpeg).

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(
            "video of LeRobot data sets needs the package av: pip install 'grasp_nodes[lerobot]'"
        ) from error
    return av


class VideoFile:
    """A video that is being written. frames: so far."""

    def __init__(self, path: Path, fps: int, shape: tuple[int, int, int], codec: str) -> None:
        """Open the file.

        Args:
            path: ends in .mp4. fps: 1/s. shape: of the pictures; odd heights and widths are made even by repeating the
                last row or column, see `stored_shape`. codec: one of `CODECS`.

        Raises:
            MissingDependencyError: no av. InputError: a codec that there is not.
            OSError: the file cannot be written.
        """
        av = load_av()
        if codec not in CODECS:
            raise InputError(f"--codec: expected one of {', '.join(CODECS)}, got {codec!r}")
        encoder, options = CODECS[codec]
        if encoder not in av.codecs_available:
            raise InputError(f"--codec {codec}: the installed av {av.__version__} has no {encoder}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.frames, self._av, self._path = 0, av, path
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream(encoder, rate=fps, options={**options, "g": str(KEY_FRAMES)})
        self._stream.height, self._stream.width, _ = stored_shape(shape)
        self._stream.pix_fmt = "yuv420p"

    def write(self, picture: np.ndarray) -> None:
        """Append a picture, (H, W, 3) uint8, RGB, of the size that the file was opened for.

        Raises:
            InputError: it has another size.
        """
        height, width, _ = stored_shape(picture.shape)
        if (height, width) != (self._stream.height, self._stream.width):
            raise InputError(
                f"a picture is {width} x {height} px, the first was {self._stream.width} x {self._stream.height}"
            )
        frame = self._av.VideoFrame.from_ndarray(made_even(picture), format="rgb24")
        frame.pts = self.frames
        self._mux(frame)
        self.frames += 1

    def size(self) -> int:
        """Bytes so far."""
        return self._path.stat().st_size

    def close(self) -> None:
        """Finish the file."""
        self._mux(None)
        self._container.close()

    def discard(self) -> None:
        """Close the file, whatever its state."""
        try:
            self._container.close()
        except (OSError, ValueError):
            return

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)


def stored_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of pictures as the codecs take them: even."""
    return shape[0] + shape[0] % 2, shape[1] + shape[1] % 2, 3


def made_even(picture: np.ndarray) -> np.ndarray:
    """The picture with its last row or column twice where their number is odd."""
    height, width, _ = stored_shape(picture.shape)
    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture)
    padding = ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0))
    return np.pad(picture, padding, mode="edge")


def video_info(path: Path) -> dict[str, Any]:
    """What ``meta/info.json`` says of a video file."""
    with load_av().open(str(path)) as container:
        stream = container.streams.video[0]
        return {
            "video.height": stream.height,
            "video.width": stream.width,
            "video.codec": stream.codec_context.codec.canonical_name,
            "video.pix_fmt": stream.codec_context.pix_fmt,
            "video.is_depth_map": False,
            "video.fps": int(stream.base_rate),
            "video.channels": 3,
            "has_audio": False,
        }
