"""The manipulated object in whole windows of a clip, with depth or in colour alone."""

from __future__ import annotations

from collections.abc import Sequence

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.color_clip_segmenter import ColorClipSegmenter
from grasp_nodes.perception.depth_segmenter import DepthObjectSegmenter
from grasp_nodes.perception.evidence import HandEvidence, ObjectEvidence, ObjectSegmenter
from grasp_nodes.perception.foreground import ForegroundFinder
from grasp_nodes.perception.object_boxes import ObjectBoxSource


class StreamedClipSegmenter:
    """`ClipSegmenter` that shows a window to an `ObjectSegmenter`, frame by frame."""

    def __init__(self, segmenter: ObjectSegmenter) -> None:
        self._segmenter = segmenter

    def segment_clip(
        self, frames: Sequence[Frame], hands: Sequence[Sequence[HandEvidence]]
    ) -> list[Sequence[ObjectEvidence]]:
        """Objects of each frame.

        Raises:
            InputError: `frames` and `hands` differ in length, or frames differ in size.
        """
        check_window(frames, hands)
        return [self._segmenter.segment(frame, seen) for frame, seen in zip(frames, hands, strict=True)]

    def reset(self) -> None:
        """Forget the clip."""
        self._segmenter.reset()


class ClipObjectSegmenter:
    """`ClipSegmenter` of our own: by depth where the frames have it, else by colour, motion and the hands."""

    def __init__(
        self,
        object_id: str = "object",
        source: ObjectBoxSource | None = None,
        diameter: float | None = None,
        foreground: ForegroundFinder | None = None,
        use_depth: bool = True,
    ) -> None:
        """Set up the search.

        Args:
            object_id: name of the object in the evidence.
            source: says where the object is; None = the thing that the hand is nearest to.
            diameter: m, extent of the object where it is known.
            foreground: to share the table's plane with others.
            use_depth: False ignores the frames' depth.

        Raises:
            InputError: a diameter that is not positive.
        """
        self._use_depth = use_depth
        self._depth = DepthObjectSegmenter(object_id, diameter=diameter, foreground=foreground)
        self._color = ColorClipSegmenter(object_id, source)

    def segment_clip(
        self, frames: Sequence[Frame], hands: Sequence[Sequence[HandEvidence]]
    ) -> list[Sequence[ObjectEvidence]]:
        """The object in each frame, or nothing where it cannot be found.

        Args:
            frames: of one camera, in time order, following those of the last call. hands: of each frame, with masks.

        Raises:
            InputError: `frames` and `hands` differ in length, or frames differ in size.
        """
        check_window(frames, hands)
        if self._use_depth and any(frame.depth is not None for frame in frames):
            return [self._depth.segment(frame, seen) for frame, seen in zip(frames, hands, strict=True)]
        return self._color.segment_clip(frames, hands)

    def reset(self) -> None:
        """Forget the clip."""
        self._depth.reset()
        self._color.reset()


def check_window(frames: Sequence[Frame], hands: Sequence[Sequence[HandEvidence]]) -> None:
    """Check what every `ClipSegmenter` takes for granted.

    Raises:
        InputError: `frames` and `hands` differ in length, or frames or masks of hands differ in size.
    """
    if len(frames) != len(hands):
        raise InputError(f"window of a clip: {len(frames)} frames but hands of {len(hands)}")
    for index, (frame, seen) in enumerate(zip(frames, hands, strict=True)):
        size = frame.color.shape[:2]
        if size != frames[0].color.shape[:2]:
            raise InputError(f"window of a clip: frame {index} is {size}, frame 0 {frames[0].color.shape[:2]}")
        for hand in seen:
            if hand.mask is not None and hand.mask.shape != size:
                raise InputError(f"hand mask of frame {index}: expected the image's size {size}, got {hand.mask.shape}")
