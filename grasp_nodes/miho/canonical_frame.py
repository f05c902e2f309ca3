"""The frame in which networks are told, and tell, an object's pose: its own axes, whatever frame its mesh came in.

A mesh file's axes are chance. Those along which an object is long and thin are seen in an image, whatever it is; so the
networks know one kind of frame for everything.
"""

from __future__ import annotations

import numpy as np

_PLACES = np.array([[1, 1, 1], [1.8, 0.6, 0.6], [0.6, 1.8, 0.6], [0.6, 0.6, 1.8]]) / 3
_WEIGHTS = np.array([-27.0, 25.0, 25.0, 25.0]) / 48


def canonical_frame(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """From an object's frame to its canonical one.

    There the surface's moments of second order are diagonal, smallest along x and largest along z. Along the two axes
    that are most lopsided (largest third moment in units of the spread) the longer tail points forward; the last one
    follows, so that no sign is left to chance where the axis is normal to a plane of symmetry. An object that is
    lopsided along one axis at most comes onto itself by half a turn, or nearly: any answer is as good. The origin is
    the middle of the bounding box there.

    Args:
        vertices: (V, 3), m. faces: (F, 3).

    Returns:
        (4, 4) float64, T_canonical_object, m.
    """
    corners = np.asarray(vertices, np.float64)[faces]
    areas = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    # Four points of a triangle give its moments up to the third order exactly (Hammer, Marlowe and Stroud, 1956).
    points = np.einsum("qk,fkc->fqc", _PLACES, corners).reshape(-1, 3)
    weights = (areas[:, None] * _WEIGHTS).ravel() / areas.sum()
    away = points - weights @ points
    spreads, axes = np.linalg.eigh((away * weights[:, None]).T @ away)
    tails = weights @ (away @ axes) ** 3 / np.maximum(spreads, np.finfo(np.float64).tiny) ** 1.5
    axes = axes * np.where(tails >= 0, 1.0, -1.0)
    if np.linalg.det(axes) < 0:
        axes[:, np.argmin(np.abs(tails))] *= -1.0
    frame = np.eye(4)
    frame[:3, :3] = axes.T
    turned = np.asarray(vertices, np.float64) @ frame[:3, :3].T
    frame[:3, 3] = -0.5 * (turned.min(axis=0) + turned.max(axis=0))
    return frame
