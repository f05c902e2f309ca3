"""Anatomical degrees of freedom of a hand: how far each joint bends and spreads, as axis-angle hand poses.

Each finger has three bends and a spread, the thumb also a twist: 21 numbers instead of 45.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS

FINGER_BEND_LIMITS = ((-5.0, 85.0), (-5.0, 100.0), (-5.0, 70.0))
THUMB_BEND_LIMITS = ((-5.0, 40.0), (-5.0, 55.0), (-5.0, 75.0))
FINGER_SPREAD_LIMITS = (-14.0, 14.0)
THUMB_SPREAD_LIMITS = (-57.0, 17.0)
THUMB_TWIST_LIMITS = (-45.0, 45.0)
"""deg."""
FINGER_BACK = (0.0, 1.0, 0.0)
THUMB_BACK = (0.35, 0.80, 0.50)
"""Where the nail looks in the rest pose of the right hand."""


@dataclass(frozen=True)
class FingerBends:
    """Degrees of freedom of one hand model.

    names: D names such as ``index_bend_0`` (0 = knuckle), ``index_spread``, ``thumb_twist``.
    axes: (D, 45), rad of hand_pose per rad. low, high: (D,), rad.
    """

    names: tuple[str, ...]
    axes: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @staticmethod
    def of_right_hand(rest_keypoints: np.ndarray) -> FingerBends:
        """Axes from the 21 keypoints of the flat right hand, (21, 3), m.

        Positive bends close the fingers; negative thumb spread opposes it to the palm. For the left hand, mirror
        the pose with `mirror_pose`.
        """
        names: list[str] = []
        axes: list[np.ndarray] = []
        limits: list[tuple[float, float]] = []

        def add(name: str, joint: int, axis: np.ndarray, limit: tuple[float, float]) -> None:
            row = np.zeros(45)
            row[3 * (joint - 1) : 3 * joint] = axis
            names.append(name)
            axes.append(row)
            limits.append(limit)

        for index, finger in enumerate(FINGERS):
            thumb = finger == "thumb"
            back = np.array(THUMB_BACK if thumb else FINGER_BACK)
            points = rest_keypoints[1 + 4 * index : 5 + 4 * index]
            bones = np.diff(points, axis=0)
            bones /= np.linalg.norm(bones, axis=1, keepdims=True)
            for k, joint in enumerate(FINGER_JOINTS[finger]):
                bend = np.cross(back, bones[k])
                bend /= np.linalg.norm(bend)
                limit = THUMB_BEND_LIMITS[k] if thumb else FINGER_BEND_LIMITS[k]
                add(f"{finger}_bend_{k}", joint, bend, limit)
                if k == 0:
                    spread = np.cross(bend, bones[0])
                    add(f"{finger}_spread", joint, spread, THUMB_SPREAD_LIMITS if thumb else FINGER_SPREAD_LIMITS)
                    if thumb:
                        add("thumb_twist", joint, bones[0], THUMB_TWIST_LIMITS)
        low, high = np.deg2rad(np.array(limits)).T
        return FingerBends(tuple(names), np.array(axes), low, high)

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
        return values @ self.axes


def mirror_pose(pose: np.ndarray) -> np.ndarray:
    """Axis-angle vectors (..., 3 n) of the mirrored (other) hand: the x axis is reflected."""
    return (pose.reshape(*pose.shape[:-1], -1, 3) * np.array([1.0, -1.0, -1.0])).reshape(pose.shape)
