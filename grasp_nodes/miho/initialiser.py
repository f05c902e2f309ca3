"""HoNet as the beginning of a joint fit: what it tells of each frame of a window, as tracks of one hand and object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from grasp_nodes.contact.hand_states import stack_params
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.miho.frame_views import FrameViewer
from grasp_nodes.miho.pipeline import GraspInView, MihoPipeline
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import ObservedFrame


class HoNetInitialiser:
    """Tells windows of a clip where one hand and one known object are (`fitting.reconstruction.ClipInitialiser`).

    Args:
        hand_models: by side. object_models: the object by its id. pipeline: with HoNet, and more if one likes.

    Raises:
        InputError: no object, or more than one.
    """

    def __init__(
        self, hand_models: Mapping[Side, HandModel], object_models: Mapping[str, ObjectModel], pipeline: MihoPipeline
    ) -> None:
        self._viewer = FrameViewer(hand_models, object_models, pipeline)
        self._hands = dict(hand_models)

    def initialise(
        self, frames: Sequence[ObservedFrame], hands: Sequence[HandTrack], objects: Sequence[ObjectTrack]
    ) -> tuple[list[HandTrack], list[ObjectTrack]]:
        """Tracks of all frames; frames without a hand have the pose of the nearest one that has.

        A hand has one shape: that of the window before, or the mean of what is told of the frames.

        Args:
            frames: T of them, in time order; those that `hands` and `objects` cover need no image any more.
            hands, objects: tracks of the first frames, from the window before.

        Raises:
            InputError: an image is not at hand.
        """
        known = max([len(track) for track in hands] + [len(track) for track in objects], default=0)
        views = [self._view(frame) for frame in frames[known:]]
        told, things = self._viewer.tracks(views, [frame.evidence for frame in frames[known:]])
        new = {track.params.side: track for track in told}
        before = {track.params.side: track for track in hands}
        sides = [side for side in self._hands if side in new or side in before]
        joined = [self._hand(side, frames, len(views), new.get(side), before.get(side)) for side in sides]
        return joined, [_object(thing, objects, known) for thing in things]

    def _view(self, frame: ObservedFrame) -> GraspInView | None:
        if frame.color is None:
            raise InputError("HoNet: needs the frames' images, and a frame has none")
        return self._viewer.view(frame.color, frame.evidence)

    def _hand(
        self,
        side: Side,
        frames: Sequence[ObservedFrame],
        added: int,
        new: HandTrack | None,
        before: HandTrack | None,
    ) -> HandTrack:
        model = self._hands[side]
        if new is None:
            new = _lost_hand(added, side, model)
        if before is None:
            betas, scale = new.params.betas[torch.from_numpy(~new.lost)].mean(dim=0), new.params.scale
            new = replace(new, params=_reshaped(new.params, betas, scale, model))
            earlier = _lost_hand(len(frames) - added, side, model)
            return replace(_filled(_followed(earlier, new)), track_id=_number_of(frames, side, new.track_id))
        betas, scale = before.params.betas[0], before.params.scale[0].expand(added)
        return _filled(_followed(before, replace(new, params=_reshaped(new.params, betas, scale, model))))


def _lost_hand(count: int, side: Side, model: HandModel) -> HandTrack:
    """Frames of a hand of which nothing is told."""
    params = HandParams.zeros(count, side, model.dtype)
    return HandTrack(params, np.zeros(count, bool), np.zeros(count), np.ones(count, bool))


def _reshaped(hands: HandParams, betas: torch.Tensor, scale: torch.Tensor, model: HandModel) -> HandParams:
    """Hands of one shape and size whose wrists are where they were."""
    wrist = model.joints(hands)[0][:, 0]
    same = replace(hands, betas=betas.expand(len(hands), -1), scale=scale)
    return replace(same, transl=same.transl + wrist - model.joints(same)[0][:, 0])


def _followed(before: HandTrack, new: HandTrack) -> HandTrack:
    """One track after the other."""
    return replace(
        before,
        params=stack_params([before.params, new.params]),
        seen=np.concatenate([before.seen, new.seen]),
        score=np.concatenate([before.score, new.score]),
        lost=np.concatenate([before.lost, new.lost]),
    )


def _filled(track: HandTrack) -> HandTrack:
    """Frames without an answer have the nearest one's, unseen and of no score."""
    rows = _nearest(track.lost)
    if rows is None:
        return track
    return replace(track, params=track.params[torch.from_numpy(rows)], lost=np.zeros(len(track), bool))


def _lost_object(count: int, object_id: str) -> ObjectTrack:
    """Frames of an object of which nothing is told."""
    poses, nothing = np.tile(np.eye(4), (count, 1, 1)), np.zeros(count)
    return ObjectTrack(object_id, poses, nothing.astype(bool), nothing, np.full(count, np.nan), np.ones(count, bool))


def _object(new: ObjectTrack, before: Sequence[ObjectTrack], known: int) -> ObjectTrack:
    """The object of all frames, its size that of the window before; new, it is lost in the `known` first ones."""
    earlier = next((track for track in before if track.object_id == new.object_id), _lost_object(known, new.object_id))
    names = ("T_camera_object", "seen", "score", "iou", "lost")
    columns: dict[str, Any] = {name: np.concatenate([getattr(earlier, name), getattr(new, name)]) for name in names}
    new = replace(new, **columns, scale=earlier.scale)
    rows = _nearest(new.lost)
    if rows is None:
        return new
    return replace(new, T_camera_object=new.T_camera_object[rows], lost=np.zeros(len(new), bool))


def _nearest(lost: np.ndarray) -> np.ndarray | None:
    """(T,) for each frame the nearest that is not lost; None where all are."""
    there = np.flatnonzero(~lost)
    if not len(there):
        return None
    return there[np.abs(np.arange(len(lost))[:, None] - there[None]).argmin(axis=1)]


def _number_of(frames: Sequence[ObservedFrame], side: Side, otherwise: int) -> int:
    """The track number that the evidence has of the hands of a side most often: the fit looks for its landmarks."""
    numbers = Counter(hand.track_id for frame in frames for hand in frame.evidence.hands if hand.side == side)
    return numbers.most_common(1)[0][0] if numbers else otherwise
