"""The retargeting library ``dex_retargeting`` behind this package's interface, to compare with or to use instead.

Y. Qin et al., "AnyTeleop", RSS 2023. What its users have to find out by hand it is given here: the robot's base as it
lies on the human's palm, the scale of the two hands, the links of the fingertips.
"""

from __future__ import annotations

import contextlib
import io
import time
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from grasp_nodes.contact.interaction import HandState
from grasp_nodes.errors import InputError, MissingDependencyError
from grasp_nodes.hand.keypoints import FINGERS
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.retargeting.contact_targets import ContactTargets
from grasp_nodes.retargeting.finger_roles import human_palm
from grasp_nodes.retargeting.retargeter import (
    RetargetSettings,
    checked_keypoints,
    finger_lengths,
    hand_scale,
    resting_palm,
)
from grasp_nodes.retargeting.robot_hand import Finger, RobotHand
from grasp_nodes.retargeting.robot_states import RobotHandState

_DUMMIES = [f"dummy_{axis}_{kind}_joint" for kind in ("translation", "rotation") for axis in "xyz"]
"""The joints by which the library lets a base move."""
_NO_FILTER = 1.0


class DexRetargeting:
    """`Retargeter` of the modes position, vector and dexpilot by that library; it knows no object.

    Args:
        hand: the robot, of a URDF file. settings: its mode, scale and, as the library's low-pass filter, smoothing.

    Raises:
        MissingDependencyError: the library is not installed.
        InputError: mode contact, or a hand that does not come from a file.
    """

    def __init__(self, hand: RobotHand, settings: RetargetSettings) -> None:
        if settings.mode == "contact":
            raise InputError("dex_retargeting: has no mode 'contact'; expected position, vector or dexpilot")
        if hand.description.path is None:
            raise InputError("dex_retargeting: needs a hand that was read from a URDF file")
        self.hand, self.settings = hand, settings
        self._config = _import_config()
        self._T_base_palm, self._lengths = resting_palm(hand), finger_lengths(hand)
        self._links = [_tip_link(hand, finger) for finger in hand.fingers]
        self._solver: Any = None
        self._scale = 0.0

    def reset(self) -> None:
        """Forget the last frame."""
        self._solver = None

    def update(
        self,
        human: HandState,
        stamp: int = 0,
        frame_id: str = "",
        T_frame_object: np.ndarray | None = None,  # noqa: ARG002 - the interface
        object_model: ObjectModel | None = None,  # noqa: ARG002 - the interface
        targets: ContactTargets | None = None,  # noqa: ARG002 - the interface
    ) -> RobotHandState:
        """The robot hand of one frame, see `Retargeter.update`; object and contact are not looked at."""
        keypoints = checked_keypoints(human, self.hand)
        palm = human_palm(keypoints, self.hand.finger_names)
        aligned = palm @ np.linalg.inv(self._T_base_palm)
        if self._solver is None:
            self._scale = self.settings.scale or hand_scale(keypoints, self.hand, self._lengths)
            self._solver = self._build()
        started = time.perf_counter()
        tips = keypoints[[4 + 4 * FINGERS.index(name) for name in self.hand.finger_names]]
        turn = aligned[:3, :3]
        if self.settings.mode == "position":
            asked = (tips - aligned[:3, 3]) @ turn
        elif self.settings.mode == "vector":
            # From the root link: the library scales vectors as wholes, so the palm's place is put in beforehand.
            root = self._T_base_palm[:3, 3]
            asked = ((tips - palm[:3, 3]) @ turn) + root / self._scale
        else:
            # The library counts keypoints: the wrist is 0, the tip of finger k is 4 k.
            origin, task = self._solver.optimizer.target_link_human_indices // 4
            base = palm[:3, 3] - turn @ self._T_base_palm[:3, 3] / self._scale
            points = np.concatenate([base[None], tips])
            asked = (points[task] - points[origin]) @ turn
        with contextlib.redirect_stdout(io.StringIO()):  # a failure is printed, and the last answer returned
            values = self._solver.retarget(asked)
        by_name = dict(zip(self._solver.joint_names, values, strict=True))
        T = aligned
        if self.settings.mode == "position":
            T = aligned @ _dummy_pose(np.array([float(by_name[name]) for name in _DUMMIES]))
        kinematics = self.hand.kinematics
        positions = kinematics.expand(np.array([float(by_name[name]) for name in kinematics.driven_names]))
        return RobotHandState(stamp, frame_id, positions, T, 0.0, time.perf_counter() - started, 0)

    def _build(self) -> Any:
        mode = self.settings.mode
        options: dict[str, Any] = {
            "type": mode,
            "urdf_path": str(self.hand.description.path.resolve()) if self.hand.description.path else "",
            "target_joint_names": list(self.hand.kinematics.driven_names),
            "low_pass_alpha": _NO_FILTER,
            "add_dummy_free_joint": mode == "position",
        }
        root = self.hand.description.root
        indices = [4 + 4 * FINGERS.index(name) for name in self.hand.finger_names]
        if mode == "position":
            options |= {"target_link_names": self._links, "target_link_human_indices": np.array(indices)}
        elif mode == "vector":
            options |= {
                "target_origin_link_names": [root] * len(self._links),
                "target_task_link_names": self._links,
                "target_link_human_indices": np.array([[0] * len(indices), indices]),
                "scaling_factor": self._scale,
            }
        else:
            options |= {
                "finger_tip_link_names": self._links,
                "wrist_link_name": root,
                "scaling_factor": self._scale,
            }
        with contextlib.redirect_stdout(io.StringIO()):
            return self._config(**options).build()


def _tip_link(hand: RobotHand, finger: Finger) -> str:
    """The link of the last phalanx whose frame is nearest to the fingertip."""
    kinematics = hand.kinematics
    own = [name for name, body in kinematics.body_of_link.items() if body == finger.tip_body]
    return min(own, key=lambda name: float(np.linalg.norm(kinematics.link_offset[name][:3, 3] - finger.tip)))


def _dummy_pose(values: np.ndarray) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = values[:3]
    T[:3, :3] = Rotation.from_euler("XYZ", values[3:]).as_matrix()
    return T


def _import_config() -> Any:
    try:
        from dex_retargeting.retargeting_config import RetargetingConfig
    except ImportError as error:
        raise MissingDependencyError(
            f"the back end dex_retargeting cannot be imported ({error}): install it with "
            "'pip install grasp_nodes[retarget]' (Python < 3.13), or take the package's own solver"
        ) from error
    return RetargetingConfig
