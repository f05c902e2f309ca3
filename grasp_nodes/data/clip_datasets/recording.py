"""What the sequences of all data sets have in common: numbered frames, and annotations by the frame's number."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandState, ObjectState
from grasp_nodes.data.clip_files import read_color
from grasp_nodes.data.frame_source import FrameSourceBase, limited
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel, Frame


class RecordingSource(FrameSourceBase):
    """One sequence of a data set. A frame's stamp is its number divided by the rate; numbers may have gaps."""

    def __init__(self, fps: float, camera: CameraModel, numbers: Sequence[int], frames: int = 0) -> None:
        """Take the frames' numbers.

        Args:
            fps: 1/s. camera: of all frames. numbers: of the frames, at least one, increasing.
            frames: only the first so many, 0 = all.
        """
        super().__init__(fps, camera)
        self.numbers = list(numbers)[: limited(len(numbers), frames)]
        self._stamps = np.round(np.array(self.numbers, np.float64) * (1e9 / fps)).astype(np.int64)
        self.first_stamp = int(self._stamps[0])

    @property
    def stamps(self) -> list[int]:
        """Of all frames, ns."""
        return [int(stamp) for stamp in self._stamps]

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Frame]:
        return (self.frame(index) for index in range(len(self)))

    def frame(self, index: int) -> Frame:
        """One frame, read from its files.

        Raises:
            MissingFileError, InputError: an image is missing, damaged or of another size than the camera says.
        """
        number = self.numbers[index]
        path = self._color_path(number)
        color, depth = read_color(path), self._depth(number)
        try:
            return Frame(int(self._stamps[index]), color, self.camera, depth)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def truth(self, stamp: int) -> HandObjectState | None:
        """The annotations of the frame with this stamp (ns); None where it has none.

        Hands are there as far as the annotations are MANO's and MANO is at hand; the object is the manipulated one.
        """
        number = self._number_at(stamp)
        if number is None:
            return None
        hands, objects = self._annotations(number)
        if not hands and not objects:
            return None
        return HandObjectState(
            stamp, self.camera.frame_id, hands, objects, status=FitStatus.OK, status_text="annotated"
        )

    def keypoints(self, stamp: int) -> np.ndarray | None:
        """The annotated keypoints of the hand in the frame with this stamp (ns), None where there are none.

        Returns:
            (21, 3) m, camera frame, wrist, then thumb to little finger. The fingertips are the points that the
            annotators took; those in `truth` are the hand model's, some millimetres away.
        """
        number = self._number_at(stamp)
        return None if number is None else self._keypoints(number)

    def _number_at(self, stamp: int) -> int | None:
        row = int(np.searchsorted(self._stamps, stamp))
        return self.numbers[row] if row < len(self._stamps) and self._stamps[row] == stamp else None

    @abstractmethod
    def _color_path(self, number: int) -> Path: ...

    def _depth(self, number: int) -> np.ndarray | None:  # noqa: ARG002 - a colour camera
        """(H, W) float32, m."""
        return None

    def _annotations(self, number: int) -> tuple[Sequence[HandState], Sequence[ObjectState]]:  # noqa: ARG002
        """Hands and objects of a frame; nothing is known."""
        return (), ()

    def _keypoints(self, number: int) -> np.ndarray | None:  # noqa: ARG002 - nothing is known
        """(21, 3), m."""
        return None
