"""Everything that perception says about a window of a clip: hands, their masks, and the object, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.evidence import (
    ClipSegmenter,
    Evidence,
    HandEvidence,
    HandLandmarker,
    ObjectEvidence,
    ObservedFrame,
)
from grasp_nodes.perception.foreground import ForegroundFinder
from grasp_nodes.perception.hand_mask import HandMasker


@dataclass(frozen=True)
class ClipPerceiverOptions:
    """How the frames of a clip are looked at."""

    max_hands: int = 2
    """Hands that can be in a frame."""

    def __post_init__(self) -> None:
        if self.max_hands < 1:
            raise InputError(f"max_hands: expected at least 1, got {self.max_hands}")


class ClipPerceiver:
    """Hands with masks and the object of consecutive windows of one clip."""

    def __init__(
        self,
        landmarker: HandLandmarker,
        segmenter: ClipSegmenter | None = None,
        *,
        options: ClipPerceiverOptions | None = None,
        foreground: ForegroundFinder | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            landmarker: finds the hands.
            segmenter: finds the object; None = there is no object.
            options: how the frames are looked at.
            foreground: the table's plane, to be shared with the segmenter.
        """
        self.options = options or ClipPerceiverOptions()
        self._landmarker, self._segmenter = landmarker, segmenter
        self._foreground = foreground or ForegroundFinder()
        self._masker = HandMasker()

    def reset(self) -> None:
        """Forget the clip."""
        self._landmarker.reset()
        self._masker.reset()
        self._foreground.reset()
        if self._segmenter is not None:
            self._segmenter.reset()

    def perceive(self, frames: Sequence[Frame]) -> list[ObservedFrame]:
        """Evidence of the next window.

        Args:
            frames: of one camera, in time order, after those of the last window.
        """
        hands = [list(self._landmarker.detect(frame))[: self.options.max_hands] for frame in frames]
        masked = [self._masked(frame, found) for frame, found in zip(frames, hands, strict=True)]
        objects: list[Sequence[ObjectEvidence]] = [() for _ in frames]
        if self._segmenter is not None:
            objects = self._segmenter.segment_clip(frames, masked)
        return [
            ObservedFrame(
                Evidence(
                    frame.stamp,
                    frame.camera,
                    tuple(_without_objects(hand, found) for hand in seen),
                    tuple(found),
                ),
                frame.depth,
            )
            for frame, seen, found in zip(frames, masked, objects, strict=True)
        ]

    def _masked(self, frame: Frame, hands: Sequence[HandEvidence]) -> list[HandEvidence]:
        if not hands:
            return []
        foreground = None if frame.depth is None else self._foreground(frame).mask
        return [replace(hand, mask=self._masker.mask(frame, hand, foreground)) for hand in hands]


def _without_objects(hand: HandEvidence, objects: Sequence[ObjectEvidence]) -> HandEvidence:
    """A pixel shows one thing: what the segmenter gave to an object is not the hand's."""
    masks = [found.mask for found in objects if found.mask is not None]
    if hand.mask is None or not masks:
        return hand
    return replace(hand, mask=hand.mask & ~np.logical_or.reduce(masks))
