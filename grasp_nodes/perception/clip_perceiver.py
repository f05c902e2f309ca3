"""Everything that perception says about a window of a clip: hands, their masks, and the object, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.camera_motion import CameraWatch
from grasp_nodes.perception.evidence import (
    ClipSegmenter,
    Evidence,
    HandEvidence,
    HandLandmarker,
    ObjectEvidence,
    ObservedFrame,
)
from grasp_nodes.perception.foreground import ForegroundFinder
from grasp_nodes.perception.hand_clip_landmarks import SEEN_SCORE, ClipHandOptions, ClipHands
from grasp_nodes.perception.hand_mask import HandMasker


@dataclass(frozen=True)
class ClipPerceiverOptions(ClipHandOptions):
    """How the frames of a clip are looked at."""


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
            options: how hands are followed.
            foreground: the table's plane, to be shared with the segmenter.
        """
        self._hands, self._segmenter = ClipHands(landmarker, options), segmenter
        self._foreground = foreground or ForegroundFinder()
        self._masker, self._watch = HandMasker(), CameraWatch()

    def reset(self) -> None:
        """Forget the clip."""
        self._hands.reset()
        self._masker.reset()
        self._watch.reset()
        self._foreground.reset()
        if self._segmenter is not None:
            self._segmenter.reset()

    def perceive(self, frames: Sequence[Frame]) -> list[ObservedFrame]:
        """Evidence of the next window.

        Args:
            frames: of one camera, in time order, after those of the last window.
        """
        hands = self._hands.follow(frames)
        masked = self._masked(frames, hands)
        camera_moves = self._watch.moves([frame.color for frame in frames])
        objects: list[Sequence[ObjectEvidence]] = [() for _ in frames]
        if self._segmenter is not None:
            objects = self._segmenter.segment_clip(frames, masked)
        return [
            ObservedFrame(
                Evidence(
                    frame.stamp,
                    frame.camera,
                    tuple(_without_object(hand, found) for hand in seen),
                    tuple(found),
                ),
                frame.depth,
                frame.color,
                bool(moves),
            )
            for frame, seen, found, moves in zip(frames, masked, objects, camera_moves, strict=True)
        ]

    def _masked(self, frames: Sequence[Frame], hands: Sequence[Sequence[HandEvidence]]) -> list[list[HandEvidence]]:
        """Masks of seen hands first: they teach the colours by which the others are found."""
        masks: dict[tuple[int, int], np.ndarray] = {}
        for seen in (True, False):
            for index, (frame, found) in enumerate(zip(frames, hands, strict=True)):
                foreground = None if frame.depth is None or not found else self._foreground(frame).mask
                for number, hand in enumerate(found):
                    if (hand.score >= SEEN_SCORE) == seen:
                        masks[index, number] = self._mask(frame, hand, foreground, seen)
        return [
            [replace(hand, mask=masks[index, number]) for number, hand in enumerate(found)]
            for index, found in enumerate(hands)
        ]

    def _mask(self, frame: Frame, hand: HandEvidence, foreground: np.ndarray | None, seen: bool) -> np.ndarray:
        if not seen:
            return self._masker.mask_in_box(frame, hand, foreground)
        drawn = self._masker.mask(frame, hand, foreground)
        # Colour alone tells skin from a wooden table too badly to add anything to the drawing.
        return drawn if foreground is None else drawn | self._masker.mask_in_box(frame, hand, foreground)


def _without_object(hand: HandEvidence, objects: Sequence[ObjectEvidence]) -> HandEvidence:
    """A pixel shows one thing: what the segmenter gave to the best object is not the hand's; others are guesses."""
    if hand.mask is None or not objects or objects[0].mask is None:
        return hand
    return replace(hand, mask=hand.mask & ~objects[0].mask)
