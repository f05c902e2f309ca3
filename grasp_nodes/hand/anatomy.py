"""Anatomical degrees of freedom of a hand: twist-splay-bend frames, limits, and angles instead of axis-angle poses.

Every joint has a frame in the hand model's rest axes (A-MANO of CPF, Yang et al., ICCV 2021): twist along the
bone towards the wrist, bend across it, splay = bend x twist. A rotation in that frame is ``R_twist R_splay R_bend``:
the bone bends first, then is splayed, then twisted about its rest direction.

Angles of the left hand are those of the mirror image: equal angles give mirrored hands (CPF's own left frames turn
twist and splay the other way).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS, KEYPOINT_ORDER, TIP_VERTICES
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_JOINTS, NUM_KEYPOINTS, NUM_POSE, Side

FINGER_UP = (0.0, 1.0, 0.0)
THUMB_UP = (0.35, 0.80, 0.50)
"""Where the nails look in the rest pose of the right hand."""
CPF_THUMB_UP = (1.0, 1.0, 1.0)
"""What CPF takes for MANO's thumb."""

Range = tuple[float, float]
Limits = Mapping[str, tuple[tuple[Range, Range, Range], ...]]
"""deg; per finger (``finger``: all that are not named) its joints from the palm outwards: twist, splay, bend."""

LIMITS: Limits = {
    "finger": (
        ((0.0, 0.0), (-14.0, 14.0), (-5.0, 85.0)),
        ((0.0, 0.0), (0.0, 0.0), (-5.0, 100.0)),
        ((0.0, 0.0), (0.0, 0.0), (-5.0, 70.0)),
    ),
    "thumb": (
        # CPF's 45 degrees and one more: a thumb that is twisted that far does not lie on the border.
        ((-46.0, 46.0), (-17.0, 57.0), (-5.0, 40.0)),
        ((0.0, 0.0), (0.0, 0.0), (-5.0, 55.0)),
        ((0.0, 0.0), (0.0, 0.0), (-5.0, 75.0)),
    ),
}
"""The range in which the open hand looks natural: 21 degrees of freedom."""
CPF_LIMITS: Limits = {
    "finger": (
        ((0.0, 0.0), (-5.0, 5.0), (0.0, 90.0)),
        ((0.0, 0.0), (0.0, 0.0), (0.0, 90.0)),
        ((0.0, 0.0), (0.0, 0.0), (0.0, 90.0)),
    ),
    "thumb": (
        ((-45.0, 45.0), (-15.0, 45.0), (0.0, 45.0)),
        ((0.0, 0.0), (-10.0, 10.0), (0.0, 90.0)),
        ((0.0, 0.0), (0.0, 0.0), (0.0, 90.0)),
    ),
}
"""As CPF's authors set them, for `CPF_THUMB_UP`."""


AXIS_SOFTNESS = 0.05
"""rad; rotations far above it have an axis of length one in `HandAnatomy.costs`."""
KNUCKLES = tuple(chain[0] for chain in FINGER_JOINTS.values())
"""Joints (1..15) that may splay in CPF: the innermost of the five fingers."""
_NO_KNUCKLES = [joint - 1 for joint in range(1, NUM_JOINTS) if joint not in KNUCKLES]


@dataclass(frozen=True)
class AnatomicalCosts:
    """Of B hands, (B,) each.

    twist: sum over 15 joints of the rotation axis' component along the bone, each 0..1.
    splay: sum over the 10 joints that are no knuckles of its component across the bend.
    bend: sum of what bends exceed 90 deg by, rad. limits: sum of what angles exceed the joints' own limits by, rad; not
    in the paper.
    """

    twist: Tensor
    splay: Tensor
    bend: Tensor
    limits: Tensor

    @property
    def paper(self) -> Tensor:
        """(B,) L_anat of CPF, equation 10: the first three terms, unweighted."""
        return self.twist + self.splay + self.bend


@dataclass(frozen=True)
class HandAnatomy:
    """Frames and limits of the 15 joints of `hand_pose`, in MANO's order.

    frames: (15, 3, 3), columns twist, splay, bend: unit, in the hand model's rest axes; positive bends close the hand,
    positive splay of the thumb opposes it to the palm.
    low, high: (15, 3), rad, of twist, splay, bend; equal where the joint cannot move.
    """

    side: Side
    frames: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @staticmethod
    def of_keypoints(
        rest_keypoints: np.ndarray,
        side: Side = "right",
        limits: Limits = LIMITS,
        thumb_up: tuple[float, float, float] = THUMB_UP,
    ) -> HandAnatomy:
        """Frames from a hand in its rest pose, in the hand model's axes.

        Args:
            rest_keypoints: (21, 3), m, of the flat hand. side: of that hand.
            limits: of the joints. thumb_up: up vector of the right thumb's joints; need not have length one.

        Raises:
            InputError: no 21 keypoints, or two of a finger's are the same.
        """
        points = np.asarray(rest_keypoints, np.float64)
        if points.shape != (NUM_KEYPOINTS, 3) or not np.isfinite(points).all():
            raise InputError(f"rest keypoints: expected finite ({NUM_KEYPOINTS}, 3), got shape {points.shape}")
        right = points * _MIRROR if side == "left" else points
        frames = np.zeros((NUM_JOINTS - 1, 3, 3))
        ranges = np.zeros((NUM_JOINTS - 1, 3, 2))
        for index, finger in enumerate(FINGERS):
            rows = np.array(FINGER_JOINTS[finger]) - 1
            up = np.array(thumb_up if finger == "thumb" else FINGER_UP)
            twist = -np.diff(right[1 + 4 * index : 5 + 4 * index], axis=0)
            length = np.linalg.norm(twist, axis=1, keepdims=True)
            if not (length > 0).all():
                raise InputError(f"rest keypoints: two neighbours of the {finger} are the same point")
            twist /= length
            bend = np.cross(twist, up)
            bend /= np.linalg.norm(bend, axis=1, keepdims=True)
            frames[rows] = np.stack([twist, np.cross(bend, twist), bend], axis=-1)
            ranges[rows] = np.deg2rad(limits.get(finger, limits["finger"]))
        if side == "left":
            frames *= _MIRROR_ROTATION[:, None]
        return HandAnatomy(side, frames, ranges[..., 0], ranges[..., 1])

    @staticmethod
    def of_model(
        model: HandModel,
        betas: np.ndarray | None = None,
        limits: Limits = LIMITS,
        thumb_up: tuple[float, float, float] = THUMB_UP,
    ) -> HandAnatomy:
        """Frames of a full hand model of either side; betas: (10,), the hand's shape, None = zeros."""
        arrays = model.arrays
        vertices = arrays.v_template + arrays.shapedirs @ (np.zeros(NUM_BETAS) if betas is None else betas)
        return HandAnatomy.of_keypoints(
            keypoints_at_rest(arrays.J_regressor @ vertices, vertices), model.side, limits, thumb_up
        )

    def angles(self, hand_pose: Tensor) -> Tensor:
        """Twist, splay and bend of each joint; differentiable where splay is not +-90 deg.

        Args:
            hand_pose: (..., 45), rad, axis-angle.

        Returns:
            (..., 15, 3), rad; splay within +-90 deg, the others within +-180 deg.
        """
        frames = self._frames(hand_pose)
        turned = axis_angle_to_matrix(hand_pose.unflatten(-1, (NUM_JOINTS - 1, 3)))
        local = frames.transpose(-1, -2) @ turned @ frames
        across = torch.hypot(local[..., 0, 0], local[..., 0, 1])
        twist = torch.atan2(-local[..., 1, 2], local[..., 2, 2])
        splay = torch.atan2(local[..., 0, 2], across)
        bend = torch.atan2(-local[..., 0, 1], local[..., 0, 0])
        return torch.stack([twist, splay, bend], dim=-1)

    def hand_pose(self, angles: Tensor) -> Tensor:
        """The pose of these angles, the inverse of `angles`.

        Args:
            angles: (..., 15, 3), rad: twist, splay, bend.

        Returns:
            (..., 45), rad, axis-angle.
        """
        frames = self._frames(angles)
        twist, splay, bend = (
            axis_angle_to_matrix(angles[..., k, None] * frames[..., :, k]) for k in range(3)
        )  # about the frame's axes in the model's axes
        return matrix_to_axis_angle(twist @ splay @ bend).flatten(-2)

    def beyond_limits(self, angles: Tensor) -> Tensor:
        """How far angles (..., 15, 3) lie outside of their limits: rad, negative below, zero inside."""
        low, high = (
            torch.as_tensor(limit, dtype=angles.dtype, device=angles.device) for limit in (self.low, self.high)
        )
        return (angles - high).clamp(min=0) + (angles - low).clamp(max=0)

    def project(self, hand_pose: Tensor) -> Tensor:
        """The pose with every angle moved into its limits: unwanted twists and splays vanish, bends stop.

        A pose within the limits stays as it is, so that projecting twice is projecting once.

        Args:
            hand_pose: (..., 45), rad, axis-angle.

        Returns:
            (..., 45), rad, axis-angle; differentiable, without a gradient along angles that were cut.
        """
        angles = self.angles(hand_pose)
        return self.hand_pose(angles - self.beyond_limits(angles))

    def costs(self, hand_pose: Tensor) -> AnatomicalCosts:
        """The anatomical cost of CPF, equation 10, term by term, and how far angles are beyond their limits.

        The paper adds signed components of the rotation axis, which could cancel; as its text says, magnitudes are
        penalised. A joint at rest has no axis: the axis fades in over `AXIS_SOFTNESS`.

        Args:
            hand_pose: (B, 45), rad, axis-angle.
        """
        vector = hand_pose.unflatten(-1, (NUM_JOINTS - 1, 3))
        local = (vector[..., None, :] @ self._frames(hand_pose))[..., 0, :]
        axis = local / (local.square().sum(dim=-1, keepdim=True) + AXIS_SOFTNESS**2).sqrt()
        angles = self.angles(hand_pose)
        return AnatomicalCosts(
            twist=axis[..., 0].abs().sum(dim=-1),
            splay=axis[..., _NO_KNUCKLES, 1].abs().sum(dim=-1),
            bend=(angles[..., 2] - np.pi / 2).clamp(min=0).sum(dim=-1),
            limits=self.beyond_limits(angles).abs().sum(dim=(-2, -1)),
        )

    def _frames(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.frames, dtype=like.dtype, device=like.device)


@dataclass(frozen=True)
class DegreesOfFreedom:
    """The angles in which a hand can move, as a linear map to axis-angle poses: what solvers and searches work with.

    A joint's axis-angle vector is the sum of its angles times their axes: for one angle the same rotation as that of
    `HandAnatomy`; bend and spread of a knuckle together twist it by half their product, 10 deg at both limits.
    A spread is a negative splay, a twist counts along the bone to the tip.

    names: D names such as ``index_bend_0`` (0 = knuckle), ``index_spread``, ``thumb_twist``.
    axes: (D, 3), unit, in the rest axes. joint: (D,) int64, 1..15, ascending. low, high: (D,), rad.
    """

    names: tuple[str, ...]
    axes: np.ndarray
    joint: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @staticmethod
    def of_anatomy(anatomy: HandAnatomy) -> DegreesOfFreedom:
        """One for each angle whose limits leave it room."""
        rows: list[tuple[str, np.ndarray, int, float, float]] = []
        names = {joint: (finger, k) for finger, chain in FINGER_JOINTS.items() for k, joint in enumerate(chain)}
        for joint in range(1, NUM_JOINTS):
            finger, k = names[joint]
            outer = f"_{k}" if k else ""
            frame, low, high = anatomy.frames[joint - 1].T, anatomy.low[joint - 1], anatomy.high[joint - 1]
            found = (
                (f"{finger}_bend_{k}", frame[2], low[2], high[2]),
                (f"{finger}_spread{outer}", -frame[1], -high[1], -low[1]),
                (f"{finger}_twist{outer}", -frame[0], -high[0], -low[0]),
            )
            rows += [(name, axis, joint, least, most) for name, axis, least, most in found if least < most]
        return DegreesOfFreedom(
            tuple(row[0] for row in rows),
            np.array([row[1] for row in rows]),
            np.array([row[2] for row in rows], np.int64),
            np.array([row[3] for row in rows]),
            np.array([row[4] for row in rows]),
        )

    @property
    def matrix(self) -> np.ndarray:
        """(D, 45): hand_pose = values @ matrix."""
        result = np.zeros((len(self.names), NUM_JOINTS - 1, 3))
        result[np.arange(len(self.names)), self.joint - 1] = self.axes
        return result.reshape(-1, NUM_POSE)

    @property
    def first(self) -> np.ndarray:
        """(17,) int64: the angles of joint j are ``first[j]:first[j + 1]``."""
        return np.searchsorted(self.joint, np.arange(NUM_JOINTS + 1)).astype(np.int64)

    def values(self, **angles: float) -> np.ndarray:
        """(D,) rad: zero except for the named angles, given in degrees.

        Raises:
            InputError: a name that is not among `names`.
        """
        result = np.zeros(len(self.names))
        unknown = sorted(set(angles) - set(self.names))
        if unknown:
            raise InputError(f"finger angles: {', '.join(unknown)} not known; expected some of {', '.join(self.names)}")
        for name, angle in angles.items():
            result[self.names.index(name)] = np.deg2rad(angle)
        return result

    def uniform(self, bends: tuple[float, float, float], thumb: tuple[float, float, float, float, float]) -> np.ndarray:
        """(D,) rad: the same bends (deg) for four fingers; thumb: three bends, spread and twist (deg)."""
        fingers = {f"{finger}_bend_{k}": bends[k] for finger in FINGERS[1:] for k in range(3)}
        own = {f"thumb_bend_{k}": thumb[k] for k in range(3)}
        return self.values(**fingers, **own, thumb_spread=thumb[3], thumb_twist=thumb[4])

    def pose(self, values: np.ndarray) -> np.ndarray:
        """hand_pose (..., 45), rad, of values (..., D), rad."""
        return values @ self.matrix

    def nearest(self, hand_pose: np.ndarray) -> np.ndarray:
        """Values (..., D), rad, whose pose comes nearest to hand_pose (..., 45), rad; limits are not applied."""
        return hand_pose @ np.linalg.pinv(self.matrix)


def keypoints_at_rest(joints: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """The 21 keypoints (21, 3) of joints (16, 3) and vertices (778, 3)."""
    tips = vertices[[TIP_VERTICES[finger] for finger in FINGERS]]
    return np.concatenate([joints, tips])[list(KEYPOINT_ORDER)]


def mirror_pose(pose: np.ndarray) -> np.ndarray:
    """Axis-angle vectors (..., 3 n) of the mirrored (other) hand: the x axis is reflected."""
    return (pose.reshape(*pose.shape[:-1], -1, 3) * _MIRROR_ROTATION).reshape(pose.shape)


_MIRROR = np.array([-1.0, 1.0, 1.0])
_MIRROR_ROTATION = np.array([1.0, -1.0, -1.0])
