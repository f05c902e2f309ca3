"""How far a hand is that holds something: colour tells the distance of a hand by its size alone, which is not known.

The size of what it holds is known, and hands touch what they carry. A hand that is made larger and moved away by the
same factor keeps its image; the frames in which the object moves with the hand over it tell which factor brings skin
and surface together. It is one for the clip, so it also places the hand where it holds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from grasp_nodes.fitting.homan.losses import contact_zones
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.model import ObjectModel

FACTORS = np.exp(np.linspace(-0.4, 0.4, 81))
"""On size and distance, that are tried."""
SIZE_SPREAD = 0.1
"""Standard deviation of the factor's logarithm before the object is asked: hands differ, landmarks are too close."""
MOVED = 4.0
"""px; an object whose middle moves this far within two frames is moved by someone."""
MOST_FRAMES = 12
"""Frames that are asked: neighbours say the same."""
FEWEST_FRAMES = 2
REACH = 0.01
"""m; zones that are farther from the object than this do not touch it."""
FAR = 0.03
"""m; distance of the nearest zone that counts as much as all zones that do not touch: hands far off are drawn near."""
DEPTH = 0.003
"""m; mean depth of the skin inside the object that counts as much as all zones that do not touch."""
SMALLEST_SCORE = 0.3
"""Objects that are placed worse tell nothing."""


def brought_to_objects(
    hand_models: Mapping[Side, HandModel],
    hands: Sequence[HandTrack],
    objects: Sequence[ObjectTrack],
    object_models: Mapping[str, ObjectModel],
    camera: CameraModel,
    camera_moves: np.ndarray | None = None,
) -> list[HandTrack]:
    """The hands, their size and distance changed by one factor each so that they touch what they hold.

    Args:
        hand_models: by side. hands: of T frames, placed by colour alone.
        objects: of the same frames. object_models: by object id.
        camera: that took the images.
        camera_moves: (T,) bool, frames in which motion in the images does not show that something is held.
    """
    moved = []
    for hand in hands:
        model = hand_models[hand.params.side]
        with torch.no_grad():
            vertices = model(hand.params.to(dtype=model.dtype)).vertices.double().cpu().numpy()
        zones = [zone.cpu().numpy() for zone in contact_zones(model)]
        factor = holding_factor(camera, vertices, ~hand.lost, zones, objects, object_models, camera_moves)
        params = replace(hand.params, transl=factor * hand.params.transl, scale=factor * hand.params.scale)
        moved.append(replace(hand, params=params))
    return moved


def held_frames(
    camera: CameraModel,
    vertices: np.ndarray,
    known: np.ndarray,
    track: ObjectTrack,
    points: np.ndarray,
    camera_moves: np.ndarray | None = None,
) -> np.ndarray:
    """Rows of the frames in which the object moves while the hand is over it.

    Args:
        camera: that took the images. vertices: (T, V, 3), m, of the hand. known: (T,) bool, frames with a hand.
        track: of the object. points: (N, 3), m, of its surface, in its own frame.
        camera_moves: (T,) bool, frames in which nothing is known to move; None = none.
    """
    poses = track.T_camera_object
    placed = np.einsum("tij,nj->tni", poses[:, :3, :3], points) + poses[:, None, :3, 3]
    usable = ~track.lost & (track.score >= SMALLEST_SCORE) & (placed[..., 2] > 0).all(axis=1)
    middles = np.nan_to_num(camera.project(placed.mean(axis=1)))
    count = len(track)
    before, after = np.maximum(np.arange(count) - 1, 0), np.minimum(np.arange(count) + 1, count - 1)
    moves = np.linalg.norm(middles[after] - middles[before], axis=1) > MOVED * (after - before) / 2
    if camera_moves is not None:
        moves &= ~camera_moves
    rows = np.flatnonzero(moves & usable & usable[before] & usable[after] & known)
    return np.array([row for row in rows if _overlap(camera, vertices[row], placed[row])], np.int64)


def _overlap(camera: CameraModel, first: np.ndarray, second: np.ndarray) -> bool:
    """Whether the boxes of points (N, 3) in the image overlap."""
    pixels = [camera.project(points) for points in (first, second)]
    low = np.max([np.nanmin(found, axis=0) for found in pixels], axis=0)
    high = np.min([np.nanmax(found, axis=0) for found in pixels], axis=0)
    return bool((low <= high).all())


def holding_factor(
    camera: CameraModel,
    vertices: np.ndarray,
    known: np.ndarray,
    zones: Sequence[np.ndarray],
    objects: Sequence[ObjectTrack],
    models: Mapping[str, ObjectModel],
    camera_moves: np.ndarray | None = None,
) -> float:
    """Factor on size and distance of a hand that brings it to what it holds; 1 where it holds nothing.

    Args:
        camera: that took the images.
        vertices: (T, V, 3), m, camera frame, of the hand. known: (T,) bool, frames in which it was found.
        zones: vertex ids of what touches: pads of the fingers, and the palm.
        objects: tracks of T frames. models: by object id. camera_moves: as :func:`held_frames`.
    """
    costs = np.zeros(len(FACTORS))
    frames = 0
    for track in objects:
        model = models.get(track.object_id)
        if model is None:
            continue
        points = track.scale * model.points.astype(np.float64)
        rows = held_frames(camera, vertices, known, track, points, camera_moves)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_FRAMES)).round().astype(int))]
        for row in rows:
            costs += _contact_costs(vertices[row], zones, track.T_camera_object[row], track.scale, model)
        frames += len(rows)
    if frames < FEWEST_FRAMES:
        return 1.0
    prior = 0.5 * (np.log(FACTORS) / SIZE_SPREAD) ** 2
    return float(FACTORS[np.argmin(costs / frames * len(zones) + prior)])


def _contact_costs(
    vertices: np.ndarray, zones: Sequence[np.ndarray], pose: np.ndarray, scale: float, model: ObjectModel
) -> np.ndarray:
    """For each factor: share of the zones that do not touch, how far the nearest is, how deep the skin is inside."""
    moved = (FACTORS[:, None, None] * vertices - pose[:3, 3]) @ pose[:3, :3] / scale
    distances = scale * model.signed_distance.query(moved.reshape(-1, 3))[0].reshape(moved.shape[:2])
    nearest = np.stack([distances[:, zone].min(axis=1) for zone in zones], axis=1)
    apart = np.tanh(np.maximum(nearest, 0.0) / REACH).mean(axis=1)
    apart += np.maximum(nearest.min(axis=1), 0.0) / FAR
    return apart + np.maximum(-distances, 0.0).mean(axis=1) / DEPTH
