"""What every input looks like: frames in time order, with what is known about them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from grasp_nodes.contact.interaction import HandObjectState
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel, Frame

DEFAULT_FIELD_OF_VIEW = 60.0
"""deg, horizontal: what is assumed of a video that says nothing about its camera."""


class FrameSource(Protocol):
    """A recording or a camera.

    fps: 1/s. camera: of all frames; its is_metric is false where the focal length was guessed. has_depth: frames carry
    depth. has_truth: `truth` knows states. is_live: a camera, without end. first_stamp: ns, of the first frame, 0 for a
    camera. object_spec: mesh file or shape of the manipulated object, '' = unknown; object_id: its name; object_scale:
    factor on the mesh.
    """

    fps: float
    camera: CameraModel
    has_depth: bool
    has_truth: bool
    is_live: bool
    first_stamp: int
    object_spec: str
    object_id: str
    object_scale: float

    def __len__(self) -> int:
        """Frames of one pass; 0 for a camera."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """The frames from the start, read as they are asked for."""
        ...

    def truth(self, stamp: int) -> HandObjectState | None:
        """The exact state of the frame with this stamp (ns), None where it is not known."""
        ...

    def close(self) -> None:
        """Give files and devices back."""
        ...


class FrameSourceBase(ABC):
    """Defaults of `FrameSource`: a recording without depth, truth and object."""

    has_depth = False
    has_truth = False
    is_live = False
    first_stamp = 0
    object_spec = ""
    object_id = ""
    object_scale = 1.0

    def __init__(self, fps: float, camera: CameraModel) -> None:
        self.fps = fps
        self.camera = camera

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    def __bool__(self) -> bool:
        return True  # a camera has length 0 and is there all the same

    def truth(self, stamp: int) -> HandObjectState | None:  # noqa: ARG002 - nothing is known
        """Nothing is known."""
        return None

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Give files and devices back."""


def guessed_camera(width: int, height: int, field_of_view: float = DEFAULT_FIELD_OF_VIEW) -> CameraModel:
    """A camera without distortion of which only the image size is known.

    Args:
        width, height: px. field_of_view: deg, horizontal.

    Returns:
        a camera with is_metric false: positions are right up to scale only.

    Raises:
        InputError: a field of view that no pinhole has.
    """
    if not 5.0 <= field_of_view <= 160.0:
        raise InputError(f"field_of_view: expected 5 to 160 degrees, got {field_of_view:g}")
    focal = 0.5 * width / np.tan(np.deg2rad(field_of_view) / 2)
    camera_k = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    return CameraModel(camera_k, width, height, is_metric=False)


def limited(count: int, frames: int) -> int:
    """`count` frames, or the first `frames` of them where that is not 0."""
    return min(count, frames) if frames else count
