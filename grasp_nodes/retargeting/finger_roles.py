"""Which chains of a robot hand are thumb, index, middle, ring and little finger, and which way its palm looks.

Names decide where they tell it, else geometry: the thumb is the chain whose knuckle stands apart from the line of the
others, and the others are counted from the thumb's side. Frames of descriptions follow no common rule; the palm frame
made here is the same for human and robot hands, so that nobody has to give the rotation between the two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.hand.keypoints import FINGERS
from grasp_nodes.hand.parameters import Side
from grasp_nodes.retargeting.kinematics import Kinematics

PREFIXES = {
    "thumb": ("thumb", "th"),
    "index": ("index", "idx", "fore", "ff"),
    "middle": ("middle", "mid", "mf"),
    "ring": ("ring", "rf"),
    "little": ("little", "pinky", "lf"),
}
"""Beginnings of words by which descriptions call their fingers."""


def finger_chains(kinematics: Kinematics) -> tuple[int, list[list[int]]]:
    """The palm's body, and the bodies of each finger from knuckle to tip.

    The palm is the last body that all of the tree's ends have in common (behind the joints of a wrist, where there are
    any).

    Raises:
        InputError: fewer than two chains leave the palm.
    """
    parent = kinematics.chain.parent
    ends = sorted(set(range(len(parent))) - set(parent.tolist()))
    paths = []
    for end in ends:
        path = [end]
        while path[-1] > 0:
            path.append(int(parent[path[-1]]))
        paths.append(path[::-1])
    common = 0
    while all(len(path) > common + 1 for path in paths) and len({path[common + 1] for path in paths}) == 1:
        common += 1
    chains = [path[common + 1 :] for path in paths]
    if len(chains) < 2:
        raise InputError("robot hand: fewer than two fingers leave its palm; expected a hand, not an arm or a gripper")
    return paths[0][common], chains


def name_fingers(
    chains: Sequence[Sequence[int]], names: Sequence[Sequence[str]], knuckles: np.ndarray, directions: np.ndarray
) -> dict[str, int]:
    """Which chain is which finger.

    Args:
        chains: bodies. names: of each chain's links and joints. knuckles: (C, 3) m, where each chain leaves the palm.
        directions: (C, 3) unit, from there to the chain's end while the hand is open.

    Returns:
        Position in `chains` by the finger's name, in the order of `FINGERS`.

    Raises:
        InputError: more chains than fingers, whose names do not tell which is which.
    """
    by_name: dict[str, int] = {}
    for k, each in enumerate(names):
        finger = _named(each)
        if finger is not None and finger not in by_name:
            by_name[finger] = k
    if len(by_name) < len(chains):
        if len(chains) > len(FINGERS):
            raise InputError(
                f"robot hand: {len(chains)} chains leave its palm, and their names do not tell the fingers: name links "
                f"and joints by {', '.join(FINGERS)}"
            )
        by_name = _by_place(by_name.get("thumb"), knuckles, directions)
    return {finger: by_name[finger] for finger in FINGERS if finger in by_name}


def palm_frame(index: np.ndarray, last: np.ndarray, knuckles: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """(4, 4) m: origin in the middle of the knuckles, x along the fingers, y to the index finger's side, z across.

    Args:
        index, last: (3,) m, knuckles of the index finger and of the one farthest from it. knuckles: (K, 3) m, of all
            fingers but the thumb. forward: (3,), along the open fingers.
    """
    side = index - last
    x = forward / np.linalg.norm(forward)
    y = side - (side @ x) * x
    length = np.linalg.norm(y)
    if not length > 1e-6:
        raise InputError("hand: its knuckles lie along its fingers, so that its palm has no width")
    T = np.eye(4)
    T[:3, 0], T[:3, 1] = x, y / length
    T[:3, 2] = np.cross(x, y / length)
    T[:3, 3] = knuckles.mean(axis=0)
    return T


def side_of(palm: np.ndarray, bending: np.ndarray) -> Side:
    """Side of a hand whose fingertips move along `bending` (3,) when they bend; palm: of `palm_frame`.

    The palm frame's z looks out of the back of a right hand, and out of the palm of a left one.
    """
    return "right" if palm[:3, 2] @ bending < 0 else "left"


def human_palm(keypoints: np.ndarray, fingers: Sequence[str]) -> np.ndarray:
    """`palm_frame` of a human hand, by the knuckles of those of its fingers that a robot has.

    Args:
        keypoints: (21, 3) m. fingers: names; the thumb among them does not matter.
    """
    known = [1 + 4 * FINGERS.index(finger) for finger in fingers if finger != "thumb"]
    knuckles = keypoints[known]
    if len(known) == 1:  # one finger against a thumb: the palm's width is the human's
        return palm_frame(keypoints[5], keypoints[17], knuckles, knuckles[0] - keypoints[0])
    return palm_frame(knuckles[0], knuckles[-1], knuckles, knuckles.mean(axis=0) - keypoints[0])


def _named(names: Sequence[str]) -> str | None:
    """The finger that most names of a chain begin with (behind a robot's own prefix)."""
    votes: Mapping[str, list[int]] = {finger: [] for finger in FINGERS}
    for name in names:
        for word in re.split(r"[^a-z]+", name.lower()):
            found = [finger for finger in FINGERS if word.startswith(PREFIXES[finger])]
            if found:
                votes[found[0]].append(1)
                break
    best = max(FINGERS, key=lambda finger: len(votes[finger]))
    return best if votes[best] else None


def _by_place(thumb: int | None, knuckles: np.ndarray, directions: np.ndarray) -> dict[str, int]:
    count = len(knuckles)
    if thumb is None:
        thumb = min(range(count), key=lambda k: _spread(np.delete(knuckles, k, 0), np.delete(directions, k, 0)))
    others = [k for k in range(count) if k != thumb]
    if len(others) > 1:
        centred = knuckles[others] - knuckles[others].mean(axis=0)
        line = np.linalg.svd(centred)[2][0]
        # The index finger is at the thumb's side of the line of knuckles.
        reach = (knuckles[thumb] + 0.05 * directions[thumb] - knuckles[others].mean(axis=0)) @ line
        others.sort(key=lambda k: -np.sign(reach) * float(knuckles[k] @ line))
    return {"thumb": thumb, **dict(zip(FINGERS[1:], others, strict=False))}


def _spread(knuckles: np.ndarray, directions: np.ndarray) -> float:
    """How little some chains look like a row of fingers: their knuckles off a line, m, and their directions apart."""
    centred = knuckles - knuckles.mean(axis=0)
    off_line = np.linalg.svd(centred, compute_uv=False)[1:].sum() if len(knuckles) > 1 else 0.0
    return float(off_line + 0.1 * (1 - np.linalg.norm(directions.mean(axis=0))))
