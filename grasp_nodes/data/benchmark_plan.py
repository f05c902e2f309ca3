"""What a clip of the benchmark shows: everything but colours and light, and what follows from it for each frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.data.benchmark_motion import MAX_FRAMES, ClipMotion, Course
from grasp_nodes.data.benchmark_objects import homogeneous, moved, open_hand
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS
from grasp_nodes.hand.parameters import HandOutput, HandParams, Side

View = Literal["back", "palm", "thumb", "little_finger", "fingertips", "forearm"]
Occlusion = Literal["object", "prop", "border"]
"""What hides the hand besides itself: only the held object, also something in front, or also the image's border."""

_AXES: dict[View, tuple[float, float, float]] = {
    "back": (0.0, 1.0, 0.0),
    "palm": (0.0, -1.0, 0.0),
    "thumb": (0.0, 0.0, 1.0),
    "little_finger": (0.0, 0.0, -1.0),
    "fingertips": (-1.0, 0.0, 0.0),
    "forearm": (1.0, 0.0, 0.0),
}
"""Directions in the rest frame of a right hand; x is mirrored for a left one."""
VIEWS: tuple[View, ...] = tuple(_AXES)


@dataclass(frozen=True)
class ClipRequest:
    """What is asked of one clip. object_name: a family of the registry, or a mesh file."""

    index: int
    seed: int
    side: Side
    object_name: str
    view: View
    occlusion: Occlusion
    course: Course


@dataclass(frozen=True, eq=False)
class Prop:
    """Something that stands on the table: vertices (V, 3), m, world, and faces (F, 3)."""

    name: str
    vertices: np.ndarray
    faces: np.ndarray


@dataclass(frozen=True, eq=False)
class ClipPlan:
    """One clip.

    object_name: in the registry, or a mesh file's stem. vertices (V, 3), m, and faces (F, 3): the object in its frame.
    betas: (10,). wrist_bend: (3,), rad, see `ArmLook`. motion: hand and object in the world.
    camera, elevation, T_studio_world: the camera, and the world in the studio that it stands in; both have z up, but
    the studio's y points away from the camera. T_camera_studio: (4, 4).
    """

    request: ClipRequest
    object_name: str
    family: str
    vertices: np.ndarray
    faces: np.ndarray
    betas: np.ndarray
    wrist_bend: np.ndarray
    motion: ClipMotion
    camera: CameraModel
    T_studio_world: np.ndarray
    T_camera_studio: np.ndarray
    props: tuple[Prop, ...] = ()

    @property
    def T_camera_world(self) -> np.ndarray:  # noqa: N802 - frames are named T_to_from everywhere
        """(4, 4); named as all frames are."""
        return self.T_camera_studio @ self.T_studio_world

    def hands(self, frames: int = MAX_FRAMES) -> HandParams:
        """The first so many hands in the camera's frame."""
        poses = [self.motion.at(frame) for frame in range(frames)]
        hands = replace(
            HandParams.zeros(frames, self.request.side, torch.float64),
            hand_pose=torch.from_numpy(np.stack([pose.hand_pose for pose in poses])),
            betas=torch.from_numpy(np.tile(self.betas, (frames, 1))),
        )
        return moved(hands, self.T_camera_world @ np.stack([pose.T_world_hand for pose in poses]))

    def object_poses(self, frames: int = MAX_FRAMES) -> np.ndarray:
        """(T, 4, 4), T_camera_object."""
        return self.T_camera_world @ np.stack([self.motion.at(frame).T_world_object for frame in range(frames)])


def pose_hands(hands: HandParams) -> HandOutput:
    """The open hand in double precision."""
    with torch.no_grad():
        return open_hand(hands.side)(hands)


def view_of(toward_camera: np.ndarray, side: Side) -> View:
    """Which side of the hand a camera sees.

    Args:
        toward_camera: (3,), direction in the hand's rest frame.
    """
    direction = toward_camera * ([-1, 1, 1] if side == "left" else [1, 1, 1])
    return max(_AXES, key=lambda view: float(np.dot(_AXES[view], direction)))


def mean_direction(T_camera_hands: np.ndarray, side: Side) -> np.ndarray:
    """(3,) mean unit direction from the hand's middle to the camera, in the rest frame of hands (T, 4, 4)."""
    toward = -np.einsum("tji,tj->ti", T_camera_hands[:, :3, :3], T_camera_hands[:, :3, 3]) - palm_middle(side)
    return (toward / np.linalg.norm(toward, axis=1, keepdims=True)).mean(axis=0)


def palm_middle(side: Side) -> np.ndarray:
    """(3,) m, between the wrist and the knuckles, in the hand's rest frame."""
    arrays = open_hand(side).arrays
    joints = arrays.J_regressor @ arrays.v_template
    knuckles = joints[[FINGER_JOINTS[name][0] for name in FINGERS[1:]]].mean(axis=0)
    return (joints[0] + 2 * knuckles) / 3


def studio_camera(elevation: float, distance: float, roll: float, target: np.ndarray) -> np.ndarray:
    """(4, 4), T_camera_studio of a camera that looks at a point along +y and down.

    Args:
        elevation, roll: rad. distance: m. target: (3,) m, studio.
    """
    back = np.array([0.0, -np.cos(elevation), np.sin(elevation)])
    right = np.array([1.0, 0.0, 0.0])
    upright = np.stack([right, np.cross(-back, right), -back])
    rotation = Rotation.from_rotvec([0, 0, roll]).as_matrix() @ upright
    return homogeneous(rotation, -rotation @ (target + distance * back))
