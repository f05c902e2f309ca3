"""Postures of free hands: each finger stretched, curled, half bent or anywhere within its limits, on its own.

Flat hands, fists, pointing and counting hands are among them; no two fingers run into each other.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints
from grasp_nodes.fitting.hand_skeleton import HandSkeleton
from grasp_nodes.hand.keypoints import FINGERS

Gesture = Literal["flat", "fist", "counting", "half_bent", "mixed"]
GESTURES: dict[Gesture, float] = {"flat": 0.15, "fist": 0.1, "counting": 0.35, "half_bent": 0.15, "mixed": 0.25}
"""How often."""
STRETCHED = ((-5.0, 15.0), (-3.0, 15.0), (-3.0, 12.0))
CURLED = ((55.0, 85.0), (75.0, 100.0), (30.0, 65.0))
"""deg; least and most bends of a finger's three joints."""
THUMB_AT_REST = ((-5.0, 15.0), (-5.0, 20.0), (-5.0, 20.0))
THUMB_IN_FRONT = ((5.0, 35.0), (10.0, 50.0), (10.0, 60.0))
SPREAD_NOISE = 5.0
"""deg, of single fingers; a hand's fingers are spread together by up to..."""
COMMON_SPREAD = 10.0
UNLIKE = 0.12
"""Share of how far one finger's half bend is from another's."""
APART = 0.009
"""m, between the middle lines of two fingers: thinner than a finger, as flesh gives way."""
TRIALS = 30
POINTS_PER_BONE = 4


def free_posture(skeleton: HandSkeleton, rng: np.random.Generator) -> np.ndarray:
    """(D,) rad of a hand that holds nothing.

    Args:
        skeleton: of a right hand. rng: draws the posture.
    """
    names = list(GESTURES)
    gesture = names[int(rng.choice(len(names), p=list(GESTURES.values())))]
    values = _drawn(skeleton, gesture, rng)
    for _ in range(TRIALS):
        if _least_gap(skeleton, values) > APART:
            return values
        values = _drawn(skeleton, gesture, rng)
    return skeleton.angles((0, 0, 0), (0, 0, 0, 0, 0))


def _drawn(skeleton: HandSkeleton, gesture: Gesture, rng: np.random.Generator) -> np.ndarray:
    """One posture, which may run into itself."""
    low, high = np.rad2deg(skeleton.dofs.low), np.rad2deg(skeleton.dofs.high)
    limits = {name: (low[k], high[k]) for k, name in enumerate(skeleton.dofs.names)}
    common, spread = rng.uniform(0, 1), rng.uniform(-0.3, 1.0) * COMMON_SPREAD
    chosen: dict[str, float] = {}
    for place, finger in enumerate(FINGERS[1:]):
        bends = _bends(gesture, common, rng)
        if bends is None:
            bends = [rng.uniform(*limits[f"{finger}_bend_{k}"]) for k in range(3)]
        chosen |= {f"{finger}_bend_{k}": bend for k, bend in enumerate(bends)}
        outwards = -(place - 1.5) / 1.5 * spread
        chosen[f"{finger}_spread"] = outwards + rng.normal(0, SPREAD_NOISE)
    kind = rng.random()
    if kind < 0.3:
        thumb = {name: rng.uniform(*limits[name]) for name in limits if name.startswith("thumb")}
    else:
        ranges = THUMB_IN_FRONT if kind < 0.6 or gesture == "fist" else THUMB_AT_REST
        thumb = {f"thumb_bend_{k}": rng.uniform(*ranges[k]) for k in range(3)}
        least, most = limits["thumb_spread"]
        thumb["thumb_spread"] = (
            rng.uniform(least, 0.3 * least + 0.7 * most)
            if ranges is THUMB_IN_FRONT
            else (rng.uniform(-0.3, 0.3) * (most - least))
        )
        thumb["thumb_twist"] = rng.normal(0, 12.0)
    chosen |= thumb
    cut = {name: float(np.clip(angle, *limits[name])) for name, angle in chosen.items()}
    return skeleton.dofs.values(**cut)


def _bends(gesture: Gesture, common: float, rng: np.random.Generator) -> list[float] | None:
    """deg, of one finger; None = any."""
    if gesture == "mixed":
        kind = rng.random()
        if kind < 0.34:
            return None
        common = rng.uniform(0, 1)
    if gesture in ("half_bent", "mixed"):
        share = np.clip(common + rng.normal(0, UNLIKE), 0, 1)
        ends = [(0.5 * sum(open_), 0.5 * sum(closed)) for open_, closed in zip(STRETCHED, CURLED, strict=True)]
        return [first + share * (last - first) + rng.normal(0, 6.0) for first, last in ends]
    curled = gesture == "fist" or (gesture == "counting" and rng.random() < 0.5)
    return [rng.uniform(*pair) for pair in (CURLED if curled else STRETCHED)]


def _least_gap(skeleton: HandSkeleton, values: np.ndarray) -> float:
    """m, between points of the middle lines of different fingers, knuckles left out."""
    hand = HandConfiguration(np.eye(3), np.array([0.0, 0.0, 0.5]), values, 1.0)
    points = pose_keypoints(skeleton, hand)
    chains = points[1:].reshape(len(FINGERS), 4, 3)
    shares = np.linspace(0, 1, POINTS_PER_BONE + 1)[1:]
    lines = chains[:, :-1, None] + shares[:, None] * (chains[:, 1:] - chains[:, :-1])[:, :, None]
    flat = lines.reshape(len(FINGERS), -1, 3)
    gaps = np.linalg.norm(flat[:, None, :, None] - flat[None, :, None], axis=-1).min(axis=(2, 3))
    return float(gaps[np.triu_indices(len(FINGERS), 1)].min())
