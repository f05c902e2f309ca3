"""Forward kinematics of a hand with every derivative written out, compiled.

Unknowns, in this order: turn of the hand about its wrist (3, rad, camera axes, applied from the left), wrist (3, m),
angles (D, rad), logarithm of the scale (1).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from grasp_nodes.fitting.hand_skeleton import HandSkeleton

WRIST, ANGLES = 3, 6
"""First places of the wrist and of the angles among the unknowns; the scale is the last one."""


class HandConfiguration(NamedTuple):
    """rotation: (3, 3), rest axes to camera axes. wrist: (3,), m, camera frame. angles: (D,), rad. scale: unitless."""

    rotation: np.ndarray
    wrist: np.ndarray
    angles: np.ndarray
    scale: float = 1.0


class Bones(NamedTuple):
    """The joints' tree and the axes of the angles, as in `HandSkeleton`."""

    joints: np.ndarray
    parents: np.ndarray
    axes: np.ndarray
    first: np.ndarray


class Skin(NamedTuple):
    """Rest vertices, normals and sparse skinning weights, as in `HandSkeleton`."""

    vertices: np.ndarray
    normals: np.ndarray
    joints: np.ndarray
    weights: np.ndarray


class PosedBones(NamedTuple):
    """Camera frame: orientation (16, 3, 3) and place (16, 3) of the joints, axes (D, 3) of the angles, wrist, scale."""

    turned: np.ndarray
    placed: np.ndarray
    axes: np.ndarray
    scale: float


def bones_of(skeleton: HandSkeleton) -> Bones:
    """The skeleton's tree for compiled code."""
    return Bones(skeleton.joints, skeleton.parents, skeleton.dofs.axes, skeleton.dofs.first)


def skin_of(skeleton: HandSkeleton) -> Skin:
    """The skeleton's skin for compiled code."""
    return Skin(skeleton.vertices, skeleton.normals, skeleton.skin_joints, skeleton.skin_weights)


def keypoint_jacobian(
    skeleton: HandSkeleton, configuration: HandConfiguration, landmarks: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints and their derivatives.

    Args:
        skeleton: the hand.
        configuration: its place and angles.
        landmarks: the points that the landmark network marks, instead of the model's keypoints.

    Returns:
        (21, 3), m, camera frame, and (21, 3, 7 + D).
    """
    local = skeleton.landmark_local if landmarks else skeleton.keypoint_local
    posed = pose_bones(
        configuration.rotation, configuration.wrist, configuration.angles, configuration.scale, bones_of(skeleton)
    )
    return _keypoint_jacobian(posed, bones_of(skeleton), skeleton.keypoint_joint, local)


def pose_keypoints(skeleton: HandSkeleton, configuration: HandConfiguration, landmarks: bool = False) -> np.ndarray:
    """(21, 3), m, camera frame: the model's keypoints, or the points that the landmark network marks."""
    return keypoint_jacobian(skeleton, configuration, landmarks)[0]


def pose_vertices(skeleton: HandSkeleton, configuration: HandConfiguration) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3), m, and unit normals (V, 3), camera frame."""
    posed = pose_bones(
        configuration.rotation, configuration.wrist, configuration.angles, configuration.scale, bones_of(skeleton)
    )
    return _pose_vertices(posed, skeleton.joints, skin_of(skeleton))


def vertex_jacobian(
    skeleton: HandSkeleton, configuration: HandConfiguration, vertex: int
) -> tuple[np.ndarray, np.ndarray]:
    """One vertex (3,), m, camera frame, and its derivatives (3, 7 + D)."""
    bones = bones_of(skeleton)
    posed = pose_bones(configuration.rotation, configuration.wrist, configuration.angles, configuration.scale, bones)
    jacobian = np.zeros((3, 7 + skeleton.num_dofs))
    return skinned_point(posed, bones, skin_of(skeleton), vertex, jacobian, True), jacobian


@njit(cache=True)
def exponential(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix of an axis-angle vector (3,), Rodrigues' formula."""
    angle = math.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
    first, second = 1.0 - angle**2 / 6.0, 0.5 - angle**2 / 24.0
    if angle > 1e-4:
        first, second = math.sin(angle) / angle, (1.0 - math.cos(angle)) / angle**2
    cross = _cross_matrix(vector)
    return np.eye(3) + first * cross + second * (cross @ cross)


@njit(cache=True)
def left_jacobian(vector: np.ndarray) -> np.ndarray:
    """J with exp(v + dv) = exp(J dv) exp(v)."""
    angle = math.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
    second, third = 0.5 - angle**2 / 24.0, 1.0 / 6.0 - angle**2 / 120.0
    if angle > 1e-3:
        second, third = (1.0 - math.cos(angle)) / angle**2, (angle - math.sin(angle)) / angle**3
    cross = _cross_matrix(vector)
    return np.eye(3) + second * cross + third * (cross @ cross)


@njit(cache=True)
def _cross_matrix(vector: np.ndarray) -> np.ndarray:
    matrix = np.zeros((3, 3))
    matrix[0, 1], matrix[0, 2], matrix[1, 2] = -vector[2], vector[1], -vector[0]
    matrix[1, 0], matrix[2, 0], matrix[2, 1] = vector[2], -vector[1], vector[0]
    return matrix


@njit(cache=True)
def pose_bones(rotation: np.ndarray, wrist: np.ndarray, angles: np.ndarray, scale: float, bones: Bones) -> PosedBones:
    """Orientations and places of all joints, and the axes about which the angles turn."""
    count = len(bones.joints)
    turned, placed, axes = np.empty((count, 3, 3)), np.empty((count, 3)), np.empty(bones.axes.shape)
    turned[0], placed[0] = rotation, wrist
    vector = np.zeros(3)
    for j in range(1, count):
        parent = bones.parents[j]
        vector[:] = 0.0
        for i in range(bones.first[j], bones.first[j + 1]):
            vector += angles[i] * bones.axes[i]
        turned[j] = turned[parent] @ exponential(vector)
        placed[j] = placed[parent] + scale * (turned[parent] @ (bones.joints[j] - bones.joints[parent]))
        outward = turned[parent] @ left_jacobian(vector)
        for i in range(bones.first[j], bones.first[j + 1]):
            axes[i] = outward @ bones.axes[i]
    return PosedBones(turned, placed, axes, scale)


@njit(cache=True)
def add_point_jacobian(
    jacobian: np.ndarray, weight: float, joint: int, point: np.ndarray, posed: PosedBones, bones: Bones
) -> None:
    """Add, times a weight, the derivatives (3, 7 + D) of a point (3,) that a joint carries."""
    x, y, z = point[0] - posed.placed[0, 0], point[1] - posed.placed[0, 1], point[2] - posed.placed[0, 2]
    last = jacobian.shape[1] - 1
    jacobian[0, 1] += weight * z
    jacobian[0, 2] -= weight * y
    jacobian[1, 0] -= weight * z
    jacobian[1, 2] += weight * x
    jacobian[2, 0] += weight * y
    jacobian[2, 1] -= weight * x
    for k in range(3):
        jacobian[k, WRIST + k] += weight
    jacobian[0, last] += weight * x
    jacobian[1, last] += weight * y
    jacobian[2, last] += weight * z
    j = joint
    while j > 0:
        ax, ay, az = point[0] - posed.placed[j, 0], point[1] - posed.placed[j, 1], point[2] - posed.placed[j, 2]
        for i in range(bones.first[j], bones.first[j + 1]):
            wx, wy, wz = posed.axes[i, 0], posed.axes[i, 1], posed.axes[i, 2]
            jacobian[0, ANGLES + i] += weight * (wy * az - wz * ay)
            jacobian[1, ANGLES + i] += weight * (wz * ax - wx * az)
            jacobian[2, ANGLES + i] += weight * (wx * ay - wy * ax)
        j = bones.parents[j]


@njit(cache=True)
def skinned_point(
    posed: PosedBones, bones: Bones, skin: Skin, vertex: int, jacobian: np.ndarray, with_derivatives: bool
) -> np.ndarray:
    """Place (3,) of a vertex by linear blend skinning; its derivatives are added to `jacobian` (3, 7 + D)."""
    # Written out by component: this runs for hundreds of vertices per step, and small arrays would dominate its time.
    point, carried = np.zeros(3), np.empty(3)
    for s in range(skin.joints.shape[1]):
        weight = skin.weights[vertex, s]
        if weight > 0.0:
            j = skin.joints[vertex, s]
            x = skin.vertices[vertex, 0] - bones.joints[j, 0]
            y = skin.vertices[vertex, 1] - bones.joints[j, 1]
            z = skin.vertices[vertex, 2] - bones.joints[j, 2]
            for a in range(3):
                turned = posed.turned[j, a, 0] * x + posed.turned[j, a, 1] * y + posed.turned[j, a, 2] * z
                carried[a] = posed.placed[j, a] + posed.scale * turned
                point[a] += weight * carried[a]
            if with_derivatives:
                add_point_jacobian(jacobian, weight, j, carried, posed, bones)
    return point


@njit(cache=True)
def _keypoint_jacobian(
    posed: PosedBones, bones: Bones, carrier: np.ndarray, local: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    points = np.empty((len(carrier), 3))
    jacobian = np.zeros((len(carrier), 3, 7 + len(posed.axes)))
    for k in range(len(carrier)):
        j = carrier[k]
        points[k] = posed.placed[j] + posed.scale * (posed.turned[j] @ local[k])
        add_point_jacobian(jacobian[k], 1.0, j, points[k], posed, bones)
    return points, jacobian


@njit(cache=True)
def _pose_vertices(posed: PosedBones, joints: np.ndarray, skin: Skin) -> tuple[np.ndarray, np.ndarray]:
    vertices, normals = np.zeros(skin.vertices.shape), np.zeros(skin.vertices.shape)
    offsets = np.empty((len(joints), 3))
    for j in range(len(joints)):
        offsets[j] = posed.placed[j] - posed.scale * (posed.turned[j] @ joints[j])
    for v in range(len(vertices)):
        for s in range(skin.joints.shape[1]):
            j, weight = skin.joints[v, s], skin.weights[v, s]
            if weight > 0.0:
                for a in range(3):
                    moved, turned = 0.0, 0.0
                    for b in range(3):
                        moved += posed.turned[j, a, b] * skin.vertices[v, b]
                        turned += posed.turned[j, a, b] * skin.normals[v, b]
                    vertices[v, a] += weight * (posed.scale * moved + offsets[j, a])
                    normals[v, a] += weight * turned
        normals[v] /= math.sqrt((normals[v] ** 2).sum()) + 1e-12
    return vertices, normals
