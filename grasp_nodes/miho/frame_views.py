"""One hand and one known object in single frames, as the networks see them, and such views as tracks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from grasp_nodes.contact.hand_states import stack_params
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.miho.pipeline import GraspInView, MihoPipeline
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObjectEvidence

HAND_MARGIN = 0.12
"""Of the landmarks' extent: skin beyond them, on every side."""
ALONE_MARGIN = 0.5
"""The same where the object was not found: it will be near the hand."""
CROP_MARGIN = 0.08
"""Of the extent of hand and object, on every side; training crops have 0.025 to 0.225."""


class FrameViewer:
    """Looks at frames one by one.

    Args:
        hand_models: by side. object_models: the object by its id. pipeline: the networks, with GeO or without.

    Raises:
        InputError: no object, or more than one.
    """

    def __init__(
        self, hand_models: Mapping[Side, HandModel], object_models: Mapping[str, ObjectModel], pipeline: MihoPipeline
    ) -> None:
        if not object_models:
            raise InputError("MIHO: needs to know the object; give its mesh with --object")
        if len(object_models) > 1:
            raise InputError(
                f"MIHO: knows one hand and one object, got {', '.join(object_models)}; give one of them with --object, "
                "or take --method homan"
            )
        self._hands, self._pipeline = dict(hand_models), pipeline
        (self._object_id, self._object), *_ = object_models.items()

    def view(self, color: np.ndarray, seen: Evidence) -> GraspInView | None:
        """The surest hand of a frame and the object; None where no hand was found.

        Args:
            color: (H, W, 3) uint8, RGB. seen: in it.
        """
        hand = next(iter(sorted(seen.hands, key=lambda one: -one.score)), None)
        if hand is None:
            return None
        box = crop_box(hand, [one.box for one in self._found(seen)])
        side: Side = "left" if hand.side == "left" else "right"
        view = self._pipeline(color, seen.camera, box, self._object, side)
        return replace(view, score=float(hand.score))

    def tracks(
        self, views: Sequence[GraspInView | None], evidence: Sequence[Evidence]
    ) -> tuple[list[HandTrack], list[ObjectTrack]]:
        """Views of T frames as tracks, lost where there is none.

        An object that was not found in the image lies where the hand suggests: it is held, with a score of 0.
        """
        hands = []
        for number, (side, model) in enumerate(self._hands.items()):
            own = [view if view is not None and view.hands.side == side else None for view in views]
            there = np.array([view is not None for view in own])
            if there.any():
                scores = np.array([0.0 if view is None else view.score for view in own])
                hands.append(HandTrack(_joined(own, model), there, scores, ~there, number + 1))
        found = [self._found(one) for one in evidence]
        there = np.array([view is not None for view in views])
        poses = np.stack([np.eye(4) if view is None else view.T_camera_object for view in views])
        seen = there & np.array([bool(one) for one in found])
        scores = np.array([max((float(thing.score) for thing in one), default=0.0) for one in found])
        thing = ObjectTrack(self._object_id, poses, seen, scores, np.full(len(views), np.nan), ~there)
        return hands, [thing]

    def _found(self, seen: Evidence) -> list[ObjectEvidence]:
        return [one for one in seen.objects if one.object_id == self._object_id]


def crop_box(hand: HandEvidence, objects: Sequence[np.ndarray]) -> np.ndarray:
    """(4,) px, square about a hand and the object's boxes (4,), as the training crops are."""
    points = np.asarray(hand.keypoints, np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = (HAND_MARGIN if len(objects) else ALONE_MARGIN) * float((high - low).max())
    low, high = low - margin, high + margin
    for box in objects:
        low, high = np.minimum(low, box[:2]), np.maximum(high, box[2:])
    half = (0.5 + CROP_MARGIN) * float((high - low).max())
    middle = 0.5 * (low + high)
    return np.concatenate([middle - half, middle + half])


def _joined(views: Sequence[GraspInView | None], model: HandModel) -> HandParams:
    """Hands in the camera; those of frames without one are at rest."""
    empty = HandParams.zeros(1, model.side, model.dtype)
    rows = [empty if view is None else view.hands_in_camera(model) for view in views]
    return stack_params(rows)
