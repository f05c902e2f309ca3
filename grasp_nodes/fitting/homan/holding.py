"""Objects do not move by themselves: in frames in which one moves and a hand is in front of it, the hand touches it.

Colour tells the distance of a hand badly and that of an object of known size well. HOMan's centroid term draws the two
together, but a palm's width apart; its local term says that they touch, but only of what is a centimetre away already.
This term is between the two, and is not in the paper.

Motion is that in the camera's frame, so that it says nothing where the camera itself moves: frames in which
perception saw it move (`ObservedFrame.camera_moves`) do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.geometry.signed_distance import SignedDistanceGrid

LEAST_STEP = 0.004
"""m from frame to frame, mean over the object's box corners; less is noise, or rest."""
LONGEST_PAUSE = 4
"""Frames of rest between motions that count as holding too."""
REACH = 0.1
"""m; attraction saturates here."""


def moving_frames(T_camera_object: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Frames in which an object moves, short pauses between motions included.

    Args:
        T_camera_object: (T, 4, 4), m; rows that are not finite do not move. corners: (K, 3), m, points of the object.

    Returns:
        (T,) bool.
    """
    places = np.einsum("tij,kj->tki", T_camera_object[:, :3, :3], corners) + T_camera_object[:, None, :3, 3]
    steps = np.linalg.norm(np.diff(places, axis=0), axis=2).mean(axis=1)
    moves = np.nan_to_num(steps) > LEAST_STEP
    # One step beyond noise between two of rest is a jump of the estimate.
    lasting = moves & (np.append(moves[1:], False) | np.insert(moves[:-1], 0, False))
    frames = np.append(lasting, False) | np.insert(lasting, 0, False)
    moving = np.flatnonzero(frames)
    for before, after in pairwise(moving):
        if after - before <= LONGEST_PAUSE + 1:
            frames[before:after] = True
    return frames


def holding_loss(
    local: Tensor,
    scale: Tensor,
    rotation: Tensor,
    translation: Tensor,
    zones: Sequence[Tensor],
    field: SignedDistanceGrid,
    object_rotation: Tensor,
    object_translation: Tensor,
    object_scale: Tensor,
) -> Tensor:
    """How far a holding hand is from what it holds: ``l_10cm`` of the nearest zone's distance, mean over frames.

    Moves the place of the hand only: fingers are not stretched to reach, and the object stays where the image shows it.

    Args:
        local: (T, V, 3), m, hand vertices about their centre. scale: of the hand. rotation: (T, 3, 3) and translation:
            (T, 3), m, of the hand. zones: see `losses.contact_zones`.
        field: of the object. object_rotation: (T, 3, 3), object_translation: (T, 3), m, object_scale: of the object.

    Returns:
        m; 0 where there is no frame.
    """
    ids = torch.cat(list(zones))
    turned = (local[:, ids] @ (scale * rotation).transpose(1, 2)).detach() + translation[:, None]
    factor = object_scale.detach()
    own = (turned - object_translation.detach()[:, None]) @ object_rotation.detach() / factor
    distances = field(own) * factor
    apart = REACH * torch.tanh(torch.relu(distances.amin(1)) / REACH)
    return apart.mean() if len(apart) else apart.sum()
