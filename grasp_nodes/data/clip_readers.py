"""Reading a clip folder: frames and, where the clip has it, the exact truth."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch

from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandObjectTrajectory, HandState, ObjectState
from grasp_nodes.data.clip_files import (
    COLOR_SUFFIXES,
    FRAME_NAME,
    ClipTruth,
    read_clip_info,
    read_color,
    read_depth,
    read_labels,
    read_truth,
)
from grasp_nodes.data.frame_source import FrameSourceBase, limited
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.geometry.rotations import matrix_to_quaternion
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams, Side


class ClipSource(FrameSourceBase):
    """A clip folder as a `FrameSource`."""

    def __init__(self, folder: str | Path, frames: int = 0, object_spec: str = "") -> None:
        """Read everything but the images.

        Args:
            folder: holds clip.json. frames: use only the first so many, 0 = all.
            object_spec: mesh or shape to use instead of the clip's own.

        Raises:
            MissingFileError, InputError: the message names the file and what was expected.
        """
        self.folder = Path(folder)
        self.info = read_clip_info(self.folder)
        super().__init__(self.info.fps, self.info.camera)
        self._count = limited(self.info.frames, frames)
        self._truth = read_truth(self.folder, self.info.frames)
        self.has_depth = self.info.depth_unit is not None
        self.has_truth = self._truth is not None
        self._suffix = self._find_suffix()
        self._stamps = (
            self._truth.stamps
            if self._truth is not None
            else np.round(np.arange(self.info.frames) * 1e9 / self.fps).astype(np.int64)
        )
        if (np.diff(self._stamps) <= 0).any():
            raise InputError(f"{self.folder / 'truth.npz'}: stamps must increase from frame to frame")
        self.first_stamp = int(self._stamps[0])
        self.object_spec = object_spec
        if not object_spec and self.info.objects:
            self.object_id, mesh = next(iter(self.info.objects.items()))
            self.object_spec = str(self.folder / mesh)
            if not Path(self.object_spec).is_file():
                raise MissingFileError(f"{self.object_spec}: not found; clip.json names it as the object's mesh")

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Frame]:
        return (self.frame(index) for index in range(self._count))

    def frame(self, index: int) -> Frame:
        """One frame, read from its files.

        Raises:
            MissingFileError, InputError: an image is missing, damaged or of another size than clip.json says.
        """
        name = FRAME_NAME.format(index)
        color = read_color(self.folder / "color" / (name + self._suffix))
        depth = None
        if self.info.depth_unit is not None:
            depth = read_depth(self.folder / "depth" / f"{name}.png", self.info.depth_unit)
        try:
            return Frame(int(self._stamps[index]), color, self.camera, depth)
        except InputError as error:
            raise InputError(f"{self.folder}, frame {name}: {error}") from error

    def labels(self, index: int) -> np.ndarray | None:
        """(H, W) uint8, 0 background, 1 hand, 2 object, 3 forearm, 4 table; None where the clip has none.

        Raises:
            InputError: a damaged image, or one of another size than the camera's.
        """
        path = self.folder / "labels" / f"{FRAME_NAME.format(index)}.png"
        if not path.is_file():
            return None
        labels, size = read_labels(path), (self.camera.height, self.camera.width)
        if labels.shape != size:
            raise InputError(f"{path}: expected the size of the images, {size}, got {labels.shape}")
        return labels

    def hand_visible(self, index: int) -> float | None:
        """Share of the hand that can be seen, None where it is not known."""
        return None if self._truth is None else float(self._truth.hand_visible[index])

    def truth(self, stamp: int) -> HandObjectState | None:
        """The exact state of the frame with this stamp (ns)."""
        row = int(np.searchsorted(self._stamps, stamp))
        if self.trajectory is None or row >= self._count or self._stamps[row] != stamp:
            return None
        return self.trajectory.states[row]

    @cached_property
    def trajectory(self) -> HandObjectTrajectory | None:
        """The exact states of all frames, None where they are not known.

        Raises:
            InputError: truth.npz holds no joint_poses and is of a hand model that is not at hand.
        """
        if self._truth is None:
            return None
        poses = _joint_poses(self._truth, self.folder)
        states = [self._state(self._truth, row, poses[row]) for row in range(self._count)]
        return HandObjectTrajectory(str(self.folder), states)

    def _state(self, truth: ClipTruth, row: int, joint_poses: np.ndarray) -> HandObjectState:
        hand = HandState(
            _params(truth)[row : row + 1],
            truth.keypoints[row],
            joint_poses,
            truth.model_id,
            truth.model_fingerprint,
            track_id=1,
            score=1.0,
            is_metric=True,
        )
        found = ObjectState(
            truth.object_id,
            truth.T_camera_object[row],
            score=1.0,
            mesh_resource=self.object_spec,
            is_metric=True,
        )
        return HandObjectState(
            int(truth.stamps[row]), self.camera.frame_id, (hand,), (found,), status=FitStatus.OK, status_text="truth"
        )

    def _find_suffix(self) -> str:
        first = self.folder / "color" / FRAME_NAME.format(0)
        for suffix in COLOR_SUFFIXES:
            if first.with_suffix(suffix).is_file():
                return suffix
        raise MissingFileError(f"{first}: not found with any of the endings {', '.join(COLOR_SUFFIXES)}")


def open_clip(folder: str | Path, frames: int = 0) -> ClipSource:
    """A clip folder: iterate over it for frames; `trajectory` holds the truth. See `ClipSource`."""
    return ClipSource(folder, frames)


def _params(truth: ClipTruth) -> HandParams:
    return HandParams(
        torch.from_numpy(truth.global_orient),
        torch.from_numpy(truth.hand_pose),
        torch.from_numpy(truth.betas),
        torch.from_numpy(truth.transl),
        torch.from_numpy(truth.scale),
        cast(Side, truth.side),
    )


def _joint_poses(truth: ClipTruth, folder: Path) -> np.ndarray:
    """(T, 16, 7) position and quaternion xyzw of the joints."""
    if truth.joint_poses is not None:
        return truth.joint_poses
    params = _params(truth)
    model = load_hand_model(params.side, dtype=torch.float64)
    if model.fingerprint != truth.model_fingerprint:
        raise InputError(
            f"{folder / 'truth.npz'}: joint_poses is missing and the hand model {truth.model_id!r} with fingerprint "
            f"{truth.model_fingerprint[:12]!r} is not at hand ({model.model_id!r} is {model.fingerprint[:12]!r}): set "
            "GRASP_NODES_HAND_MODEL to that model or add joint_poses (frames, 16, 7) to the file"
        )
    with torch.no_grad():
        _, frames = model.joints(params)
    quaternions = matrix_to_quaternion(frames[..., :3, :3])
    return torch.cat([frames[..., :3, 3], quaternions], dim=-1).numpy()
