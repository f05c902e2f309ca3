"""Names, order and vertex ids of joints, the 21 keypoints and the wrist's rim, as MANO tools expect them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FINGERS = ("thumb", "index", "middle", "ring", "little")
"""Keypoint order of the fingers (MANO's joints are in another order)."""

JOINT_NAMES = (
    "wrist",
    *("index_mcp", "index_pip", "index_dip"),
    *("middle_mcp", "middle_pip", "middle_dip"),
    *("little_mcp", "little_pip", "little_dip"),
    *("ring_mcp", "ring_pip", "ring_dip"),
    *("thumb_cmc", "thumb_mcp", "thumb_ip"),
)
"""MANO's joint order."""

PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
"""Parent of each joint; five chains of three below the wrist."""

FINGER_JOINTS = {
    "thumb": (13, 14, 15),
    "index": (1, 2, 3),
    "middle": (4, 5, 6),
    "ring": (10, 11, 12),
    "little": (7, 8, 9),
}
"""Joints of each finger from the palm outwards."""

TIP_VERTICES = {"thumb": 744, "index": 320, "middle": 443, "ring": 554, "little": 671}
"""Fingertip vertices (smplx's ids)."""

SECOND_TIP_VERTICES = {"thumb": 745, "index": 317, "middle": 444, "ring": 556, "little": 673}
"""The ids that other tools take as fingertips; on the open hand the vertices second nearest to the tips."""

KEYPOINT_NAMES = (
    "wrist",
    *("thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip"),
    *(f"{finger}_{part}" for finger in FINGERS[1:] for part in ("mcp", "pip", "dip", "tip")),
)
"""The 21 keypoints: wrist, then each finger from palm to tip (the order of MediaPipe, OpenPose and HO3D's papers)."""

KEYPOINT_ORDER = (0, *(j for k, f in enumerate(FINGERS) for j in (*FINGER_JOINTS[f], 16 + k)))
"""Keypoints taken out of [16 joints, tips of thumb, index, middle, ring, little]."""

WRIST_LOOP = (38, 92, 234, 239, 279, 215, 214, 121, 78, 79, 108, 120, 119, 117, 118, 122)
"""The 16 vertices of the open rim at the wrist, in cyclic order."""


def closed_faces(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """The hand's faces and 14 more that close the wrist without a new vertex.

    Args:
        faces: (F, 3), a mesh whose only boundary is `WRIST_LOOP`, either winding.

    Returns:
        (F + 14, 3), wound as `faces`.
    """
    loop = list(WRIST_LOOP)
    if ((faces == loop[0]) & (np.roll(faces, -1, axis=1) == loop[1])).any():  # a cap runs against the rim's direction
        loop.reverse()
    low, high, cap = 0, len(loop) - 1, []
    while high - low > 1:  # a strip: flatter triangles than a fan
        cap.append((loop[low], loop[low + 1], loop[high]))
        low += 1
        if high - low > 1:
            cap.append((loop[low], loop[high - 1], loop[high]))
            high -= 1
    return np.concatenate([np.asarray(faces, np.int64), np.array(cap, np.int64)])
