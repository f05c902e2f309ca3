"""Answers that are not numbers, as a fit that diverged leaves them, taken out of a state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandState, ObjectState


def drop_not_finite(state: HandObjectState) -> HandObjectState:
    """The state without hands, objects, contact maps and residuals that hold NaN or infinite numbers.

    A covariance that does becomes unknown.

    Returns:
        the same state where there are none; else one whose text names what was lost, OK only while a hand is left.
    """
    hands = tuple(hand for hand in state.hands if _hand_is_finite(hand))
    objects = tuple(_with_known_covariance(found) for found in state.objects if _object_is_finite(found))
    sides = {(hand.params.side, hand.track_id) for hand in hands}
    names = {found.object_id for found in objects}
    contacts = tuple(
        contact
        for contact in state.contact_maps
        if contact.object_id in names
        and (contact.hand_side, contact.hand_track_id) in sides
        and _contact_is_finite(contact)
    )
    residuals = {name: value for name, value in state.residuals.items() if np.isfinite(value)}
    lost = [
        *(f"{hand.params.side} hand" for hand in state.hands if not _hand_is_finite(hand)),
        *(found.object_id for found in state.objects if not _object_is_finite(found)),
    ]
    same_objects = all(ours is theirs for ours, theirs in zip(objects, state.objects, strict=False))
    if (
        not lost
        and same_objects
        and len(contacts) == len(state.contact_maps)
        and len(residuals) == len(state.residuals)
    ):
        return state
    status, text = state.status, state.status_text
    if lost:
        text = "; ".join([*filter(None, [text]), f"the fit diverged: {', '.join(lost)} lost"])
        if not (hands or objects):
            status = FitStatus.NOTHING
        elif state.hands and not hands and status == FitStatus.OK:
            status = FitStatus.HELD
    return replace(
        state,
        hands=hands,
        objects=objects,
        contact_maps=contacts,
        residuals=residuals,
        status=status,
        status_text=text,
    )


def _hand_is_finite(hand: HandState) -> bool:
    params = hand.params
    tensors = (params.global_orient, params.hand_pose, params.betas, params.transl, params.scale)
    return bool(
        all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
        and np.isfinite(hand.keypoints).all()
        and np.isfinite(hand.joint_poses).all()
        and np.isfinite(hand.score)
    )


def _object_is_finite(found: ObjectState) -> bool:
    return bool(np.isfinite(found.T_camera_object).all() and np.isfinite(found.scale) and np.isfinite(found.score))


def _with_known_covariance(found: ObjectState) -> ObjectState:
    known = found.covariance is None or bool(np.isfinite(found.covariance).all())
    return found if known else replace(found, covariance=None)


def _contact_is_finite(contact: ContactMap) -> bool:
    arrays = (contact.signed_distance, contact.contact, contact.hand_signed_distance, contact.hand_contact)
    return all(bool(np.isfinite(array).all()) for array in arrays)
