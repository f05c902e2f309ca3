"""Bones: where the joints and fingertips of a hand of given size are.

Bone lengths are ratios of hand length after Buchholz, Armstrong and Goldstein 1992; hand length and breadth and their
spread after the US Army's ANSUR II survey. Right hand, mm: fingers -x, palm -y, thumb +z.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS

Array = NDArray[np.float64]

LONG_FINGERS = FINGERS[1:]
HAND_LENGTH, HAND_BREADTH = 189.0, 84.0
WRIST = np.array([92.0, 4.0, 4.0])
CUT_X = WRIST[0] + 12.0
"""The mesh ends at this plane beyond the wrist."""

_RATIOS = {  # of hand length: wrist to knuckle, then the three phalanges
    "index": (0.463, 0.245, 0.143, 0.097),
    "middle": (0.446, 0.266, 0.170, 0.108),
    "ring": (0.421, 0.244, 0.165, 0.107),
    "little": (0.414, 0.204, 0.117, 0.093),
}
_KNUCKLE_Z = {"index": 0.325, "middle": 0.085, "ring": -0.140, "little": -0.345}  # of hand breadth
_KNUCKLE_Y = {"index": 1.0, "middle": 2.5, "ring": 0.5, "little": -3.5}  # mm, the transverse arch
_SPREAD_DEG = {"index": 8.0, "middle": 1.5, "ring": -6.0, "little": -15.0}
_DROOP_DEG = 5.0  # a resting finger bends a little at each joint
_THUMB_RATIOS = (0.235, 0.180, 0.150)
_THUMB_DIRECTIONS = ((-0.70, -0.16, 0.69), (-0.82, -0.14, 0.55), (-0.90, -0.13, 0.42))
_DORSAL = np.array([0.0, 1.0, 0.0])
_THUMB_DORSAL = np.array([0.35, 0.80, 0.50])


@dataclass(frozen=True)
class Proportions:
    """Size of one hand. hand_length, hand_breadth: mm. The others: factors of the average."""

    hand_length: float = HAND_LENGTH
    hand_breadth: float = HAND_BREADTH
    thickness: float = 1.0
    finger_thickness: float = 1.0
    wrist_thickness: float = 1.0
    finger_length: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FINGERS, 1.0))

    @property
    def girth(self) -> float:
        """Factor of all radii."""
        length, breadth = self.hand_length / HAND_LENGTH, self.hand_breadth / HAND_BREADTH
        return float(self.thickness * np.sqrt(length * breadth))


@dataclass(frozen=True)
class Skeleton:
    """joints: (16, 3) mm, MANO's order. tips: (3,) by finger. dorsal: unit vector of the nail's side by finger."""

    joints: Array
    tips: dict[str, Array]
    dorsal: dict[str, Array]

    def chain(self, finger: str) -> Array:
        """(4, 3): the finger's three joints and its tip."""
        return np.vstack([self.joints[list(FINGER_JOINTS[finger])], self.tips[finger]])

    def axes(self, finger: str, bone: int) -> tuple[Array, Array, Array]:
        """Unit axes of a bone: along it, of positive bend (towards the palm), of splay."""
        chain = self.chain(finger)
        along = chain[bone + 1] - chain[bone]
        along = along / np.linalg.norm(along)
        bend = np.cross(along, self.dorsal[finger])
        bend = bend / np.linalg.norm(bend)
        return along, -bend, np.cross(along, bend)


def build_skeleton(proportions: Proportions) -> Skeleton:
    """Joints and tips of a hand of these proportions."""
    length, breadth = proportions.hand_length, proportions.hand_breadth
    joints, tips = np.zeros((16, 3)), {}
    joints[0] = WRIST
    for finger in LONG_FINGERS:
        metacarpal, *phalanges = (ratio * length for ratio in _RATIOS[finger])
        side = _KNUCKLE_Z[finger] * breadth
        forward = np.sqrt(max((metacarpal * 0.985) ** 2 - side**2, 1.0))
        position = WRIST + np.array([-forward, _KNUCKLE_Y[finger], side])
        spread = np.deg2rad(_SPREAD_DEG[finger])
        for i, phalanx in enumerate(phalanges):
            joints[FINGER_JOINTS[finger][i]] = position
            droop = np.deg2rad(_DROOP_DEG) * (i + 0.3)
            direction = np.array([-np.cos(spread) * np.cos(droop), -np.sin(droop), np.sin(spread) * np.cos(droop)])
            position = position + direction * phalanx * proportions.finger_length[finger]
        tips[finger] = position
    position = WRIST + np.array([-0.125 * length, -7.0, 0.285 * breadth])
    for i, ratio in enumerate(_THUMB_RATIOS):
        joints[FINGER_JOINTS["thumb"][i]] = position
        unit = np.array(_THUMB_DIRECTIONS[i]) / np.linalg.norm(_THUMB_DIRECTIONS[i])
        position = position + unit * ratio * length * proportions.finger_length["thumb"]
    tips["thumb"] = position
    dorsal = {
        finger: _THUMB_DORSAL / np.linalg.norm(_THUMB_DORSAL) if finger == "thumb" else _DORSAL for finger in FINGERS
    }
    return Skeleton(joints, tips, dorsal)
