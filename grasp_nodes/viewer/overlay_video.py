"""A video of pictures (.mp4), in a codec that browsers play where OpenCV has one."""

from __future__ import annotations

import contextlib
import errno
import uuid
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from grasp_nodes.errors import InputError

CODECS = {"vp09": True, "mp4v": False}
"""Codecs that are tried, best first, and whether browsers play them. VP9 costs about 0.2 s per picture of 640 x 480."""
LONGEST_EDGE = 720
"""px; larger pictures are shrunk, as the time to encode them grows with their area."""
UNFINISHED = ".part"


class OverlayVideo:
    """Writes pictures of one size; the file appears whole when it is closed.

    codec: its four letters. plays_in_browsers: whether it does. pictures: written so far.
    """

    def __init__(self, path: Path, fps: float, width: int, height: int) -> None:
        """Open the file.

        Args:
            path: ends in .mp4. fps: 1/s. width, height: px, of the pictures; the video's are at most `LONGEST_EDGE` and
                even, for which a black line is added.

        Raises:
            InputError: it cannot be written with any of the codecs.
        """
        self.path, self.pictures = path, 0
        self._expected = (height, width, 3)
        share = min(1.0, LONGEST_EDGE / max(width, height))
        self._shrunk = (max(round(width * share), 1), max(round(height * share), 1))
        self._size = (self._shrunk[0] + self._shrunk[0] % 2, self._shrunk[1] + self._shrunk[1] % 2)
        # OpenCV chooses the container by the ending.
        self._partial = path.with_name(f"{path.stem}.{uuid.uuid4().hex}{UNFINISHED}{path.suffix}")
        for codec, plays in CODECS.items():
            self._writer = _open(self._partial, codec, fps, self._size)
            if self._writer.isOpened():
                self.codec, self.plays_in_browsers = codec, plays
                return
        self._partial.unlink(missing_ok=True)
        raise InputError(f"video {path}: could not be written with any of the codecs {', '.join(CODECS)}")

    def write(self, picture: np.ndarray) -> None:
        """Append a picture.

        Args:
            picture: (H, W, 3) uint8, RGB.

        Raises:
            InputError: another size.
        """
        if picture.shape != self._expected or picture.dtype != np.uint8:
            raise InputError(f"video {self.path}: expected uint8 {self._expected}, got {picture.dtype} {picture.shape}")
        if self._shrunk != (picture.shape[1], picture.shape[0]):
            picture = cv2.resize(picture, self._shrunk, interpolation=cv2.INTER_AREA)
        framed = np.zeros((self._size[1], self._size[0], 3), np.uint8)
        framed[: self._shrunk[1], : self._shrunk[0]] = picture[..., ::-1]
        self._writer.write(framed)
        self.pictures += 1

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            OSError: it could not be written whole, for instance because the disk is full; nothing is left of it.
        """
        self._writer.release()
        # OpenCV says nothing of a disk that is full.
        written = _count(self._partial)
        if written != self.pictures:
            self._partial.unlink(missing_ok=True)
            what = f"only {written} of {self.pictures} pictures of {self.path.name} were written; is the disk full?"
            raise OSError(errno.ENOSPC, what)
        self._partial.replace(self.path)

    def discard(self) -> None:
        """Give it up; nothing is left of it."""
        self._writer.release()
        self._partial.unlink(missing_ok=True)


def _count(path: Path) -> int:
    """Pictures in a video, as its own index has it; 0 where it has none."""
    with _quiet():
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
    return count


def _open(path: Path, codec: str, fps: float, size: tuple[int, int]) -> cv2.VideoWriter:
    # A codec that is not there is no error here, and OpenCV would say so in several lines.
    with _quiet():
        return cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, size)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
