"""Points that a hand carries (anchors, keypoints, skin) with all derivatives in place, pose and shape, compiled.

Unknowns, in this order: turn of the hand about its wrist (3, rad, from the left), wrist (3, m), hand pose (45, rad,
axis-angle), betas (10). What pose correctives of a hand model do is in the points, but not in their derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from grasp_nodes.fitting.grasp_hand import GraspHand
from grasp_nodes.fitting.hand_kinematics import Bones, PosedBones, Skin, exponential, pose_bones, skinned_point
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.keypoints import FINGERS, KEYPOINT_ORDER, PARENTS, TIP_VERTICES
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_JOINTS, NUM_POSE

TURN, WRIST, POSE, BETAS = 0, 3, 6, 6 + NUM_POSE
UNKNOWNS = BETAS + NUM_BETAS
_TIPS = [TIP_VERTICES[finger] for finger in FINGERS]


class Carrier(NamedTuple):
    """What moves with a hand. M points of its skin or of its joints.

    template: (M, 3), m, and shapes: (M, 3, 10), at rest. correctives: (M, 3, 135), or (0, 3, 135) without. joints,
    weights: (M, S), of the skinning. bones: (16, 3) and bone_shapes: (16, 3, 10), the joints at rest.
    parents, axes, first: of the joints' tree, as in `Bones`, with three angles for every joint.
    """

    template: np.ndarray
    shapes: np.ndarray
    correctives: np.ndarray
    joints: np.ndarray
    weights: np.ndarray
    bones: np.ndarray
    bone_shapes: np.ndarray
    parents: np.ndarray
    axes: np.ndarray
    first: np.ndarray


class HandPlace(NamedTuple):
    """One hand. rotation: (3, 3). wrist: (3,), m. pose: (45,), rad. betas: (10,)."""

    rotation: np.ndarray
    wrist: np.ndarray
    pose: np.ndarray
    betas: np.ndarray


class Mixed(NamedTuple):
    """P points, each a mean of three of a `Carrier`. corners: (P, 3) int64. shares: (P, 3), adding up to 1."""

    corners: np.ndarray
    shares: np.ndarray


def carrier_of(model: HandModel, vertex_ids: Sequence[int] | np.ndarray, with_joints: bool = False) -> Carrier:
    """Chosen vertices of a full hand model, then, if wanted, its 16 joints."""
    arrays, ids = model.arrays, np.asarray(vertex_ids, np.int64)
    bones, bone_shapes = arrays.J_regressor @ arrays.v_template, np.einsum(
        "jv,vck->jck", arrays.J_regressor, arrays.shapedirs
    )  # fmt: skip
    weights = arrays.weights[ids] / arrays.weights[ids].sum(axis=1, keepdims=True)
    template, shapes, correctives = arrays.v_template[ids], arrays.shapedirs[ids], arrays.posedirs[ids]
    if with_joints:
        template, shapes = np.concatenate([template, bones]), np.concatenate([shapes, bone_shapes])
        weights = np.concatenate([weights, np.eye(NUM_JOINTS)])
        correctives = np.concatenate([correctives, np.zeros((NUM_JOINTS, *correctives.shape[1:]))])
    most = int((weights > 0).sum(axis=1).max()) if len(weights) else 1
    chosen = np.argsort(-weights, axis=1, kind="stable")[:, :most]
    return Carrier(
        np.ascontiguousarray(template, np.float64),
        np.ascontiguousarray(shapes, np.float64),
        np.ascontiguousarray(correctives if arrays.posedirs.any() else correctives[:0], np.float64),
        np.ascontiguousarray(chosen, np.int64),
        np.ascontiguousarray(np.take_along_axis(weights, chosen, axis=1), np.float64),
        np.ascontiguousarray(bones, np.float64),
        np.ascontiguousarray(bone_shapes, np.float64),
        np.array(PARENTS, np.int64),
        np.tile(np.eye(3), (NUM_JOINTS - 1, 1)),
        np.concatenate([[0], 3 * np.arange(NUM_JOINTS)]).astype(np.int64),
    )


def anchor_points(model: HandModel) -> tuple[Carrier, Mixed]:
    """The 32 anchors of a hand."""
    anchors = anchors_of(model)
    shares = np.concatenate([1 - anchors.weights.sum(axis=1, keepdims=True), anchors.weights], axis=1)
    return carrier_of(model, anchors.faces.ravel()), Mixed(np.arange(anchors.faces.size).reshape(-1, 3), shares)


def keypoints_and_anchors(model: HandModel) -> tuple[Carrier, Mixed]:
    """The 21 keypoints, then the 32 anchors: what CHOIR's keypoint baseline tells of a hand."""
    anchors = anchors_of(model)
    carrier = carrier_of(model, [*anchors.faces.ravel(), *_TIPS], with_joints=True)
    count = anchors.faces.size
    rows = _keypoint_rows(count)
    _, own = anchor_points(model)
    whole = np.zeros((len(rows), 3))
    whole[:, 0] = 1.0
    return carrier, Mixed(
        np.concatenate([np.repeat(rows[:, None], 3, axis=1), own.corners]), np.concatenate([whole, own.shares])
    )


def _keypoint_rows(count: int) -> np.ndarray:
    """(21,): of the keypoints in a carrier of `count` points, then the tips, then the joints."""
    # `KEYPOINT_ORDER` counts joints first.
    rows = np.concatenate([count + len(_TIPS) + np.arange(NUM_JOINTS), count + np.arange(len(_TIPS))])
    return rows[list(KEYPOINT_ORDER)]


def with_flesh(carrier: Carrier, model: HandModel) -> tuple[Carrier, np.ndarray]:
    """A carrier of skin with the centres of the hand's spheres behind its points, and their radii (S,), m."""
    spheres = GraspHand(model).spheres
    first, second = spheres.first.numpy(), spheres.second.numpy()
    share = spheres.share.double().cpu().numpy()
    keypoints, rows = carrier_of(model, _TIPS, with_joints=True), _keypoint_rows(0)
    # Each lies on the bone that begins at its first keypoint, which is a joint.
    joints, weights = (np.zeros((len(first), carrier.joints.shape[1]), kind) for kind in (np.int64, np.float64))
    joints[:, 0], weights[:, 0] = np.array(KEYPOINT_ORDER)[first], 1.0
    own = carrier.correctives
    none = np.zeros((len(first) if len(own) else 0, *own.shape[1:]))

    def between(one: np.ndarray) -> np.ndarray:
        start, end = one[rows][first], one[rows][second]
        return start + (end - start) * share.reshape(-1, *[1] * (one.ndim - 1))

    found = carrier._replace(
        template=np.concatenate([carrier.template, between(keypoints.template)]),
        shapes=np.concatenate([carrier.shapes, between(keypoints.shapes)]),
        correctives=np.concatenate([own, none]),
        joints=np.concatenate([carrier.joints, joints]),
        weights=np.concatenate([carrier.weights, weights]),
    )
    return found, spheres.radius.double().cpu().numpy()


@njit(cache=True)
def pose_points(carrier: Carrier, place: HandPlace, jacobian: np.ndarray) -> np.ndarray:
    """Places (M, 3), m, of a carrier's points; derivatives are written to jacobian (M, 3, 61), if it has M rows."""
    count = len(carrier.template)
    joints = carrier.bones + _shaped(carrier.bone_shapes, place.betas)
    shaped = carrier.template + _shaped(carrier.shapes, place.betas)
    if len(carrier.correctives):
        shaped += _shaped(carrier.correctives, _pose_feature(place.pose))
    bones = Bones(joints, carrier.parents, carrier.axes, carrier.first)
    skin = Skin(shaped, shaped, carrier.joints, carrier.weights)
    posed = pose_bones(place.rotation, place.wrist, place.pose, 1.0, bones)
    points = np.empty((count, 3))
    with_derivatives = len(jacobian) == count
    scratch = np.zeros((3, 7 + NUM_POSE))
    for v in range(count):
        scratch[:] = 0.0
        points[v] = skinned_point(posed, bones, skin, v, scratch, with_derivatives)
        if with_derivatives:
            jacobian[v, :, :BETAS] = scratch[:, :BETAS]
    if with_derivatives:
        _write_shape_derivatives(carrier, posed, jacobian)
    return points


@njit(cache=True)
def _shaped(directions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(M, 3): directions (M, 3, N) times values (N,)."""
    count = len(directions)
    flat = np.ascontiguousarray(directions).reshape(3 * count, directions.shape[2])
    return (flat @ values).reshape(count, 3)


@njit(cache=True)
def _pose_feature(pose: np.ndarray) -> np.ndarray:
    """(135,): what pose correctives are multiplied with."""
    feature = np.empty(9 * (NUM_JOINTS - 1))
    for j in range(NUM_JOINTS - 1):
        turned = exponential(pose[3 * j : 3 * j + 3]) - np.eye(3)
        feature[9 * j : 9 * j + 9] = turned.ravel()
    return feature


@njit(cache=True)
def _write_shape_derivatives(carrier: Carrier, posed: PosedBones, jacobian: np.ndarray) -> None:
    """The last ten columns: how joints move with the shape, down the tree from the wrist, which stays, and the skin."""
    carried = np.zeros((NUM_JOINTS, 3, NUM_BETAS))
    for j in range(1, NUM_JOINTS):
        parent = carrier.parents[j]
        carried[j] = carried[parent] + posed.turned[parent] @ (carrier.bone_shapes[j] - carrier.bone_shapes[parent])
    jacobian[:, :, BETAS:] = 0.0
    for v in range(len(carrier.template)):
        for s in range(carrier.joints.shape[1]):
            weight, j = carrier.weights[v, s], carrier.joints[v, s]
            if weight == 0.0:
                continue
            for k in range(NUM_BETAS):
                x = carrier.shapes[v, 0, k] - carrier.bone_shapes[j, 0, k]
                y = carrier.shapes[v, 1, k] - carrier.bone_shapes[j, 1, k]
                z = carrier.shapes[v, 2, k] - carrier.bone_shapes[j, 2, k]
                for c in range(3):
                    turned = posed.turned[j, c, 0] * x + posed.turned[j, c, 1] * y + posed.turned[j, c, 2] * z
                    jacobian[v, c, BETAS + k] += weight * (carried[j, c, k] + turned)


@njit(cache=True)
def mix_points(mixed: Mixed, points: np.ndarray) -> np.ndarray:
    """Places (P, 3) of the means of points (M, 3)."""
    result = np.zeros((len(mixed.corners), 3))
    for p in range(len(mixed.corners)):
        for k in range(3):
            result[p] += mixed.shares[p, k] * points[mixed.corners[p, k]]
    return result


@njit(cache=True)
def mix_derivatives(mixed: Mixed, jacobian: np.ndarray) -> np.ndarray:
    """Derivatives (P, 3, D) of the means, of those (M, 3, D) of the points."""
    result = np.zeros((len(mixed.corners), jacobian.shape[1], jacobian.shape[2]))
    for p in range(len(mixed.corners)):
        for k in range(3):
            if mixed.shares[p, k] != 0.0:
                result[p] += mixed.shares[p, k] * jacobian[mixed.corners[p, k]]
    return result
