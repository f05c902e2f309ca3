"""The hand model: MANO parameters to vertices, joints, keypoints and joint frames by linear blend skinning.

Romero, Tzionas, Black: "Embodied Hands", SIGGRAPH Asia 2017 (MANO), after SMPL (Loper et al. 2015). Written for speed
on a few CPU threads: shape and pose correctives are one matrix product, the joint tree is three batched levels, and
vertices are kept as coordinate planes (B, 3, V) until the end, which keeps every large operation contiguous.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import axis_angle_to_matrix
from grasp_nodes.hand.arrays import HandArrays
from grasp_nodes.hand.keypoints import FINGERS, JOINT_NAMES, KEYPOINT_NAMES, KEYPOINT_ORDER, PARENTS, TIP_VERTICES
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_JOINTS, NUM_POSE, HandOutput, HandParams, Side
from grasp_nodes.hand.skinning import blend_skin


class HandModel(torch.nn.Module):
    """Batched, differentiable hand of one side; all of it moves with ``.to``.

    faces: (F, 3) int64. hands_mean: (45,) and hands_components: (45, 45), rad. side, model_id, fingerprint: which hand
    this is; grasps of two models are not exchangeable, so save the fingerprint with them.
    """

    faces: Tensor
    parents: Tensor
    hands_mean: Tensor
    hands_components: Tensor
    _joint_template: Tensor
    _joint_shapes: Tensor
    _template: Tensor
    _basis: Tensor
    _weights: Tensor
    _keypoint_order: Tensor

    def __init__(
        self, arrays: HandArrays, dtype: torch.dtype = torch.float32, vertex_ids: Sequence[int] | None = None
    ) -> None:
        """Lay out the arrays for speed.

        Args:
            arrays: the hand.
            dtype: float32 or float64.
            vertex_ids: compute only these vertices (in this order); None = all.
        """
        super().__init__()
        self.arrays = arrays
        self.side: Side = arrays.side
        self.model_id = arrays.model_id
        self.fingerprint = arrays.fingerprint
        self.joint_names = JOINT_NAMES
        self.keypoint_names = KEYPOINT_NAMES
        every = range(len(arrays.v_template))
        chosen = list(every if vertex_ids is None else vertex_ids)
        if any(i not in every for i in chosen):
            raise InputError(f"vertex ids: expected 0..{len(every) - 1}, got {min(chosen)}..{max(chosen)}")
        tips = [TIP_VERTICES[finger] for finger in FINGERS]
        # Keypoints need the tips: a full hand has them, a sub-set carries them behind its own vertices.
        self.num_vertices = len(chosen)
        self._tip_rows = tips if vertex_ids is None else list(range(len(chosen), len(chosen) + len(tips)))
        rows = np.array(chosen if vertex_ids is None else [*chosen, *tips], np.int64)

        def buffer(name: str, value: np.ndarray) -> None:
            self.register_buffer(name, torch.tensor(np.ascontiguousarray(value), dtype=dtype), persistent=False)

        joint_shapes = np.einsum("jv,vck->kjc", arrays.J_regressor, arrays.shapedirs)
        buffer("_joint_template", arrays.J_regressor @ arrays.v_template)
        buffer("_joint_shapes", joint_shapes.reshape(NUM_BETAS, -1))
        buffer("_template", arrays.v_template[rows].T.reshape(-1))
        # A hand without pose correctives (the open hand) skips them and most of the product.
        directions = (
            [arrays.shapedirs[rows], arrays.posedirs[rows]] if arrays.posedirs.any() else [arrays.shapedirs[rows]]
        )
        self._posed_correctives = len(directions) == 2
        buffer("_basis", np.concatenate(directions, 2).transpose(2, 1, 0).reshape(-1, 3 * len(rows)))
        weights = arrays.weights[rows] / arrays.weights[rows].sum(1, keepdims=True)  # exactly 1, see `forward`
        buffer("_weights", weights.T)
        buffer("hands_mean", arrays.hands_mean)
        buffer("hands_components", arrays.hands_components)
        faces = arrays.faces if vertex_ids is None else _faces_within(arrays.faces, chosen)
        self.register_buffer("faces", torch.from_numpy(faces.copy()), persistent=False)
        self.register_buffer("parents", torch.tensor(PARENTS), persistent=False)
        self.register_buffer("_keypoint_order", torch.tensor(KEYPOINT_ORDER), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters that it takes."""
        return self._template.dtype

    @property
    def device(self) -> torch.device:
        """Of the parameters that it takes."""
        return self._template.device

    def forward(self, params: HandParams) -> HandOutput:
        """Pose hands.

        vertices = scale * LBS(global_orient, hand_pose, betas) + transl; the wrist joint of the shaped hand stays where
        it is under global_orient.

        Args:
            params: B hands of this model's side, dtype and device.

        Returns:
            Posed hands in the frame of `params.transl`.

        Raises:
            InputError: another side, dtype or device.
        """
        self._check(params)
        batch = len(params)
        rotations, rest_joints = self._rotations(params), self.rest_joints(params.betas)
        turned, placed = _chain(rotations, rest_joints)
        offset = placed - (turned @ rest_joints[..., None])[..., 0]
        scale = params.scale[:, None, None]
        # Scale and translation ride on the 16 small transforms (weights sum to 1) instead of on every vertex.
        turned_scaled = turned * scale[..., None]
        offset = offset * scale + params.transl[:, None]

        coefficients = params.betas
        if self._posed_correctives:
            features = rotations[:, 1:] - torch.eye(3, dtype=self.dtype, device=self.device)
            coefficients = torch.cat([coefficients, features.reshape(batch, -1)], 1)
        shaped = torch.addmm(self._template, coefficients, self._basis).view(batch, 3, -1)
        vertices = blend_skin(turned_scaled, offset, shaped, self._weights)

        placed = placed * scale + params.transl[:, None]
        with_tips = torch.cat([placed, vertices[:, self._tip_rows]], 1)
        return HandOutput(
            vertices=vertices[:, : self.num_vertices] if vertices.shape[1] > self.num_vertices else vertices,
            joints=placed,
            keypoints=with_tips.index_select(1, self._keypoint_order),
            joint_frames=_frames(turned, placed),
        )

    def joints(self, params: HandParams) -> tuple[Tensor, Tensor]:
        """Joints and their frames without any vertex: a few per cent of the full cost.

        Returns:
            joints (B, 16, 3), m, and joint_frames (B, 16, 4, 4), as in `HandOutput`.
        """
        self._check(params)
        turned, placed = _chain(self._rotations(params), self.rest_joints(params.betas))
        placed = placed * params.scale[:, None, None] + params.transl[:, None]
        return placed, _frames(turned, placed)

    def rest_joints(self, betas: Tensor) -> Tensor:
        """Joints (B, 16, 3), m, of hands at the origin without any pose, of shapes (B, 10)."""
        return self._joint_template + (betas @ self._joint_shapes).view(-1, NUM_JOINTS, 3)

    def pose_from_pca(self, coefficients: Tensor) -> Tensor:
        """Hand pose of PCA coefficients.

        Args:
            coefficients: (B, n), n <= 45, along the first n components.

        Returns:
            (B, 45), rad, full rotations (the mean pose is added).
        """
        if coefficients.ndim != 2 or coefficients.shape[1] > NUM_POSE:
            raise InputError(f"PCA coefficients: expected shape (B, n <= {NUM_POSE}), got {tuple(coefficients.shape)}")
        return self.hands_mean + coefficients @ self.hands_components[: coefficients.shape[1]]

    def vertex_subset(self, vertex_ids: Sequence[int]) -> HandModel:
        """The same hand computing only these vertices (and, for the keypoints, the tips); `faces` are those within.

        Args:
            vertex_ids: ids of the full hand, repeats allowed; empty for joints and keypoints only.
        """
        if self.num_vertices != len(self.arrays.v_template):
            raise InputError("vertex_subset: take the sub-set of the full hand, this model is a sub-set already")
        ids = [int(i) for i in vertex_ids]
        return HandModel(self.arrays, self.dtype, ids).to(self.device)

    def _check(self, params: HandParams) -> None:
        if params.side != self.side:
            raise InputError(f"side: this is a {self.side} hand model, the parameters are of a {params.side} hand")
        if params.betas.dtype != self.dtype or params.betas.device != self.device:
            raise InputError(
                f"parameters are {params.betas.dtype} on {params.betas.device}, the hand model is {self.dtype} on "
                f"{self.device}: convert one of them with .to(...)"
            )

    def _rotations(self, params: HandParams) -> Tensor:
        pose = torch.cat([params.global_orient, params.hand_pose], 1)
        return axis_angle_to_matrix(pose.view(len(params), NUM_JOINTS, 3))


def _chain(rotations: Tensor, rest_joints: Tensor) -> tuple[Tensor, Tensor]:
    """Forward kinematics of five chains of three below the wrist.

    Args:
        rotations: (B, 16, 3, 3) of each joint relative to its parent. rest_joints: (B, 16, 3), m.

    Returns:
        (B, 16, 3, 3) and (B, 16, 3): orientation and position of each joint.
    """
    batch = len(rotations)
    wrist = rest_joints[:, :1]
    fingers = rest_joints[:, 1:].view(batch, 5, 3, 3)
    bones = torch.cat([fingers[:, :, :1] - wrist[:, :, None], fingers[:, :, 1:] - fingers[:, :, :-1]], 2)
    local = torch.cat([rotations[:, 1:].view(batch, 5, 3, 3, 3), bones[..., None]], 4)
    orientation, position = rotations[:, :1], wrist
    turned, placed = [], []
    for step in local.unbind(2):
        moved = orientation @ step  # (B, 5, 3, 4): the next joint's orientation and the way to it
        orientation, position = moved[..., :3], position + moved[..., 3]
        turned.append(orientation)
        placed.append(position)
    return (
        torch.cat([rotations[:, :1], torch.stack(turned, 2).view(batch, 15, 3, 3)], 1),
        torch.cat([wrist, torch.stack(placed, 2).view(batch, 15, 3)], 1),
    )


def _frames(turned: Tensor, placed: Tensor) -> Tensor:
    """(B, 16, 4, 4) out of orientations and positions."""
    frames = torch.nn.functional.pad(torch.cat([turned, placed[..., None]], 3), (0, 0, 0, 1))
    frames[..., 3, 3] = 1
    return frames


def _faces_within(faces: np.ndarray, vertex_ids: Sequence[int]) -> np.ndarray:
    """Faces whose three vertices are all among `vertex_ids`, in the sub-set's numbering."""
    row = np.full(int(faces.max()) + 1, -1, np.int64)
    row[list(vertex_ids)[::-1]] = np.arange(len(vertex_ids))[::-1]  # the first of repeated ids counts
    mapped = row[faces]
    return mapped[(mapped >= 0).all(1)]
