"""Everything that perception says about one frame, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.evidence import Evidence, HandEvidence, HandLandmarker, ObjectEvidence, ObjectSegmenter
from grasp_nodes.perception.foreground import ForegroundFinder
from grasp_nodes.perception.hand_mask import HandMasker


class Perceiver:
    """Hands, their masks, and the object, from frames in time order."""

    def __init__(
        self,
        landmarker: HandLandmarker,
        segmenter: ObjectSegmenter | None = None,
        foreground: ForegroundFinder | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            landmarker: finds the hands.
            segmenter: finds the object; None = there is no object.
            foreground: the table's plane, to be shared with the segmenter.
        """
        self._landmarker, self._segmenter = landmarker, segmenter
        self._foreground = foreground or ForegroundFinder()
        self._masker = HandMasker()

    def reset(self) -> None:
        """Forget everything that was followed."""
        self._landmarker.reset()
        self._masker.reset()
        self._foreground.reset()
        if self._segmenter is not None:
            self._segmenter.reset()

    def perceive(self, frame: Frame) -> Evidence:
        """Hands with masks and the object of a frame; a mask that the landmarker gives is kept."""
        hands = self._masked(frame, self._landmarker.detect(frame))
        objects: Sequence[ObjectEvidence] = ()
        if self._segmenter is not None:
            objects = self._segmenter.segment(frame, hands)
            hands = [self._without_objects(hand, objects) for hand in hands]
            for found in objects:
                if found.mask is not None:
                    self._masker.learn_object(frame, found.mask)
        return Evidence(frame.stamp, frame.camera, tuple(hands), tuple(objects))

    def _masked(self, frame: Frame, hands: Sequence[HandEvidence]) -> list[HandEvidence]:
        if not hands:
            return []
        foreground = None if frame.depth is None else self._foreground(frame).mask
        return [
            replace(hand, mask=self._masker.mask(frame, hand, foreground)) if hand.mask is None else hand
            for hand in hands
        ]

    @staticmethod
    def _without_objects(hand: HandEvidence, objects: Sequence[ObjectEvidence]) -> HandEvidence:
        """A pixel shows one thing: what the segmenter gave to an object is not the hand's."""
        masks = [found.mask for found in objects if found.mask is not None]
        if hand.mask is None or not masks:
            return hand
        return replace(hand, mask=hand.mask & ~np.logical_or.reduce(masks))
