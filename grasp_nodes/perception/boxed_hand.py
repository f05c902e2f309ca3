"""One hand whose box somebody else knows: its landmarks, without a search for the hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.boxes import box_iou, box_of_points
from grasp_nodes.perception.evidence import HandEvidence
from grasp_nodes.perception.hand_landmarks import BOX_MARGIN, PIXEL_CENTER, Landmarks
from grasp_nodes.perception.region import Region, region_of_landmarks

BOX_TO_REGION = 1.5
"""Edge of the network's square, in longer edges of the box."""
TURNS = 8
"""Orientations that are tried where there is none to go on from."""
MIN_OVERLAP = 0.2
"""Of the landmarks' box and the given one: below it the network looks at something else."""


class LandmarkNetwork(Protocol):
    """The part of a landmarker that looks at one region."""

    def landmarks(self, image: np.ndarray, region: Region) -> Landmarks:
        """Landmarks in a region of an image (H, W, 3) uint8, RGB."""
        ...


class BoxedHandLandmarker:
    """`HandLandmarker` that is told where the hand is; the landmark network says how it is turned and bent."""

    def __init__(
        self,
        network: LandmarkNetwork,
        box_of: Callable[[Frame], np.ndarray | None],
        threshold: float = 0.5,
        side_votes: int = 30,
    ) -> None:
        """Put the parts together.

        Args:
            network: finds landmarks in a region.
            box_of: the hand's tight box (4,), px, in a frame; None = there is no hand.
            threshold: lowest presence score of the network.
            side_votes: images over which the side is averaged.
        """
        self._network, self._box_of, self._threshold, self._votes = network, box_of, threshold, side_votes
        self.reset()

    def reset(self) -> None:
        """Forget the hand."""
        self._angle: float | None = None
        self._right: list[float] = []

    def detect(self, frame: Frame) -> Sequence[HandEvidence]:
        """The hand of the box; nothing where the network sees none."""
        box = self._box_of(frame)
        if box is None:
            return ()
        best = self._look(frame.color, np.asarray(box, np.float64))
        if best is None:
            self._angle = None
            return ()
        self._angle = region_of_landmarks(best.points).angle
        self._right.append(best.right)
        del self._right[: -self._votes]
        right = float(np.mean(self._right))
        keypoints = (best.points - PIXEL_CENTER).astype(np.float32)
        return (
            HandEvidence(
                side="right" if right >= 0.5 else "left",
                score=best.presence,
                side_score=max(right, 1 - right),
                box=box_of_points(keypoints, BOX_MARGIN),
                keypoints=keypoints,
                keypoints_3d=best.points_3d.astype(np.float32),
                track_id=1,
            ),
        )

    def _look(self, image: np.ndarray, box: np.ndarray) -> Landmarks | None:
        center = (float(box[0] + box[2]) / 2 + PIXEL_CENTER, float(box[1] + box[3]) / 2 + PIXEL_CENTER)
        size = BOX_TO_REGION * float((box[2:] - box[:2]).max())
        if self._angle is not None:
            found = self._refined(image, Region(center, size, self._angle), box)
            if found is not None:
                return found
        angles = np.arange(TURNS) * 2 * np.pi / TURNS
        tries = [self._refined(image, Region(center, size, float(angle)), box) for angle in angles]
        return max((found for found in tries if found is not None), key=lambda found: found.presence, default=None)

    def _refined(self, image: np.ndarray, region: Region, box: np.ndarray) -> Landmarks | None:
        """Two looks, the second from the landmarks' own region, as in the search without a box."""
        landmarks = self._network.landmarks(image, region)
        if landmarks.presence < self._threshold:
            return None
        landmarks = self._network.landmarks(image, region_of_landmarks(landmarks.points))
        own = box_of_points(landmarks.points - PIXEL_CENTER)
        good = landmarks.presence >= self._threshold and box_iou(own, box[None])[0] >= MIN_OVERLAP
        return landmarks if good else None
