"""Colours of everything that is shown, in one place, so that page, pictures and rviz agree."""

from __future__ import annotations

import colorsys
from typing import Literal

import numpy as np

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.hand.anchors import NUM_REGIONS, PALM_METACARPAL

SKIN = np.array([206, 142, 108], np.uint8)
CONTACT = np.array([206, 32, 41], np.uint8)
OBJECT = np.array([92, 132, 176], np.uint8)
PENETRATION = np.array([96, 40, 190], np.uint8)
GRASPED_OBJECT = np.array([168, 170, 174], np.uint8)
"""In pictures of grasps, where colour tells contact."""
CLOUD = (150, 152, 156)
"""Of points whose colour is not known."""
ELASTICITY = np.array([250, 205, 60], np.uint8)
"""Of a point that an anchor touches."""
ContactColoring = Literal["contact", "region", "elasticity"]
CONTACT_COLORINGS: tuple[ContactColoring, ...] = ("contact", "region", "elasticity")


def _region_colors() -> np.ndarray:
    """A hue for each finger, darker and greyer from the palm to the tip; two for the palm."""
    found = [
        colorsys.hsv_to_rgb((region // 3) / 5.5, (0.8, 0.6, 0.6)[region % 3], (0.95, 0.85, 0.65)[region % 3])
        for region in range(PALM_METACARPAL)
    ]
    found += [colorsys.hsv_to_rgb(hue, 0.6, 0.8) for hue in (0.9, 0.6)]
    return np.round(255 * np.array(found)).astype(np.uint8)


REGION_COLORS = _region_colors()
"""(17, 3) uint8, RGB, of the hand's regions."""
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


def contact_map_colors(contact_map: ContactMap, coloring: ContactColoring = "contact") -> np.ndarray:
    """Colours of a contact map's object points.

    Args:
        coloring: red by contact; by the region of the hand that touches, as strong as the contact; or yellow by
            elasticity. What was not computed has the object's own colour.

    Returns:
        (N, 3) uint8, RGB.
    """
    if coloring == "elasticity":
        share, towards = contact_map.elasticity, ELASTICITY[None]
    else:
        share, towards = contact_map.contact, CONTACT[None]
    share = np.clip(np.nan_to_num(np.asarray(share, np.float32)), 0.0, 1.0)
    if coloring == "region":
        known = contact_map.region < NUM_REGIONS
        share = share * known
        towards = REGION_COLORS[np.where(known, contact_map.region, 0)]
    return np.round(OBJECT * (1 - share[:, None]) + towards * share[:, None]).astype(np.uint8)
