"""A robot hand's surface as the solver wants it."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from grasp_nodes.retargeting.robot_hand import RobotHand
from grasp_nodes.retargeting.solver import Skin

BALLS = 3
"""Along each phalanx, to keep fingers out of each other."""
_BALL_SHARE = 0.8
"""Of a phalanx's thickness: fingers may touch, and shapes are coarser than links."""


def solver_skin(hand: RobotHand) -> Skin:
    """The surface of a hand, with a ball around each body and balls along the two last phalanges of each finger."""
    surface, count = hand.surface, len(hand.surface.start) - 1
    center, radius = np.zeros((count, 3)), np.full(count, -1.0)
    for body in range(count):
        own = surface.points[surface.start[body] : surface.start[body + 1]]
        if len(own):
            center[body] = 0.5 * (own.min(axis=0) + own.max(axis=0))
            radius[body] = np.linalg.norm(own - center[body], axis=1).max()
    owner, balls, sizes, fingers = [], [], [], []
    for number, finger in enumerate(hand.fingers):
        for body in finger.bodies[-2:]:
            own = surface.points[surface.start[body] : surface.start[body + 1]]
            middle = own.mean(axis=0)
            axis = np.linalg.svd(own - middle, full_matrices=False)[2][0]
            along = (own - middle) @ axis
            thickness = np.median(np.linalg.norm(own - middle - along[:, None] * axis, axis=1))
            ends = np.array([along.min() + thickness, along.max() - thickness])
            for share in np.linspace(0, 1, BALLS):
                balls.append(middle + (ends[0] + share * (ends[1] - ends[0])) * axis)
                sizes.append(_BALL_SHARE * thickness)
                owner.append(body)
                fingers.append(number)
    pairs = [(a, b) for a, b in combinations(range(len(balls)), 2) if fingers[a] != fingers[b]]
    return Skin(
        surface.points,
        surface.normals,
        surface.start,
        center,
        radius,
        np.array(owner, np.int64),
        np.array(balls),
        np.array(sizes),
        np.array(pairs, np.int64).reshape(-1, 2),
    )
