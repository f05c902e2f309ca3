"""All parts of the open hand, in MANO's numbering and units."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from grasp_nodes.hand.arrays import HandArrays
from grasp_nodes.hand.files import OPEN_HAND_ID
from grasp_nodes.hand.keypoints import FINGERS, SECOND_TIP_VERTICES, TIP_VERTICES, WRIST_LOOP
from grasp_nodes.hand.open_hand.field import HandField
from grasp_nodes.hand.open_hand.pose_space import pose_space
from grasp_nodes.hand.open_hand.proportions import Array
from grasp_nodes.hand.open_hand.remesh import remesh_hand
from grasp_nodes.hand.open_hand.shape_space import shape_space
from grasp_nodes.hand.open_hand.skinning import bone_heat_weights
from grasp_nodes.hand.open_hand.surgery import rim_loop
from grasp_nodes.hand.parameters import NUM_JOINTS, NUM_VERTICES

_MM = 1e-3

_log = logging.getLogger(__name__)


def build_open_hand(seed: int = 0) -> HandArrays:
    """The right open hand, m; equal seeds and library versions give equal hands.

    Pose correctives are zero: fitted ones dug a waist below the knuckles of a fist, where plain bone-heat skinning
    looks right.

    Raises:
        MissingDependencyError: scikit-image is not installed.
    """
    field = HandField()
    vertices, faces = remesh_hand(field)
    vertices, faces = mano_numbering(vertices, faces, field)
    _log.info("mesh done; weights")
    weights = bone_heat_weights(vertices, faces, field)
    _log.info("shape space")
    shapedirs, regressor = shape_space(vertices, weights, field, np.array(WRIST_LOOP), seed)
    mean, components = pose_space(field.skeleton, seed)

    def rounded(array: Array) -> Array:
        return array.astype(np.float32).astype(np.float64)  # what the file holds

    return HandArrays(
        v_template=rounded(vertices * _MM),
        shapedirs=rounded(shapedirs * _MM),
        posedirs=np.zeros((NUM_VERTICES, 3, 9 * (NUM_JOINTS - 1))),
        J_regressor=rounded(regressor),
        weights=rounded(weights),
        faces=faces,
        hands_mean=rounded(mean),
        hands_components=rounded(components),
        side="right",
        model_id=OPEN_HAND_ID,
    )


def mano_numbering(vertices: Array, faces: NDArray[np.int64], field: HandField) -> tuple[Array, NDArray[np.int64]]:
    """Renumber: fingertips and the wrist's rim get the ids that MANO's tools expect, the rest goes from wrist to tips.

    Returns:
        Vertices and faces, wound outwards; each face starts at its smallest id, faces are sorted.
    """
    new_id = np.full(len(vertices), -1)
    loop = rim_loop(faces)
    y, z = vertices[loop, 1], vertices[loop, 2]
    if (y * np.roll(z, -1) - z * np.roll(y, -1)).sum() > 0:
        loop.reverse()  # MANO's rim runs clockwise, seen from the forearm
    start = int(np.argmax(vertices[loop, 2]))  # at the thumb's side
    new_id[loop[start:] + loop[:start]] = WRIST_LOOP
    for finger in FINGERS:
        order = np.argsort(np.linalg.norm(vertices - field.skeleton.tips[finger], axis=1), kind="stable")
        new_id[order[:2]] = TIP_VERTICES[finger], SECOND_TIP_VERTICES[finger]
    rest = np.flatnonzero(new_id < 0)
    free = np.setdiff1d(np.arange(len(vertices)), new_id)
    new_id[rest[np.argsort(-vertices[rest, 0], kind="stable")]] = free
    moved = np.empty_like(vertices)
    moved[new_id] = vertices
    faces = new_id[faces]
    faces = np.take_along_axis(faces, (faces.argmin(1)[:, None] + np.arange(3)) % 3, 1)
    corners = moved[faces]
    if np.einsum("fc,fc->", corners[:, 0] - moved.mean(0), np.cross(corners[:, 1], corners[:, 2])) < 0:
        faces = faces[:, [0, 2, 1]]
    return moved, np.ascontiguousarray(faces[np.lexsort(faces.T[::-1])])
