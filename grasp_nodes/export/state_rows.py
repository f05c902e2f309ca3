"""Rows of a recording from states: of a trajectory's nouns, and of messages as a bag's reader gives them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandState
from grasp_nodes.errors import InputError
from grasp_nodes.export.demonstration import HAND_SIZE, HandRow, ObjectRow, StateRow
from grasp_nodes.hand.anchors import NUM_REGIONS

CONTACT_SIZE = NUM_REGIONS + 1
_SIDES = {1: "right", 2: "left"}
"""HandPose.SIDE_*."""


def row_of_state(state: HandObjectState) -> StateRow:
    """The row of a state."""
    return StateRow(
        state.stamp,
        tuple(_hand(hand) for hand in state.hands),
        tuple(ObjectRow(found.object_id, _pose(found.T_camera_object), found.score) for found in state.objects),
        _strongest(
            ((one.hand_side, one.object_id), region_contact(one.contact, one.region)) for one in state.contact_maps
        ),
        state.status != FitStatus.OK,
    )


def row_of_message(message: Any) -> StateRow:
    """The row of a ``grasp_msgs/msg/HandObjectState``.

    Raises:
        InputError: an array of the message has another size than it says.
    """
    try:
        return StateRow(
            int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec),
            tuple(_hand_of(hand) for hand in message.hands if hand.side in _SIDES),
            tuple(
                ObjectRow(str(found.object_id), _pose_of(found.pose.pose), float(found.score))
                for found in message.objects
            ),
            _strongest(
                (
                    (_SIDES[one.side], str(one.object_id)),
                    region_contact(np.asarray(one.contact), np.asarray(one.region)),
                )
                for one in message.contact_maps
                if one.side in _SIDES
            ),
            int(message.status) != int(FitStatus.OK),
        )
    except (ValueError, IndexError) as error:
        raise InputError(f"HandObjectState: {error}") from error


def region_contact(contact: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The greatest contact of every region, and of all.

    Args:
        contact: (N,) in [0, 1], of object points. region: (N,) uint8, of the hand, 0..16; others belong to none.

    Returns:
        (18,) float32; 0 where nothing touches.
    """
    if contact.shape != region.shape:
        raise InputError(f"ContactMap: {contact.size} values of contact but {region.size} regions")
    strongest = np.zeros(CONTACT_SIZE, np.float32)
    known = region < NUM_REGIONS
    np.maximum.at(strongest, region[known].astype(np.int64), contact[known].astype(np.float32))
    strongest[-1] = contact.max(initial=0.0)
    return strongest


def _strongest(pairs: Iterable[tuple[tuple[str, str], np.ndarray]]) -> dict[tuple[str, str], np.ndarray]:
    """Two hands of one side at one object count as one."""
    found: dict[tuple[str, str], np.ndarray] = {}
    for key, values in pairs:
        found[key] = np.maximum(found[key], values) if key in found else values
    return found


def _hand(hand: HandState) -> HandRow:
    params = hand.params
    parts = [params.transl, params.global_orient, params.hand_pose]
    vector = np.concatenate([part[0].detach().cpu().numpy().astype(np.float64) for part in parts])
    return HandRow(params.side, vector, params.betas[0].detach().cpu().numpy(), hand.keypoints, hand.score)


def _hand_of(message: Any) -> HandRow:
    parts = [np.asarray(part, np.float64) for part in (message.translation, message.global_orient, message.hand_pose)]
    vector = np.concatenate(parts)
    if vector.shape != (HAND_SIZE,):
        raise InputError(f"HandPose: expected {HAND_SIZE} numbers of a pose, got {vector.size}")
    keypoints = np.array([[point.x, point.y, point.z] for point in message.keypoints])
    return HandRow(_SIDES[message.side], vector, np.asarray(message.betas), keypoints, float(message.score))


def _pose(T: np.ndarray) -> np.ndarray:
    return np.concatenate([T[:3, 3], Rotation.from_matrix(T[:3, :3]).as_quat()])


def _pose_of(pose: Any) -> np.ndarray:
    place, turn = pose.position, pose.orientation
    return np.array([place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w], np.float64)
