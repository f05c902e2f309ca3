"""Clips frame by frame with MIHO: perception finds hand and object, the networks tell their poses, springs mend them.

Every frame stands by itself; nothing is fitted over time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from grasp_nodes.contact.hand_states import stack_params
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.clip_states import clip_states
from grasp_nodes.fitting.reconstruction import ClipObserver, WindowResult
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack
from grasp_nodes.geometry.camera import Frame
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


class MihoReconstructor:
    """Reconstructs clips of one hand and one known object.

    Args:
        perceiver: finds them in the images. hand_models: by side. object_models: the object by its id.
        pipeline: the networks, with GeO or without. window: frames that are perceived together.

    Raises:
        InputError: no object, or more than one.
    """

    def __init__(
        self,
        perceiver: ClipObserver,
        hand_models: Mapping[Side, HandModel],
        object_models: Mapping[str, ObjectModel],
        pipeline: MihoPipeline,
        window: int = 30,
    ) -> None:
        if not object_models:
            raise InputError("MIHO: needs to know the object; give its mesh with --object")
        if len(object_models) > 1:
            raise InputError(
                f"MIHO: knows one hand and one object, got {', '.join(object_models)}; give one of them with --object, "
                "or take --method homan"
            )
        self._perceiver, self._hands, self._objects = perceiver, dict(hand_models), dict(object_models)
        self._pipeline, self._window = pipeline, window
        self._object_id = next(iter(object_models))

    def reconstruct(self, frames: Iterable[Frame], first: int = 0) -> Iterator[WindowResult]:
        """Windows of a clip in time order, from frame `first` on."""
        rest = iter(frames)
        self._perceiver.reset()
        while window := list(islice(rest, self._window)):
            start = time.perf_counter()
            evidence = [observed.evidence for observed in self._perceiver.perceive(window)]
            seconds = {"perceive_s": time.perf_counter() - start}
            start = time.perf_counter()
            views = [self._view(frame, seen) for frame, seen in zip(window, evidence, strict=True)]
            seconds["miho_s"] = time.perf_counter() - start
            states = clip_states(
                evidence, *self._tracks(views, [self._found(one) for one in evidence]), self._hands, self._objects
            )
            refined = sum(view.refined for view in views if view is not None)
            yield WindowResult(first, states, {"seconds": seconds, "refined_frames": refined})
            first += len(window)

    def _view(self, frame: Frame, seen: Evidence) -> GraspInView | None:
        hand = next(iter(sorted(seen.hands, key=lambda one: -one.score)), None)
        if hand is None:
            return None
        box = crop_box(hand, [one.box for one in self._found(seen)])
        side: Side = "left" if hand.side == "left" else "right"
        view = self._pipeline(frame.color, frame.camera, box, self._objects[self._object_id], side)
        return replace(view, score=float(hand.score))

    def _found(self, seen: Evidence) -> list[ObjectEvidence]:
        return [one for one in seen.objects if one.object_id == self._object_id]

    def _tracks(
        self, views: Sequence[GraspInView | None], found: Sequence[Sequence[ObjectEvidence]]
    ) -> tuple[list[HandTrack], list[ObjectTrack]]:
        """An object that was not found in the image lies where the hand suggests: it is held, with a score of 0."""
        hands = []
        for number, (side, model) in enumerate(self._hands.items()):
            own = [view if view is not None and view.hands.side == side else None for view in views]
            there = np.array([view is not None for view in own])
            if there.any():
                scores = np.array([0.0 if view is None else view.score for view in own])
                hands.append(HandTrack(_joined(own, model), there, scores, ~there, number + 1))
        there = np.array([view is not None for view in views])
        poses = np.stack([np.eye(4) if view is None else view.T_camera_object for view in views])
        seen = there & np.array([bool(one) for one in found])
        scores = np.array([max((float(thing.score) for thing in one), default=0.0) for one in found])
        thing = ObjectTrack(self._object_id, poses, seen, scores, np.full(len(views), np.nan), ~there)
        return hands, [thing]


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
