"""What a reconstructed clip is worth beside its exact truth, frame by frame: HOMan's metrics (section 4.1) and ours.

A frame without a hand, or without the object, scores the last one that was answered, or 100 mm where there was none
yet. An answer that is wrong in kind costs 100 mm, too: no hand of the true side, or numbers that are not finite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy.spatial import cKDTree

from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandState, ObjectState
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.acceleration import mean_accelerations
from grasp_nodes.evaluation.as_released import aligned_error_as_released
from grasp_nodes.evaluation.clip_score import MISSING_ERROR
from grasp_nodes.evaluation.penetration import hand_signed_distance
from grasp_nodes.evaluation.pose_metrics import (
    f_score,
    keypoint_error,
    mean_vertex_error,
    procrustes_aligned,
    procrustes_aligned_error,
    root_aligned_keypoint_error,
)
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.objects.model import ObjectModel

HAND_VISIBLE = 0.1
"""Share of the hand's outline above which a frame counts for the hand, for contact and for `found`."""
CONTACT_DISTANCE = 0.005
"""m; a frame is in contact when a hand vertex is nearer to the object's surface than this, or inside."""
F_SCORE_DISTANCES = (0.005, 0.015)
"""m; F-scores are taken after Procrustes alignment, as HO-3D's."""


@dataclass(frozen=True)
class FrameScore:
    """One frame. Lengths in m, NaN where the frame does not count or there is nothing to measure.

    hand_visible: share of the hand that can be seen. counts: it is enough. found: a hand of the true side was answered,
    with status OK. object_answered: the frame has a pose of the object:
    seen, followed, or carried on while it is hidden.
    hand_mpjpe, hand_root_aligned_mpjpe: of 21 keypoints. hand_absolute: mean vertex distance without alignment.
    hand_aligned: mean vertex distance after Procrustes. hand_mepe: mean keypoint distance after scale and translation.
    f_5mm, f_15mm: 0..1. object_vertex, object_add_s: of points spread evenly over the surface.
    penetration: of the deepest hand vertex in the object, as answered. true_penetration: of the truth itself.
    contact, true_contact: 1, 0; contact is NaN where there is no answer, which is wrong either way.
    inside: 1 where a vertex is inside the object (HOMan's contact %).
    acceleration, true_acceleration: mean over keypoints, m/s^2, second difference over three answered frames.
    """

    stamp: int
    hand_visible: float
    counts: bool
    found: bool
    hand_mpjpe: float = np.nan
    hand_root_aligned_mpjpe: float = np.nan
    hand_absolute: float = np.nan
    hand_aligned: float = np.nan
    hand_mepe: float = np.nan
    f_5mm: float = np.nan
    f_15mm: float = np.nan
    hand_aligned_as_released: float = np.nan
    object_vertex: float = np.nan
    object_add_s: float = np.nan
    penetration: float = np.nan
    true_penetration: float = np.nan
    contact: float = np.nan
    true_contact: float = np.nan
    inside: float = np.nan
    acceleration: float = np.nan
    true_acceleration: float = np.nan
    object_answered: bool = False

    def as_row(self) -> dict[str, float | int | bool | None]:
        """For JSON, which knows no NaN."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in values.items()
        }

    @staticmethod
    def of_row(row: Mapping[str, float | int | bool | None]) -> FrameScore:
        """The inverse of `as_row`.

        Raises:
            InputError: keys that no frame has, or missing ones.
        """
        names = {field.name for field in fields(FrameScore)}
        if set(row) != names:
            raise InputError(f"frame: expected the keys {sorted(names)}, got {sorted(row)}")
        return FrameScore(**{name: np.nan if value is None else value for name, value in row.items()})  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Answer:
    """What is scored in a frame. hand, item: None = 100 mm. fresh_hand, fresh_item: they are this frame's own."""

    hand: HandState | None
    item: ObjectState | None
    fresh_hand: bool
    fresh_item: bool


def score_clip(
    estimates: Sequence[HandObjectState],
    truths: Sequence[HandObjectState],
    hand_visible: Sequence[float],
    object_model: ObjectModel,
    hand_models: Mapping[Side, HandModel],
) -> list[FrameScore]:
    """Score a clip of one hand and one object.

    Args:
        estimates: in any order, recognised by their stamps; a frame without one is lost.
        truths: of T frames in time order, each with one hand and one object.
        hand_visible: (T,), share of the hand that can be seen.
        object_model: the object's exact shape. hand_models: by side; those of estimates and truths.

    Returns:
        T scores.

    Raises:
        InputError: another number of truths than of visible shares, a truth without hand or object, or a hand of a
            model that is not among those given.
    """
    if len(truths) != len(hand_visible):
        raise InputError(f"hand_visible: expected {len(truths)} numbers as there are truths, got {len(hand_visible)}")
    if not truths:
        return []
    if any(len(truth.hands) != 1 or len(truth.objects) != 1 for truth in truths):
        raise InputError("truth: expected exactly one hand and one object in every frame")
    by_stamp = {state.stamp: state for state in estimates}
    answers = _answers([by_stamp.get(truth.stamp) for truth in truths], truths)
    solid = Solid.of(object_model)
    true_vertices = _posed([truth.hands[0] for truth in truths], hand_models)
    hands = [answer.hand for answer in answers]
    vertices: list[np.ndarray | None] = [None] * len(truths)
    known = [row for row, hand in enumerate(hands) if hand is not None]
    for row, posed in zip(known, _posed([hand for hand in hands if hand is not None], hand_models), strict=True):
        vertices[row] = posed
    true_distance = np.stack(
        [
            _distance(posed, truth.objects[0].T_camera_object, solid)
            for posed, truth in zip(true_vertices, truths, strict=True)
        ]
    )
    stamps = [truth.stamp for truth in truths]
    accelerations = mean_accelerations(
        stamps, [answer.hand.keypoints if answer.hand is not None and answer.fresh_hand else None for answer in answers]
    )
    true_accelerations = mean_accelerations(stamps, [truth.hands[0].keypoints for truth in truths])
    scores = []
    for row, truth in enumerate(truths):
        estimate = by_stamp.get(truth.stamp)
        counts = bool(hand_visible[row] > HAND_VISIBLE)
        answer, posed_hand = answers[row], vertices[row]
        values = _object_errors(answer.item, truth.objects[0], object_model)
        if counts:
            values |= _hand_errors(answer.hand, posed_hand, truth.hands[0], true_vertices[row])
            values |= _interaction(answer, posed_hand, object_model, solid)
            values |= {
                "true_contact": float(true_distance[row].min() < CONTACT_DISTANCE),
                "true_penetration": float(max(-true_distance[row].min(), 0.0)),
                "acceleration": float(accelerations[row]),
                "true_acceleration": float(true_accelerations[row]),
            }
        supported = estimate is not None and estimate.status == FitStatus.OK
        found = counts and supported and answer.fresh_hand and answer.hand is not None
        object_answered = answer.fresh_item and answer.item is not None
        scores.append(
            FrameScore(truth.stamp, float(hand_visible[row]), counts, found, object_answered=object_answered, **values)
        )
    return scores


def _answers(estimates: Sequence[HandObjectState | None], truths: Sequence[HandObjectState]) -> list[_Answer]:
    answers: list[_Answer] = []
    last_hand: HandState | None = None
    last_item: ObjectState | None = None
    for estimate, truth in zip(estimates, truths, strict=True):
        fresh = estimate is not None and bool(estimate.hands)
        if estimate is not None and estimate.hands:
            last_hand = _hand_of(estimate, truth.hands[0].params.side)
        fresh_item = estimate is not None and bool(estimate.objects)
        if estimate is not None and estimate.objects:
            last_item = _object_of(estimate, truth.objects[0].object_id)
        answers.append(_Answer(last_hand, last_item, fresh, fresh_item))
    return answers


def _hand_of(state: HandObjectState, side: Side) -> HandState | None:
    """The hand of that side that the estimate is surest of; one called by the wrong side is a miss."""
    found = max((hand for hand in state.hands if hand.params.side == side), key=lambda hand: hand.score, default=None)
    if found is None or not np.isfinite(found.keypoints).all():
        return None
    params = found.params
    tensors = (params.global_orient, params.hand_pose, params.betas, params.transl, params.scale)
    return found if all(bool(torch.isfinite(tensor).all()) for tensor in tensors) else None


def _object_of(state: HandObjectState, object_id: str) -> ObjectState | None:
    found = next((item for item in state.objects if item.object_id == object_id), None)
    return found if found is not None and np.isfinite(found.T_camera_object).all() else None


def _posed(hands: Sequence[HandState], hand_models: Mapping[Side, HandModel]) -> list[np.ndarray]:
    """Vertices (V, 3), m, float64, of every hand."""
    result = []
    for hand in hands:
        side = hand.params.side
        model = hand_models.get(side)
        if model is None:
            raise InputError(f"hand_models: a {side} hand is to be scored, and there is no model of that side")
        if hand.model_fingerprint and hand.model_fingerprint != model.fingerprint:
            raise InputError(
                f"hand of {hand.model_id} ({hand.model_fingerprint[:12]}): expected one of {model.model_id} "
                f"({model.fingerprint[:12]}): score with the hand model that the clip was made with"
            )
        params: HandParams = hand.params.to(dtype=model.dtype, device=model.device)
        with torch.no_grad():
            result.append(model(params).vertices[0].double().cpu().numpy())
    return result


def _hand_errors(
    hand: HandState | None, vertices: np.ndarray | None, truth: HandState, true_vertices: np.ndarray
) -> dict[str, float]:
    if hand is None or vertices is None:
        lengths = ("hand_mpjpe", "hand_root_aligned_mpjpe", "hand_absolute", "hand_aligned", "hand_mepe")
        lost = dict.fromkeys((*lengths, "hand_aligned_as_released"), MISSING_ERROR)
        return lost | {"f_5mm": 0.0, "f_15mm": 0.0}
    aligned = procrustes_aligned(vertices, true_vertices)
    near, far = (f_score(aligned, true_vertices, distance) for distance in F_SCORE_DISTANCES)
    return {
        "hand_mpjpe": keypoint_error(hand.keypoints, truth.keypoints),
        "hand_root_aligned_mpjpe": root_aligned_keypoint_error(hand.keypoints, truth.keypoints),
        "hand_absolute": mean_vertex_error(vertices, true_vertices),
        "hand_aligned": mean_vertex_error(aligned, true_vertices),
        "hand_mepe": procrustes_aligned_error(hand.keypoints, truth.keypoints, rotate=False),
        "hand_aligned_as_released": aligned_error_as_released(vertices, true_vertices),
        "f_5mm": near,
        "f_15mm": far,
    }


def _object_errors(item: ObjectState | None, truth: ObjectState, model: ObjectModel) -> dict[str, float]:
    if item is None:
        return {"object_vertex": MISSING_ERROR, "object_add_s": MISSING_ERROR}
    points = np.asarray(model.points, np.float64)
    estimated = _placed(points, item.T_camera_object, _scale(item, model))
    true = _placed(points, truth.T_camera_object)
    return {
        "object_vertex": mean_vertex_error(estimated, true),
        "object_add_s": float(cKDTree(estimated).query(true)[0].mean()),
    }


def _scale(item: ObjectState, model: ObjectModel) -> float:
    """Factor on the model's mesh; a state's is on the file's, as the model's own."""
    return item.scale / model.scale


def _placed(points: np.ndarray, pose: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Points (N, 3) of the object's frame in the camera's."""
    return np.asarray(scale * points @ pose[:3, :3].T + pose[:3, 3])


def _distance(vertices: np.ndarray, pose: np.ndarray, solid: Solid, scale: float = 1.0) -> np.ndarray:
    """Signed distance (V,), m, of the hand's vertices to the object, negative inside."""
    in_object = (vertices - pose[:3, 3]) @ pose[:3, :3] / scale
    return np.asarray(scale * hand_signed_distance(in_object[None], solid)[0])


def _interaction(answer: _Answer, vertices: np.ndarray | None, model: ObjectModel, solid: Solid) -> dict[str, float]:
    """A frame in which hand or object were never answered has no contact that could be right."""
    if vertices is None or answer.item is None:
        return {}
    pose, scale = answer.item.T_camera_object, _scale(answer.item, model)
    nearest = float(_distance(vertices, pose, solid, scale).min())
    return {
        "penetration": max(-nearest, 0.0),
        "contact": float(nearest < CONTACT_DISTANCE),
        "inside": float(nearest < 0),
    }
