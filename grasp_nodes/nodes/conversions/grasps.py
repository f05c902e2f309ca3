"""Grasp and GraspArray messages <-> `Grasp` and `GraspSet`."""

from __future__ import annotations

import numpy as np
from grasp_msgs.msg import Grasp as GraspMessage
from grasp_msgs.msg import GraspArray
from std_msgs.msg import Header

from grasp_nodes.contact.interaction import Grasp, GraspSet
from grasp_nodes.errors import InputError
from grasp_nodes.nodes.conversions.contact import from_contact_map, to_contact_map
from grasp_nodes.nodes.conversions.fields import finite, read_array, set_array
from grasp_nodes.nodes.conversions.hands import from_hand_pose, to_hand_pose


def to_grasp(grasp: Grasp, header: Header) -> GraspMessage:
    """Message of one grasp; header.frame_id must be the object's frame."""
    message = GraspMessage(
        hand=to_hand_pose(grasp.hand, header), score=float(grasp.score), metric_names=list(grasp.metrics)
    )
    set_array(message, "metric_values", list(grasp.metrics.values()))
    if grasp.contact_map is not None:
        message.contact_map = to_contact_map(grasp.contact_map, header)
    return message


def from_grasp(message: GraspMessage) -> Grasp:
    """One grasp of a message.

    Raises:
        InputError: names and values of metrics of different number, or a malformed part.
    """
    values = read_array(message, "metric_values", np.float32).tolist()
    if len(values) != len(message.metric_names):
        raise InputError(f"Grasp: {len(message.metric_names)} metric_names but {len(values)} metric_values")
    finite("Grasp.score", np.array(message.score))
    return Grasp(
        hand=from_hand_pose(message.hand),
        score=float(message.score),
        metrics=dict(zip(message.metric_names, values, strict=True)),
        contact_map=from_contact_map(message.contact_map) if len(message.contact_map.points) else None,
    )


def to_grasp_array(grasps: GraspSet, header: Header) -> GraspArray:
    """Message of a set of grasps; header.frame_id must be the object's frame."""
    return GraspArray(
        header=header,
        object_id=grasps.object_id,
        mesh_resource=grasps.mesh_resource,
        method=grasps.method,
        seed=int(grasps.seed),
        duration=float(grasps.duration),
        grasps=[to_grasp(grasp, header) for grasp in grasps.grasps],
    )


def from_grasp_array(message: GraspArray) -> GraspSet:
    """The set of grasps of a message."""
    return GraspSet(
        object_id=message.object_id,
        method=message.method,
        seed=int(message.seed),
        duration=float(message.duration),
        grasps=[from_grasp(grasp) for grasp in message.grasps],
        mesh_resource=message.mesh_resource,
    )
