"""The fit of a live stream: every new frame is answered at once, from all of the last frames.

A frame is solved where the motion of the last answers leads to and held there firmly: a Kalman filter of constant
velocity whose update is the nonlinear fit itself. An object that cannot be seen moves with the hand that holds it.

Two others were measured and left out, because the newest frame was worse: a few steps of Adam with the terms of
:mod:`homan` over the window (a tenth of a converged least-squares fit at five times its price), and a Gauss-Newton
smoother over the frames' linearised solutions (errors within a window are alike, not independent).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.spatial.transform import Rotation

from grasp_nodes.contact.interaction import HandObjectState
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.frame_fitter import FrameFitter, FrameFitterOptions
from grasp_nodes.fitting.given_poses import GivenPoses
from grasp_nodes.fitting.hand_fit import HandFitOptions
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import Evidence

GRIP_DISTANCE = 0.006
"""m; vertices of the hand nearer to the object than this touch it."""
GRIP_VERTICES = 12
"""A hand of which fewer vertices touch does not hold."""
GRIP_SCORE = 0.7
"""Object poses with a lower score do not tell how it is held."""
GRIP_FRAMES = 3
"""Frames in a row in which it has to hold."""


def steady_hand(window: int) -> HandFitOptions:
    """Options of a hand that goes on as it did over a window of frames."""
    if window == 1:
        return HandFitOptions()
    return HandFitOptions(
        wrist_change=0.0055,
        distance_change_without_depth=0.004,
        rotation_change=0.065,
        angle_change=0.055,
        velocity_share=0.7,
        window=window,
    )


@dataclass(frozen=True)
class StreamingOptions:
    """How a stream is fitted.

    frame: how single frames are; its hand options are replaced. window: frames that the newest answer rests on; 1 =
    each frame by itself, after the one before.
    """

    frame: FrameFitterOptions = field(default_factory=FrameFitterOptions)
    window: int = 10

    def __post_init__(self) -> None:
        if self.window < 1:
            raise InputError(f"window: expected at least 1 frame, got {self.window}")


@dataclass
class _Grip:
    """How a hand holds the object. T_hand_object: (4, 4), wrist frame, m. frames: in a row in which it held."""

    T_hand_object: np.ndarray
    frames: int


class StreamingFitter(FrameFitter):
    """Hands, object and contact of a stream."""

    def __init__(
        self,
        object_model: ObjectModel | None,
        hand_models: Mapping[Side, HandModel],
        options: StreamingOptions | None = None,
    ) -> None:
        """As `FrameFitter`.

        Raises:
            InputError: no hand model at all.
        """
        self.streaming = options or StreamingOptions()
        frame = replace(self.streaming.frame, hand=steady_hand(self.streaming.window))
        super().__init__(object_model, hand_models, frame)

    def reset(self) -> None:
        """Forget everything that was followed."""
        super().reset()
        self._grips: dict[tuple[int, Side], _Grip] = {}
        self._carried: np.ndarray | None = None

    def update(
        self, evidence: Evidence, depth: np.ndarray | None = None, given: GivenPoses | None = None
    ) -> HandObjectState:
        """As `FrameFitter.update`; an object that was carried is looked for where the hand took it."""
        given = given or GivenPoses()
        if given.T_camera_object is None and self._carried is not None:
            given = replace(given, T_camera_object=self._carried)
        return super().update(evidence, depth, given)

    def _after_hands(self, object_seen: bool, fresh: set[tuple[int, Side] | None]) -> None:
        if self._object is None:
            self._grips, self._carried = {}, None
            return
        if object_seen:
            self._learn_grips(fresh)
            self._carried = None
            return
        holding = [key for key, grip in self._grips.items() if key in fresh and grip.frames >= GRIP_FRAMES]
        if holding and self.streaming.window > 1:
            key = max(holding, key=lambda key: self._grips[key].frames)
            self._carried = self._wrist(key) @ self._grips[key].T_hand_object
            self._object = replace(self._object, T_camera_object=self._carried)

    def _learn_grips(self, fresh: set[tuple[int, Side] | None]) -> None:
        """Note how each hand that touches the object lies to it."""
        assert self._object is not None
        pose, before = self._object.T_camera_object, self._grips
        self._grips = {}
        if self._object.score < GRIP_SCORE:
            return
        for key in self._hands:
            if key in fresh and self._touches(key, pose):
                frames = before[key].frames + 1 if key in before else 1
                self._grips[key] = _Grip(np.linalg.inv(self._wrist(key)) @ pose, frames)

    def _touches(self, key: tuple[int, Side], T_camera_object: np.ndarray) -> bool:
        vertices = self._hands[key].vertices
        if vertices is None or self._object_model is None:
            return False
        in_object = (vertices - T_camera_object[:3, 3]) @ T_camera_object[:3, :3]
        distance, _ = self._object_model.signed_distance.query(in_object)
        return int((distance < GRIP_DISTANCE).sum()) >= GRIP_VERTICES

    def _wrist(self, key: tuple[int, Side]) -> np.ndarray:
        """(4, 4), wrist frame to camera, m."""
        state = self._hands[key].state
        assert state is not None
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_quat(state.joint_poses[0, 3:]).as_matrix()
        pose[:3, 3] = state.joint_poses[0, :3]
        return pose
