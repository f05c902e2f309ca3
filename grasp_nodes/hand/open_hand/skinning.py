"""Skinning weights by bone heat (Baran and Popovic 2007, "Automatic rigging and animation of 3D characters")."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray

from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS
from grasp_nodes.hand.open_hand.field import HandField, swept_sphere
from grasp_nodes.hand.open_hand.proportions import LONG_FINGERS, WRIST, Array
from grasp_nodes.hand.parameters import NUM_JOINTS

_HEAT = 1.3  # more: weights follow the nearest bone more closely
_NEAREST = 3.0  # mm, bones are not nearer than this
_MOST_JOINTS = 5
_LEAST_WEIGHT = 0.004


def bone_heat_weights(vertices: Array, faces: NDArray[np.int64], field: HandField) -> Array:
    """(V, 16) weights, rows sum to 1, at most 5 joints per vertex.

    Every vertex is warmed by its nearest bone; heat spreads along the surface, not through the air between fingers:
    (L + H) w = H p, with L the cotangent Laplacian and H = c area / distance^2.
    """
    count = len(vertices)
    distance, joint = _bone_distances(vertices, field)
    nearest = distance.argmin(0)
    laplacian, area = _laplacian(vertices, faces)
    heat = area * _HEAT / np.maximum(distance[nearest, np.arange(count)], _NEAREST) ** 2
    sources = np.zeros((count, NUM_JOINTS))
    sources[np.arange(count), joint[nearest]] = heat
    weights = scipy.sparse.linalg.spsolve((laplacian + scipy.sparse.diags(heat)).tocsc(), sources)
    threshold = np.maximum(np.sort(weights, 1)[:, -_MOST_JOINTS], _LEAST_WEIGHT)
    weights[weights < threshold[:, None]] = 0
    return weights / weights.sum(1, keepdims=True)


def _bone_distances(vertices: Array, field: HandField) -> tuple[Array, NDArray[np.int64]]:
    """(N, V) distances to the bones and (N,) the joint that moves each bone."""
    parts, _ = field.parts(vertices)
    rows, joints = [], []
    for finger in FINGERS:
        chain = field.skeleton.chain(finger)
        # A vertex outside a finger's own volume does not see that finger's bones (the neighbour's is often nearer).
        hidden = np.maximum(parts[finger] - 1.5, 0) * (0.7 if finger == "thumb" else 2.0)
        for i, j in enumerate(FINGER_JOINTS[finger]):
            rows.append(swept_sphere(vertices, chain[i], chain[i + 1], (0.0, 0.0)) + hidden)
            joints.append(j)
    wrist = WRIST + np.array([-14.0, -2.0, 0.0])
    palm = [(WRIST + np.array([12.0, 0.0, 0.0]), wrist)]
    for finger in LONG_FINGERS:
        knuckle = field.skeleton.chain(finger)[0]
        palm.append((WRIST + np.array([-14.0, -2.0, (knuckle - WRIST)[2] * 0.52]), knuckle))
    little = field.skeleton.chain("little")[0]
    palm.append((WRIST + np.array([-14.0, -8.0, -18.0]), little + np.array([10.0, -6.0, -2.0])))
    for start, end in palm:
        rows.append(swept_sphere(vertices, start, end, (0.0, 0.0)))
        joints.append(0)
    return np.array(rows), np.array(joints)


def _laplacian(vertices: Array, faces: NDArray[np.int64]) -> tuple[scipy.sparse.csr_matrix, Array]:
    """Cotangent Laplacian (V, V), positive semi-definite, and the area (V,) of each vertex."""
    rows, columns, values = [], [], []
    for k in range(3):
        a, b, c = faces[:, k], faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]
        u, v = vertices[b] - vertices[a], vertices[c] - vertices[a]
        twice_area = np.linalg.norm(np.cross(u, v), axis=1)
        cotangent = np.clip((u * v).sum(1) / np.maximum(twice_area, 1e-9), 0.02, 5.0) / 2
        rows += [b, c]
        columns += [c, b]
        values += [cotangent, cotangent]
    count = len(vertices)
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    beside = scipy.sparse.coo_matrix(entries, shape=(count, count)).tocsr()
    area = np.bincount(faces.ravel(), np.repeat(twice_area / 6, 3), minlength=count)
    laplacian = scipy.sparse.diags(np.asarray(beside.sum(1)).ravel()) - beside
    return laplacian.tocsr(), np.asarray(area, np.float64)
