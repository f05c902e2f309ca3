"""The nouns of perception: what was seen in one image, and the protocols of the parts that see it.

Pixel coordinates: the centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from grasp_nodes.geometry.camera import CameraModel, Frame

HIDING = "(in front)"
"""Object id of evidence that is no object's: pixels of whatever stands in front of one."""


@dataclass(frozen=True)
class HandEvidence:
    """One hand.

    box: (4,) float32, px: x_min, y_min, x_max, y_max. keypoints: (21, 2) float32, px, in the order of
    ``HandOutput.keypoints``. keypoints_3d: (21, 3) float32, m, camera axes, relative to the hand's centre, or None.
    mask: (H, W) bool, visible pixels of the hand, or None. score and side_score in [0, 1].
    A score below 0.5 says that the landmarks were not seen: box and keypoints are predicted from other frames.
    alternatives: other (21, 2) float32 keypoints, px, that the image allows, most likely first.
    """

    side: Literal["right", "left", "unknown"]
    score: float
    side_score: float
    box: np.ndarray
    keypoints: np.ndarray
    keypoints_3d: np.ndarray | None = None
    mask: np.ndarray | None = None
    track_id: int = 0
    alternatives: Sequence[np.ndarray] = ()


@dataclass(frozen=True)
class ObjectEvidence:
    """One object. box: (4,) float32, px. mask: (H, W) bool, its visible pixels, or None. score in [0, 1]."""

    object_id: str
    score: float
    box: np.ndarray
    mask: np.ndarray | None = None
    track_id: int = 0


@dataclass(frozen=True)
class Evidence:
    """Everything that was seen in one image. stamp: ns."""

    stamp: int
    camera: CameraModel
    hands: Sequence[HandEvidence] = field(default_factory=tuple)
    objects: Sequence[ObjectEvidence] = field(default_factory=tuple)


@dataclass(frozen=True)
class ObservedFrame:
    """Evidence of one frame and the images that go with it.

    depth: (H, W) float32, m, along the optical axis, registered to the evidence's camera, 0 or NaN = no measurement;
    None = colour camera. color: (H, W, 3) uint8, RGB, or None where it is no longer at hand.
    camera_moves: the camera itself moves about this frame, so that motion in its images is not motion of things.
    """

    evidence: Evidence
    depth: np.ndarray | None = None
    color: np.ndarray | None = None
    camera_moves: bool = False


class HandLandmarker(Protocol):
    """Finds hands in colour images; follows them from call to call until `reset`."""

    def detect(self, frame: Frame) -> Sequence[HandEvidence]:
        """Hands of the frame, best first."""
        ...

    def reset(self) -> None:
        """Forget the hands that were followed."""
        ...


class ObjectSegmenter(Protocol):
    """Finds the visible pixels of the manipulated object; follows it from call to call until `reset`."""

    def segment(self, frame: Frame, hands: Sequence[HandEvidence]) -> Sequence[ObjectEvidence]:
        """Objects of the frame with their masks, best first."""
        ...

    def reset(self) -> None:
        """Forget the objects that were followed."""
        ...


class ClipSegmenter(Protocol):
    """Finds the manipulated object in all frames of a window at once, so that later frames may explain earlier ones."""

    def segment_clip(
        self, frames: Sequence[Frame], hands: Sequence[Sequence[HandEvidence]]
    ) -> list[Sequence[ObjectEvidence]]:
        """Objects with masks for each frame, best first; windows of one clip come in time order.

        Args:
            frames: of one camera, in time order. hands: of each frame, with masks where they are known.
        """
        ...

    def reset(self) -> None:
        """Forget the clip."""
        ...
