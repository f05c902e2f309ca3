"""HandObjectState and HandObjectTrajectory messages <-> their nouns."""

from __future__ import annotations

import numpy as np
from grasp_msgs.msg import HandObjectState as HandObjectStateMessage
from grasp_msgs.msg import HandObjectTrajectory as HandObjectTrajectoryMessage

from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandObjectTrajectory
from grasp_nodes.errors import InputError
from grasp_nodes.nodes.conversions.contact import from_contact_map, to_contact_map
from grasp_nodes.nodes.conversions.fields import from_time, read_array, set_array, to_header
from grasp_nodes.nodes.conversions.hands import from_hand_pose, to_hand_pose
from grasp_nodes.nodes.conversions.objects import from_object_pose, to_object_pose


def object_frame(object_id: str) -> str:
    """Name of an object's TF frame; characters that TF and topic tools do not take become underscores."""
    return "object_" + "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in object_id)


def to_state(state: HandObjectState) -> HandObjectStateMessage:
    """Message of a state."""
    header = to_header(state.stamp, state.frame_id)
    message = HandObjectStateMessage(
        header=header,
        hands=[to_hand_pose(hand, header) for hand in state.hands],
        objects=[to_object_pose(found, header) for found in state.objects],
        contact_maps=[
            to_contact_map(contact, to_header(state.stamp, object_frame(contact.object_id)))
            for contact in state.contact_maps
        ],
        residual_names=list(state.residuals),
        status=int(state.status),
        status_text=state.status_text,
    )
    set_array(message, "residual_values", list(state.residuals.values()))
    return message


def from_state(message: HandObjectStateMessage) -> HandObjectState:
    """The state of a message.

    Raises:
        InputError: an unknown status, names and values of residuals of different number, or a malformed part.
    """
    values = read_array(message, "residual_values", np.float32).tolist()
    if len(values) != len(message.residual_names):
        raise InputError(
            f"HandObjectState: {len(message.residual_names)} residual_names but {len(values)} residual_values"
        )
    if message.status not in [int(status) for status in FitStatus]:
        raise InputError(f"HandObjectState.status: expected one of {[int(s) for s in FitStatus]}, got {message.status}")
    return HandObjectState(
        stamp=from_time(message.header.stamp),
        frame_id=message.header.frame_id,
        hands=tuple(from_hand_pose(hand) for hand in message.hands),
        objects=tuple(from_object_pose(found) for found in message.objects),
        contact_maps=tuple(from_contact_map(contact) for contact in message.contact_maps),
        residuals=dict(zip(message.residual_names, values, strict=True)),
        status=FitStatus(message.status),
        status_text=message.status_text,
    )


def to_trajectory(trajectory: HandObjectTrajectory) -> HandObjectTrajectoryMessage:
    """Message of a trajectory; its header is that of the first state."""
    states = [to_state(state) for state in trajectory.states]
    message = HandObjectTrajectoryMessage(source=trajectory.source, states=states)
    if states:
        message.header = states[0].header
    return message


def from_trajectory(message: HandObjectTrajectoryMessage) -> HandObjectTrajectory:
    """The trajectory of a message."""
    return HandObjectTrajectory(message.source, [from_state(state) for state in message.states])
