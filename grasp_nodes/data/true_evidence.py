"""What a clip's truth says about its images: boxes and masks, for ablations and to judge perception by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from grasp_nodes.data.clip_readers import ClipSource
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.boxes import box_of_mask, box_of_points
from grasp_nodes.perception.evidence import HIDING, HandEvidence, ObjectEvidence

BACKGROUND_LABEL, HAND_LABEL, OBJECT_LABEL, FOREARM_LABEL = 0, 1, 2, 3


class TrueEvidence:
    """Boxes and masks of the hand and the object of a clip, by the frames' stamps.

    Boxes are tight around the projected vertices, hidden ones included (HOMan, section B.1), and cut at the image's
    border. Masks are the visible pixels.
    """

    def __init__(self, clip: ClipSource, hand_models: Mapping[Side, HandModel], object_model: ObjectModel) -> None:
        """Project the truth.

        Args:
            clip: with truth. hand_models: by side. object_model: the clip's object.

        Raises:
            InputError: the clip has no truth.
        """
        if clip.trajectory is None:
            raise InputError(f"{clip.folder}: the clip has no truth.npz, so that nothing can be compared with it")
        self._clip, self.object_id = clip, object_model.object_id
        self._object_middle = object_model.points.astype(np.float64).mean(axis=0)
        self._row = {state.stamp: row for row, state in enumerate(clip.trajectory.states)}
        self._hand_boxes: list[np.ndarray | None] = []
        self._object_boxes: list[np.ndarray | None] = []
        for state in clip.trajectory.states:
            hand, item = state.hands[0], state.objects[0]
            model = hand_models[hand.params.side]
            with torch.no_grad():
                vertices = (
                    model(hand.params.to(dtype=model.dtype, device=model.device)).vertices[0].double().cpu().numpy()
                )
            pose = item.T_camera_object
            placed = object_model.vertices.astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
            self._hand_boxes.append(_box(vertices, clip.camera))
            self._object_boxes.append(_box(placed, clip.camera))

    @property
    def has_masks(self) -> bool:
        """Whether the clip says which pixels show what; recorded ones do not."""
        return self._clip.labels(0) is not None

    def hand_box(self, frame: Frame) -> np.ndarray | None:
        """(4,), px; None where the hand is outside of the image."""
        return self._hand_boxes[self._row[frame.stamp]]

    def object_box(self, frame: Frame) -> np.ndarray | None:
        """(4,), px; None where the object is outside of the image."""
        return self._object_boxes[self._row[frame.stamp]]

    def hand_mask(self, stamp: int) -> np.ndarray:
        """(H, W) bool: visible pixels of the hand, without the forearm."""
        return self._labels(stamp) == HAND_LABEL

    def arm_mask(self, stamp: int) -> np.ndarray:
        """(H, W) bool: visible pixels of the hand and of the forearm."""
        labels = self._labels(stamp)
        return np.asarray((labels == HAND_LABEL) | (labels == FOREARM_LABEL))

    def object_mask(self, stamp: int) -> np.ndarray:
        """(H, W) bool: visible pixels of the object."""
        return self._labels(stamp) == OBJECT_LABEL

    def object_evidence(self, stamp: int) -> list[ObjectEvidence]:
        """The object as seen perfectly; empty where nothing of it can be seen."""
        mask = self.object_mask(stamp)
        box = box_of_mask(mask)
        return [] if box is None else [ObjectEvidence(self.object_id, 1.0, box, mask, track_id=1)]

    def hiding_mask(self, stamp: int) -> np.ndarray:
        """(H, W) bool: the forearm, and where the clip has depth things that are nearer than the object's middle.

        These and the hand may hide the object. The clip's labels do not tell things from the room.
        """
        row, labels = self._row[stamp], self._labels(stamp)
        hiding: np.ndarray = labels == FOREARM_LABEL
        depth = self._clip.frame(row).depth
        if depth is not None:
            assert self._clip.trajectory is not None
            pose = self._clip.trajectory.states[row].objects[0].T_camera_object
            distance = float((pose[:3, :3] @ self._object_middle + pose[:3, 3])[2])
            hiding |= (labels == BACKGROUND_LABEL) & (depth > 0) & (depth < distance)
        return hiding

    def hiding_evidence(self, stamp: int) -> list[ObjectEvidence]:
        """What may hide the object but the hand, as a segmenter tells it; empty where there is nothing."""
        mask = self.hiding_mask(stamp)
        box = box_of_mask(mask)
        return [] if box is None else [ObjectEvidence(HIDING, 1.0, box, mask, track_id=-1)]

    # -- as a source of boxes for a segmenter

    def boxes(self, frame: Frame, hands: Sequence[HandEvidence]) -> Sequence[ObjectEvidence]:  # noqa: ARG002
        """The object's box, as `ObjectBoxSource`."""
        box = self.object_box(frame)
        return () if box is None else (ObjectEvidence(self.object_id, 1.0, box.astype(np.float32)),)

    def reset(self) -> None:
        """Nothing is followed."""

    def _labels(self, stamp: int) -> np.ndarray:
        labels = self._clip.labels(self._row[stamp])
        if labels is None:
            raise InputError(f"{self._clip.folder}: the clip has no labels/, so that there are no true masks")
        return labels


def _box(points: np.ndarray, camera: CameraModel) -> np.ndarray | None:
    pixels = camera.project(points)
    pixels = pixels[np.isfinite(pixels).all(axis=1)]
    if not len(pixels):
        return None
    box = box_of_points(pixels).astype(np.float64)
    box = np.clip(box, -0.5, np.tile([camera.width - 0.5, camera.height - 0.5], 2))
    return box if (box[2:] - box[:2] > 1).all() else None
