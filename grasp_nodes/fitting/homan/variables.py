"""The unknowns of a clip as one vector, and their conversion to and from tracks.

Per frame and hand: D_hand (3), R_hand as 6D (6), theta (16); per frame and object D_obj (3), R_obj as 6D (6); one
s_hand per hand track and, where scales are free, one s_obj per object track (HOMan, section 3.3). Hand vertices are
centred on the middle knuckle before ``s_hand R_hand V + D_hand``, so that D_hand is the place of that knuckle and a
change of the scale does not move the hand.

The 16 components span a part of the poses. What lies outside of it in the initial pose, the mean pose included, is kept
fixed as a remainder, ``hand_pose = remainder + theta components``, so that nothing of a good initial estimate is thrown
away; ``theta`` itself is the plain projection of the pose less the mean, which the prior ``pca`` draws to zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack
from grasp_nodes.geometry.rotations import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_rotation_6d,
    rotation_6d_to_matrix,
)
from grasp_nodes.hand.keypoints import JOINT_NAMES
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side

NUM_COMPONENTS = 16
CENTER_JOINT = JOINT_NAMES.index("middle_mcp")
SHARED = -1
"""Frame number of an unknown that belongs to all frames."""


class Kind(IntEnum):
    """What an unknown is."""

    TRANSLATION = 0
    ROTATION = 1
    PCA = 2
    SCALE = 3


@dataclass(frozen=True)
class HandUnknowns:
    """One hand track, T frames, camera frame.

    translation: (T, 3), m, the middle knuckle. rotation: (T, 3, 3). theta: (T, 16), rad. scale: (), unitless.
    """

    translation: Tensor
    rotation: Tensor
    theta: Tensor
    scale: Tensor


@dataclass(frozen=True)
class ObjectUnknowns:
    """One object track, T frames, camera frame. translation: (T, 3), m. rotation: (T, 3, 3). scale: (), unitless."""

    translation: Tensor
    rotation: Tensor
    scale: Tensor


@dataclass(frozen=True)
class _HandConstants:
    """betas: (1, 10). wrist, center: (3,), m, in the rest pose. remainder: (T, 45), rad."""

    side: Side
    betas: Tensor
    wrist: Tensor
    center: Tensor
    remainder: Tensor
    components: Tensor


class ClipVariables:
    """All unknowns of the tracks of one clip.

    initial: (N,), the vector of the tracks as they are given. kind: (N,) int64 of `Kind`. frame: (N,) int64, SHARED for
    scales. Frames of a track that are lost or whose numbers are not finite begin as the nearest other frame.
    """

    def __init__(
        self,
        hands: Sequence[HandTrack],
        objects: Sequence[ObjectTrack],
        hand_models: Mapping[Side, HandModel],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Lay out the vector.

        Args:
            hands, objects: tracks of T frames. hand_models: full models of `dtype`, by side.

        Raises:
            InputError: no track, tracks of different lengths, no model for a hand's side, or a track that is lost or
                not finite in every frame.
        """
        lengths = {len(track) for track in hands} | {len(track) for track in objects}
        if len(lengths) != 1:
            raise InputError(f"tracks: expected at least one, all of the same number of frames, got {sorted(lengths)}")
        (self.num_frames,) = lengths
        self.hands, self.objects = tuple(hands), tuple(objects)
        blocks: list[Tensor] = []
        kinds: list[tuple[Kind, int]] = []
        self._hand_constants = []
        for track in self.hands:
            constants, parts = _read_hand(track, hand_models, dtype)
            self._hand_constants.append(constants)
            blocks += parts
            kinds += [(Kind.TRANSLATION, 3), (Kind.ROTATION, 6), (Kind.PCA, NUM_COMPONENTS), (Kind.SCALE, 1)]
        for item in self.objects:
            blocks += _read_object(item, dtype)
            kinds += [(Kind.TRANSLATION, 3), (Kind.ROTATION, 6), (Kind.SCALE, 1)]
        self._sizes = [block.numel() for block in blocks]
        self.initial = torch.cat([block.reshape(-1) for block in blocks])
        self.kind = torch.cat([torch.full((n,), kind) for n, (kind, _) in zip(self._sizes, kinds, strict=True)])
        frames = torch.arange(self.num_frames)
        self.frame = torch.cat(
            [torch.tensor([SHARED]) if kind == Kind.SCALE else frames.repeat_interleave(n) for kind, n in kinds]
        )
        counts = [4] * len(self.hands) + [3] * len(self.objects)
        self.track = torch.cat(
            [
                torch.full((n,), int(k))
                for k, n in zip(np.repeat(np.arange(len(counts)), counts), self._sizes, strict=True)
            ]
        )
        """(N,) int64: the track that an unknown belongs to, hands first, then objects."""

    def read(self, vector: Tensor) -> tuple[list[HandUnknowns], list[ObjectUnknowns]]:
        """The unknowns of a vector (N,), differentiable in it."""
        parts = list(vector.split(self._sizes))
        frames = self.num_frames
        hands, objects = [], []
        for k in range(len(self.hands)):
            place, turn, theta, scale = parts[4 * k : 4 * k + 4]
            hands.append(
                HandUnknowns(
                    place.view(frames, 3),
                    rotation_6d_to_matrix(turn.view(frames, 6)),
                    theta.view(frames, NUM_COMPONENTS),
                    scale[0],
                )
            )
        start = 4 * len(self.hands)
        for k in range(len(self.objects)):
            place, turn, scale = parts[start + 3 * k : start + 3 * k + 3]
            objects.append(ObjectUnknowns(place.view(frames, 3), rotation_6d_to_matrix(turn.view(frames, 6)), scale[0]))
        return hands, objects

    def side(self, hand: int) -> Side:
        """Of one hand track."""
        return self._hand_constants[hand].side

    def betas(self, hand: int) -> np.ndarray:
        """(10,) float64, of one hand track."""
        return self._hand_constants[hand].betas[0].double().numpy()

    def local_params(self, hands: Sequence[HandUnknowns], rows: Sequence[int]) -> HandParams:
        """Hands of one side in their own frames: neither turned, moved nor scaled; the frames of each row in turn.

        Args:
            hands: as `read` gives them. rows: hand tracks, all of one side.
        """
        constants = [self._hand_constants[row] for row in rows]
        pose = torch.cat([self.hand_pose(hands[row].theta, row) for row in rows])
        betas = torch.cat([item.betas.expand(self.num_frames, -1) for item in constants])
        zeros = pose.new_zeros(len(pose), 3)
        return HandParams(zeros, pose, betas, zeros, pose.new_ones(len(pose)), constants[0].side)

    def hand_pose(self, theta: Tensor, hand: int) -> Tensor:
        """(T, 45), rad, of coefficients (T, 16)."""
        constants = self._hand_constants[hand]
        return constants.remainder + theta @ constants.components

    def center(self, hand: int) -> Tensor:
        """(3,), m: the middle knuckle in the hand's own frame, wherever its fingers are."""
        return self._hand_constants[hand].center

    @torch.no_grad()
    def hand_params(self, vector: Tensor, hand: int) -> HandParams:
        """One hand track's parameters, T frames, camera frame, detached."""
        unknowns = self.read(vector)[0][hand]
        constants = self._hand_constants[hand]
        turned = (unknowns.rotation @ (constants.center - constants.wrist)) + constants.wrist
        return HandParams(
            matrix_to_axis_angle(unknowns.rotation),
            self.hand_pose(unknowns.theta, hand),
            constants.betas.repeat(self.num_frames, 1),
            unknowns.translation - unknowns.scale * turned,
            unknowns.scale.repeat(self.num_frames),
            constants.side,
        )

    @torch.no_grad()
    def object_poses(self, vector: Tensor, item: int) -> tuple[np.ndarray, float]:
        """T_camera_object (T, 4, 4) float64, m, and the scale of one object track."""
        unknowns = self.read(vector.double())[1][item]
        poses = np.tile(np.eye(4), (self.num_frames, 1, 1))
        poses[:, :3, :3] = unknowns.rotation.numpy()
        poses[:, :3, 3] = unknowns.translation.numpy()
        return poses, float(unknowns.scale)


def _read_hand(
    track: HandTrack, hand_models: Mapping[Side, HandModel], dtype: torch.dtype
) -> tuple[_HandConstants, list[Tensor]]:
    side = track.params.side
    model = hand_models.get(side)
    if model is None:
        raise InputError(f"hand track {track.track_id}: no hand model for side {side!r}, got {sorted(hand_models)}")
    params = track.params.to(device="cpu", dtype=torch.float64)
    numbers = torch.cat([params.global_orient, params.hand_pose, params.betas, params.transl, params.scale[:, None]], 1)
    rows = _nearest_usable(numbers.numpy(), track.lost, f"hand track {track.track_id}")
    params = params[torch.from_numpy(rows)]
    # betas and scale are the track's: those of its first usable frame.
    first = int(rows[np.flatnonzero(rows == np.arange(len(rows)))[0]])
    betas, scale = params.betas[first], params.scale[first]
    arrays = model.arrays
    shaped = arrays.v_template + arrays.shapedirs @ betas.numpy()
    joints = torch.from_numpy(arrays.J_regressor @ shaped)
    wrist, center = joints[0], joints[CENTER_JOINT]
    components = model.hands_components[:NUM_COMPONENTS].double().cpu()
    mean = model.hands_mean.double().cpu()
    theta = (params.hand_pose - mean) @ torch.linalg.pinv(components)
    rotation = axis_angle_to_matrix(params.global_orient)
    place = params.transl + scale * (rotation @ (center - wrist) + wrist)
    constants = _HandConstants(
        side,
        betas[None].to(dtype),
        wrist.to(dtype),
        center.to(dtype),
        (params.hand_pose - theta @ components).to(dtype),
        components.to(dtype),
    )
    parts = [place, matrix_to_rotation_6d(rotation), theta, scale[None]]
    return constants, [part.to(dtype) for part in parts]


def _read_object(track: ObjectTrack, dtype: torch.dtype) -> list[Tensor]:
    poses = np.asarray(track.T_camera_object, np.float64)
    rows = _nearest_usable(poses.reshape(len(poses), -1), track.lost, f"object track {track.object_id!r}")
    filled = torch.from_numpy(poses[rows])
    parts = [filled[:, :3, 3], matrix_to_rotation_6d(filled[:, :3, :3]), torch.tensor([track.scale])]
    return [part.to(dtype) for part in parts]


def _nearest_usable(numbers: np.ndarray, lost: np.ndarray, name: str) -> np.ndarray:
    """(T,) int64: each frame itself, or for one that is lost or not finite the nearest other."""
    good = np.flatnonzero(np.isfinite(numbers).all(axis=1) & ~np.asarray(lost, bool))
    if not len(good):
        raise InputError(f"{name}: every frame is lost or not finite; leave the track out")
    return good[np.abs(good[None] - np.arange(len(numbers))[:, None]).argmin(axis=1)]
