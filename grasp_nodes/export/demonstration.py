"""The nouns of exporting: what was recorded, at the times at which it was, and a demonstration of constant rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from grasp_nodes.geometry.camera import Frame
from grasp_nodes.hand.parameters import NUM_POSE

STATE, ACTION, OBJECT = "observation.state", "action", "observation.environment_state"
HAND, BETAS, KEYPOINTS = "observation.hand", "observation.hand_betas", "observation.keypoints"
CONTACT, TRACKED = "observation.contact", "observation.tracked"
CAMERA = "observation.images.camera"
HAND_SIZE = 6 + NUM_POSE
"""Numbers of a hand: transl (m), global_orient and hand_pose (rad, axis-angle)."""

Pictures = Callable[[], Iterator[Frame]]


@dataclass(frozen=True)
class HandRow:
    """One hand at one instant, camera frame.

    params: (51,), transl (m), global_orient, hand_pose (rad). betas: (10,). keypoints: (21, 3), m. score in [0, 1].
    """

    side: str
    params: np.ndarray
    betas: np.ndarray
    keypoints: np.ndarray
    score: float


@dataclass(frozen=True)
class ObjectRow:
    """One object at one instant. pose: (7,), m and quaternion xyzw, object frame to camera frame."""

    object_id: str
    pose: np.ndarray
    score: float


@dataclass(frozen=True)
class StateRow:
    """Everything that a data set takes of a `HandObjectState`. stamp: ns.

    contact: (18,) in [0, 1] by side and object: the greatest contact of each of the 17 regions of the hand, and of all.
    is_held: nothing new was seen in this frame.
    """

    stamp: int
    hands: Sequence[HandRow] = ()
    objects: Sequence[ObjectRow] = ()
    contact: Mapping[tuple[str, str], np.ndarray] = field(default_factory=dict)
    is_held: bool = False


@dataclass(frozen=True)
class JointTrack:
    """What a robot's joints did. names: (J,). stamps: (N,) int64, ns, increasing. positions: (N, J), rad or m."""

    names: tuple[str, ...]
    stamps: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True)
class Recording:
    """One demonstration as it was recorded.

    name: of its folder or file. source: where it was read. states: in the order in which they were recorded.
    joints, commands: of a robot, where there are any. pictures: opens the camera's frames; None = there are none.
    task: what is done, '' = not said.
    """

    name: str
    source: str
    states: Sequence[StateRow]
    joints: JointTrack | None = None
    commands: JointTrack | None = None
    pictures: Pictures | None = None
    picture_stamps: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    task: str = ""
    is_metric: bool = True
    joint_faults: Sequence[str] = ()


@dataclass(frozen=True)
class Column:
    """A value per frame. values: (T, n) float32. names: (n,), of its components."""

    values: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True)
class Demonstration:
    """One demonstration of constant rate, ready for a data set.

    fps: 1/s. stamps: (T,) int64, ns, of the recorded state that each frame shows. columns: by the names of LeRobot.
    picture_rows: (T,) which of the camera's frames each frame shows; empty = no pictures.
    """

    name: str
    task: str
    fps: int
    stamps: np.ndarray
    columns: Mapping[str, Column]
    side: str
    object_id: str
    is_metric: bool
    pictures: Pictures | None = None
    picture_rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.stamps)

    def images(self) -> Iterator[np.ndarray]:
        """The picture of every frame: (H, W, 3) uint8, RGB."""
        if self.pictures is None:
            return
        wanted = iter(self.picture_rows)
        due = next(wanted, None)
        for row, frame in enumerate(self.pictures()):
            while due is not None and due == row:
                yield frame.color
                due = next(wanted, None)
            if due is None:
                return
