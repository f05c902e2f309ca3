"""Which of two mirrored places each anchor has: what CHOIR's *ordered* assignment on a grid leaves open.

Each anchor is known up to its mirror image in a plane of its own. One hand has them all: its palm is one rigid body,
fingers follow from the inside out, and a right hand is no left one.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from grasp_nodes.fitting.choir.carried_points import Carrier, HandPlace, Mixed
from grasp_nodes.fitting.choir.multilateration import kabsch
from grasp_nodes.fitting.choir.prior import HandPrior
from grasp_nodes.fitting.choir.solver import PointGoals, Solved, no_surface, points_of, solve, usual_place
from grasp_nodes.hand.anchors import CARPAL, PALM_METACARPAL
from grasp_nodes.hand.parameters import NUM_POSE

CHOICES = 3
"""Of the palm, the best of all, that are followed to the fingertips."""
DEVIATION = 0.004
"""m, of anchors while places are chosen: one at the wrong place must not hold the hand."""
_STEPS, _LAST_STEPS, _ROUNDS = 5, 40, 4
_GAIN = 1e-3
_LAST_GAIN = 1e-5


def without_mirrors(
    points: tuple[Carrier, Mixed], goals: PointGoals, mirrored: np.ndarray, region: np.ndarray, prior: HandPrior
) -> tuple[PointGoals, Solved]:
    """Goals with each anchor at the one of its places that makes a hand with the others, and that hand.

    All choices for the anchors of the palm are compared by Kabsch. From each of the best ones the fingers' anchors are
    chosen as the hand that is fitted so far tells, phalanx by phalanx, then all again until nothing changes.

    Args:
        points: the anchors. goals: at one place each. mirrored: (32, 3), m, the other places.
        region: (32,), of the anchors, as `REGION_NAMES`. prior: of the hand.
    """
    palm = np.flatnonzero((region == PALM_METACARPAL) | (region == CARPAL))
    both = np.stack([goals.position, mirrored])
    followed = []
    for chosen in _palms(points, both, palm, prior)[:CHOICES]:
        side = np.zeros(len(region), np.int64)
        side[palm] = chosen
        followed.append(_followed(points, both, side, region, prior))
    found, side = min(followed, key=lambda one: one[0].cost)
    for _ in range(_ROUNDS):
        best = PointGoals(_chosen(both, side), goals.information)
        found = solve(*points, best, no_surface(), prior, found.place, _LAST_STEPS, _LAST_GAIN)
        new = _nearer(points, both, found.place)
        if (new == side).all():
            break
        side = new
    return best, found


def _palms(points: tuple[Carrier, Mixed], both: np.ndarray, palm: np.ndarray, prior: HandPrior) -> np.ndarray:
    """(2^7, 7) int64: which place of each anchor of the palm, the most rigid choice first."""
    still = HandPlace(np.eye(3), np.zeros(3), prior.mean[:NUM_POSE].copy(), prior.mean[NUM_POSE:].copy())
    usual = points_of(points, still)[palm]
    choices = np.array(list(product((0, 1), repeat=len(palm))))
    errors = []
    for choice in choices:
        goal = both[choice, palm]
        rotation, shift = kabsch(usual, goal, np.ones(len(palm)))
        errors.append(np.square(usual @ rotation.T + shift - goal).sum())
    return choices[np.argsort(errors)]


def _followed(
    points: tuple[Carrier, Mixed], both: np.ndarray, side: np.ndarray, region: np.ndarray, prior: HandPrior
) -> tuple[Solved, np.ndarray]:
    """From the palm's choice to a hand, and the choice (32,) for all anchors."""
    finger = (region != PALM_METACARPAL) & (region != CARPAL)
    level = np.where(finger, region % 3 + 1, 0)
    sure = np.tile(np.eye(3) / DEVIATION**2, (len(region), 1, 1))

    def fitted(last: int, place: HandPlace | None) -> Solved:
        goals = PointGoals(_chosen(both, side), sure * (level <= last)[:, None, None])
        return solve(*points, goals, no_surface(), prior, place or usual_place(points, goals, prior), _STEPS, _GAIN)

    found = fitted(0, None)
    for last in (1, 2, 3):
        side = np.where(level == last, _nearer(points, both, found.place), side)
        found = fitted(last, found.place)
    for _ in range(_ROUNDS):
        new = _nearer(points, both, found.place)
        if (new == side).all():
            break
        side = new
        found = fitted(3, found.place)
    return found, side


def _nearer(points: tuple[Carrier, Mixed], both: np.ndarray, place: HandPlace) -> np.ndarray:
    """(32,) int64: which place of each anchor is nearer to where a hand has it."""
    return np.asarray(np.linalg.norm(both - points_of(points, place), axis=2).argmin(axis=0))


def _chosen(both: np.ndarray, side: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(both[side, np.arange(both.shape[1])])
