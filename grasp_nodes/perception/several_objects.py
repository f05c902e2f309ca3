"""Several objects in one clip, each found by a segmenter of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.evidence import ClipSegmenter, HandEvidence, ObjectEvidence


class SeveralObjects:
    """`ClipSegmenter` of several others: the answers of all.

    A pixel shows one thing: the first object that claims it keeps it.
    """

    def __init__(self, segmenters: Sequence[ClipSegmenter]) -> None:
        """Put them together.

        Args:
            segmenters: each finds an object of another id.

        Raises:
            InputError: none are given.
        """
        if not segmenters:
            raise InputError("segmenters: expected at least one, got none")
        self._segmenters = tuple(segmenters)

    def segment_clip(
        self, frames: Sequence[Frame], hands: Sequence[Sequence[HandEvidence]]
    ) -> list[Sequence[ObjectEvidence]]:
        """All objects of each frame.

        Args:
            frames: of one camera, in time order. hands: of each frame.
        """
        answers = [segmenter.segment_clip(frames, hands) for segmenter in self._segmenters]
        return [_apart([item for answer in answers for item in answer[row]]) for row in range(len(frames))]

    def reset(self) -> None:
        """Forget the clip."""
        for segmenter in self._segmenters:
            segmenter.reset()


def _apart(objects: Sequence[ObjectEvidence]) -> list[ObjectEvidence]:
    taken: np.ndarray | None = None
    result = []
    for item in objects:
        if item.mask is None:
            result.append(item)
            continue
        free = item.mask if taken is None else item.mask & ~taken
        taken = item.mask if taken is None else item.mask | taken
        result.append(replace(item, mask=free))
    return result
