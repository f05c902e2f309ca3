"""ContactMap messages <-> `ContactMap`."""

from __future__ import annotations

import numpy as np
from grasp_msgs.msg import ContactMap as ContactMapMessage
from std_msgs.msg import Header

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.nodes.conversions.fields import finite, read_array, set_array
from grasp_nodes.nodes.conversions.hands import SIDES, read_side


def to_contact_map(contact_map: ContactMap, header: Header) -> ContactMapMessage:
    """Message of a contact map; header.frame_id must be the object's frame."""
    message = ContactMapMessage(
        header=header,
        object_id=contact_map.object_id,
        side=SIDES[contact_map.hand_side],
        hand_track_id=int(contact_map.hand_track_id),
        contact_threshold=float(contact_map.contact_threshold),
    )
    set_array(message, "points", contact_map.points)
    for field in ("signed_distance", "contact", "region", "elasticity", "hand_signed_distance", "hand_contact"):
        set_array(message, field, getattr(contact_map, field))
    return message


def from_contact_map(message: ContactMapMessage) -> ContactMap:
    """The contact map of a message.

    Raises:
        InputError: arrays of different lengths, an unknown side, or distances that are not finite.
    """

    def values(field: str, dtype: type[np.generic] = np.float32) -> np.ndarray:
        return read_array(message, field, dtype).copy()

    return ContactMap(
        object_id=message.object_id,
        points=finite("ContactMap.points", read_array(message, "points", np.float32, (-1, 3)).copy()),
        signed_distance=finite("ContactMap.signed_distance", values("signed_distance")),
        contact=finite("ContactMap.contact", values("contact")),
        hand_signed_distance=finite("ContactMap.hand_signed_distance", values("hand_signed_distance")),
        hand_contact=finite("ContactMap.hand_contact", values("hand_contact")),
        contact_threshold=float(message.contact_threshold),
        hand_side=read_side(message.side),
        hand_track_id=int(message.hand_track_id),
        region=values("region", np.uint8),
        elasticity=values("elasticity"),
    )
