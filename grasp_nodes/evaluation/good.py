"""The headline number: a good grasp is shallow, touches with three fingers and holds against gravity from six sides.

No one of the three is enough: hands placed at random, deep in the object, "hold" it in a third of all cases.
"""

from __future__ import annotations

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.hand.kinds import GraspKind

GOOD_DEPTH = 0.005
"""m."""
GOOD_FINGERS = 3
GOOD_PINCH_FINGERS = 2


def is_good(
    depth: np.ndarray, fingers_in_contact: np.ndarray, holds: np.ndarray, kind: GraspKind | None = None
) -> np.ndarray:
    """Good: penetration depth < 5 mm, at least 3 fingers in contact, and the object is held in six directions.

    Args:
        depth: (B,), m, the larger of `penetration_depth` and `object_depth_in_hand`: a hand through a thin wall has no
            vertex deep in it. fingers_in_contact: (B, 5) bool, from `fingers_in_contact`.
        holds: (B,) bool, from the six-direction hold.
        kind: of labelled data only: a pinch needs 2 fingers. None for a generated grasp, which always needs 3.

    Returns:
        (B,) bool; False where the depth is NaN.
    """
    if not depth.shape == holds.shape == fingers_in_contact.shape[:1] or fingers_in_contact.shape[1:] != (5,):
        raise InputError(
            f"good: expected depth (B,), fingers (B, 5) and holds (B,), got {depth.shape}, {fingers_in_contact.shape} "
            f"and {holds.shape}"
        )
    needed = GOOD_PINCH_FINGERS if kind == "pinch" else GOOD_FINGERS
    return (depth < GOOD_DEPTH) & (fingers_in_contact.sum(axis=1) >= needed) & holds.astype(bool)
