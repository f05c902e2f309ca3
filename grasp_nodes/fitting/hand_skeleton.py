"""A hand model as the pose solver reads it: bones, anatomical degrees of freedom, landmarks and sparse skinning."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from grasp_nodes.errors import InputError
from grasp_nodes.hand.anatomy import DegreesOfFreedom, HandAnatomy, keypoints_at_rest
from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS, KEYPOINT_ORDER, PARENTS, WRIST_LOOP
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_JOINTS, NUM_KEYPOINTS, Side

OFFSETS_FILE = Path(__file__).resolve().parent / "keypoint_offsets.json"
OFFSETS_VERSION = 1
SKINNING_TERMS = 5
"""Joints per vertex that are kept; weights are scaled to sum to one."""
SMALLEST_WEIGHT = 0.02

MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class KeypointOffsets:
    """How the landmark network's points lie relative to the hand model's keypoints.

    offsets: (21, 3), m, landmark less keypoint in the axes of the keypoint's joint, right hand.
    skin_depth: (21,), m, how far the landmark lies behind the skin that the camera sees.
    """

    offsets: np.ndarray
    skin_depth: np.ndarray


def load_keypoint_offsets(path: Path = OFFSETS_FILE) -> KeypointOffsets:
    """The measured table that travels with the package.

    Raises:
        InputError: not such a table.
    """
    table = json.loads(path.read_text())
    if table.get("format") != "grasp_nodes/keypoint_offsets" or table.get("version") != OFFSETS_VERSION:
        raise InputError(
            f"{path}: expected format 'grasp_nodes/keypoint_offsets' version {OFFSETS_VERSION}, got "
            f"{table.get('format')!r} version {table.get('version')!r}"
        )
    offsets, depth = np.array(table["offsets"], np.float64), np.array(table["skin_depth"], np.float64)
    if offsets.shape != (NUM_KEYPOINTS, 3) or depth.shape != (NUM_KEYPOINTS,):
        raise InputError(f"{path}: expected offsets (21, 3) and skin_depth (21,), got {offsets.shape}, {depth.shape}")
    return KeypointOffsets(offsets, depth)


@dataclass(frozen=True)
class HandSkeleton:
    """Everything that does not change while a hand moves. D degrees of freedom, V vertices.

    joints: (16, 3), m, rest. parents: (16,). dofs: in which the fingers move.
    keypoint_joint: (21,). keypoint_local, landmark_local: (21, 3), m, in that joint's axes.
    vertices, normals: (V, 3), rest. skin_joints, skin_weights: (V, 5). on_rim: (V,) bool, beside the wrist's rim.
    """

    side: Side
    joints: np.ndarray
    parents: np.ndarray
    dofs: DegreesOfFreedom
    keypoint_joint: np.ndarray
    keypoint_local: np.ndarray
    landmark_local: np.ndarray
    skin_depth: np.ndarray
    vertices: np.ndarray
    normals: np.ndarray
    skin_joints: np.ndarray
    skin_weights: np.ndarray
    on_rim: np.ndarray

    @property
    def num_dofs(self) -> int:
        """D."""
        return len(self.dofs.names)

    @property
    def low(self) -> np.ndarray:
        """(D,), rad: least angles."""
        return self.dofs.low

    @property
    def high(self) -> np.ndarray:
        """(D,), rad: largest angles."""
        return self.dofs.high

    def hand_pose(self, values: np.ndarray) -> np.ndarray:
        """MANO's (45,) axis-angle pose of (D,) angles, rad."""
        return self.dofs.pose(values)

    def angles(
        self, fingers: tuple[float, float, float], thumb: tuple[float, float, float, float, float]
    ) -> np.ndarray:
        """(D,) rad of one posture.

        Args:
            fingers: three bends of each finger, deg.
            thumb: three bends, spread and twist, deg.
        """
        return self.dofs.uniform(fingers, thumb)


def make_hand_skeleton(
    model: HandModel, offsets: KeypointOffsets | None = None, betas: np.ndarray | None = None
) -> HandSkeleton:
    """Lay a hand model out for the solver.

    Args:
        model: the full hand of one side. Its pose correctives, where it has any, are not followed by the solver.
        offsets: of the landmark network; None = the package's table.
        betas: (10,), the hand's shape; None = zeros.
    """
    offsets = offsets or load_keypoint_offsets()
    arrays = model.arrays
    shape = np.zeros(NUM_BETAS) if betas is None else np.asarray(betas, np.float64)
    vertices = arrays.v_template + arrays.shapedirs @ shape
    joints = arrays.J_regressor @ vertices
    mirror = MIRROR if model.side == "left" else np.ones(3)
    anatomy = HandAnatomy.of_keypoints(keypoints_at_rest(joints, vertices), model.side)
    keypoint_joint, keypoint_local = _keypoints(joints, vertices)
    skin_joints, skin_weights = sparse_weights(arrays.weights)
    return HandSkeleton(
        side=model.side,
        joints=np.ascontiguousarray(joints),
        parents=np.array(PARENTS, np.int64),
        dofs=DegreesOfFreedom.of_anatomy(anatomy),
        keypoint_joint=keypoint_joint,
        keypoint_local=keypoint_local,
        landmark_local=np.ascontiguousarray(keypoint_local + offsets.offsets * mirror),
        skin_depth=offsets.skin_depth,
        vertices=np.ascontiguousarray(vertices),
        normals=_vertex_normals(vertices, arrays.faces),
        skin_joints=skin_joints,
        skin_weights=skin_weights,
        on_rim=_near_rim(arrays.faces, len(vertices)),
    )


def _keypoints(joints: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joint that carries each of the 21 keypoints, and where it lies in that joint's axes."""
    last = [FINGER_JOINTS[finger][-1] for finger in FINGERS]
    carrier = np.array([*range(NUM_JOINTS), *last], np.int64)[list(KEYPOINT_ORDER)]
    return carrier, np.ascontiguousarray(keypoints_at_rest(joints, vertices) - joints[carrier])


def sparse_weights(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The joints that carry each vertex most, and how much, from skinning weights (V, 16).

    Returns:
        (V, SKINNING_TERMS) int64, joints; (V, SKINNING_TERMS), their weights, which sum to one.
    """
    chosen = np.argsort(-weights, axis=1, kind="stable")[:, :SKINNING_TERMS]
    kept = np.take_along_axis(weights, chosen, axis=1)
    kept = np.where(kept < SMALLEST_WEIGHT, 0.0, kept)
    return chosen.astype(np.int64), np.ascontiguousarray(kept / kept.sum(axis=1, keepdims=True))


def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corners = vertices[faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, faces[:, k], area)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _near_rim(faces: np.ndarray, count: int) -> np.ndarray:
    """Vertices of the wrist's rim and the ring beside it: depth points there may belong to the forearm."""
    rim = np.zeros(count, bool)
    rim[list(WRIST_LOOP)] = True
    touching = faces[rim[faces].any(axis=1)]
    rim[touching.reshape(-1)] = True
    return rim


def dof_values(skeleton: HandSkeleton, hand_pose: torch.Tensor) -> np.ndarray:
    """(D,) rad that come nearest to a MANO pose (45,), by least squares per joint; limits are not applied."""
    return skeleton.dofs.nearest(hand_pose.detach().cpu().numpy().astype(np.float64))
