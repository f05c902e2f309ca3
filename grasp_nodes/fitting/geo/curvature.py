"""Gauss-Newton's second derivatives of GeO's energy, with the hand's analytic Jacobian."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.geo.contact_terms import SpringContact
from grasp_nodes.fitting.geo.energy import GraspingEnergy, GraspShift
from grasp_nodes.fitting.hand_kinematics import Bones, Skin, left_jacobian, pose_bones, skinned_point
from grasp_nodes.fitting.hand_skeleton import sparse_weights
from grasp_nodes.geometry.rotations import axis_angle_to_matrix
from grasp_nodes.hand.anatomy import AXIS_SOFTNESS, KNUCKLES
from grasp_nodes.hand.keypoints import PARENTS
from grasp_nodes.hand.parameters import NUM_JOINTS, NUM_POSE

_SHARPEST = 2e-3
"""rad: below that an anatomical deviation, of which the magnitude counts, is taken for this one."""


class CurvatureOfHands:
    """Approximate second derivatives of the energies of B hands.

    What pose correctives of a hand model do to the skin is left out here (not in the energy or its gradient), as is how
    the direction of forces changes: positive semi-definite matrices that cost a Jacobian.

    Args:
        energy: of B hands.
    """

    def __init__(self, energy: GraspingEnergy) -> None:
        self._energy = energy
        arrays = energy.model.arrays
        betas = energy.hands.betas.double().numpy()
        self._vertices = arrays.v_template + np.einsum("vck,bk->bvc", arrays.shapedirs, betas)
        self._joints = np.einsum("jv,bvc->bjc", arrays.J_regressor, self._vertices)
        self._skin_joints, self._skin_weights = sparse_weights(arrays.weights)
        self._axes = np.tile(np.eye(3), (NUM_JOINTS - 1, 1))
        self._first = np.concatenate([[0], 3 * np.arange(NUM_JOINTS)]).astype(np.int64)
        if not isinstance(energy.contact, SpringContact):
            raise InputError("GeO: Gauss-Newton needs springs; the heuristics of contact are for Adam alone")
        self._springs = energy.contact
        anchors = self._springs.anchors
        self._corners = np.concatenate([1 - anchors.weights.sum(axis=1, keepdims=True), anchors.weights], axis=1)
        self._faces = anchors.faces
        self._normals = np.zeros((len(self._vertices[0]), 3))

    def __call__(self, at: GraspShift, at_object: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Second derivatives in turn, shift, pose and, where the object moves, its turn and shift.

        Args:
            at: of R hands. at_object: (R, V, 3), m, their vertices in the object's frame. rows: (R,), of the batch.

        Returns:
            (R, D, D), D = 51 or 57.
        """
        return np.stack([self._of(int(row), at, k, at_object[k]) for k, row in enumerate(rows)])

    def jacobian(self, row: int, at: GraspShift, k: int) -> np.ndarray:
        """(V, 3, 51): vertices of hand `row` of the batch by turn, shift and pose, at the k-th of `at`."""
        energy = self._energy
        turn = at.turn[k].double().numpy()
        rotation = axis_angle_to_matrix(at.turn[k].double()).numpy() @ energy.orient[row].double().numpy()
        place = energy.wrist[row].double().numpy() + at.shift[k].double().numpy()
        bones = Bones(self._joints[row], np.array(PARENTS, np.int64), self._axes, self._first)
        skin = Skin(self._vertices[row], self._normals, self._skin_joints, self._skin_weights)
        scale = float(energy.hands.scale[row])
        result = _jacobian(rotation, place, at.pose[k].double().numpy(), scale, bones, skin)[:, :, :-1]
        result[:, :, :3] = result[:, :, :3] @ left_jacobian(turn)
        return result

    def _of(self, row: int, at: GraspShift, k: int, at_object: np.ndarray) -> np.ndarray:
        settings = self._energy.settings
        unit = settings.length
        jacobian = self.jacobian(row, at, k)
        hand = 6 + NUM_POSE
        size = hand + 6 if settings.move_object else hand
        # The offset first: it holds hand and object each by itself.
        flat = jacobian.reshape(-1, hand)
        result = np.zeros((size, size))
        result[:hand, :hand] = 2 * settings.offset / unit**2 / len(jacobian) * (flat.T @ flat)
        back = np.eye(3)
        if settings.move_object:
            back, jacobian = self._of_object(at, k, at_object, jacobian, result)
        stiffness = self._springs.attraction.stiffness[row].double().numpy() * settings.attraction / unit**2
        own = np.flatnonzero(stiffness)
        anchors = np.einsum("ak,akcd->acd", self._corners[own], jacobian[self._faces[own]])
        flat = (np.sqrt(stiffness[own])[:, None, None] * anchors).reshape(-1, size)
        result += flat.T @ flat
        if self._springs.repulsion is not None:
            bend = self._springs.repulsion.derivatives(at_object[None]).hessian[0] / unit
            near = np.flatnonzero(bend.any(axis=(1, 2)))
            chosen = jacobian[near]
            bent = (back @ bend[near] @ back.T) @ chosen
            result += chosen.reshape(-1, size).T @ bent.reshape(-1, size)
        result[6:hand, 6:hand] += self._of_anatomy(at.pose[k])
        return result

    def _of_object(
        self, at: GraspShift, k: int, at_object: np.ndarray, jacobian: np.ndarray, result: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turn of the object, and the Jacobian of what the object sees of the hand, in axes that do not turn."""
        energy, settings = self._energy, self._energy.settings
        back = axis_angle_to_matrix(at.object_turn[k].double()).numpy()
        own = left_jacobian(at.object_turn[k].double().numpy())
        away = (at_object - energy.centre.double().numpy()) @ back.T
        cross = np.zeros((len(away), 3, 3))
        cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -away[:, 2], away[:, 1], -away[:, 0]
        cross[:, 1, 0], cross[:, 2, 0], cross[:, 2, 1] = away[:, 2], -away[:, 1], away[:, 0]
        shift = np.broadcast_to(-np.eye(3), cross.shape)
        held = 2 * settings.offset / settings.length**2
        spread = back @ energy.spread.double().numpy() @ back.T
        result[-6:-3, -6:-3] += held * own.T @ (np.trace(spread) * np.eye(3) - spread) @ own
        result[-3:, -3:] += held * np.eye(3)
        return back, np.concatenate([jacobian, cross @ own, shift], axis=2)

    def _of_anatomy(self, pose: torch.Tensor) -> np.ndarray:
        """(45, 45): of |x| about x0 that of x^2 / (2 |x0|), which is nowhere below it."""
        anatomy, weight = self._energy.anatomy, self._energy.settings.anatomy
        local = np.einsum("jca,jc->ja", anatomy.frames, pose.double().numpy().reshape(-1, 3))
        angle = np.sqrt((local**2).sum(axis=1, keepdims=True) + AXIS_SOFTNESS**2)
        strength = weight / (angle * np.maximum(np.abs(local), _SHARPEST))
        strength[:, 2] = 0.0
        strength[[joint - 1 for joint in KNUCKLES], 1] = 0.0
        result = np.zeros((NUM_POSE, NUM_POSE))
        for joint in range(NUM_JOINTS - 1):
            frame = anatomy.frames[joint]
            part = slice(3 * joint, 3 * joint + 3)
            result[part, part] = (frame * strength[joint]) @ frame.T
        return result


@njit(cache=True)
def _jacobian(
    rotation: np.ndarray, wrist: np.ndarray, pose: np.ndarray, scale: float, bones: Bones, skin: Skin
) -> np.ndarray:
    posed = pose_bones(rotation, wrist, pose, scale, bones)
    result = np.zeros((len(skin.vertices), 3, 7 + len(pose)))
    for v in range(len(skin.vertices)):
        skinned_point(posed, bones, skin, v, result[v], True)
    return result
