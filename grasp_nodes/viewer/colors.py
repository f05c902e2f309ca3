"""Colours of everything that is shown, in one place, so that page, pictures and rviz agree."""

from __future__ import annotations

import numpy as np

SKIN = np.array([206, 142, 108], np.uint8)
CONTACT = np.array([206, 32, 41], np.uint8)
OBJECT = np.array([92, 132, 176], np.uint8)
PENETRATION = np.array([96, 40, 190], np.uint8)
GRASPED_OBJECT = np.array([168, 170, 174], np.uint8)
"""In pictures of grasps, where colour tells contact."""
HAND_TRAIL = (240, 150, 60)
OBJECT_TRAIL = (60, 120, 220)


def contact_colors(contact: np.ndarray, base: np.ndarray = SKIN) -> np.ndarray:
    """Colours from `base` (no contact) to red (contact).

    Args:
        contact: (N,), 0..1.
        base: (3,) uint8, RGB.

    Returns:
        (N, 3) uint8, RGB.
    """
    share = np.clip(np.nan_to_num(np.asarray(contact, np.float32)), 0.0, 1.0)[:, None]
    return np.round(base * (1 - share) + CONTACT * share).astype(np.uint8)
