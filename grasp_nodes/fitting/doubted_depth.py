"""Depth that contradicts a hand's landmarks in most frames is not of the hand: stereo bleeds and leaves holes there.

The hand is then followed by its landmarks. What such depth still tells is how far the whole hand is, in the frames in
which most of it lies near the hand's surface.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial import cKDTree

from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_vertices
from grasp_nodes.fitting.hand_skeleton import HandSkeleton
from grasp_nodes.fitting.hand_views import HandView

BESIDE = 0.008
"""m, across the rays; a measured point farther from every facing vertex is not in front of or behind the hand."""
LEAST_POINTS = 50
"""Of a frame that tells a distance."""
LARGEST_CHANGE = 0.15
"""Relative; hands do not differ from the model's size by more, so neither does their distance by what colour tells."""
LEAST_SHARE = 0.5
"""Of the frames with depth: fewer that agree tell nothing."""
AGREEMENT = 0.06
"""Relative; frames within this of their median agree, and all of them err by about as much together."""


def distance_factor(
    skeleton: HandSkeleton,
    found: Mapping[int, HandConfiguration],
    views: Sequence[HandView | None],
    size_spread: float,
) -> float:
    """By how much a hand that was followed without depth is farther, and larger, than it was taken to be.

    Args:
        skeleton: the hand. found: its places by frame. views: of T frames, with depth.
        size_spread: relative, of hands; the depth is believed as much as it agrees, the rest is the model's size.

    Returns:
        Factor on wrist and size, which leaves the image as it is; 1 where the depth does not agree with itself.
    """
    factors = []
    for row, configuration in found.items():
        view = views[row]
        if view is not None and (factor := _frame_factor(skeleton, configuration, view.observation.points)) is not None:
            factors.append(factor)
    if not factors:
        return 1.0
    middle = float(np.median(factors))
    agreeing = np.array(factors)[np.abs(np.array(factors) - middle) < AGREEMENT]
    if len(agreeing) < LEAST_SHARE * len(factors) or abs(middle - 1.0) > LARGEST_CHANGE:
        return 1.0
    share = size_spread**2 / (size_spread**2 + AGREEMENT**2)
    return 1.0 + share * (float(np.median(agreeing)) - 1.0)


def _frame_factor(skeleton: HandSkeleton, configuration: HandConfiguration, points: np.ndarray) -> float | None:
    """Median of measured over expected depth where the hand is; None = hardly anything was measured there."""
    if len(points) < LEAST_POINTS:
        return None
    vertices, normals = pose_vertices(skeleton, configuration)
    facing = vertices[((vertices * normals).sum(axis=1) < 0) & (vertices[:, 2] > 0)]
    if not len(facing):
        return None
    apart, nearest = cKDTree(facing[:, :2] / facing[:, 2:]).query(points[:, :2] / points[:, 2:])
    on_hand = apart * configuration.wrist[2] < BESIDE
    if on_hand.sum() < LEAST_POINTS:
        return None
    return float(np.median(points[on_hand, 2] / facing[nearest[on_hand], 2]))
