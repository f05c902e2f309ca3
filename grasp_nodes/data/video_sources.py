"""Video files, folders of images and cameras, through OpenCV. Their focal length is guessed: is_metric is false."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from grasp_nodes.data.clip_files import read_color
from grasp_nodes.data.frame_source import DEFAULT_FIELD_OF_VIEW, FrameSourceBase, guessed_camera, limited
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.camera import Frame

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
FOLDER_FPS = 30.0


class VideoSource(FrameSourceBase):
    """A video file. Stamps are the frame's number divided by the file's rate."""

    def __init__(
        self, path: str | Path, object_spec: str = "", frames: int = 0, field_of_view: float = DEFAULT_FIELD_OF_VIEW
    ) -> None:
        """Open the file.

        Raises:
            MissingFileError: there is none. InputError: OpenCV finds no picture in it.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise MissingFileError(f"{path}: not found; expected a video file")
        capture = cv2.VideoCapture(str(self.path))
        good, image = capture.read()
        fps = capture.get(cv2.CAP_PROP_FPS)
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        if not good:
            raise InputError(f"{path}: not a video that can be decoded; expected for instance an .mp4 with H.264")
        height, width = image.shape[:2]
        super().__init__(
            fps if np.isfinite(fps) and fps > 0 else FOLDER_FPS, guessed_camera(width, height, field_of_view)
        )
        self._count = limited(max(count, 1), frames)
        self.object_spec = object_spec

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Frame]:
        capture = cv2.VideoCapture(str(self.path))
        try:
            for index in range(self._count):
                good, image = capture.read()
                if not good:  # the file's own count may be a little too high
                    return
                color = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                yield Frame(round(index * 1e9 / self.fps), color, self.camera)
        finally:
            capture.release()


class ImageFolderSource(FrameSourceBase):
    """A folder of images of one size, in the order of their names, taken as 30 per second."""

    def __init__(
        self, folder: str | Path, object_spec: str = "", frames: int = 0, field_of_view: float = DEFAULT_FIELD_OF_VIEW
    ) -> None:
        """List the images.

        Raises:
            InputError: the folder holds no images.
        """
        self._paths = images_in(Path(folder))
        if not self._paths:
            raise InputError(f"{folder}: no images in it; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
        height, width = read_color(self._paths[0]).shape[:2]
        super().__init__(FOLDER_FPS, guessed_camera(width, height, field_of_view))
        self._paths = self._paths[: limited(len(self._paths), frames)]
        self.object_spec = object_spec

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self._paths):
            try:
                yield Frame(round(index * 1e9 / self.fps), read_color(path), self.camera)
            except InputError as error:
                raise InputError(f"{path}: {error}") from error


class CameraSource(FrameSourceBase):
    """A camera of this machine; frames carry the time of their arrival."""

    is_live = True

    def __init__(
        self, index: int, object_spec: str = "", frames: int = 0, field_of_view: float = DEFAULT_FIELD_OF_VIEW
    ) -> None:
        """Open the camera.

        Raises:
            InputError: there is no such camera, or it gives no picture.
        """
        self._capture = cv2.VideoCapture(index)
        good, image = self._capture.read()
        if not good:
            self._capture.release()
            raise InputError(f"camera {index}: no picture; is it connected, free and readable (/dev/video{index})?")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        height, width = image.shape[:2]
        super().__init__(fps if fps > 0 else FOLDER_FPS, guessed_camera(width, height, field_of_view))
        self._index, self._frames = index, frames
        self.object_spec = object_spec

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Frame]:
        sent = 0
        while not self._frames or sent < self._frames:
            good, image = self._capture.read()
            if not good:
                raise InputError(f"camera {self._index}: stopped giving pictures after {sent} frames")
            yield Frame(time.time_ns(), cv2.cvtColor(image, cv2.COLOR_BGR2RGB), self.camera)
            sent += 1

    def close(self) -> None:
        """Give the camera back."""
        self._capture.release()


def images_in(folder: Path) -> list[Path]:
    """The images of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
