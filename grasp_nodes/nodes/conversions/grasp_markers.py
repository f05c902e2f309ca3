"""What rviz shows of grasps: the object as it was understood, and hands coloured by contact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from visualization_msgs.msg import Marker

from grasp_nodes.nodes.conversions.scene import OBJECT_COLOR, to_deletion, to_hand_marker, to_triangles

if TYPE_CHECKING:
    from grasp_nodes.contact.interaction import Grasp
    from grasp_nodes.objects.model import ObjectModel
    from grasp_nodes.viewer.posed_hands import HandPoser


def grasp_markers(
    header: Any, model: ObjectModel, origin: np.ndarray, grasps: Sequence[Grasp], poser: HandPoser
) -> list[Marker]:
    """Markers that replace all earlier ones.

    Args:
        header: of the grasps. model: the object; origin: (3,), m, of its frame in the header's. grasps: to show.
    """
    markers = [to_deletion(header), surface_marker(header, model.vertices + origin, model.faces)]
    for number, grasp in enumerate(grasps):
        hand = poser.mesh(grasp.hand)
        contact = None if grasp.contact_map is None else grasp.contact_map.hand_contact
        markers.append(to_hand_marker(header, number, hand[0], hand[1], contact))
    return markers


def surface_marker(header: Any, vertices: np.ndarray, faces: np.ndarray) -> Marker:
    """An object's surface as triangles: vertices (V, 3), m, in the header's frame, faces (F, 3)."""
    return to_triangles(header, "objects", 0, vertices, faces, OBJECT_COLOR)
