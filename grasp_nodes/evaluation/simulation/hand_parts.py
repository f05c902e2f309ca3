"""The hand as convex parts: phalanges, and a palm of narrow strips that leave its hollow free."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS, WRIST_LOOP

_HALVES = 2


def hand_parts(
    template: np.ndarray, joints: np.ndarray, skinning_weights: np.ndarray, faces: np.ndarray
) -> list[np.ndarray]:
    """Vertex ids of each part; neighbouring parts share the ring of vertices between them.

    The 15 phalanges are the vertices that their joints move most. The palm is four metacarpal strips of two halves
    each: one hull over all of it would fill the hollow in which a ball lies.

    Args:
        template: (V, 3), m, rest pose. joints: (16, 3), m, rest pose. skinning_weights: (V, 16).
        faces: (F, 3) int.

    Returns:
        23 arrays of int64: the phalanges in the order of the joints 1..15, then the palm.
    """
    owner = skinning_weights.argmax(axis=1)
    label = np.where(owner > 0, owner - 1, -1)
    palm = np.flatnonzero(owner == 0)
    knuckles = joints[[FINGER_JOINTS[name][0] for name in FINGERS[1:]]]
    wrist = template[list(WRIST_LOOP)].mean(axis=0)
    along = knuckles - wrist
    share = np.clip(np.einsum("nc,kc->nk", template[palm] - wrist, along) / (along**2).sum(axis=1), 0, 1)
    gap = np.linalg.norm(template[palm][:, None] - (wrist + share[:, :, None] * along), axis=2)
    strip = gap.argmin(axis=1)
    half = (np.take_along_axis(share, strip[:, None], axis=1)[:, 0] > 1 / _HALVES).astype(np.int64)
    label[palm] = 15 + _HALVES * strip + half
    corner = label[faces]
    return [np.unique(faces[(corner == part).any(axis=1)]) for part in range(15 + _HALVES * len(along))]


def fingertip_parts() -> Sequence[int]:
    """Places of the outermost phalanges of thumb, index, middle, ring and little finger in `hand_parts`."""
    return [FINGER_JOINTS[name][-1] - 1 for name in FINGERS]
