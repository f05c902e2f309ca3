"""Tracks of hands and objects as one state per frame, contact maps included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from grasp_nodes.contact.computation import CONTACT_THRESHOLD, compute_contact_map
from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.hand_states import hand_states
from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandState, ObjectState
from grasp_nodes.contact.springs import SPRING_REACH
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import Evidence


def clip_states(
    evidence: Sequence[Evidence],
    hands: Sequence[HandTrack],
    objects: Sequence[ObjectTrack],
    hand_models: Mapping[Side, HandModel],
    object_models: Mapping[str, ObjectModel],
    contact_threshold: float = CONTACT_THRESHOLD,
) -> list[HandObjectState]:
    """What tracks say of each frame. Hands and objects of frames in which they are lost are left out.

    Args:
        evidence: of T frames: stamps, frame ids and whether the camera is metric.
        hands, objects: tracks of T frames.
        hand_models: by side. object_models: by object id.
        contact_threshold: m, where contact is one half.

    Returns:
        T states. OK: a hand was seen, or an object where there is no hand. HELD: answers that no evidence of this frame
        supports. NOTHING: no answer.

    Raises:
        InputError: tracks and frames differ in number, or a model is missing.
    """
    for count in (*(len(track) for track in hands), *(len(track) for track in objects)):
        if count != len(evidence):
            raise InputError(f"tracks: expected {len(evidence)} frames as there is evidence, got {count}")
    posed = [_posed(track, hand_models) for track in hands]
    states = []
    for row, seen in enumerate(evidence):
        shown = [k for k, track in enumerate(hands) if not track.lost[row]]
        placed = [track for track in objects if not track.lost[row]]
        fresh = any(hands[k].seen[row] for k in shown)
        states.append(
            HandObjectState(
                stamp=seen.stamp,
                frame_id=seen.camera.frame_id,
                hands=tuple(
                    replace(
                        posed[k][0][row],
                        track_id=hands[k].track_id,
                        score=float(np.clip(hands[k].score[row], 0.0, 1.0)),
                        is_metric=seen.camera.is_metric,
                    )
                    for k in shown
                ),
                objects=tuple(_object_state(track, row, object_models, seen.camera.is_metric) for track in placed),
                contact_maps=tuple(
                    _contact(hands[k], posed[k][1][row], track, row, hand_models, object_models, contact_threshold)
                    for k in shown
                    for track in placed
                ),
                residuals={
                    f"{track.object_id}_iou": float(track.iou[row]) for track in placed if np.isfinite(track.iou[row])
                },
                status=_status(fresh, bool(shown), [bool(track.seen[row]) for track in placed]),
                status_text=_status_text(fresh, len(shown), placed, objects, row),
            )
        )
    return states


def _posed(track: HandTrack, hand_models: Mapping[Side, HandModel]) -> tuple[list[HandState], np.ndarray]:
    """States and vertices (T, V, 3), m, float64, of all frames; those that are lost hold whatever the track has."""
    model = hand_models.get(track.params.side)
    if model is None:
        raise InputError(f"hand_models: a {track.params.side} hand was tracked, and there is no model of that side")
    params = track.params.to(dtype=model.dtype, device=model.device)
    with torch.no_grad():
        vertices = model(params).vertices.double().cpu().numpy()
    return hand_states(track.params, model), vertices


def _object_state(
    track: ObjectTrack, row: int, object_models: Mapping[str, ObjectModel], is_metric: bool
) -> ObjectState:
    model = _object_model(track, object_models)
    return ObjectState(
        object_id=track.object_id,
        T_camera_object=track.T_camera_object[row],
        covariance=None if track.covariance is None else track.covariance[row],
        scale=model.scale * track.scale,
        score=float(np.clip(track.score[row], 0.0, 1.0)),
        mesh_resource=model.mesh_resource,
        is_metric=is_metric,
    )


def _object_model(track: ObjectTrack, object_models: Mapping[str, ObjectModel]) -> ObjectModel:
    model = object_models.get(track.object_id)
    if model is None:
        raise InputError(f"object_models: {track.object_id!r} was tracked, there are {sorted(object_models)}")
    return model


def _contact(
    hand: HandTrack,
    vertices: np.ndarray,
    track: ObjectTrack,
    row: int,
    hand_models: Mapping[Side, HandModel],
    object_models: Mapping[str, ObjectModel],
    threshold: float,
) -> ContactMap:
    """Contact in the mesh's own size: where a fit found another one, hand and threshold shrink instead of the mesh."""
    side = hand.params.side
    pose = track.T_camera_object[row]
    in_object = (vertices - pose[:3, 3]) @ pose[:3, :3] / track.scale
    faces = closed_faces(hand_models[side].faces.cpu().numpy())
    found = compute_contact_map(
        in_object,
        faces,
        _object_model(track, object_models),
        threshold / track.scale,
        side,
        hand.track_id,
        anchors_of(hand_models[side]),
        SPRING_REACH / track.scale,
    )
    if track.scale == 1.0:
        return found
    factor = np.float32(track.scale)
    return replace(
        found,
        points=found.points * factor,
        signed_distance=found.signed_distance * factor,
        hand_signed_distance=found.hand_signed_distance * factor,
        contact_threshold=threshold,
    )


def _status(fresh_hand: bool, any_hand: bool, objects_seen: Sequence[bool]) -> FitStatus:
    if fresh_hand or (not any_hand and any(objects_seen)):
        return FitStatus.OK
    return FitStatus.HELD if any_hand or objects_seen else FitStatus.NOTHING


def _status_text(
    fresh: bool, hands: int, placed: Sequence[ObjectTrack], objects: Sequence[ObjectTrack], row: int
) -> str:
    parts = []
    if not hands:
        parts.append("no hand was found")
    elif not fresh:
        parts.append("hand not seen: its pose is carried over")
    parts += [f"{track.object_id} not found" for track in objects if track.lost[row]]
    parts += [f"{track.object_id} not seen: its pose is carried over" for track in placed if not track.seen[row]]
    return "; ".join(parts)
