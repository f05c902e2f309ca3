"""The object's mask as it is given: by the user, or by another program for every image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.boxes import box_of_mask
from grasp_nodes.perception.evidence import HandEvidence, ObjectEvidence


class MaskObjectSegmenter:
    """`ObjectSegmenter` that passes on masks which come from elsewhere."""

    def __init__(self, object_id: str = "object", max_age: int = 100_000_000) -> None:
        """Start without a mask.

        Args:
            object_id: name of the object in the evidence.
            max_age: ns; a mask whose stamp differs more from the image's is not used.
        """
        self._object_id, self._max_age = object_id, max_age
        self.reset()

    def reset(self) -> None:
        """Forget the mask."""
        self._mask: np.ndarray | None = None
        self._stamp = 0

    def set_mask(self, mask: np.ndarray, stamp: int) -> None:
        """Take in the mask of one image.

        Args:
            mask: (H, W), bool or any number; not zero = object.
            stamp: ns, of the image that it belongs to.

        Raises:
            InputError: not a two-dimensional array.
        """
        if mask.ndim != 2:
            raise InputError(f"object mask: expected (height, width), got shape {mask.shape}")
        self._mask, self._stamp = mask != 0, stamp

    def segment(self, frame: Frame, hands: Sequence[HandEvidence]) -> Sequence[ObjectEvidence]:  # noqa: ARG002
        """The last mask, if it belongs to this image.

        Raises:
            InputError: the mask's size is not the image's.
        """
        if self._mask is None or abs(frame.stamp - self._stamp) > self._max_age:
            return ()
        if self._mask.shape != frame.color.shape[:2]:
            raise InputError(f"object mask: expected the image's size {frame.color.shape[:2]}, got {self._mask.shape}")
        box = box_of_mask(self._mask)
        return () if box is None else (ObjectEvidence(self._object_id, 1.0, box, self._mask, 1),)
