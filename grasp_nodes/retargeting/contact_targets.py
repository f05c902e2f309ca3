"""What a contact map asks of a robot hand: for each region of the human hand a point of the object, and how near."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.errors import InputError
from grasp_nodes.hand.anchors import FINGERTIP_REGIONS, NUM_REGIONS
from grasp_nodes.objects.model import ObjectModel

REACH = 0.02
"""m; regions of the hand farther from the object ask for nothing."""
FADE = 0.008
"""m; at this distance a region's weight is 1/e."""
_CLOSE = 0.003
"""m beyond a region's closest point: the points that are averaged."""


class ContactTargets(NamedTuple):
    """K regions near the object, at most one target each.

    region: (K,) int64. point, normal: (K, 3) m, object frame, on the object's surface, outward. gap: (K,) m, of the
    human's skin there, negative = pressed in. weight: (K,) in (0, 1].
    """

    region: np.ndarray
    point: np.ndarray
    normal: np.ndarray
    gap: np.ndarray
    weight: np.ndarray

    @property
    def of_fingertips(self) -> np.ndarray:
        """(K,) bool."""
        return np.isin(self.region, FINGERTIP_REGIONS)


def contact_targets(contact: ContactMap, object_model: ObjectModel) -> ContactTargets:
    """The middle of each region's contact.

    Args:
        contact: with regions, on points of the object at the size of `object_model`.

    Raises:
        InputError: the regions were not computed, or the map is of another object.
    """
    if contact.object_id != object_model.object_id:
        raise InputError(f"contact map of {contact.object_id!r}: expected one of {object_model.object_id!r}")
    near = contact.signed_distance < REACH
    if near.any() and contact.region[near].max(initial=0) >= NUM_REGIONS:
        raise InputError(
            f"contact map of {contact.object_id!r}: its regions were not computed; compute it with the hand's anchors"
        )
    if contact.points.shape == object_model.points.shape:
        normals = object_model.normals
    else:
        normals = object_model.signed_distance.query(contact.points)[1]
    found = []
    for region in np.unique(contact.region[near]):
        own = np.flatnonzero(near & (contact.region == region))
        distance = contact.signed_distance[own].astype(np.float64)
        gap = float(distance.min())
        close = own[distance < gap + _CLOSE]
        # The middle may lie inside the object or on its other side: the point of the surface nearest to it does not.
        middle = contact.points[close].mean(axis=0)
        chosen = close[np.linalg.norm(contact.points[close] - middle, axis=1).argmin()]
        weight = float(np.exp(-((max(gap, 0.0) / FADE) ** 2)))
        found.append((region, contact.points[chosen], normals[chosen], gap, weight))
    return ContactTargets(
        np.array([each[0] for each in found], np.int64),
        np.array([each[1] for each in found], np.float64).reshape(-1, 3),
        _unit(np.array([each[2] for each in found], np.float64).reshape(-1, 3)),
        np.array([each[3] for each in found], np.float64),
        np.array([each[4] for each in found], np.float64),
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
