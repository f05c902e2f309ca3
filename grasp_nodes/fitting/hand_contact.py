"""What a known object says about the hand near it: no vertex lies inside, and a finger that almost touches does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_vertices
from grasp_nodes.fitting.hand_skeleton import HandSkeleton
from grasp_nodes.fitting.hand_solver import PlaneTerms, no_planes
from grasp_nodes.hand.keypoints import FINGER_JOINTS
from grasp_nodes.objects.model import ObjectModel

PENETRATION_ERROR = 0.002
"""m; how firmly vertices are pushed out."""
CONTACT_ERROR = 0.006
"""m; how firmly a finger is drawn to the surface."""
CONTACT_REACH = 0.014
"""m; a finger farther away is not drawn."""
PENETRATION_REACH = 0.02
"""m; a vertex deeper inside says that one of the poses is wrong, not which way is out."""
PENETRATION_VOTES = 40.0
TOUCHING_FINGERS = 2
"""Fingers that have to be near before any is drawn: a hand that passes by is not a grasp."""


@dataclass(frozen=True)
class ObjectSurface:
    """An object where it is now. T_camera_object: (4, 4), m."""

    model: ObjectModel
    T_camera_object: np.ndarray


def contact_terms(skeleton: HandSkeleton, configuration: HandConfiguration, surface: ObjectSurface) -> PlaneTerms:
    """Planes that push penetrating vertices out and draw near fingers on to the surface."""
    vertices, normals = pose_vertices(skeleton, configuration)
    rotation, translation = surface.T_camera_object[:3, :3], surface.T_camera_object[:3, 3]
    distance, gradient = surface.model.signed_distance.query((vertices - translation) @ rotation)
    length = np.linalg.norm(gradient, axis=1, keepdims=True)
    outward = (gradient / np.maximum(length, 1e-9)) @ rotation.T
    inside = np.flatnonzero((distance < 0) & (distance > -PENETRATION_REACH) & ~skeleton.on_rim)
    drawn = _drawn(skeleton, distance, (normals * outward).sum(axis=1))
    ids = np.concatenate([inside, drawn])
    if not len(ids):
        return no_planes()
    push = np.sqrt(min(1.0, PENETRATION_VOTES / max(len(inside), 1))) / PENETRATION_ERROR
    weights = np.concatenate([np.full(len(inside), push), np.full(len(drawn), 1.0 / CONTACT_ERROR)])
    toward = np.ascontiguousarray(outward[ids])
    return PlaneTerms(ids, toward, (toward * vertices[ids]).sum(axis=1) - distance[ids], weights)


def _drawn(skeleton: HandSkeleton, distance: np.ndarray, facing: np.ndarray) -> np.ndarray:
    """The nearest vertex of each outer and middle phalanx, where it is near and looks at the object."""
    owner = skeleton.skin_joints[:, 0]
    chosen, fingers = [], 0
    for joints in FINGER_JOINTS.values():
        near = 0
        for joint in joints[1:]:
            candidates = np.flatnonzero((owner == joint) & (facing < -0.3))
            if len(candidates):
                best = candidates[np.argmin(distance[candidates])]
                if distance[best] < CONTACT_REACH:
                    near += 1
                    if distance[best] > 0:
                        chosen.append(best)
        fingers += near > 0
    return np.array(chosen if fingers >= TOUCHING_FINGERS else [], np.int64)
