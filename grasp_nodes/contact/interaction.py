"""The nouns of every result: hands and objects at one instant, their trajectory, and grasps.

They travel unchanged as messages, files and data set rows. A part of a higher floor reaches a lower one only as an
argument typed by a protocol of this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

import numpy as np

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.model import ObjectModel


class FitStatus(IntEnum):
    """How a state came about; values as in ``HandObjectState.msg``."""

    OK = 0
    HELD = 1
    NOTHING = 2


@dataclass(frozen=True)
class HandState:
    """One hand (batch of one) in a camera's or an object's frame.

    keypoints: (21, 3) float64, m. joint_poses: (16, 7) float64: position (m) and quaternion xyzw of each joint.
    track_id: stable while the same hand is followed, 0 = not tracked. score in [0, 1].
    is_metric: false when the focal length was guessed.
    """

    params: HandParams
    keypoints: np.ndarray
    joint_poses: np.ndarray
    model_id: str
    model_fingerprint: str
    track_id: int = 0
    score: float = 0.0
    is_metric: bool = False


@dataclass(frozen=True)
class ObjectState:
    """One object.

    T_camera_object: (4, 4) float64, object frame to camera frame, m.
    covariance: (6, 6) float64, m^2 and rad^2 (x, y, z, rotation about x, y, z), camera frame; None = unknown.
    """

    object_id: str
    T_camera_object: np.ndarray
    covariance: np.ndarray | None = None
    scale: float = 1.0
    score: float = 0.0
    mesh_resource: str = ""
    is_metric: bool = False


@dataclass(frozen=True)
class HandObjectState:
    """Hands, objects and their contact at one instant. stamp: ns. frame_id: the camera's optical frame."""

    stamp: int
    frame_id: str
    hands: Sequence[HandState] = ()
    objects: Sequence[ObjectState] = ()
    contact_maps: Sequence[ContactMap] = ()
    residuals: dict[str, float] = field(default_factory=dict)
    status: FitStatus = FitStatus.NOTHING
    status_text: str = ""


@dataclass(frozen=True)
class HandObjectTrajectory:
    """A clip as states in time order."""

    source: str
    states: Sequence[HandObjectState]


@dataclass(frozen=True)
class Grasp:
    """One grasp: the hand in the object's frame, its score (higher is better) and what was measured of it.

    kind: such as ``pinch`` of a labelled grasp, empty = not labelled.
    """

    hand: HandState
    score: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    contact_map: ContactMap | None = None
    kind: str = ""


@dataclass(frozen=True)
class GraspSet:
    """Grasps that one method proposes for one object, best first. duration: s."""

    object_id: str
    method: str
    seed: int
    duration: float
    grasps: Sequence[Grasp]
    mesh_resource: str = ""


class GraspGenerator(Protocol):
    """Proposes grasps for an object."""

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """`count` grasps of the object, reproducible from `seed`, best first."""
        ...
