"""Evidence of another program as hands and objects of ours: landmarks and masks of networks of the user's choice."""

from __future__ import annotations

from collections.abc import Sequence

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObjectEvidence


class GivenEvidence:
    """`HandLandmarker` and `ObjectSegmenter` that pass on what was given for an image."""

    def __init__(self, max_age: int = 100_000_000) -> None:
        """Start without evidence.

        Args:
            max_age: ns; evidence whose stamp differs more from the image's is not used.
        """
        self._max_age = max_age
        self.reset()

    def reset(self) -> None:
        """Forget the evidence."""
        self._evidence: Evidence | None = None

    def give(self, evidence: Evidence) -> None:
        """Take in the evidence of one image."""
        self._evidence = evidence

    def detect(self, frame: Frame) -> Sequence[HandEvidence]:
        """The hands that were given for this image, best first.

        Raises:
            InputError: the evidence is of an image of another size.
        """
        evidence = self._of(frame)
        return () if evidence is None else sorted(evidence.hands, key=lambda hand: -hand.score)

    def segment(self, frame: Frame, hands: Sequence[HandEvidence]) -> Sequence[ObjectEvidence]:  # noqa: ARG002
        """The objects that were given for this image, best first.

        Raises:
            InputError: the evidence is of an image of another size.
        """
        evidence = self._of(frame)
        return () if evidence is None else sorted(evidence.objects, key=lambda found: -found.score)

    def _of(self, frame: Frame) -> Evidence | None:
        evidence = self._evidence
        if evidence is None or abs(frame.stamp - evidence.stamp) > self._max_age:
            return None
        size, given = (frame.camera.width, frame.camera.height), (evidence.camera.width, evidence.camera.height)
        if size != given:
            raise InputError(
                f"given evidence: expected that of an image of {size[0]}x{size[1]}, got {given[0]}x{given[1]}"
            )
        return evidence
