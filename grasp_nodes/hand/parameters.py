"""The nouns of a hand: its parameters and what a hand model makes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from grasp_nodes.errors import InputError

Side = Literal["right", "left"]

NUM_VERTICES = 778
NUM_JOINTS = 16
NUM_KEYPOINTS = 21
NUM_BETAS = 10
NUM_POSE = 45


@dataclass(frozen=True)
class HandParams:
    """MANO parameters of B hands of one side, all tensors of one dtype and device.

    global_orient: (B, 3), rad, axis-angle, turns the hand about its wrist joint.
    hand_pose: (B, 45), rad, axis-angle of 15 joints in MANO's order; full rotations (flat-hand mean).
    betas: (B, 10), unitless. transl: (B, 3), m, added last. scale: (B,), unitless, applied about the model's origin.
    """

    global_orient: torch.Tensor
    hand_pose: torch.Tensor
    betas: torch.Tensor
    transl: torch.Tensor
    scale: torch.Tensor
    side: Side = "right"

    def __post_init__(self) -> None:
        batch = self.global_orient.shape[:1]
        expected = {"global_orient": (3,), "hand_pose": (NUM_POSE,), "betas": (NUM_BETAS,), "transl": (3,), "scale": ()}
        for name, tail in expected.items():
            shape = tuple(getattr(self, name).shape)
            if shape != (*batch, *tail):
                raise InputError(f"{name}: expected shape {(*batch, *tail)}, got {shape}")
        if self.side not in ("right", "left"):
            raise InputError(f"side: expected 'right' or 'left', got {self.side!r}")

    @staticmethod
    def zeros(
        batch: int = 1,
        side: Side = "right",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> HandParams:
        """The flat hand at the origin, `batch` times."""
        return HandParams(
            torch.zeros(batch, 3, dtype=dtype, device=device),
            torch.zeros(batch, NUM_POSE, dtype=dtype, device=device),
            torch.zeros(batch, NUM_BETAS, dtype=dtype, device=device),
            torch.zeros(batch, 3, dtype=dtype, device=device),
            torch.ones(batch, dtype=dtype, device=device),
            side,
        )

    def __len__(self) -> int:
        return self.global_orient.shape[0]

    def __getitem__(self, index: slice | torch.Tensor) -> HandParams:
        """A sub-set of the batch; the batch dimension stays."""
        return replace(
            self,
            global_orient=self.global_orient[index],
            hand_pose=self.hand_pose[index],
            betas=self.betas[index],
            transl=self.transl[index],
            scale=self.scale[index],
        )

    def to(self, *args: object, **kwargs: object) -> HandParams:
        """The same hands in another dtype or on another device, as `torch.Tensor.to`."""
        return replace(
            self,
            global_orient=self.global_orient.to(*args, **kwargs),  # type: ignore[call-overload]
            hand_pose=self.hand_pose.to(*args, **kwargs),  # type: ignore[call-overload]
            betas=self.betas.to(*args, **kwargs),  # type: ignore[call-overload]
            transl=self.transl.to(*args, **kwargs),  # type: ignore[call-overload]
            scale=self.scale.to(*args, **kwargs),  # type: ignore[call-overload]
        )


@dataclass(frozen=True)
class HandOutput:
    """Posed hands.

    vertices: (B, V, 3), m. joints: (B, 16, 3), m, MANO's order. joint_frames: (B, 16, 4, 4), joint to the hand's frame;
    in the rest pose their axes are the model's axes.
    keypoints: (B, 21, 3), m: wrist, then thumb, index, middle, ring, little finger, each from palm to tip.
    Frame: the one in which `transl` is given.
    """

    vertices: torch.Tensor
    joints: torch.Tensor
    keypoints: torch.Tensor
    joint_frames: torch.Tensor
