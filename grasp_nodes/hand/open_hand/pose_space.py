"""Mean pose and pose components: principal components of synthetic everyday hand poses.

Fingers flex together and each its own way (Santello et al. 1998 found two synergies to explain most of grasping): a
common flexion for the four fingers, deviations per finger and per joint, the thumb apart.
"""

from __future__ import annotations

import numpy as np

from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS
from grasp_nodes.hand.open_hand.proportions import Array, Skeleton
from grasp_nodes.hand.parameters import NUM_JOINTS

_SAMPLES = 2000
_FULL_FLEXION_DEG = (72.0, 88.0, 58.0)
_THUMB_FLEXION_DEG = (32.0, 38.0, 48.0)


def pose_space(skeleton: Skeleton, seed: int) -> tuple[Array, Array]:
    """hands_mean (45,), rad, full rotations; hands_components (45, 45), orthonormal rows, of which the first flexes."""
    generator = np.random.default_rng(seed)
    normal = generator.standard_normal
    together = generator.beta(1.3, 1.6, (_SAMPLES, 1))
    thumb = generator.beta(1.5, 1.5, (_SAMPLES, 1))
    poses = np.zeros((_SAMPLES, NUM_JOINTS, 3))
    flexing = np.zeros((NUM_JOINTS, 3))
    for finger in FINGERS:
        is_thumb = finger == "thumb"
        full = np.deg2rad(_THUMB_FLEXION_DEG if is_thumb else _FULL_FLEXION_DEG)
        own = np.clip((thumb if is_thumb else together) + 0.2 * normal((_SAMPLES, 1)), -0.15, 1)
        for bone, joint in enumerate(FINGER_JOINTS[finger]):
            along, bend, splay = skeleton.axes(finger, bone)
            share = np.clip(own + 0.08 * normal((_SAMPLES, 1)), -0.15 if is_thumb else -0.05, 1)
            poses[:, joint] += full[bone] * share * bend
            flexing[joint] = bend
            if bone == 0:
                poses[:, joint] += np.deg2rad(16 if is_thumb else 7) * normal((_SAMPLES, 1)) * splay
            if bone == 0 and is_thumb:
                poses[:, joint] += np.deg2rad(10) * normal((_SAMPLES, 1)) * along
    flat = poses[:, 1:].reshape(_SAMPLES, -1)
    mean = flat.mean(0)
    _, _, components = np.linalg.svd(flat - mean, full_matrices=True)
    strongest = components[np.arange(len(components)), np.abs(components).argmax(1)]
    signs = np.where(strongest < 0, -1.0, 1.0)  # an SVD leaves the signs open
    signs[0] = np.sign(components[0] @ flexing[1:].ravel())
    return mean, components * signs[:, None]
