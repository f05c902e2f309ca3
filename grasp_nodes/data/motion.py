"""The motion of the default clip: a hand reaches for a mug, lifts it, turns it and puts it back.

World frame: z up, z = 0 the table's top, the mug stands at the origin; the camera looks along +y and down.
All pieces are minimum-jerk (Flash and Hogan, 1985).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from grasp_nodes.data.mug_grasp import HandGrasp

DURATION = 5.0
REACH = (0.20, 1.05)
CLOSE = (0.85, 1.35)
LIFT = (1.45, 2.15)
TURNS = ((2.00, 2.80, -1.0), (2.85, 3.55, 0.5), (3.50, 4.00, 0.0))
"""s, s, share of the largest turn that is reached at the end."""
LOWER = (3.60, 4.20)
OPEN = (4.25, 4.70)
RETREAT = (4.48, 5.00)

PALM_ANGLE = np.deg2rad(-125.0)
"""Direction from the mug's axis to the palm, in the mug's frame, where the handle points along x."""
PALM_FROM_CAMERA = np.deg2rad(-25.0)
"""The palm's direction relative to the camera's, about the vertical: the camera sees back and thumb of the hand."""
START_OFFSET = (0.060, 0.150, 0.0)
"""m, hand axes (to the wrist, out of the back, to the thumb): where the hand starts relative to the grasp."""
START_HEIGHT = 0.03


@dataclass(frozen=True)
class ClipVariation:
    """What differs between seeds; angles in rad, lengths in m."""

    azimuth: float = 0.0
    elevation: float = np.deg2rad(27.0)
    distance: float = 0.62
    turn: float = np.deg2rad(42.0)
    lift: float = 0.09
    skin_tone: float = 1.0
    mug_color: tuple[float, float, float] = (0.25, 0.42, 0.62)

    @staticmethod
    def of_seed(seed: int) -> ClipVariation:
        """Seed 0 is the plain clip; others differ a little in view, motion and colours."""
        if seed == 0:
            return ClipVariation()
        rng = np.random.default_rng([seed, 3])
        red, green, blue = (0.2 + 0.6 * rng.uniform(0, 1, 3)).tolist()
        return ClipVariation(
            azimuth=np.deg2rad(rng.uniform(-8, 8)),
            elevation=np.deg2rad(rng.uniform(24, 30)),
            distance=rng.uniform(0.58, 0.68),
            turn=np.deg2rad(rng.uniform(32, 48)),
            lift=rng.uniform(0.07, 0.10),
            skin_tone=rng.uniform(0.8, 1.1),
            mug_color=(red, green, blue),
        )


@dataclass(frozen=True)
class ClipPose:
    """One instant. T_world_hand (rest frame of the hand) and T_world_mug: (4, 4), m. hand_pose: (45,), rad."""

    T_world_hand: np.ndarray
    T_world_mug: np.ndarray
    hand_pose: np.ndarray


def minimum_jerk(time: float, start: float, end: float) -> float:
    """0 before start, 1 after end, between them the smoothest reach."""
    share = float(np.clip((time - start) / (end - start), 0, 1))
    return share**3 * (10 - 15 * share + 6 * share**2)


def camera_pose(variation: ClipVariation) -> np.ndarray:
    """T_camera_world (4, 4) of the fixed camera."""
    back = np.array([0.0, -np.cos(variation.elevation), np.sin(variation.elevation)])
    target = np.array([-0.045, 0.0, 0.085])
    forward, right = -back, np.array([1.0, 0.0, 0.0])
    rotation = np.stack([right, np.cross(forward, right), forward])
    T_camera_world = np.eye(4)
    T_camera_world[:3, :3] = rotation
    T_camera_world[:3, 3] = -rotation @ (target + variation.distance * back)
    return T_camera_world


def clip_pose(time: float, grasp: HandGrasp, variation: ClipVariation) -> ClipPose:
    """Hand and mug at a time in s, from 0 to `DURATION`."""
    standing = np.eye(4)
    yaw = -np.pi / 2 + PALM_FROM_CAMERA - PALM_ANGLE + variation.azimuth
    standing[:3, :3] = Rotation.from_rotvec([0, 0, yaw]).as_matrix()
    T_world_mug = _carried(time, standing, grasp, variation)
    T_world_hand = T_world_mug @ grasp.T_object_hand
    away = 1 - minimum_jerk(time, *REACH) + minimum_jerk(time, *RETREAT)
    T_world_hand[:3, 3] += away * (T_world_hand[:3, :3] @ np.array(START_OFFSET) + [0, 0, START_HEIGHT])
    closed = minimum_jerk(time, *CLOSE) - minimum_jerk(time, *OPEN)
    return ClipPose(T_world_hand, T_world_mug, grasp.open_pose + closed * (grasp.hand_pose - grasp.open_pose))


def _carried(time: float, standing: np.ndarray, grasp: HandGrasp, variation: ClipVariation) -> np.ndarray:
    """T_world_mug while the mug is lifted and turned about its middle: mostly upright axis, partly the forearm."""
    lifted = minimum_jerk(time, *LIFT) - minimum_jerk(time, *LOWER)
    share = 0.0
    for start, end, goal in TURNS:
        share += minimum_jerk(time, start, end) * (goal - share)
    forearm = standing[:3, :3] @ grasp.T_object_hand[:3, 0]
    axis = 0.75 * np.array([0.0, 0.0, 1.0]) + 0.65 * forearm
    turn = Rotation.from_rotvec(variation.turn * share * axis / np.linalg.norm(axis)).as_matrix()
    middle = np.array([0.0, 0.0, 0.05])
    T_world_mug = standing.copy()
    T_world_mug[:3, :3] = turn @ standing[:3, :3]
    T_world_mug[:3, 3] = middle - turn @ middle + [0, 0, variation.lift * lifted]
    return T_world_mug
