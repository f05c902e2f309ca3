"""The score of a clip: every frame in which the hand is visible counts, found or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandState, ObjectState
from grasp_nodes.evaluation.acceleration import mean_accelerations
from grasp_nodes.evaluation.pose_metrics import ContactCounts, add_s, keypoint_error

MISSING_ERROR = 0.100
"""m; what a frame costs for which there is no answer and never was one."""


@dataclass
class ClipScore:
    """Accumulates the errors of a clip, frame by frame in time order.

    A frame without an answer scores the last answer, or 100 mm where there was none yet. An answer that has no hand of
    that side, or no such object, or numbers that are not finite, costs 100 mm.

    object_points: (N, 3), m, object frame, for ADD-S.
    contact_at: the true contact map of a state on the points of the map that is to be scored.
    """

    object_points: np.ndarray
    contact_at: Callable[[HandObjectState, np.ndarray], ContactMap]
    contact_points: np.ndarray
    frames: int = 0
    found: int = 0
    hand_errors: list[float] = field(default_factory=list)
    object_errors: list[float] = field(default_factory=list)
    contacts: ContactCounts = field(default_factory=ContactCounts)
    stamps: list[int] = field(default_factory=list)
    keypoints: list[np.ndarray | None] = field(default_factory=list)
    true_keypoints: list[np.ndarray | None] = field(default_factory=list)
    _last: HandObjectState | None = None

    def update(self, estimate: HandObjectState | None, truth: HandObjectState) -> None:
        """Score one frame in which the true hand is visible.

        Args:
            estimate: the answer for this frame, or None where it was lost.
            truth: the true state; its first hand and first object are scored.
        """
        self.frames += 1
        if estimate is not None and estimate.hands and estimate.status == FitStatus.OK:
            self.found += 1
        answer = estimate if estimate is not None else self._last
        self._last = answer
        hand = _hand_of_side(answer, truth.hands[0]) if truth.hands else None
        if truth.hands:
            fresh = None if hand is None or estimate is None or estimate.status != FitStatus.OK else hand.keypoints
            self.stamps.append(truth.stamp)
            self.keypoints.append(fresh)
            self.true_keypoints.append(truth.hands[0].keypoints)
            self.hand_errors.append(
                MISSING_ERROR if hand is None else keypoint_error(hand.keypoints, truth.hands[0].keypoints)
            )
        if truth.objects:
            item = _object_of_id(answer, truth.objects[0])
            self.object_errors.append(
                MISSING_ERROR
                if item is None
                else add_s(item.T_camera_object, truth.objects[0].T_camera_object, self.object_points)
            )
        if truth.hands and truth.objects:
            contact_map = _contact_of(answer, truth.hands[0], truth.objects[0])
            points = self.contact_points if contact_map is None else contact_map.points
            self.contacts.update(contact_map, self.contact_at(truth, points))

    def summary(self) -> dict[str, float]:
        """Means over the frames so far, under the names that reports use; only what was scored."""
        result: dict[str, float] = {}
        if self.frames:
            result["found_share"] = self.found / self.frames
        if self.hand_errors:
            result["hand_mpjpe_mm"] = float(np.mean(self.hand_errors)) * 1e3
        if self.object_errors:
            result["object_add_s_mm"] = float(np.mean(self.object_errors)) * 1e3
        if self.contacts.f1 is not None:
            result["contact_f1"] = self.contacts.f1
        return result | self._accelerations()

    def _accelerations(self) -> dict[str, float]:
        """Mean over the keypoints and over the frames that were answered like both their neighbours, m/s^2."""
        if (np.diff(self.stamps) <= 0).any():
            return {}
        answered = mean_accelerations(self.stamps, self.keypoints)
        true = mean_accelerations(self.stamps, self.true_keypoints)
        known = np.isfinite(answered)
        if not known.any():
            return {}
        return {"hand_acceleration": float(answered[known].mean()), "true_hand_acceleration": float(true[known].mean())}


def _hand_of_side(state: HandObjectState | None, truth: HandState) -> HandState | None:
    """The estimated hand of the true hand's side; a hand called by the wrong side is a miss."""
    if state is None:
        return None
    found = next((hand for hand in state.hands if hand.params.side == truth.params.side), None)
    return found if found is not None and np.isfinite(found.keypoints).all() else None


def _contact_of(state: HandObjectState | None, hand: HandState, item: ObjectState) -> ContactMap | None:
    """The estimated contact of the hand and the object that are scored; that of another pair is not credited."""
    found = _hand_of_side(state, hand)
    if state is None or found is None:
        return None
    return next(
        (
            contact_map
            for contact_map in state.contact_maps
            if contact_map.object_id == item.object_id
            and contact_map.hand_side == hand.params.side
            and contact_map.hand_track_id == found.track_id
        ),
        None,
    )


def _object_of_id(state: HandObjectState | None, truth: ObjectState) -> ObjectState | None:
    if state is None:
        return None
    found = next((item for item in state.objects if item.object_id == truth.object_id), None)
    return found if found is not None and np.isfinite(found.T_camera_object).all() else None
