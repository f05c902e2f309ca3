"""Contact carried from one hand model to another: the same places on hands of another mesh, shape or side.

What a contact map says of the object (points, contact, region, elasticity) does not depend on the mesh of the hand:
regions and anchors have the same meaning on every hand. What it says of the hand's vertices is carried region by
region: each vertex of the other hand takes the values of the vertices that lie at the same place of the same region.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.errors import InputError
from grasp_nodes.hand.anatomy import keypoints_at_rest
from grasp_nodes.hand.anchors import NUM_REGIONS, anchors_of
from grasp_nodes.hand.model import HandModel

_NEIGHBOURS = 3
_SAME_PLACE = 1e-6
"""In extents of a region: nearer vertices are the same vertex."""


def vertex_transfer(source: HandModel, target: HandModel) -> sp.csr_matrix:
    """Takes values on the vertices of one hand model to those of another.

    A place in a region is its position in the rest pose relative to the region's mean and in units of its extent, each
    along the finger, across it, and up; those of left hands are mirrored. Values of the three vertices that are nearest
    by this measure are averaged by inverse distance.

    Args:
        source, target: full hand models.

    Returns:
        (V_target, V_source), rows add up to 1.

    Raises:
        InputError: a sub-set of a hand.
    """
    (from_region, from_place), (to_region, to_place) = _places(source), _places(target)
    rows, columns, values = [], [], []
    for region in range(NUM_REGIONS):
        giving, taking = np.flatnonzero(from_region == region), np.flatnonzero(to_region == region)
        if not len(giving):
            raise InputError(f"contact transfer: region {region} of hand model {source.model_id} has no vertices")
        count = min(_NEIGHBOURS, len(giving))
        distance, index = cKDTree(from_place[giving]).query(to_place[taking], k=count)
        distance, index = distance.reshape(len(taking), count), index.reshape(len(taking), count)
        weight = 1.0 / np.maximum(distance, _SAME_PLACE)
        weight[distance[:, 0] < _SAME_PLACE, 1:] = 0.0
        weight /= weight.sum(axis=1, keepdims=True)
        rows.append(np.repeat(taking, count))
        columns.append(giving[index].ravel())
        values.append(weight.ravel())
    shape = (target.num_vertices, source.num_vertices)
    return sp.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape)


def transfer_contact_map(contact_map: ContactMap, source: HandModel, target: HandModel) -> ContactMap:
    """A contact map as it would be said of another hand model: what to refine or to retarget towards.

    Args:
        contact_map: of the source. source, target: full hand models.

    Raises:
        InputError: the contact map is of another side or number of vertices than the source.
    """
    if contact_map.hand_side != source.side or len(contact_map.hand_contact) != source.num_vertices:
        raise InputError(
            f"contact transfer: the contact map is of a {contact_map.hand_side} hand with "
            f"{len(contact_map.hand_contact)} vertices, the source is {source.side} with {source.num_vertices}"
        )
    matrix = vertex_transfer(source, target)
    return replace(
        contact_map,
        hand_side=target.side,
        hand_signed_distance=np.asarray(matrix @ contact_map.hand_signed_distance, np.float32),
        hand_contact=np.asarray(matrix @ contact_map.hand_contact, np.float32),
    )


def _places(model: HandModel) -> tuple[np.ndarray, np.ndarray]:
    """Region (V,) and place (V, 3) of each vertex, in a right hand's axes."""
    arrays = model.arrays
    anchors = anchors_of(model)
    mirror = np.array([-1.0, 1.0, 1.0]) if model.side == "left" else np.ones(3)
    vertices = arrays.v_template * mirror
    keypoints = keypoints_at_rest(arrays.J_regressor @ arrays.v_template, arrays.v_template) * mirror
    place = np.zeros_like(vertices)
    for region in range(NUM_REGIONS):
        own = anchors.vertex_region == region
        finger, phalanx = divmod(region, 3)
        # Palm regions run along the middle finger's metacarpal.
        start, end = (1 + 4 * finger + phalanx, 2 + 4 * finger + phalanx) if finger < 5 else (0, 9)
        along = keypoints[end] - keypoints[start]
        along /= np.linalg.norm(along)
        across = np.cross(along, [0.0, 1.0, 0.0])
        across /= np.linalg.norm(across)
        local = (vertices[own] - vertices[own].mean(axis=0)) @ np.stack([along, across, np.cross(across, along)]).T
        place[own] = local / np.maximum(np.ptp(local, axis=0), 1e-9)
    return anchors.vertex_region, place
